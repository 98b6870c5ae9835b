package tensor

import "golang.org/x/sys/cpu"

// haveWide selects the AVX-512 kernels. Only tests change it.
var haveWide = haveAsm && cpu.X86.HasAVX512F

func gemmKernel() microKernel {
	switch {
	case haveAsm && haveWide:
		return microKernel{mr: 12, nr: 32, full: gemm12x32, half: gemm12x16, short: 8, lowFull: gemm8x32, lowHalf: gemm8x16, anywhere: true}
	case haveAsm:
		return microKernel{mr: 6, nr: 16, full: gemm6x16, anywhere: true}
	}
	return portableKernel
}

// packGroups copies kc groups of w, and reports whether there is assembly for w.
func packGroups(dst []float32, w int, x []float32, ld, kc int) bool {
	switch w {
	case 32:
		copy32(&dst[0], &x[0], ld, kc)
	case 16:
		copy16(&dst[0], &x[0], ld, kc)
	case 12:
		copy12(&dst[0], &x[0], ld, kc)
	default:
		return false
	}
	return true
}

// widenGroups is packGroups from bfloat16.
func widenGroups(dst []float32, w int, x []byte, ld, kc int) bool {
	switch w {
	case 32:
		widen32(&dst[0], &x[0], ld, kc)
	case 16:
		widen16(&dst[0], &x[0], ld, kc)
	default:
		return false
	}
	return true
}
