package neuroseal

import (
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// longestVariance is the size in bytes above which no tensor is a batch norm's.
const longestVariance = 1 << 22

// variances completes the figures of weights that something is divided by the
// root of.
func (m *model) variances(facts map[string]seal.TensorFacts) error {
	for _, name := range seal.Roots(m.net.Graph) {
		d, size, ok := m.Weight(name)
		if !ok || size > longestVariance || !d.Scalable() {
			continue
		}
		raw := make([]byte, size)
		if err := m.ReadWeight(name, raw, 0); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "tensor %s", name)
		}
		w := make([]float32, size*8/int64(d.Bits()))
		dtype.ToFloat32(d, w, raw)
		f := facts[name]
		f.Bound.Least, f.Bound.NonNegative = seal.Least(w)
		facts[name] = f
	}
	return nil
}
