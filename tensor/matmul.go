package tensor

import (
	"unsafe"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// MatMul sets dst, m × n, to a · b, with a of m × k, and b of k × n, or of n × k
// if transB. All are dense, in rows. It panics if a slice is too short.
func MatMul(dst, a, b []float32, m, k, n int, transB bool) {
	need("dst", len(dst), m*n)
	need("a", len(a), m*k)
	need("b", len(b), k*n)
	switch {
	case transB && kernelsFor(dtype.F32) != nil:
		LinearRows(dst, n, 0, a, m, k, dtype.F32, raw(b), n)
	case transB:
		for j := range n {
			for i := range m {
				dst[i*n+j] = dotGo(a[i*k:(i+1)*k], b[j*k:(j+1)*k])
			}
		}
	case kernelsFor(dtype.F32) != nil:
		clear(dst[:m*n])
		LinearTRows(dst, m, n, a, k, 0, dtype.F32, raw(b), k)
	default:
		clear(dst[:m*n])
		for i := range m {
			for j := range k {
				axpyGo(dst[i*n:(i+1)*n], a[i*k+j], b[j*n:(j+1)*n])
			}
		}
	}
}

// raw views floats as the bytes that they are; only for the assembly, which runs
// where these are little-endian.
func raw(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
