package seal

import (
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
)

// Decode rebuilds the plan that a manifest records, and validates it. Whatever
// is not sound is fault.Mismatch.
func Decode(m *manifest.Manifest) (*Plan, error) {
	p := &Plan{}
	for _, g := range m.Groups {
		x := Group{
			ID: g.ID, Kind: gauge.Kind(g.Kind), Layer: g.Layer, Classes: g.Classes,
			Offsets: g.Offsets, Lo: g.Lo, Hi: g.Hi, Signs: g.Signs, Draw: g.Draw,
		}
		if g.Outliers != nil {
			x.Outliers = Outliers(*g.Outliers)
		}
		p.Groups = append(p.Groups, x)
	}
	for _, t := range m.Tensors {
		g := gauge.Tensor{Name: t.Name, Shape: t.Shape}
		for _, term := range t.Terms {
			ax := gauge.Axis{Axes: term.Axes, Len: 1}
			for _, a := range term.Axes {
				if a < 0 || a >= len(t.Shape) {
					return nil, fault.New(fault.Mismatch, "%s: tensor %s: axis %d of %v", manifest.Name, t.Name, a, t.Shape)
				}
				ax.Len *= t.Shape[a]
			}
			for _, s := range term.Segments {
				ax.Segments = append(ax.Segments, gauge.Segment{Start: s[0], Count: s[1], Group: s[2], First: s[3], Div: s[4], Coef: s[5]})
			}
			g.Terms = append(g.Terms, ax)
		}
		p.Tensors = append(p.Tensors, g)
	}
	if err := p.Validate(); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", manifest.Name)
	}
	return p, nil
}

// DecodePermutations reads what a manifest says changed places, and validates
// it; nil where nothing did. Whether tensors have those shapes is not checked.
func DecodePermutations(m *manifest.Manifest) (*gauge.Permutations, error) {
	if m.Permute == nil {
		return nil, nil
	}
	p := &gauge.Permutations{}
	for _, x := range m.Permute.Permutations {
		p.List = append(p.List, gauge.Permutation{ID: x.ID, Layer: x.Layer, Count: x.Count})
	}
	for _, a := range m.Permute.Axes {
		ax := gauge.PermutedAxis{Axis: a.Axis}
		for _, s := range a.Stretches {
			ax.Stretches = append(ax.Stretches, stretch(s))
		}
		if k := len(p.Tensors) - 1; k >= 0 && p.Tensors[k].Name == a.Tensor && slices.Equal(p.Tensors[k].Shape, a.Shape) {
			p.Tensors[k].Axes = append(p.Tensors[k].Axes, ax)
		} else {
			p.Tensors = append(p.Tensors, gauge.PermutedTensor{Name: a.Tensor, Shape: a.Shape, Axes: []gauge.PermutedAxis{ax}})
		}
	}
	for _, e := range m.Permute.Exchanges {
		p.Exchanges = append(p.Exchanges, gauge.Exchange{Places: stretch(e.Places), Tensors: e.Tensors})
	}
	if err := ValidatePermutations(p); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", manifest.Name)
	}
	return p, nil
}

func stretch(s [][2]int) gauge.Stretch {
	out := make(gauge.Stretch, len(s))
	for i, f := range s {
		out[i] = gauge.PlaceFactor{Perm: f[0], Count: f[1]}
	}
	return out
}
