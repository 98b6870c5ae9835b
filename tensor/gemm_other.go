//go:build !amd64 && !arm64

package tensor

func gemmKernel() microKernel { return portableKernel }

func packRows([]float32, int, []float32, int, int) {
	panic("tensor: no assembly on this architecture")
}

func packGroups([]float32, int, []float32, int, int) bool { return false }

func widenGroups([]float32, int, []byte, int, int) bool { return false }
