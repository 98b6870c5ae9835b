package neuroseal

import (
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// signs lets the selected groups be negative, too, where the network allows it
// and every tensor that they move is stored as floats: kernels may take a
// quantised weight's scales to be positive.
func (l *locker) signs(groups []seal.Group) {
	if !l.o.Signs {
		return
	}
	held, coded := l.held(), map[int]bool{}
	for i := range l.stored.Tensors {
		t := &l.stored.Tensors[i]
		if l.plain(t.Name) {
			continue
		}
		for g := range groupsOf(t) {
			coded[g] = true
		}
	}
	for i, g := range l.sol.Groups {
		groups[i].Signs = g.Flip && g.Classes > 0 && !coded[i] && l.o.selects(g) && held[g.ID] == ""
	}
}

// plain reports whether a weight of the network stands in the checkpoint as it
// is, as floats.
func (l *locker) plain(name string) bool {
	t, ok := l.m.ck.Tensor(name)
	_, weight := l.m.net.Graph.Weights()[name]
	return ok && weight && l.m.quant.Weight(name) == nil && t.Format == nil && t.DType.Scalable()
}

// factorsOf returns the editor that multiplies a stored tensor by its factors
// and signs (sign 1), or takes both back (-1); nil where nothing moves.
func factorsOf(p *gauge.Tensor, t checkpoint.Tensor, e [][]int16, neg [][]bool, sign int) checkpoint.Editor {
	ed := editorOf(p, t, e, sign)
	if !slices.ContainsFunc(neg, func(n []bool) bool { return n != nil }) {
		return ed
	}
	f := seal.NewFlipper(p, t.DType, neg)
	switch {
	case t.Format != nil && slices.ContainsFunc(p.Terms, func(ax gauge.Axis) bool { return slices.Contains(ax.Negative(neg), true) }):
		return refusal{fault.New(fault.Mismatch, "tensor %s: a sign for weights in %v", t.Name, t.Format)}
	case f == nil:
		return ed
	case ed == nil:
		return f
	}
	return inTurn{ed, f}
}

// inTurn applies two editors one after the other.
type inTurn [2]checkpoint.Editor

func (s inTurn) Edit(start int64, buf []byte) error {
	if err := s[0].Edit(start, buf); err != nil {
		return err
	}
	return s[1].Edit(start, buf)
}
