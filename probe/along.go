package probe

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// along evaluates operations along the last axis.
func (r *runner) along(n *graph.Node, x []float32) ([]float32, error) {
	if n.Op == graph.OpOneHot {
		return oneHot(n, x)
	}
	shape := r.g.Shape(n.In[0])
	width := 1
	if k := len(shape); k > 0 {
		width = shape[k-1]
	}
	f, err := r.rowwise(n, width)
	if err != nil {
		return nil, err
	}
	out := make([]float32, count(n.Shape))
	if len(x) == 0 {
		return out, nil
	}
	rows := len(x) / width
	wide := len(out) / rows
	tensor.Parallel(rows, max(grain/width, 1), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i, out[i*wide:(i+1)*wide], x[i*width:(i+1)*width])
		}
	})
	return out, nil
}

// rowwise returns what computes one row of the result.
func (r *runner) rowwise(n *graph.Node, width int) (func(i int, out, x []float32), error) {
	switch n.Op {
	case graph.OpSoftmax:
		return func(_ int, out, x []float32) {
			copy(out, x)
			tensor.Softmax(out, 1, width)
		}, nil
	case graph.OpRMSNorm:
		return func(_ int, out, x []float32) { tensor.RMSNorm(out, x, 1, width, n.Scalar, nil) }, nil
	case graph.OpLayerNorm:
		return func(_ int, out, x []float32) { tensor.LayerNorm(out, x, 1, width, n.Scalar, nil, nil) }, nil
	case graph.OpSum:
		return func(_ int, out, x []float32) {
			var s float32
			for _, v := range x {
				s += v
			}
			out[0] = s
		}, nil
	case graph.OpMax:
		return func(_ int, out, x []float32) { out[0] = slices.Max(x) }, nil
	case graph.OpCumSum:
		return func(_ int, out, x []float32) {
			var s float32
			for i, v := range x {
				s += v
				out[i] = s
			}
		}, nil
	case graph.OpArgMax, graph.OpTopKMask, graph.OpTopKValues, graph.OpTopKIndices:
		return r.choice(n)
	}
	return nil, fmt.Errorf("no rule to compute it")
}

// largest returns the places of the k largest of a row in falling order; of
// equals, the first comes first.
func largest(x []float32, k int) []int {
	taken := make([]bool, len(x))
	out := make([]int, 0, k)
	for range k {
		best := -1
		for i, v := range x {
			if !taken[i] && (best < 0 || v > x[best] || v != v && x[best] == x[best]) {
				best = i
			}
		}
		taken[best] = true
		out = append(out, best)
	}
	return out
}

func oneHot(n *graph.Node, ids []float32) ([]float32, error) {
	out := make([]float32, len(ids)*n.K)
	for i, v := range ids {
		p, err := place(v, n.K)
		if err != nil {
			return nil, err
		}
		out[i*n.K+p] = 1
	}
	return out, nil
}
