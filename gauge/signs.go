package gauge

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// A factor may be negative wherever every operation that it passes through is
// odd in it: f(-x) = -f(x), to the last bit. Signs follow the log-scales: an
// element whose scale is Σ coef·class has the sign Π sign^coef, so that every
// equation between scales holds for signs, too, and even powers lose them by
// their coefficient. What remains is to keep the signs of what goes into
// operations that only positive factors pass through.

// keepSigns notes the scales whose sign the operation at a node would notice;
// its result has scale v.
func (s *solver) keepSigns(n *graph.Node, v scale) {
	switch n.Op {
	case graph.OpEmbedding, graph.OpLinear, graph.OpMatMul, graph.OpConv, graph.OpMul, graph.OpMulScalar, graph.OpNeg,
		graph.OpSum, graph.OpCumSum, graph.OpNot, graph.OpAnd, graph.OpOr, graph.OpOneHot:
		return
	case graph.OpAdd, graph.OpSub, graph.OpWhere, graph.OpScatter, graph.OpScatterAdd, graph.OpConcat:
		// Infinities stay what they are under any factor, but not under a sign.
		if !s.anyEndless(n.In) {
			return
		}
	case graph.OpDiv:
		// A divisor that is exactly zero has a sign that does not follow.
		s.keep(n.In[1])
		return
	case graph.OpAddScalar:
		if n.Scalar == 0 {
			return
		}
	case graph.OpPow:
		if n.Scalar == 1 || n.Scalar == 2 || n.Scalar == 3 || n.Scalar == -2 {
			return
		}
		s.keepScale(v) // a root is positive, whatever its square was made of
	default:
		if n.Op.Move() {
			return
		}
	}
	for _, in := range n.In {
		s.keep(in)
	}
}

// keep fixes the sign of a value.
func (s *solver) keep(id graph.ID) {
	v := s.vals[id]
	if l, ok := s.leafOf[id]; ok {
		v = s.leaves[l].scale
	}
	s.keepScale(v)
}

func (s *solver) keepScale(v scale) {
	for _, p := range v {
		if len(p.v) > 0 && !s.kept[&p.v[0]] {
			s.kept[&p.v[0]] = true
			s.keeps = append(s.keeps, p.v)
		}
	}
}

// positive marks the free variables that a kept value has an odd multiple of.
func (a *assembly) positive() {
	for _, v := range a.keeps {
		for _, r := range a.sys.resolved(v) {
			a.touch(r, func(f *stretch, t term) {
				if t.num*f.lcm/t.den%2 != 0 {
					f.flags |= flagKeep
				}
			})
		}
	}
}

func (s *solver) anyEndless(ids []graph.ID) bool {
	for _, id := range ids {
		if s.void[id] && s.endless(id) {
			return true
		}
	}
	return false
}

// endless reports whether a void value holds infinities.
func (s *solver) endless(id graph.ID) bool {
	n := &s.g.Nodes[id]
	for _, x := range n.Data {
		if math.IsInf(float64(x), 0) {
			return true
		}
	}
	for _, in := range n.In {
		if s.void[in] && s.endless(in) {
			return true
		}
	}
	return false
}

// Negative evaluates a term's signs: which of its elements are negated, given
// which classes of every group are. Groups without signs have nil.
func (ax Axis) Negative(neg [][]bool) []bool {
	out := make([]bool, ax.Len)
	for _, sg := range ax.Segments {
		if sg.Coef%2 == 0 || neg[sg.Group] == nil {
			continue
		}
		for i := range sg.Count {
			at := sg.Start + i
			out[at] = out[at] != neg[sg.Group][sg.First+i/sg.Div]
		}
	}
	return out
}
