package tensor

import "github.com/neuroseal/neuroseal/internal/dtype"

// axpyCols is the number of columns that an axpy kernel does, and axpyRows how
// many rows it takes at a time, so that they stay in the first level cache.
const (
	axpyCols = 16
	axpyRows = 64
)

// LinearTRows adds to tokens × out results the products with some rows of a
// weight matrix stored [in, out], as Conv1D does: rows × out elements of type d
// (BF16, F16, F32 or F64), of which the first is row k0:
//
//	dst[t*out+c] += Σ_r x[t*in+k0+r] · w[r*out+c]
//
// The sum runs in the order of r, so streaming the rows in order, in parts of any
// size, gives the same bits. Goroutines may share the tokens, not the rows. It
// panics if a slice is too short.
func LinearTRows(dst []float32, tokens, out int, x []float32, in, k0 int, d dtype.DType, w []byte, rows int) {
	size := d.Bits() / 8
	need("dst", len(dst), tokens*out)
	need("x", len(x), tokens*in)
	need("columns of x", in, k0+rows)
	need("weights, in bytes,", len(w), rows*out*size)
	if tokens == 0 || rows == 0 {
		return
	}
	whole := 0
	if k := kernelsFor(d); k != nil {
		whole = out &^ (axpyCols - 1)
		for r := 0; r < rows && whole > 0; r += axpyRows {
			n := min(axpyRows, rows-r)
			axpyBlock(k, dst, tokens, out, x[k0+r:], in, w[r*out*size:], size, n)
		}
	}
	if whole == out {
		return
	}
	row := make([]float32, out-whole)
	for r := range rows {
		dtype.ToFloat32(d, row, w[(r*out+whole)*size:(r+1)*out*size])
		for t := range tokens {
			axpyGo(dst[t*out+whole:(t+1)*out], x[t*in+k0+r], row)
		}
	}
}

// axpyBlock does the columns in whole groups for n rows.
func axpyBlock(k *kernels, dst []float32, tokens, out int, x []float32, in int, w []byte, size, n int) {
	for c := 0; c+axpyCols <= out; c += axpyCols {
		for t := 0; t < tokens; {
			nt := 1
			if tokens-t >= 4 {
				nt = 4
			}
			k.axpy[nt](&dst[t*out+c], 4*out, &x[t*in], 4*in, &w[c*size], out*size, n)
			t += nt
		}
	}
}

// axpyGo adds a·w to dst; the conversion forbids the compiler to fuse.
func axpyGo(dst []float32, a float32, w []float32) {
	for c, v := range w {
		dst[c] += float32(a * v)
	}
}
