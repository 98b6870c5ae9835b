package tensor

import (
	"fmt"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// kernels are the assembly for one weight type.
type kernels struct {
	dot  [5][5]dotFunc // by tokens (4, 2, 1) and rows (2 or 4, and 1)
	axpy [5]axpyFunc   // by tokens (4, 1)
}

type (
	dotFunc  func(x *float32, ldx int, w *byte, ldw, n int, out *float32)
	axpyFunc func(dst *float32, ldd int, x *float32, ldx int, w *byte, ldw, rows int)
)

// lanes is the number of partial sums of an inner product: element k goes to sum
// k mod lanes, as long as whole groups of lanes last; the rest is added at the
// end, one by one.
const lanes = 8

// tileBytes is how much of the weights is kept in the second level cache while
// all tokens pass by.
const tileBytes = 128 << 10

// LinearRows multiplies tokens × in activations with some rows of a weight
// matrix, rows × in elements of type d (BF16, F16, F32 or F64) as stored:
//
//	dst[t*ld+col0+r] = Σ_k x[t*in+k] · w[r*in+k]
//
// Rows can so be streamed from a file, and split among goroutines (see Parallel)
// without a bit of the result changing. It panics if a slice is too short.
func LinearRows(dst []float32, ld, col0 int, x []float32, tokens, in int, d dtype.DType, w []byte, rows int) {
	size := d.Bits() / 8
	need("x", len(x), tokens*in)
	need("weights, in bytes,", len(w), rows*in*size)
	if tokens == 0 || rows == 0 {
		return
	}
	need("dst", len(dst), (tokens-1)*ld+col0+rows)
	if k := kernelsFor(d); k != nil {
		tile := max(4, tileBytes/max(1, in*size)&^3)
		p := product{dst: dst, ld: ld, x: x, in: in, d: d, w: w, k: k}
		for r := 0; r < rows; r += tile {
			p.tile(col0, tokens, r, min(r+tile, rows))
		}
		return
	}
	row := make([]float32, in)
	for r := range rows {
		dtype.ToFloat32(d, row, w[r*in*size:(r+1)*in*size])
		for t := range tokens {
			dst[t*ld+col0+r] = dotGo(x[t*in:(t+1)*in], row)
		}
	}
}

func need(what string, have, want int) {
	if have < want {
		panic(fmt.Sprintf("tensor: %s too short: %d, need %d", what, have, want))
	}
}

// product is one call of LinearRows on assembly.
type product struct {
	dst []float32
	ld  int
	x   []float32
	in  int
	d   dtype.DType
	w   []byte
	k   *kernels
	out [8]float32
}

// tile multiplies rows r0 to r1 with all tokens.
func (p *product) tile(col0, tokens, r0, r1 int) {
	for t := 0; t < tokens; {
		nt, nr := 1, 4
		switch left := tokens - t; {
		case left >= 4:
			nt, nr = 4, 2
		case left >= 2:
			nt = 2
		}
		r := r0
		for ; r+nr <= r1; r += nr {
			p.block(p.k.dot[nt][nr], col0, t, nt, r, nr)
		}
		for ; r < r1; r++ {
			p.block(p.k.dot[nt][1], col0, t, nt, r, 1)
		}
		t += nt
	}
}

func (p *product) block(f dotFunc, col0, t, nt, r, nr int) {
	size := p.d.Bits() / 8
	whole := p.in &^ (lanes - 1)
	out := p.out[:nt*nr]
	if whole > 0 {
		f(&p.x[t*p.in], 4*p.in, &p.w[r*p.in*size], p.in*size, whole, &out[0])
	} else {
		clear(out)
	}
	if whole < p.in {
		p.rest(whole, t, nt, r, nr)
	}
	for j := range nr {
		for i := range nt {
			p.dst[(t+i)*p.ld+col0+r+j] = out[j*nt+i]
		}
	}
}

// rest adds the elements after the last whole group of lanes.
func (p *product) rest(whole, t, nt, r, nr int) {
	size := p.d.Bits() / 8
	var buf [lanes]float32
	w := buf[:p.in-whole]
	for j := range nr {
		at := ((r+j)*p.in + whole) * size
		dtype.ToFloat32(p.d, w, p.w[at:at+len(w)*size])
		for i := range nt {
			x := p.x[(t+i)*p.in+whole:]
			for k, v := range w {
				p.out[j*nt+i] += float32(x[k] * v)
			}
		}
	}
}

// dotGo is the inner product in Go, in the assembly's order. The conversions
// forbid the compiler to fuse, so that every architecture gives the same bits.
func dotGo(x, w []float32) float32 {
	var s [lanes]float32
	for len(w) >= lanes && len(x) >= lanes {
		s[0] += float32(x[0] * w[0])
		s[1] += float32(x[1] * w[1])
		s[2] += float32(x[2] * w[2])
		s[3] += float32(x[3] * w[3])
		s[4] += float32(x[4] * w[4])
		s[5] += float32(x[5] * w[5])
		s[6] += float32(x[6] * w[6])
		s[7] += float32(x[7] * w[7])
		x, w = x[lanes:], w[lanes:]
	}
	sum := ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]))
	for k, v := range w {
		sum += float32(x[k] * v)
	}
	return sum
}
