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
	decoded, err := seal.Decode(m)
	if err != nil {
		return nil, err
	}
	p := &plan{Plan: *decoded, tensors: map[string]*gauge.Tensor{}, moved: map[string][]gauge.PermutedAxis{}}
	for i := range p.Tensors {
		p.tensors[p.Tensors[i].Name] = &p.Tensors[i]
	}
	raw, err := json.Marshal([]any{m.Groups, m.Tensors, m.Permute})
	if err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s", manifest.Name)
	}
	p.digest = sha256.Sum256(raw)
	places, err := seal.DecodePermutations(m)
	if places == nil || err != nil {
		return p, err
	}
	p.places = *places
	for _, t := range places.Tensors {
		p.moved[t.Name] = t.Axes
	}
	return p, nil
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
