package probe

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/elementwise"
	"github.com/neuroseal/neuroseal/tensor"
)

// grain is how many elements are worth a goroutine.
const grain = 1 << 14

// binary applies an element-wise operation with broadcasting.
func (r *runner) binary(n *graph.Node, a, b []float32) ([]float32, error) {
	p, err := pairs(n.Op)
	if err != nil {
		return nil, err
	}
	out := make([]float32, count(n.Shape))
	l := broadcast(n.Shape, r.g.Shape(n.In[0]), r.g.Shape(n.In[1]))
	l.each(func(at, k int, from, step []int) {
		p.span(out[at:at+k], a[from[0]:], step[0], b[from[1]:], step[1])
	})
	return out, nil
}

// where takes a where the condition is not zero, else b.
func (r *runner) where(n *graph.Node, in [][]float32) []float32 {
	out := make([]float32, count(n.Shape))
	l := broadcast(n.Shape, r.g.Shape(n.In[0]), r.g.Shape(n.In[1]), r.g.Shape(n.In[2]))
	l.each(func(at, k int, from, step []int) {
		for i := range k {
			if in[0][from[0]+i*step[0]] != 0 {
				out[at+i] = in[1][from[1]+i*step[1]]
			} else {
				out[at+i] = in[2][from[2]+i*step[2]]
			}
		}
	})
	return out
}

// pairwise is a loop over two operands of an operation.
type pairwise struct {
	dense func(out, a, b []float32)  // runs of equal length; nil: none of its own
	one   func(x, y float32) float32 // one pair
}

// span fills out from runs of elements that lie sa and sb apart.
func (p pairwise) span(out, a []float32, sa int, b []float32, sb int) {
	if sa == 1 && sb == 1 && p.dense != nil {
		p.dense(out, a[:len(out)], b[:len(out)])
		return
	}
	for i := range out {
		out[i] = p.one(a[i*sa], b[i*sb])
	}
}

// pairs returns the loop of an operation with two operands.
func pairs(op graph.Op) (pairwise, error) {
	p := pairwise{one: elementwise.Binary(op)}
	switch {
	case p.one == nil:
		return p, fmt.Errorf("no rule to compute it")
	case op == graph.OpAdd:
		p.dense = func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x + b[i]
			}
		}
	case op == graph.OpMul:
		p.dense = func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x * b[i]
			}
		}
	}
	return p, nil
}

// unary evaluates functions of one element; nil for any other operation.
func unary(n *graph.Node, x []float32) []float32 {
	f := elementwise.Unary(n)
	if f == nil {
		return nil
	}
	out := make([]float32, len(x))
	tensor.Parallel(len(x), grain, func(lo, hi int) { f(out[lo:hi], x[lo:hi]) })
	return out
}
