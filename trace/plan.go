package trace

import (
	"crypto/sha256"
	"encoding/json"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// plan is what a manifest says of a seal, decoded and checked.
type plan struct {
	seal.Plan
	tensors map[string]*gauge.Tensor
	places  gauge.Permutations // what changed places
	moved   map[string][]gauge.PermutedAxis
	digest  [32]byte // the same for equal plans
}

// planOf decodes a manifest's plan.
func planOf(m *manifest.Manifest) (*plan, error) {
	p := &plan{tensors: map[string]*gauge.Tensor{}, moved: map[string][]gauge.PermutedAxis{}}
	for _, g := range m.Groups {
		x := seal.Group{
			ID: g.ID, Kind: gauge.Kind(g.Kind), Layer: g.Layer, Classes: g.Classes, Offsets: g.Offsets, Lo: g.Lo, Hi: g.Hi, Signs: g.Signs,
		}
		if g.Outliers != nil {
			x.Outliers = seal.Outliers(*g.Outliers)
		}
		p.Groups = append(p.Groups, x)
	}
	for _, t := range m.Tensors {
		x := gauge.Tensor{Name: t.Name, Shape: t.Shape}
		for _, term := range t.Terms {
			ax := gauge.Axis{Axes: term.Axes, Len: 1}
			for _, a := range term.Axes {
				if a < 0 || a >= len(t.Shape) {
					return nil, fault.New(fault.Mismatch, "tensor %s: axis %d of %v", t.Name, a, t.Shape)
				}
				ax.Len *= t.Shape[a]
			}
			for _, s := range term.Segments {
				ax.Segments = append(ax.Segments, gauge.Segment{Start: s[0], Count: s[1], Group: s[2], First: s[3], Div: s[4], Coef: s[5]})
			}
			x.Terms = append(x.Terms, ax)
		}
		p.Tensors = append(p.Tensors, x)
	}
	if err := p.Validate(); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", manifest.Name)
	}
	for i := range p.Tensors {
		p.tensors[p.Tensors[i].Name] = &p.Tensors[i]
	}
	raw, err := json.Marshal([]any{m.Groups, m.Tensors, m.Permute})
	if err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", manifest.Name)
	}
	p.digest = sha256.Sum256(raw)
	return p, p.permuted(m)
}

// permuted decodes what changed places.
func (p *plan) permuted(m *manifest.Manifest) error {
	if m.Permute == nil {
		return nil
	}
	stretch := func(s [][2]int) (out gauge.Stretch) {
		for _, f := range s {
			out = append(out, gauge.PlaceFactor{Perm: f[0], Count: f[1]})
		}
		return out
	}
	for _, x := range m.Permute.Permutations {
		p.places.List = append(p.places.List, gauge.Permutation{ID: x.ID, Layer: x.Layer, Count: x.Count})
	}
	for _, a := range m.Permute.Axes {
		ax := gauge.PermutedAxis{Axis: a.Axis}
		for _, s := range a.Stretches {
			ax.Stretches = append(ax.Stretches, stretch(s))
		}
		k := len(p.places.Tensors) - 1
		if k < 0 || p.places.Tensors[k].Name != a.Tensor {
			p.places.Tensors = append(p.places.Tensors, gauge.PermutedTensor{Name: a.Tensor, Shape: a.Shape})
			k++
		}
		p.places.Tensors[k].Axes = append(p.places.Tensors[k].Axes, ax)
		p.moved[a.Tensor] = p.places.Tensors[k].Axes
	}
	for _, e := range m.Permute.Exchanges {
		p.places.Exchanges = append(p.places.Exchanges, gauge.Exchange{Places: stretch(e.Places), Tensors: e.Tensors})
	}
	if err := seal.ValidatePermutations(&p.places); err != nil {
		return fault.Wrap(fault.Mismatch, err, "%s", manifest.Name)
	}
	return nil
}

// pieces lists the matrices that the plan's tensors hold.
func (p *plan) pieces() []piece {
	var out []piece
	for i := range p.Tensors {
		out = append(out, piecesOf(&p.Tensors[i])...)
	}
	return out
}

// orders are where the elements of a copy's tensors came from.
type orders struct {
	axes map[string][][]int32 // per tensor and axis; nil: they stay
	from map[string]string    // the tensor whose place another took
}

// orders draws the permutations of a key; nil where there are none.
func (p *plan) orders(key keys.SealKey) *orders {
	if len(p.places.List) == 0 {
		return nil
	}
	list := seal.Shuffles(p.places.List, key)
	o := &orders{axes: map[string][][]int32{}, from: map[string]string{}}
	for _, t := range p.places.Tensors {
		o.axes[t.Name] = make([][]int32, len(t.Shape))
		for _, ax := range t.Axes {
			o.axes[t.Name][ax.Axis] = ax.Sources(list)
		}
	}
	for _, e := range p.places.Exchanges {
		for i, from := range e.Places.Sources(list) {
			o.from[e.Tensors[i]] = e.Tensors[from]
		}
	}
	return o
}
