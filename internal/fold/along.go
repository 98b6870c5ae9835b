package fold

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// Reduce evaluates OpSum, OpMax or OpArgMax along the last axis, which keeps
// length 1.
func Reduce(op graph.Op, t *Tensor) (*Tensor, error) {
	r := len(t.Shape)
	if r == 0 || t.Shape[r-1] == 0 && op != graph.OpSum {
		return nil, fmt.Errorf("%v of a constant of shape %v", op, t.Shape)
	}
	width := t.Shape[r-1]
	shape := append(append([]int(nil), t.Shape[:r-1]...), 1)
	kind := max(t.Kind, Int)
	if op == graph.OpArgMax {
		kind = Int
	}
	out, err := New(kind, shape...)
	if err != nil {
		return nil, err
	}
	for i := range out.Len() {
		switch {
		case op == graph.OpArgMax:
			out.I[i] = int64(t.best(i*width, width))
		case op == graph.OpMax:
			out.copy(i, t, i*width+t.best(i*width, width))
		case op != graph.OpSum:
			return nil, fmt.Errorf("%v of constants", op)
		case kind.Real():
			sum := 0.0
			for j := range width {
				sum += t.F[i*width+j]
			}
			out.F[i] = kind.round(sum)
		default:
			for j := range width {
				out.I[i] += t.I[i*width+j]
			}
		}
	}
	return out, nil
}

func (t *Tensor) best(from, n int) int {
	b := 0
	for j := 1; j < n; j++ {
		if t.At(from+j) > t.At(from+b) {
			b = j
		}
	}
	return b
}

// CumSum adds up the last axis, keeping every step.
func CumSum(t *Tensor) (*Tensor, error) {
	r := len(t.Shape)
	if r == 0 {
		return nil, fmt.Errorf("cumsum of a scalar")
	}
	t = t.Convert(max(t.Kind, Int))
	out, err := New(t.Kind, t.Shape...)
	if err != nil {
		return nil, err
	}
	width := t.Shape[r-1]
	for i := range out.Len() {
		out.copy(i, t, i)
		if i%width == 0 {
			continue
		}
		if t.Kind.Real() {
			out.F[i] = t.Kind.round(out.F[i] + out.F[i-1])
		} else {
			out.I[i] += out.I[i-1]
		}
	}
	return out, nil
}

// Range counts from start to limit, which is left out, in steps of delta.
func Range(k Kind, start, limit, delta float64) (*Tensor, error) {
	n := math.Ceil((limit - start) / delta)
	if delta == 0 || n != n || n > MaxElements {
		return nil, fmt.Errorf("range from %g to %g in steps of %g", start, limit, delta)
	}
	out, err := New(k, int(math.Max(n, 0)))
	if err != nil {
		return nil, err
	}
	for i := range out.Len() {
		if v := start + float64(i)*delta; k.Real() {
			out.F[i] = k.round(v)
		} else {
			out.I[i] = truncate(v)
		}
	}
	return out, nil
}

// NonZero lists the indices of the elements that are not zero: [rank, n].
func NonZero(t *Tensor) *Tensor {
	rank := len(t.Shape)
	st := strides(t.Shape)
	var at []int
	for i := range t.Len() {
		if t.At(i) != 0 {
			at = append(at, i)
		}
	}
	out := &Tensor{Kind: Int, Shape: []int{rank, len(at)}, I: make([]int64, 0, rank*len(at))}
	for a := range rank {
		for _, i := range at {
			out.I = append(out.I, int64(i/st[a]%t.Shape[a]))
		}
	}
	return out
}

// MatMul multiplies a [...,m,k] by b [...,k,n]; leading axes must agree.
func MatMul(a, b *Tensor) (*Tensor, error) {
	r := len(a.Shape)
	if r < 2 || len(b.Shape) != r || a.Shape[r-1] != b.Shape[r-2] {
		return nil, fmt.Errorf("matmul of constants of shapes %v and %v", a.Shape, b.Shape)
	}
	batch := 1
	for i, d := range a.Shape[:r-2] {
		if b.Shape[i] != d {
			return nil, fmt.Errorf("matmul of constants of shapes %v and %v", a.Shape, b.Shape)
		}
		batch *= d
	}
	m, k, n := a.Shape[r-2], a.Shape[r-1], b.Shape[r-1]
	shape := append(append([]int(nil), a.Shape[:r-1]...), n)
	out, err := New(max(a.Kind, b.Kind, Float), shape...)
	if err != nil {
		return nil, err
	}
	if batch*m*n > 0 && k > maxProduct/(batch*m*n) {
		return nil, fmt.Errorf("matmul of constants of shapes %v and %v is too long", a.Shape, b.Shape)
	}
	for i := range out.Len() {
		sum := 0.0
		row, col := i/n, i/(m*n)*k*n+i%n
		for j := range k {
			sum += a.At(row*k+j) * b.At(col+j*n)
		}
		out.F[i] = out.Kind.round(sum)
	}
	return out, nil
}

// maxProduct bounds the multiplications of one product of constants.
const maxProduct = 1 << 28
