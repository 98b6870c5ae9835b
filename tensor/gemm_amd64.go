package tensor

import "golang.org/x/sys/cpu"

// haveWide selects the AVX-512 kernels. Only tests change it.
var haveWide = haveAsm && cpu.X86.HasAVX512F

func gemmKernel() microKernel {
	switch {
	case haveAsm && haveWide:
		return microKernel{mr: 8, nr: 32, f: gemm8x32, half: gemm8x16}
	case haveAsm:
		return microKernel{mr: 6, nr: 16, f: gemm6x16}
	}
	return portableKernel
}

// packRows transposes rows i … i+rows, eight or six, of those to pack. Of six, it
// writes two elements beyond each group, the last of them beyond the strip.
func packRows(dst []float32, w int, x []float32, ld, r, i, rows, l, kc int) {
	whole := kc &^ 7
	if rows == 8 {
		transpose8(&dst[i], w, &x[(r+i)*ld+l], ld, whole)
	} else {
		transpose6(&dst[i], w, &x[(r+i)*ld+l], ld, whole)
	}
	for y := range rows {
		row := x[(r+i+y)*ld+l:][:kc]
		for p := whole; p < kc; p++ {
			dst[p*w+i+y] = row[p]
		}
	}
}
