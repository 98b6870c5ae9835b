package seal

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// sign bounds the two sides of a value apart, as log2: no element is above
// 2^pos nor below -2^neg; -Inf says that there is none on that side of zero. If
// low is not -Inf, every element is at least 2^low.
type sign struct{ pos, neg, low float64 }

func (s sign) nonNegative() bool { return math.IsInf(s.neg, -1) }

var none = math.Inf(-1)

// sign follows the sides of a value; size is the bound on its elements.
func (a *bounder) sign(n *graph.Node, size float64) sign {
	s := a.sides(n, size)
	s.low = a.low(n) - rounding
	s.pos = min(s.pos+rounding, size)
	if s.neg += rounding; s.neg < 127 { // what stands in for -Inf has no bound
		s.neg = min(s.neg, size)
	}
	return s
}

func (a *bounder) sides(n *graph.Node, size float64) sign {
	in := func(i int) sign { return a.signs[n.In[i]] }
	grown := func(s sign) sign { // the same sides, other sizes
		if s.pos > none {
			s.pos = size
		}
		if s.neg > none {
			s.neg = max(s.neg, size)
		}
		return s
	}
	switch n.Op {
	case graph.OpWeight:
		if a.weight(n.Name).NonNegative {
			return sign{pos: size, neg: none}
		}
	case graph.OpConst:
		return signOf(n.Data)
	case graph.OpTokens, graph.OpInput:
		if n.Int {
			return sign{pos: size, neg: none}
		}
	case graph.OpSoftmax, graph.OpSigmoid, graph.OpExp, graph.OpSoftplus, graph.OpAbs, graph.OpTopKMask, graph.OpOneHot,
		graph.OpEqual, graph.OpLess, graph.OpNot, graph.OpAnd, graph.OpOr, graph.OpArgMax, graph.OpTopKIndices:
		return sign{pos: size, neg: none}
	case graph.OpReLU:
		return sign{pos: in(0).pos, neg: none}
	case graph.OpNeg:
		return sign{pos: in(0).neg, neg: in(0).pos}
	case graph.OpPow:
		if math.Mod(n.Scalar, 2) == 0 || n.Scalar != math.Trunc(n.Scalar) {
			return sign{pos: size, neg: none}
		}
		return grown(in(0))
	case graph.OpClamp:
		return sign{pos: part(in(0).pos, n.Max, n.Min), neg: part(in(0).neg, -n.Min, -n.Max)}
	case graph.OpMulScalar, graph.OpAddScalar, graph.OpAdd, graph.OpSub, graph.OpMul, graph.OpDiv:
		return a.arithmetic(n, size)
	case graph.OpMaximum:
		return sign{pos: max(in(0).pos, in(1).pos), neg: min(in(0).neg, in(1).neg)}
	case graph.OpMinimum:
		return sign{pos: min(in(0).pos, in(1).pos), neg: max(in(0).neg, in(1).neg)}
	case graph.OpWhere:
		return sign{pos: max(in(1).pos, in(2).pos), neg: max(in(1).neg, in(2).neg)}
	case graph.OpSum, graph.OpCumSum, graph.OpLeakyReLU:
		return grown(in(0))
	case graph.OpMax, graph.OpTopKValues, graph.OpIndex, graph.OpGather:
		return in(0)
	case graph.OpScatter:
		return sign{pos: max(in(0).pos, in(2).pos), neg: max(in(0).neg, in(2).neg)}
	default:
		if n.Op.Move() {
			s := sign{pos: none, neg: none}
			for i := range n.In {
				s.pos, s.neg = max(s.pos, in(i).pos), max(s.neg, in(i).neg)
			}
			return s
		}
	}
	return sign{pos: size, neg: size}
}

// part is one side of a clamp: at most the bound on that side, at least what
// the bound on the other side leaves.
func part(side, most, least float64) float64 {
	if most <= 0 {
		return none
	}
	s := min(side, math.Log2(most))
	if least > 0 {
		s = max(s, math.Log2(least))
	}
	return s
}

func signOf(data []float32) sign {
	s := sign{pos: none, neg: none}
	for _, x := range data {
		v := float64(x)
		s.pos, s.neg = max(s.pos, math.Log2(max(v, 0))), max(s.neg, math.Log2(max(-v, 0)))
	}
	return s
}

// arithmetic follows both sides through sums and products.
func (a *bounder) arithmetic(n *graph.Node, size float64) sign {
	x := a.signs[n.In[0]]
	var y sign
	switch n.Op {
	case graph.OpMulScalar, graph.OpAddScalar:
		y = signOf([]float32{float32(n.Scalar)})
	default:
		y = a.signs[n.In[1]]
	}
	switch n.Op {
	case graph.OpAdd, graph.OpAddScalar:
		return sign{pos: addLog(x.pos, y.pos), neg: addLog(x.neg, y.neg)}
	case graph.OpSub:
		if a.atMost(n.In[0], n.In[1]) {
			return sign{pos: none, neg: addLog(x.neg, y.pos)}
		}
		return sign{pos: addLog(x.pos, y.neg), neg: addLog(x.neg, y.pos)}
	case graph.OpDiv:
		y.pos, y.neg = over(y.pos), over(y.neg)
	case graph.OpMul:
		if n.In[0] == n.In[1] {
			return sign{pos: size, neg: none}
		}
	}
	return sign{pos: max(times(x.pos, y.pos), times(x.neg, y.neg)), neg: max(times(x.pos, y.neg), times(x.neg, y.pos))}
}

// over is a side of 1/y, of which only its being there is known.
func over(side float64) float64 {
	if side > none {
		return inf
	}
	return none
}

func times(a, b float64) float64 {
	if a == none || b == none {
		return none
	}
	return a + b
}

// atMost reports whether y is a maximum of x with something.
func (a *bounder) atMost(x, y graph.ID) bool {
	n := &a.g.Nodes[y]
	for n.Op == graph.OpExpand {
		n = &a.g.Nodes[n.In[0]]
	}
	return n.Op == graph.OpMax && n.In[0] == x || n.Op == graph.OpMaximum && (n.In[0] == x || n.In[1] == x)
}

// low bounds a positive value from below.
func (a *bounder) low(n *graph.Node) float64 {
	in := func(i int) float64 { return a.signs[n.In[i]].low }
	least := func(from int) float64 {
		m := inf
		for i := from; i < len(n.In); i++ {
			m = min(m, in(i))
		}
		return m
	}
	switch n.Op {
	case graph.OpWeight:
		if w := a.weight(n.Name); w.NonNegative {
			return w.Least
		}
	case graph.OpConst:
		m := inf
		for _, x := range n.Data {
			m = min(m, math.Log2(max(float64(x), 0)))
		}
		return m
	case graph.OpExp:
		return -expLog(a.signs[n.In[0]].neg)
	case graph.OpClamp:
		return max(math.Log2(max(n.Min, 0)), min(in(0), math.Log2(max(n.Max, 0))))
	case graph.OpAddScalar:
		if n.Scalar >= 0 && a.signs[n.In[0]].nonNegative() {
			return addLog(in(0), math.Log2(n.Scalar))
		}
	case graph.OpAdd:
		return a.lowSum(n)
	case graph.OpMulScalar:
		if n.Scalar > 0 {
			return in(0) + math.Log2(n.Scalar)
		}
	case graph.OpMul:
		return times(in(0), in(1))
	case graph.OpPow:
		switch {
		case in(0) == none || n.Scalar == 0:
			return none
		case n.Scalar < 0:
			return n.Scalar * a.in(n, 0).max
		}
		return n.Scalar * in(0)
	case graph.OpMaximum:
		return max(in(0), in(1))
	case graph.OpMinimum:
		return least(0)
	case graph.OpWhere:
		return least(1)
	case graph.OpConcat:
		return least(0)
	case graph.OpAbs, graph.OpReLU, graph.OpSum, graph.OpMax, graph.OpTopKValues, graph.OpReshape, graph.OpTranspose,
		graph.OpSlice, graph.OpExpand, graph.OpFlip, graph.OpIndex, graph.OpGather:
		return in(0)
	}
	return none
}

// lowSum: two terms that are not negative; or the running sum of exponentials
// that are kept relative to the largest, of which one is always 1:
// exp(a-max(a,b))·s + exp(b-max(a,b)) is at least the smaller of s and 1.
func (a *bounder) lowSum(n *graph.Node) float64 {
	low := none
	if a.signs[n.In[0]].nonNegative() && a.signs[n.In[1]].nonNegative() {
		low = addLog(a.signs[n.In[0]].low, a.signs[n.In[1]].low)
	}
	product, last := &a.g.Nodes[n.In[0]], n.In[1]
	if product.Op != graph.OpMul {
		return low
	}
	x, m, ok := a.relative(product.In[0])
	y, l, also := a.relative(last)
	if most := &a.g.Nodes[m]; !ok || !also || l != m || most.Op != graph.OpMaximum ||
		(most.In[0] != x || most.In[1] != y) && (most.In[0] != y || most.In[1] != x) {
		return low
	}
	return max(low, min(a.signs[product.In[1]].low, 0))
}

// relative matches exp(x - m).
func (a *bounder) relative(id graph.ID) (x, m graph.ID, ok bool) {
	e := &a.g.Nodes[id]
	if e.Op != graph.OpExp || a.g.Nodes[e.In[0]].Op != graph.OpSub {
		return 0, 0, false
	}
	d := &a.g.Nodes[e.In[0]]
	return d.In[0], d.In[1], true
}
