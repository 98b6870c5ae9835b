package pt2

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// norms recognises norms that a program writes out, x · rsqrt(mean(x²) + eps),
// so that they become the operation that has a bound on its values. What is not
// recognised stays as it is written and means the same.
type norms struct {
	square, meanSquare, mean, centred map[graph.ID]*value // node -> x
	plusEps, inverse, root            map[graph.ID]scale
}

type scale struct {
	x   *value
	eps float64
}

func newNorms() *norms {
	m := func() map[graph.ID]*value { return map[graph.ID]*value{} }
	s := func() map[graph.ID]scale { return map[graph.ID]scale{} }
	return &norms{m(), m(), m(), m(), s(), s(), s()}
}

func (n *norms) sub(v, x, y *value) {
	if m, ok := n.mean[y.id]; ok && y.c == nil && x.c == nil && m.id == x.id {
		n.centred[v.id] = x
	}
}

// average notes the mean of x along its last axis.
func (n *norms) average(v, x *value) {
	if v.c != nil || x.c != nil {
		return
	}
	n.mean[v.id] = x
	if s, ok := n.square[x.id]; ok {
		n.meanSquare[v.id] = s
	}
}

func (n *norms) addScalar(v, x *value, eps float64) {
	if s, ok := n.meanSquare[x.id]; ok && x.c == nil && eps > 0 {
		n.plusEps[v.id] = scale{s, eps}
	}
}

func (n *norms) pow(v, x *value, p float64) {
	if x.c != nil {
		return
	}
	e, ok := n.plusEps[x.id]
	switch {
	case p == 2:
		n.square[v.id] = x
	case ok && p == -0.5:
		n.inverse[v.id] = e
	case ok && p == 0.5:
		n.root[v.id] = e
	}
}

func (n *norms) mul(l *lowering, x, y *value) *value {
	for _, p := range [][2]*value{{x, y}, {y, x}} {
		if e, ok := n.inverse[p[1].id]; ok && p[1].c == nil {
			if v := n.emit(l, p[0], e); v != nil {
				return v
			}
		}
	}
	return nil
}

func (n *norms) div(l *lowering, x, y *value) *value {
	if e, ok := n.root[y.id]; ok && y.c == nil {
		return n.emit(l, x, e)
	}
	return nil
}

func (n *norms) emit(l *lowering, x *value, e scale) *value {
	if x.c != nil {
		return nil
	}
	from, centred := n.centred[x.id]
	of, also := n.centred[e.x.id]
	k := max(x.kind, fold.Float)
	switch {
	case centred && also && from.id == of.id:
		return l.node(l.b.LayerNorm(from.id, e.eps, ""), k)
	case e.x.id == x.id:
		return l.node(l.b.RMSNorm(x.id, e.eps, ""), k)
	}
	return nil
}
