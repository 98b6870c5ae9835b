package seal

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// bound holds upper bounds, as log2, on a value's largest element and on the
// L1 and L2 norms of its last axis. They hold for every input.
type bound struct{ max, l1, l2 float64 }

// WeightBound is what a weight's statistics promise, as log2.
type WeightBound struct {
	Max   float64 // largest absolute element
	RowL2 float64 // largest L2 norm of a row of the last axis
	L2    float64 // L2 norm of the whole tensor
}

// rounding widens every bound by the effect of rounding, generously.
const rounding = 1.0 / 64

// bounds computes rigorous bounds for every value of a graph from the weights'
// own sizes: norms bound what leaves them, softmax averages, and the rest
// follows by Cauchy-Schwarz.
func bounds(g *graph.Graph, weight func(name string) WeightBound) []bound {
	out := make([]bound, len(g.Nodes))
	for i := range g.Nodes {
		n := &g.Nodes[i]
		b := transfer(g, n, out, weight)
		if k := len(n.Shape); k > 0 {
			w := math.Log2(float64(n.Shape[k-1]))
			b.l2 = min(b.l2, b.max+w/2)
			b.l1 = min(b.l1, b.max+w, b.l2+w/2)
			b.max = min(b.max, b.l2, b.l1)
		}
		b.max, b.l1, b.l2 = b.max+rounding, b.l1+rounding, b.l2+rounding
		out[i] = b
	}
	return out
}

func all(x float64) bound { return bound{x, x, x} }

var unbounded = all(math.Inf(1))

func transfer(g *graph.Graph, n *graph.Node, out []bound, weight func(string) WeightBound) bound {
	inf := math.Inf(1)
	in := func(i int) bound { return out[n.In[i]] }
	width := 0.0
	if k := len(n.Shape); k > 0 {
		width = math.Log2(float64(n.Shape[k-1]))
	}
	switch n.Op {
	case graph.OpWeight:
		w := weight(n.Name)
		return bound{w.Max, inf, w.RowL2}
	case graph.OpConst:
		m := 0.0
		for _, x := range n.Data {
			if x > -1e38 { // a mask's lowest float only ever goes into a softmax
				m = max(m, math.Abs(float64(x)))
			}
		}
		return bound{math.Log2(max(m, math.SmallestNonzeroFloat64)), inf, inf}
	case graph.OpEmbedding:
		return bound{in(0).max, inf, in(0).l2}
	case graph.OpLinear:
		return linearBound(g, n, in(0), weight)
	case graph.OpMatMul:
		k := math.Log2(float64(g.Shape(n.In[0])[len(n.Shape)-1]))
		return bound{min(in(0).l1+in(1).max, in(0).l2+in(1).max+k/2), inf, in(0).l1 + in(1).l2}
	case graph.OpAdd, graph.OpSub:
		return bound{addLog(in(0).max, in(1).max), inf, inf}
	case graph.OpMul:
		b := bound{in(0).max + in(1).max, inf, inf}
		for i, j := range []int{1, 0} {
			if wide(g, n, i) {
				b.l2 = min(b.l2, in(i).l2+in(j).max)
				b.l1 = min(b.l1, in(i).l1+in(j).max)
			}
		}
		return b
	case graph.OpDiv:
		// A row of non-negative numbers over its own sum.
		if d := &g.Nodes[n.In[1]]; d.Op == graph.OpSum && d.In[0] == n.In[0] && nonNegative(g, n.In[0]) {
			return all(0)
		}
		return unbounded
	case graph.OpAddScalar:
		return bound{addLog(in(0).max, math.Log2(math.Abs(n.Scalar))), inf, inf}
	case graph.OpMulScalar:
		s := math.Log2(math.Abs(n.Scalar))
		return bound{in(0).max + s, in(0).l1 + s, in(0).l2 + s}
	case graph.OpNeg, graph.OpReLU, graph.OpSiLU, graph.OpGELU, graph.OpGELUTanh:
		return in(0)
	case graph.OpTanh, graph.OpSigmoid, graph.OpTopKMask:
		return bound{0, inf, inf}
	case graph.OpSoftmax:
		return all(0)
	case graph.OpRMSNorm:
		return bound{width / 2, inf, width / 2}
	case graph.OpSum:
		return all(in(0).l1)
	case graph.OpReshape, graph.OpTranspose, graph.OpSlice, graph.OpExpand:
		if sameRows(g, n) {
			return in(0)
		}
		return bound{in(0).max, inf, inf}
	case graph.OpConcat:
		m := math.Inf(-1)
		for i := range n.In {
			m = max(m, in(i).max)
		}
		return bound{m, inf, inf}
	}
	return unbounded
}

func linearBound(g *graph.Graph, n *graph.Node, x bound, weight func(string) WeightBound) bound {
	w := &g.Nodes[n.In[1]]
	if w.Op != graph.OpWeight {
		return unbounded
	}
	b := weight(w.Name)
	rows := b.RowL2
	if n.Transposed {
		rows = b.L2
	}
	return bound{min(x.l2+rows, x.l1+b.Max), math.Inf(1), x.l2 + b.L2}
}

// nonNegative reports whether no element of a value can be below zero.
func nonNegative(g *graph.Graph, id graph.ID) bool {
	switch n := &g.Nodes[id]; n.Op {
	case graph.OpSoftmax, graph.OpSigmoid, graph.OpReLU, graph.OpTopKMask:
		return true
	case graph.OpMul:
		return nonNegative(g, n.In[0]) && nonNegative(g, n.In[1])
	}
	return false
}

// wide reports whether an operand has the result's last axis, not a broadcast.
func wide(g *graph.Graph, n *graph.Node, i int) bool {
	s := g.Shape(n.In[i])
	return len(s) > 0 && len(n.Shape) > 0 && s[len(s)-1] == n.Shape[len(n.Shape)-1]
}

// sameRows reports whether a move keeps (parts of) the rows of the last axis.
func sameRows(g *graph.Graph, n *graph.Node) bool {
	from := g.Shape(n.In[0])
	if len(from) == 0 || len(n.Shape) == 0 {
		return false
	}
	switch n.Op {
	case graph.OpSlice:
		return true
	case graph.OpTranspose:
		return n.Perm[len(n.Perm)-1] == len(n.Perm)-1
	case graph.OpExpand:
		return from[len(from)-1] == n.Shape[len(n.Shape)-1]
	}
	return from[len(from)-1] == n.Shape[len(n.Shape)-1] && slices.Contains(n.Shape, from[len(from)-1])
}

// addLog returns log2(2^a + 2^b).
func addLog(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(a, 0) {
		return a
	}
	return a + math.Log2(1+math.Exp2(b-a))
}
