package tensor

//go:generate go -C asm run ./neon -out ../neon_arm64.s -stubs ../neon_arm64.go

func gemmKernel() microKernel {
	if haveAsm {
		return microKernel{mr: 8, nr: 8, full: neon8x8}
	}
	return portableKernel
}

func neon8x8(k int, a *float32, _, _ int, b *float32, sb int, c *float32, ldc int, alpha float32, set int) {
	gemm8x8(k, a, b, sb, c, ldc, alpha, set)
}

// packGroups leaves groups of eight to Go.
func packGroups([]float32, int, []float32, int, int) bool { return false }

func widenGroups([]float32, int, []byte, int, int) bool { return false }
