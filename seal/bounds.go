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

	// NonNegative: no element is below zero, and the smallest is 2^Least (-Inf:
	// zero). A batch norm divides by the root of such a weight.
	NonNegative bool
	Least       float64
}

// rounding widens every bound by the effect of rounding, generously.
const rounding = 1.0 / 64

// inputLimit is the largest input that is not tokens: pixels, sound, mel
// frames. Processors write sizes below 10; raw pixels go up to 255.
const inputLimit = 10

// masked is the size from which a constant only ever stands in for -Inf
// before a softmax, or a choice.
const masked = 1e38

// bounder computes bounds node by node.
type bounder struct {
	g      *graph.Graph
	weight func(name string) WeightBound
	out    []bound
	signs  []sign
	scans  []scan
}

// bounds computes rigorous bounds for every value of a graph from the weights'
// own sizes: norms bound what leaves them, softmax averages, and the rest
// follows by Cauchy-Schwarz.
func bounds(g *graph.Graph, weight func(name string) WeightBound) []bound {
	a := newBounder(g, weight)
	a.run()
	return a.out
}

func newBounder(g *graph.Graph, weight func(name string) WeightBound) *bounder {
	n := len(g.Nodes)
	return &bounder{g: g, weight: weight, out: make([]bound, n), signs: make([]sign, n), scans: make([]scan, n)}
}

func (a *bounder) run() {
	for i := range a.g.Nodes {
		n := &a.g.Nodes[i]
		b := a.transfer(n)
		if grow := a.scan(graph.ID(i), n); grow > 0 {
			b.max, b.l1, b.l2 = b.max+grow, b.l1+grow, b.l2+grow
		}
		if k := len(n.Shape); k > 0 {
			w := a.length(n.Shape[k-1])
			b.l2 = min(b.l2, b.max+w/2)
			b.l1 = min(b.l1, b.max+w, b.l2+w/2)
			b.max = min(b.max, b.l2, b.l1)
		}
		b.max, b.l1, b.l2 = b.max+rounding, b.l1+rounding, b.l2+rounding
		a.out[i] = b
		a.signs[i] = a.sign(n, b.max)
	}
}

func all(x float64) bound { return bound{x, x, x} }

var inf = math.Inf(1)

// only bounds the elements and says nothing about rows.
func only(x float64) bound { return bound{x, inf, inf} }

var unbounded = all(inf)

func (a *bounder) in(n *graph.Node, i int) bound { return a.out[n.In[i]] }

// most returns the largest bound on an element of any operand from i on.
func (a *bounder) most(n *graph.Node, i int) float64 {
	m := math.Inf(-1)
	for ; i < len(n.In); i++ {
		m = max(m, a.in(n, i).max)
	}
	return m
}

func (a *bounder) transfer(n *graph.Node) bound {
	switch n.Op {
	case graph.OpWeight:
		w := a.weight(n.Name)
		return bound{w.Max, inf, w.RowL2}
	case graph.OpConst:
		return constant(n.Data)
	case graph.OpTokens:
		return only(24) // exact integers in float32
	case graph.OpInput:
		if n.Int {
			return only(math.Log2(float64(n.K)))
		}
		return only(inputLimit)
	case graph.OpEmbedding:
		return bound{a.in(n, 0).max, inf, a.in(n, 0).l2}
	case graph.OpLinear:
		return a.linear(n)
	case graph.OpMatMul:
		x, y := a.in(n, 0), a.in(n, 1)
		k := a.length(a.g.Shape(n.In[0])[len(n.Shape)-1])
		return bound{min(x.l1+y.max, x.l2+y.max+k/2, x.l2+a.column(n.In[1])), inf, x.l1 + y.l2}
	case graph.OpConv:
		return a.conv(n)
	case graph.OpReshape, graph.OpTranspose, graph.OpSlice, graph.OpExpand, graph.OpPad, graph.OpFlip,
		graph.OpIndex, graph.OpConcat, graph.OpGather, graph.OpScatter, graph.OpScatterAdd:
		return a.move(n)
	case graph.OpSoftmax, graph.OpRMSNorm, graph.OpLayerNorm, graph.OpSum, graph.OpMax, graph.OpArgMax, graph.OpCumSum,
		graph.OpTopKMask, graph.OpTopKValues, graph.OpTopKIndices, graph.OpOneHot:
		return a.along(n)
	}
	return a.elementwise(n)
}

func constant(data []float32) bound {
	m := 0.0
	for _, x := range data {
		if v := math.Abs(float64(x)); v < masked {
			m = max(m, v)
		}
	}
	return only(math.Log2(max(m, math.SmallestNonzeroFloat64)))
}

func (a *bounder) linear(n *graph.Node) bound {
	x, w := a.in(n, 0), a.in(n, 1)
	shape := a.g.Shape(n.In[1])
	rows, whole := w.l2, w.l2+math.Log2(float64(shape[0]))/2
	if leaf := &a.g.Nodes[n.In[1]]; leaf.Op == graph.OpWeight {
		whole = min(whole, a.weight(leaf.Name).L2)
	}
	if n.Transposed {
		rows = min(whole, w.max+math.Log2(float64(shape[0]))/2)
	}
	return bound{min(x.l2+rows, x.l1+w.max), inf, x.l2 + whole}
}

// column bounds the L2 norms along the axis before the last, where they are
// rows of what an operand was moved from.
func (a *bounder) column(id graph.ID) float64 {
	n := &a.g.Nodes[id]
	k := len(n.Shape)
	switch {
	case n.Op == graph.OpTranspose && n.Perm[k-1] == k-2 && n.Perm[k-2] == k-1:
		return a.in(n, 0).l2
	case n.Op == graph.OpReshape && n.Shape[k-1] == 1:
		if from := a.g.Shape(n.In[0]); len(from) > 0 && from[len(from)-1] == n.Shape[k-2] {
			return a.in(n, 0).l2
		}
	}
	return inf
}

// conv: a filter's L2 norm times that of what it sees.
func (a *bounder) conv(n *graph.Node) bound {
	x, w := a.in(n, 0), a.in(n, 1)
	shape := a.g.Shape(n.In[1])
	taps := 0.0
	for _, d := range shape[1:] {
		taps += math.Log2(float64(d))
	}
	last := math.Log2(float64(shape[len(shape)-1]))
	filter := min(w.l2+(taps-last)/2, w.max+taps/2)
	if leaf := &a.g.Nodes[n.In[1]]; leaf.Op == graph.OpWeight {
		filter = min(filter, a.weight(leaf.Name).L2)
	}
	return only(x.max + taps/2 + filter)
}

// move: rows that stay together, or parts of them, keep their norms.
func (a *bounder) move(n *graph.Node) bound {
	x := a.in(n, 0)
	switch n.Op {
	case graph.OpConcat, graph.OpScatter:
		m := a.most(n, 0)
		if n.Op == graph.OpScatter {
			m = max(x.max, a.in(n, 2).max)
		}
		return only(m)
	case graph.OpScatterAdd:
		hits := a.length(a.g.Shape(n.In[1])[n.Axis])
		return only(addLog(x.max, a.in(n, 2).max+hits))
	case graph.OpPad, graph.OpFlip:
		return x
	case graph.OpIndex:
		if n.Axis < len(a.g.Shape(n.In[0]))-1 {
			return x
		}
		return only(x.max)
	case graph.OpGather:
		return only(x.max)
	}
	if sameRows(a.g, n) {
		return x
	}
	return only(x.max)
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
