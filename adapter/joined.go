package adapter

import (
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Part is a matrix of the checkpoint that transformers puts into a parameter of
// stacked experts, of (experts, out, in): it is that expert's rows from Row on.
type Part struct {
	Name        string
	Expert, Row int
}

// stacks are the parameters that transformers makes of experts' matrices, and
// what those may be called: one below the other.
var stacks = map[string][][]string{
	"gate_up_proj": {{"gate_proj", "up_proj"}, {"w1", "w3"}},
	"down_proj":    {{"down_proj"}, {"w2"}},
}

// joined finds the matrices that a parameter is made of; nil if there are none.
func (r *reader) joined(path, param string) (parts []Part, shape []int, err error) {
	paths := []string{path}
	if i := strings.LastIndex(path, ".mlp."); i >= 0 {
		paths = append(paths, path[:i]+".block_sparse_moe."+path[i+len(".mlp."):])
	}
	for _, p := range paths {
		for _, names := range stacks[param] {
			if parts, shape, err = r.stack(p, names); err != nil || parts != nil {
				return parts, shape, err
			}
		}
	}
	return nil, nil, nil
}

// stack collects the matrices of experts 0, 1, … below a path.
func (r *reader) stack(path string, names []string) (parts []Part, shape []int, err error) {
	for e := 0; ; e++ {
		row := 0
		for _, name := range names {
			module := path + "." + strconv.Itoa(e) + "." + name
			of, err := r.find(module + ".weight")
			switch {
			case err != nil:
				return nil, nil, err
			case of == "" && e > 0 && row == 0:
				return parts, []int{e, shape[1], shape[2]}, nil
			case of == "" && row == 0:
				return nil, nil, nil
			}
			w := r.m[of].Shape
			if len(w) != 2 || r.scaled()[strings.TrimSuffix(of, ".weight")] != "" {
				return nil, nil, fault.New(fault.Unsupported, "the experts at %s are incomplete or quantised, or their shapes are not known", path).
					WithHint("--sealed takes the folder of the unquantised sealed model")
			}
			parts = append(parts, Part{of, e, row})
			row += w[0]
			if shape == nil {
				shape = []int{0, 0, w[1]}
			}
			if w[1] != shape[2] {
				return nil, nil, fault.New(fault.Unsupported, "%s has %d inputs, and other experts' %d: they are not put together", of, w[1], shape[2])
			}
		}
		if shape[1] == 0 {
			shape[1] = row
		}
		if row != shape[1] {
			return nil, nil, fault.New(fault.Unsupported, "the experts at %s differ in size: they are not put together", path)
		}
	}
}

// fit is a way in which an update fits a parameter: along which axes.
type fit struct {
	of    string
	shape []int
	o, i  int
	parts []Part
}

// parameter takes a LoRA on a parameter of two or three dimensions. Its name is
// not in the adapter: it is found by its shape among those that are targeted.
func (r *reader) parameter(m *module) error {
	a, b := m.has[partA], m.has[partB]
	in, out, err := r.rank(m, a, b)
	if err != nil {
		return err
	}
	var fits []fit
	for _, p := range r.c.Parameters {
		list, err := r.fits(m, p[strings.LastIndexByte(p, '.')+1:], a.Shape[0], in, out)
		if err != nil {
			return err
		}
		fits = append(fits, list...)
	}
	if len(fits) != 1 {
		why := "no parameter of the sealed model that target_parameters names has such a shape"
		if len(fits) > 1 {
			why = "it fits more than one parameter or orientation, and names none"
		}
		return fault.New(fault.Unsupported, "the adapter of %s maps %d inputs to %d outputs: %s", m.path, in, out, why).
			WithHint("it may belong to another model, or to parameters that transformers makes of the checkpoint's in a way that is not known here")
	}
	return r.stacked(m, fits[0], a, b, in, out)
}

// fits lists how an update of a given rank fits a parameter.
func (r *reader) fits(m *module, param string, rank, in, out int) (list []fit, err error) {
	of, err := r.find(m.path + "." + param)
	if err != nil {
		return nil, err
	}
	if of == "" {
		parts, shape, err := r.joined(m.path, param)
		if err == nil && parts != nil && slices.Equal(shape[1:], []int{out, in}) && rank%shape[0] == 0 {
			list = append(list, fit{m.path + "." + param, shape, 1, 2, parts})
		}
		return list, err
	}
	shape := r.m[of].Shape
	switch {
	case shape == nil:
		return nil, fault.New(fault.Unsupported, "the adapter of %s is one of a parameter; to find it, the sealed model's own files are needed, besides its manifest", m.path).
			WithHint("--sealed takes the sealed model's folder")
	case len(shape) == 2 && shape[0] == out && shape[1] == in:
		list = append(list, fit{of: of, shape: shape, o: 0, i: 1})
	case len(shape) == 3 && rank%shape[0] == 0:
		if shape[1] == out && shape[2] == in {
			list = append(list, fit{of: of, shape: shape, o: 1, i: 2})
		}
		if shape[1] == in && shape[2] == out {
			list = append(list, fit{of: of, shape: shape, o: 2, i: 1})
		}
	}
	return list, nil
}

// stacked lists the pieces of an update of a parameter. PEFT lays the experts'
// matrices side by side: a is (experts·rank, in), b is (out, rank·experts).
func (r *reader) stacked(m *module, f fit, a, b Tensor, in, out int) error {
	if len(f.shape) == 2 {
		if err := r.declared(m, a.Shape[0]); err != nil {
			return err
		}
		return r.update(m, f.of, a, b, f.o, f.i)
	}
	experts := f.shape[0]
	n := a.Shape[0] / experts
	if err := r.declared(m, n); err != nil {
		return err
	}
	left, right := []int{f.o, -1, 0}, []int{0, -1, f.i}
	r.add(Piece{Name: b.Name, Of: f.of, Parts: f.parts, Whole: f.shape, Shape: []int{out, n, experts}, Follows: left, Partner: right, Role: Output})
	r.add(Piece{Name: a.Name, Of: f.of, Parts: f.parts, Whole: f.shape, Shape: []int{experts, n, in}, Follows: right, Partner: left, Role: Input})
	return nil
}
