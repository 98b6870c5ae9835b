package train

import (
	"slices"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// merge is what an adapter does to a tensor of the checkpoint, in place.
type merge struct {
	tensor string // the module's; it differs from the tensor for a shared head
	apply  func(w []float32)
}

// merge records an adapter, once for each module.
func (p *Param) merge(tensor string, apply func(w []float32)) {
	if !slices.ContainsFunc(p.merges, func(m merge) bool { return m.tensor == tensor }) {
		p.merges = append(p.merges, merge{tensor, apply})
	}
}

// Tensors names the checkpoint's tensors that the network uses, in its order. Of
// tied tensors it names the first.
func (e *Engine) Tensors() []string {
	var out []string
	for _, p := range e.net.params {
		if !p.Adapter {
			out = append(out, p.Name)
		}
	}
	return out
}

// Weights returns a copy of a tensor of the checkpoint as the network now uses it,
// row by row: trained, dequantised, and with its adapter merged. Adapters' own
// parameters are known by their names too. A head that shares the embedding's
// tensor is "lm_head.weight"; it differs from the embedding once an adapter sits
// on one of them. It is not ok if the network uses no such tensor, nor for the
// checkpoint's tensors where what is trained, virtual tokens or residual adapters,
// is part of none.
func (e *Engine) Weights(name string) (data []float32, shape []int, ok bool) {
	p := e.param(name)
	if p == nil {
		return nil, nil, false
	}
	if k := e.o.Trainable.Kind; !p.Adapter && (k == SoftPrompt || k == Residual) {
		return nil, nil, false
	}
	data = slices.Clone(p.floats())
	for _, m := range p.merges {
		if m.tensor == name {
			m.apply(data)
		}
	}
	return data, slices.Clone(p.Shape), true
}

// SetWeights replaces a tensor of the checkpoint or a parameter of an adapter.
// Where the base is quantised, the values are too. Reset undoes it for what is
// trained, and only for that.
func (e *Engine) SetWeights(name string, data []float32) error {
	p := e.param(name)
	if p == nil {
		return fault.New(fault.Usage, "tensor %s: the network uses none of that name", name).WithHint("Tensors lists them")
	}
	if len(data) != p.size() {
		return fault.New(fault.Mismatch, "tensor %s: %d values for a tensor of %v", name, len(data), p.Shape)
	}
	if p.stored != nil {
		p.Data, p.stored = make([]float32, p.size()), nil
	}
	copy(p.Data, data)
	e.settle(p)
	e.touched = true
	return nil
}

// settle brings new values into the form that the network computes with.
func (e *Engine) settle(p *Param) {
	if e.o.BF16 {
		dtype.RoundBF16(p.Data)
	}
	if p.base != "" {
		p.quantise()
		if e.o.BF16 {
			dtype.RoundBF16(p.Data)
		}
	}
	b := e.leaf[p]
	b.data, b.stored = p.Data, p.stored
}

func (e *Engine) param(name string) *Param {
	name = e.net.tensor(name)
	for _, p := range e.net.params {
		if p.Name == name {
			return p
		}
	}
	return nil
}
