package tensor

import "testing"

// wideOff runs f on the AVX2 kernels where AVX-512 would be chosen.
func wideOff(t *testing.T, f func(t *testing.T)) {
	if !haveWide {
		return
	}
	haveWide = false
	defer func() { haveWide = true }()
	t.Run("avx2", f)
}

// eachKernel runs f with every assembly kernel.
func eachKernel(b *testing.B, f func(b *testing.B)) {
	if !haveWide {
		f(b)
		return
	}
	b.Run("avx512", f)
	haveWide = false
	defer func() { haveWide = true }()
	b.Run("avx2", f)
}
