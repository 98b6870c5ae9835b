package seal

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// elementwise bounds what every element computes from its own operands.
func (a *bounder) elementwise(n *graph.Node) bound {
	x := bound{}
	if len(n.In) > 0 {
		x = a.in(n, 0)
	}
	s := math.Log2(math.Abs(n.Scalar))
	switch n.Op {
	case graph.OpAdd, graph.OpSub:
		return only(addLog(x.max, a.in(n, 1).max))
	case graph.OpMul:
		return a.product(n)
	case graph.OpDiv:
		return a.quotient(n)
	case graph.OpMaximum, graph.OpMinimum:
		return a.either(n, 0, 1)
	case graph.OpWhere:
		return a.either(n, 1, 2)
	case graph.OpAddScalar:
		return only(addLog(x.max, s))
	case graph.OpMulScalar:
		return bound{x.max + s, x.l1 + s, x.l2 + s}
	case graph.OpPow:
		return a.power(n)
	case graph.OpClamp:
		return clamped(n, x)
	case graph.OpNeg, graph.OpAbs, graph.OpReLU, graph.OpSiLU, graph.OpGELU, graph.OpGELUTanh:
		return x
	case graph.OpLeakyReLU, graph.OpELU:
		// Both are at most the larger of |x| and |Scalar·x|.
		s = max(s, 0)
		return bound{x.max + s, x.l1 + s, x.l2 + s}
	case graph.OpSoftplus:
		return only(addLog(x.max, math.Log2(math.Ln2)))
	case graph.OpFloor, graph.OpRound:
		return only(addLog(x.max, 0))
	case graph.OpTanh, graph.OpSigmoid, graph.OpErf, graph.OpSin, graph.OpCos, graph.OpEqual, graph.OpLess,
		graph.OpNot, graph.OpAnd, graph.OpOr:
		return only(0)
	case graph.OpExp:
		return only(expLog(a.signs[n.In[0]].pos))
	case graph.OpLog:
		// |ln v| is largest at either end of [2^low, 2^max].
		far := max(math.Abs(a.signs[n.In[0]].low), math.Abs(x.max))
		return only(math.Log2(far * math.Ln2))
	}
	return unbounded
}

// expLog returns log2 of e^v for v up to 2^p.
func expLog(p float64) float64 { return math.Exp2(p) * math.Log2E }

// product: a row of one operand times the largest element of the other.
func (a *bounder) product(n *graph.Node) bound {
	x, y := a.in(n, 0), a.in(n, 1)
	if n.In[0] == n.In[1] {
		return square(x)
	}
	if m, ok := a.normalised(n); ok {
		return m
	}
	b := only(x.max + y.max)
	for i, j := range []int{1, 0} {
		if wide(a.g, n, i) {
			b.l2 = min(b.l2, a.in(n, i).l2+a.in(n, j).max)
			b.l1 = min(b.l1, a.in(n, i).l1+a.in(n, j).max)
		}
	}
	if b.max != b.max { // nothing times anything
		return all(math.Inf(-1))
	}
	return b
}

func square(x bound) bound { return bound{2 * x.max, 2 * x.l2, 2 * x.l2} }

// quotient: a row of non-negative numbers over its own sum; or over what is
// known not to be small.
func (a *bounder) quotient(n *graph.Node) bound {
	x, d := a.in(n, 0), n.In[1]
	if sum := a.denominator(d); sum.Op == graph.OpSum && sum.In[0] == n.In[0] && a.signs[n.In[0]].nonNegative() {
		return all(0)
	}
	if m, ok := a.normalised(n); ok {
		return m
	}
	low := a.signs[d].low
	b := only(x.max - low)
	if wide(a.g, n, 0) {
		b.l1, b.l2 = x.l1-low, x.l2-low
	}
	if math.IsInf(low, -1) || b.max != b.max {
		return unbounded
	}
	return b
}

// denominator looks through what makes a sum no smaller: an epsilon added, an
// axis repeated.
func (a *bounder) denominator(id graph.ID) *graph.Node {
	n := &a.g.Nodes[id]
	for n.Op == graph.OpExpand || n.Op == graph.OpAddScalar && n.Scalar >= 0 {
		n = &a.g.Nodes[n.In[0]]
	}
	return n
}

// normalised recognises a norm that was written out: x·(c·Σx² + eps)^-½, or x
// over the square root. No element is above c^-½, nor is the row's L2 norm.
func (a *bounder) normalised(n *graph.Node) (bound, bool) {
	want := -0.5
	if n.Op == graph.OpDiv {
		want = 0.5
	}
	for i, j := range []int{1, 0} {
		if n.Op == graph.OpDiv && i == 1 {
			break
		}
		root := &a.g.Nodes[n.In[j]]
		for root.Op == graph.OpExpand {
			root = &a.g.Nodes[root.In[0]]
		}
		if root.Op != graph.OpPow || root.Scalar != want {
			continue
		}
		m := a.denominator(root.In[0])
		c := 0.0
		if m.Op == graph.OpMulScalar && m.Scalar > 0 {
			c = math.Log2(m.Scalar)
			m = &a.g.Nodes[m.In[0]]
		}
		if m.Op == graph.OpSum && a.squareOf(m.In[0], n.In[i]) {
			return bound{-c / 2, inf, -c / 2}, true
		}
	}
	return bound{}, false
}

func (a *bounder) squareOf(id, x graph.ID) bool {
	n := &a.g.Nodes[id]
	return n.Op == graph.OpPow && n.Scalar == 2 && n.In[0] == x || n.Op == graph.OpMul && n.In[0] == x && n.In[1] == x
}

// either bounds a value whose elements are those of one operand or the other.
func (a *bounder) either(n *graph.Node, i, j int) bound {
	x, y := a.in(n, i), a.in(n, j)
	b := only(max(x.max, y.max))
	if wide(a.g, n, i) && wide(a.g, n, j) {
		b.l1, b.l2 = addLog(x.l1, y.l1), addLog(x.l2, y.l2)
	}
	return b
}

// power: from above by the largest element, or, where the exponent is
// negative, by the smallest.
func (a *bounder) power(n *graph.Node) bound {
	x := a.in(n, 0)
	switch {
	case n.Scalar == 2:
		return square(x)
	case n.Scalar == 0:
		return only(0)
	case n.Scalar > 0:
		return only(n.Scalar * x.max)
	}
	return only(n.Scalar * a.signs[n.In[0]].low)
}

func clamped(n *graph.Node, x bound) bound {
	size := math.Log2(max(math.Abs(n.Min), math.Abs(n.Max)))
	if n.Min <= 0 && n.Max >= 0 {
		return bound{min(x.max, size), x.l1, x.l2}
	}
	return only(min(size, max(x.max, math.Log2(max(n.Min, -n.Max)))))
}

// along bounds operations along the last axis.
func (a *bounder) along(n *graph.Node) bound {
	x := a.in(n, 0)
	shape := a.g.Shape(n.In[0])
	width := 0.0
	if k := len(shape); k > 0 {
		width = math.Log2(float64(shape[k-1]))
	}
	switch n.Op {
	case graph.OpSoftmax, graph.OpOneHot:
		return all(0)
	case graph.OpRMSNorm, graph.OpLayerNorm:
		return bound{width / 2, inf, width / 2}
	case graph.OpSum:
		return all(x.l1)
	case graph.OpCumSum:
		return only(x.l1)
	case graph.OpMax:
		return all(x.max)
	case graph.OpTopKValues:
		return x
	case graph.OpTopKMask:
		return only(0)
	}
	return only(width) // places
}

// wide reports whether an operand has the result's last axis, not a broadcast.
func wide(g *graph.Graph, n *graph.Node, i int) bool {
	s := g.Shape(n.In[i])
	return len(s) > 0 && len(n.Shape) > 0 && s[len(s)-1] == n.Shape[len(n.Shape)-1]
}
