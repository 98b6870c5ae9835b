package probe

import (
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/tensor"
	"golang.org/x/sync/errgroup"
)

// chunkBytes is how much of a weight is in memory at a time, per goroutine.
const chunkBytes = 1 << 20

// embedding reads the tokens' rows only.
func (r *runner) embedding(n *graph.Node) ([]float32, error) {
	w := &r.g.Nodes[n.In[0]]
	d, _, ok := r.src.Weight(w.Name)
	if !ok || !d.Scalable() {
		return nil, fmt.Errorf("tensor %s: cannot be read as numbers (%v)", w.Name, d)
	}
	width := w.Shape[1]
	row := make([]byte, width*d.Bits()/8)
	out := make([]float32, len(r.opt.Tokens)*width)
	for i, t := range r.opt.Tokens {
		if t < 0 || t >= w.Shape[0] {
			return nil, fmt.Errorf("token %d of a vocabulary of %d", t, w.Shape[0])
		}
		if err := r.read(w.Name, row, int64(t)*int64(len(row))); err != nil {
			return nil, err
		}
		dtype.ToFloat32(d, out[i*width:(i+1)*width], row)
	}
	return r.round(out), nil
}

// linear streams the weight's rows through all processors.
func (r *runner) linear(n *graph.Node) ([]float32, error) {
	w := &r.g.Nodes[n.In[1]]
	d, size, ok := r.src.Weight(w.Name)
	if w.Op != graph.OpWeight || !ok || !d.Scalable() {
		return nil, fmt.Errorf("tensor %s: cannot be read as numbers (%v)", w.Name, d)
	}
	x := r.vals[n.In[0]]
	rows, width := w.Shape[0], w.Shape[1]
	rowBytes := width * d.Bits() / 8
	if size != int64(rows)*int64(rowBytes) {
		return nil, fmt.Errorf("tensor %s: %d bytes for %v of %v", w.Name, size, w.Shape, d)
	}
	step := max(chunkBytes/rowBytes, 1)
	chunk := func(c int, buf []byte) (first, k int, dt dtype.DType, b []byte, err error) {
		first = c * step
		k = min(step, rows-first)
		b = buf[:k*rowBytes]
		if err = r.read(w.Name, b, int64(first)*int64(rowBytes)); err == nil {
			dt, b = r.weights(d, b)
		}
		return
	}
	chunks := (rows + step - 1) / step
	if n.Transposed {
		// Rows are summed in order: one after the other.
		tokens := len(x) / rows
		out := make([]float32, tokens*width)
		buf := make([]byte, min(step, rows)*rowBytes)
		for c := range chunks {
			first, k, dt, b, err := chunk(c, buf)
			if err != nil {
				return nil, err
			}
			tensor.LinearTRows(out, tokens, width, x, rows, first, dt, b, k)
		}
		return r.round(out), nil
	}
	tokens := len(x) / width
	out := make([]float32, tokens*rows)
	err := r.parallel(chunks, func() func(int) error {
		buf := make([]byte, min(step, rows)*rowBytes)
		return func(c int) error {
			first, k, dt, b, err := chunk(c, buf)
			if err == nil {
				tensor.LinearRows(out, rows, first, x, tokens, width, dt, b, k)
			}
			return err
		}
	})
	if err != nil {
		return nil, err
	}
	return r.round(out), nil
}

// parallel runs jobs 0 … n-1 on the run's workers, each with its own state.
func (r *runner) parallel(n int, worker func() func(int) error) error {
	workers := r.opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	var g errgroup.Group
	for range min(workers, n) {
		g.Go(func() error {
			do := worker()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || r.ctx.Err() != nil {
					return nil
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// weights rounds a chunk of weights to the run's precision, as loading it in
// that type would.
func (r *runner) weights(d dtype.DType, b []byte) (dtype.DType, []byte) {
	to := map[Precision]dtype.DType{BF16: dtype.BF16, FP16: dtype.F16}[r.opt.Precision]
	if to == dtype.Invalid && d != dtype.F64 || to == d {
		return d, b
	}
	if to == dtype.Invalid {
		to = dtype.F32
	}
	x := make([]float32, len(b)*8/d.Bits())
	dtype.ToFloat32(d, x, b)
	out := make([]byte, len(x)*to.Bits()/8)
	dtype.FromFloat32(to, out, x)
	return to, out
}

// matmul multiplies batches of small matrices.
func (r *runner) matmul(n *graph.Node, a, b []float32) []float32 {
	s := r.g.Shape(n.In[0])
	m, k := s[len(s)-2], s[len(s)-1]
	p := n.Shape[len(n.Shape)-1]
	batch := count(n.Shape[:len(n.Shape)-2])
	out := make([]float32, batch*m*p)
	tensor.BatchMatMul(out, a, b, batch, m, k, p, false)
	return out
}

// binary applies an element-wise operation with broadcasting.
func (r *runner) binary(n *graph.Node, a, b []float32) []float32 {
	ia, ib := walk(r.g.Shape(n.In[0]), n.Shape), walk(r.g.Shape(n.In[1]), n.Shape)
	out := make([]float32, count(n.Shape))
	for i := range out {
		x, y := a[ia(i)], b[ib(i)]
		switch n.Op {
		case graph.OpAdd:
			out[i] = x + y
		case graph.OpSub:
			out[i] = x - y
		case graph.OpMul:
			out[i] = x * y
		default:
			out[i] = x / y
		}
	}
	return out
}

// walk maps an index into shape to one into a value that is broadcast to it.
func walk(from, shape []int) func(int) int {
	if slices.Equal(from, shape) {
		return func(i int) int { return i }
	}
	if size := count(from); count(shape)%size == 0 && tail(from, shape) {
		return func(i int) int { return i % size }
	}
	return strided(broadcastStrides(from, shape), shape)
}

// tail reports whether from, without leading ones, is the end of shape.
func tail(from, shape []int) bool {
	for len(from) > 0 && from[0] == 1 {
		from = from[1:]
	}
	return len(from) <= len(shape) && slices.Equal(from, shape[len(shape)-len(from):])
}

func aligned(from []int, rank int) []int {
	out := make([]int, rank)
	for i := range out {
		out[i] = 1
	}
	copy(out[rank-len(from):], from)
	return out
}

func broadcastStrides(from, shape []int) []int {
	f := aligned(from, len(shape))
	st := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		if f[i] > 1 {
			st[i] = n
		}
		n *= f[i]
	}
	return st
}

func strided(stride, shape []int) func(int) int {
	return func(i int) int {
		at := 0
		for a := len(shape) - 1; a >= 0; a-- {
			at += i % shape[a] * stride[a]
			i /= shape[a]
		}
		return at
	}
}

// gather evaluates transpose, slice and expand.
func gather(from []int, n *graph.Node, x []float32) []float32 {
	stride := make([]int, len(from))
	s := 1
	for i := len(from) - 1; i >= 0; i-- {
		stride[i] = s
		s *= from[i]
	}
	base := 0
	to := slices.Clone(stride)
	switch n.Op {
	case graph.OpTranspose:
		for i, p := range n.Perm {
			to[i] = stride[p]
		}
	case graph.OpSlice:
		base = n.Start * stride[n.Axis]
	case graph.OpExpand:
		for i := range to {
			if from[i] == 1 {
				to[i] = 0
			}
		}
	}
	at := strided(to, n.Shape)
	out := make([]float32, count(n.Shape))
	for i := range out {
		out[i] = x[base+at(i)]
	}
	return out
}

func (r *runner) concat(n *graph.Node, in [][]float32) []float32 {
	out := make([]float32, 0, count(n.Shape))
	for o := range count(n.Shape[:n.Axis]) {
		for i, x := range in {
			k := count(r.g.Shape(n.In[i])[n.Axis:])
			out = append(out, x[o*k:(o+1)*k]...)
		}
	}
	return out
}
