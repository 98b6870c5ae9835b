//go:build !amd64

package tensor

func gemmKernel() microKernel { return portableKernel }

func packRows([]float32, int, []float32, int, int, int, int, int, int) {
	panic("tensor: no assembly on this architecture")
}
