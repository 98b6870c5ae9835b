package gauge

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// node applies the rule of one operation: it adds the operation's equations
// and returns the scale of its result.
func (s *solver) node(id graph.ID) (scale, error) {
	n := &s.g.Nodes[id]
	if n.Op == graph.OpInvalid {
		return nil, fmt.Errorf("invalid operation")
	}
	s.void[id] = s.isVoid(n)
	s.ids[id] = s.idsChoice(id, n)
	var v scale
	switch by := s.common(n); {
	case n.Op == graph.OpIndex && s.ids[n.In[1]] != nil:
		v, s.by[id] = s.choose(n)
	case by != nil:
		v, s.by[id] = s.lifted(n, by)
	default:
		v = s.rule(n)
	}
	s.forget(n)
	s.keepSigns(n, v)
	if n.Int { // integers stand for positions and truth values
		s.by[id] = nil
		return nil, nil
	}
	return v, nil
}

// rule is the table of spec/rules.md.
func (s *solver) rule(n *graph.Node) scale {
	switch n.Op {
	case graph.OpWeight, graph.OpConst, graph.OpTokens, graph.OpInput, graph.OpOneHot:
		return nil
	case graph.OpEmbedding:
		return s.embedding(n)
	case graph.OpLinear:
		return s.linear(n)
	case graph.OpMatMul:
		return s.matmul(n)
	case graph.OpConv:
		return s.conv(n)
	case graph.OpAdd, graph.OpSub, graph.OpMaximum, graph.OpMinimum:
		return s.meet(n, n.In[0], n.In[1])
	case graph.OpEqual, graph.OpLess:
		s.meet(n, n.In[0], n.In[1])
		return nil
	case graph.OpWhere:
		// A positive factor keeps what is zero zero, so cond is free.
		return s.meet(n, n.In[1], n.In[2])
	case graph.OpNot, graph.OpAnd, graph.OpOr:
		return nil
	case graph.OpMul, graph.OpDiv:
		return s.product(n)
	case graph.OpMulScalar, graph.OpNeg, graph.OpAbs, graph.OpReLU, graph.OpLeakyReLU:
		return s.val(n.In[0])
	case graph.OpAddScalar, graph.OpClamp, graph.OpPow:
		return s.scalar(n)
	case graph.OpRMSNorm, graph.OpLayerNorm:
		return s.norm(n)
	case graph.OpSum, graph.OpMax, graph.OpCumSum, graph.OpTopKValues:
		return s.added(n.In[0])
	case graph.OpTopKMask, graph.OpTopKIndices, graph.OpArgMax:
		// The order of the elements is all that counts.
		s.reduce(s.val(n.In[0]))
		return nil
	case graph.OpScatter, graph.OpScatterAdd:
		return s.scatter(n)
	}
	if n.Op.Move() {
		return s.move(n)
	}
	// What bends (SiLU, exp, softmax, …) has no scale. An operation without a
	// rule, known or not, pins everything that goes into it.
	for _, in := range n.In {
		s.pinAll(s.val(in))
	}
	return nil
}

// meet makes two operands scale alike. One that is zero everywhere, whatever
// its factor, takes the other's.
func (s *solver) meet(n *graph.Node, x, y graph.ID) scale {
	switch rank := len(n.Shape); {
	case s.void[x]:
		return s.val(y).align(rank)
	case s.void[y]:
		return s.val(x).align(rank)
	}
	return s.equate(n.Shape, s.val(x), s.val(y))
}

// isVoid reports whether a value is a constant that no positive factor
// changes: zeros and infinities. A constant that is zero in places only is not,
// nor a product with zeros: rotary tables have both at the first position.
func (s *solver) isVoid(n *graph.Node) bool {
	switch {
	case n.Op == graph.OpConst:
		// One token may be all that makes a table of positions zero.
		if s.g.Tokens == 1 && len(n.Data) > 1 {
			return false
		}
		for _, x := range n.Data {
			if x != 0 && !math.IsInf(float64(x), 0) {
				return false
			}
		}
		return true
	case n.Op == graph.OpConcat:
		for _, in := range n.In {
			if !s.void[in] {
				return false
			}
		}
		return true
	case n.Op.Move(), n.Op == graph.OpNeg:
		return s.void[n.In[0]]
	}
	return false
}

// powers are those that every runtime computes by multiplying, dividing and
// taking square roots, so that factors pass through them exactly.
var powers = map[float64]struct{ num, den int64 }{
	-2: {-2, 1}, -1: {-1, 1}, -0.5: {-1, 2}, 0.5: {1, 2}, 1: {1, 1}, 2: {2, 1}, 3: {3, 1},
}

// scalar is an operation with a constant; what does not pass is pinned.
func (s *solver) scalar(n *graph.Node) scale {
	v := s.val(n.In[0])
	switch n.Op {
	case graph.OpAddScalar:
		if n.Scalar == 0 {
			return v
		}
	case graph.OpClamp:
		if (n.Min == 0 || math.IsInf(n.Min, -1)) && (n.Max == 0 || math.IsInf(n.Max, 1)) {
			return v
		}
	case graph.OpPow:
		if n.Scalar == 0 {
			return nil // one everywhere
		}
		if p, ok := powers[n.Scalar]; ok {
			s.roots = s.roots || p.den > 1
			out := make(scale, len(v))
			for i, x := range v {
				out[i] = part{x.dims, s.sys.resolved(x.v).times(p.num, p.den)}
			}
			return out
		}
	}
	s.pinAll(v)
	return nil
}

// product adds log-scales; quotient subtracts them. A vector of the checkpoint
// that is multiplied element by element is a gain.
func (s *solver) product(n *graph.Node) scale {
	rank := len(n.Shape)
	for _, in := range n.In {
		if w := &s.g.Nodes[in]; w.Op == graph.OpWeight && len(w.Shape) <= 1 {
			for _, p := range s.val(in) {
				s.sys.mark(p.v, flagNorm)
			}
		}
	}
	out := slices.Clone(s.val(n.In[0]).align(rank))
	for _, q := range s.val(n.In[1]).align(rank) {
		if n.Op == graph.OpDiv {
			q.v = negative(q.v)
		}
		out = s.plus(out, q)
	}
	return out
}

// plus adds a part to a scale.
func (s *solver) plus(v scale, q part) scale {
	i := slices.IndexFunc(v, func(p part) bool { return slices.Equal(p.dims, q.dims) })
	if i < 0 {
		return append(v, q)
	}
	v[i] = part{q.dims, s.sys.sum(v[i].v, q.v, 1)}
	return v
}

// norm: its input must scale as one, by the square root of what eps scales by,
// and not at all when eps is fixed in the code; its result never scales.
func (s *solver) norm(n *graph.Node) scale {
	v := s.val(n.In[0])
	if n.Scalar == 0 {
		s.reduce(v)
		return nil
	}
	s.equate(n.Shape, v, scale{uniform(len(n.Shape), s.eps[n.EpsKey])})
	return nil
}
