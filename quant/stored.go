package quant

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
)

// Stored returns a solution whose tensors are those that stand in the
// checkpoint: each quantised weight is replaced by its scales, which take its
// factors, and by its activations' stored scale, which moves as they do: by the
// coefficients that input gives of the groups that move them. sol must have been
// restricted to the weights' Parts. Holes and all else stay the network's.
func (s *Set) Stored(sol *gauge.Solution, input func(weight string) []gauge.Factor) (*gauge.Solution, error) {
	out := *sol
	out.Tensors = nil
	for i := range sol.Tensors {
		t := &sol.Tensors[i]
		w := s.Weight(t.Name)
		if w == nil {
			out.Tensors = append(out.Tensors, *t)
			continue
		}
		for _, sc := range w.Scales {
			x, err := w.stored(t, sc)
			if err != nil {
				return nil, fmt.Errorf("factors of %s on %s: %w", w.Name, sc.Tensor, err)
			}
			out.Tensors = append(out.Tensors, x)
		}
		if w.Input != "" {
			x := gauge.Tensor{Name: w.Input, Shape: []int{1}, Input: -1}
			ax := gauge.Axis{Len: 1}
			for _, f := range input(w.Name) {
				if sg, ok := Facing(t, f); ok {
					ax.Segments = append(ax.Segments, sg)
				}
			}
			if len(ax.Segments) > 0 {
				x.Terms = []gauge.Axis{ax}
			}
			out.Tensors = append(out.Tensors, x)
		}
	}
	return &out, nil
}

// Facing returns how a value moves that a weight takes in, given the group that
// moves it, which must appear once in the weight, as a factor of all of it that
// takes the value's back: the same class then moves the value. ok is false where
// it is not so; a group that has no classes left moves nothing either.
func Facing(t *gauge.Tensor, f gauge.Factor) (sg gauge.Segment, ok bool) {
	found := 0
	for _, ax := range t.Terms {
		for _, s := range ax.Segments {
			if s.Group != f.Group {
				continue
			}
			found++
			if len(ax.Axes) == 0 && ax.Len == 1 && s.Coef == -f.Coef {
				sg, ok = gauge.Segment{Count: 1, Group: s.Group, First: s.First, Div: 1, Coef: f.Coef}, true
			}
		}
	}
	return sg, ok && found == 1
}

// stored turns the factors of a weight's elements into those of its scales.
func (w *Weight) stored(t *gauge.Tensor, sc Scale) (gauge.Tensor, error) {
	out := gauge.Tensor{Name: sc.Tensor, Shape: sc.View, Input: -1}
	for _, ax := range t.Terms {
		n, err := w.term(ax, sc)
		if err != nil {
			return out, err
		}
		same := func(o gauge.Axis) bool { return slices.Equal(o.Axes, n.Axes) }
		if k := slices.IndexFunc(out.Terms, same); k >= 0 {
			out.Terms[k].Segments = append(slices.Clip(out.Terms[k].Segments), n.Segments...)
		} else {
			out.Terms = append(out.Terms, n)
		}
	}
	columns := 0
	for _, ax := range out.Terms {
		if slices.Contains(ax.Axes, len(sc.View)-1) {
			columns++
		}
	}
	if columns > 1 {
		return out, fmt.Errorf("two factors along the last axis")
	}
	return out, nil
}

// term turns one term of a weight into one of its scales.
func (w *Weight) term(ax gauge.Axis, sc Scale) (gauge.Axis, error) {
	out := gauge.Axis{Len: 1}
	for _, a := range ax.Axes {
		if v := sc.Axis[a]; v >= 0 {
			out.Axes = append(out.Axes, v)
		}
	}
	if w.direct(ax, sc) {
		out.Len, out.Segments = ax.Len, ax.Segments
		return out, nil
	}
	slices.Sort(out.Axes)
	for _, v := range out.Axes {
		out.Len *= sc.View[v]
	}
	if len(ax.Axes) == 0 {
		out.Segments = ax.Segments
		return out, nil
	}
	place := w.places(ax, sc, out.Axes)
	hits, err := collect(ax, place, out.Len)
	if err != nil {
		return out, err
	}
	out.Segments = encode(hits)
	return out, nil
}

// direct reports whether every element of a term has a scale of its own, in the
// same order.
func (w *Weight) direct(ax gauge.Axis, sc Scale) bool {
	last := -1
	for _, a := range ax.Axes {
		v := sc.Axis[a]
		if p := w.part(a); v <= last || p.Of != nil || p.Block != 1 {
			return false
		}
		last = v
	}
	return len(ax.Axes) > 0
}

// places returns, for each element of a term, the element of the scales' term.
func (w *Weight) places(ax gauge.Axis, sc Scale, axes []int) []int32 {
	stride := map[int]int{}
	n := 1
	for i := len(axes) - 1; i >= 0; i-- {
		stride[axes[i]] = n
		n *= sc.View[axes[i]]
	}
	out := []int32{0}
	for _, a := range ax.Axes {
		p := w.part(a)
		next := make([]int32, 0, len(out)*w.Shape[a])
		for _, base := range out {
			for i := range w.Shape[a] {
				at := base
				if v := sc.Axis[a]; v >= 0 {
					k := i / max(p.Block, 1)
					if p.Of != nil {
						k = int(p.Of[i])
					}
					at += int32(k * stride[v])
				}
				next = append(next, at)
			}
		}
		out = next
	}
	return out
}

// hit says that a scale carries a class; times counts its elements that do.
type hit struct {
	group, coef, at, class int
	times                  int
}

// collect lists the classes of every scale. All elements that share it must
// carry them.
func collect(ax gauge.Axis, place []int32, n int) ([]hit, error) {
	share := make([]int, n)
	for _, at := range place {
		share[at]++
	}
	var hits []hit
	for _, s := range ax.Segments {
		for i := range s.Count {
			hits = append(hits, hit{s.Group, s.Coef, int(place[s.Start+i]), s.First + i/s.Div, 1})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.group, b.group), cmp.Compare(a.coef, b.coef), cmp.Compare(a.at, b.at), cmp.Compare(a.class, b.class))
	})
	out := hits[:0]
	for _, h := range hits {
		if k := len(out) - 1; k >= 0 && out[k].group == h.group && out[k].coef == h.coef && out[k].at == h.at && out[k].class == h.class {
			out[k].times++
		} else {
			out = append(out, h)
		}
	}
	for _, h := range out {
		if h.times != share[h.at] {
			return nil, fmt.Errorf("elements that share scale %d would move apart", h.at)
		}
	}
	return out, nil
}

// encode writes hits, sorted by group, coefficient and place, as segments.
func encode(hits []hit) []gauge.Segment {
	var out []gauge.Segment
	for _, h := range hits {
		k := len(out) - 1
		if k >= 0 && out[k].Group == h.group && out[k].Coef == h.coef && out[k].Start+out[k].Count == h.at {
			p := &out[k]
			switch {
			case h.class == p.First && (p.Count == 1 || p.Div == p.Count):
				p.Count++
				p.Div = p.Count
				continue
			case h.class == p.First+p.Count && p.Div == 1:
				p.Count++
				continue
			}
		}
		out = append(out, gauge.Segment{Start: h.at, Count: 1, Group: h.group, First: h.class, Div: 1, Coef: h.coef})
	}
	return out
}
