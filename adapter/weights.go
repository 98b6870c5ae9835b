package adapter

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// find returns the model's name of a tensor. Checkpoints may leave the first
// parts of names out, or have more; "" if there is none of that name.
func (r *reader) find(name string) (string, error) {
	if _, ok := r.m[name]; ok {
		return name, nil
	}
	var found []string
	for n := range r.m {
		if strings.HasSuffix(n, "."+name) || strings.HasSuffix(name, "."+n) && strings.Contains(n, ".") {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return "", nil
	case 1:
		return found[0], nil
	}
	slices.Sort(found)
	return "", fault.New(fault.Mismatch, "adapter module %s could be %s or %s of the sealed model", name, found[0], found[1])
}

// weight finds the weight of a module that is adapted as a whole.
func (r *reader) weight(m *module) (name string, shape []int, err error) {
	name, err = r.find(m.path + ".weight")
	if err != nil {
		return "", nil, err
	}
	if name == "" {
		err := fault.New(fault.Mismatch, "the adapter targets %s, and the sealed model has no tensor %s.weight", m.path, m.path)
		return "", nil, err.WithHint("is it the model that the adapter was trained on, in safetensors, and not quantised? Weights that share another's tensor, or that transformers joins from several, cannot be converted")
	}
	if n := r.scaled()[strings.TrimSuffix(name, ".weight")]; n != "" {
		return "", nil, fault.New(fault.Unsupported, "%s is stored quantised (%s): its seal moves scales, which an adapter does not have", name, n).
			WithHint("give the seal of the unquantised model, if the adapter was trained on that")
	}
	return name, r.m[name].Shape, nil
}

// companions are what quantised weights are stored with.
var companions = []string{"absmax", "quant_map", "SCB", "qweight", "qzeros", "g_idx", "scales", "biases",
	"weight_scale", "weight_scale_inv", "weight_scale_2", "weight_packed", "weight_zero_point"}

// scaled names, for every module that is stored quantised, a tensor that stands
// beside its weight: one of the usual ones, or any that the seal moves.
func (r *reader) scaled() map[string]string {
	if r.beside == nil {
		r.beside = map[string]string{}
		for n, w := range r.m {
			i := strings.LastIndexByte(n, '.')
			if i < 0 || n[i:] == ".weight" || n[i:] == ".bias" || !w.Moves && !slices.Contains(companions, n[i+1:]) {
				continue
			}
			r.beside[strings.TrimSuffix(n[:i], ".weight")] = n
		}
	}
	return r.beside
}

// evidence counts how weights that are not square are stored, which decides
// about those that are.
func (r *reader) evidence() error {
	for _, name := range r.names {
		m := r.modules[name]
		a, b := m.has[partA], m.has[partB]
		if m.depth > 0 || len(a.Shape) != 2 || len(b.Shape) != 2 || a.Shape[1] == b.Shape[0] {
			continue
		}
		of, err := r.find(m.path + ".weight")
		if err != nil || of == "" {
			continue // told when the module is joined
		}
		switch shape := r.m[of].Shape; {
		case slices.Equal(shape, []int{b.Shape[0], a.Shape[1]}):
			r.conv--
		case slices.Equal(shape, []int{a.Shape[1], b.Shape[0]}):
			r.conv++
		}
	}
	return nil
}

// otherModel is what to look at when shapes differ.
const otherModel = "the adapter was not trained on this model: name the one that it belongs to"

// mismatch says that an update does not fit its weight.
func mismatch(m *module, of string, shape []int, in, out int) error {
	return fault.New(fault.Mismatch, "the adapter of %s maps %d inputs to %d outputs; tensor %s of the sealed model has shape %v", m.path, in, out, of, shape).
		WithHint(otherModel)
}

// axes returns which axes of a matrix are its outputs and its inputs.
func (r *reader) axes(m *module, of string, shape []int, in, out int) (o, i int, err error) {
	switch {
	case shape == nil:
		return 0, 1, nil // nothing of it moves
	case len(shape) != 2:
		return 0, 0, fault.New(fault.Unsupported, "%s has shape %v; only updates of matrices are converted", of, shape)
	case in == out && shape[0] == in && shape[1] == in:
		if r.c.FanInFanOut && r.conv < 0 || !r.c.FanInFanOut && r.conv > 0 {
			return 0, 0, fault.New(fault.Unsupported, "%s is square, and whether it is stored as (out, in) is not certain: %s says fan_in_fan_out is %v, and other weights tell otherwise", of, ConfigName, r.c.FanInFanOut)
		}
		if r.c.FanInFanOut {
			return 1, 0, nil
		}
		return 0, 1, nil
	case shape[0] == out && shape[1] == in:
		return 0, 1, nil
	case shape[0] == in && shape[1] == out:
		return 1, 0, nil
	}
	return 0, 0, mismatch(m, of, shape, in, out)
}
