package adapter

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// join makes the pieces of one module.
func (r *reader) join(m *module) error {
	has := func(part string) bool { _, ok := m.has[part]; return ok }
	switch {
	case has(gain):
		return r.gain(m)
	case has(tokenDelta):
		return r.tokens(m)
	case has(embedA) && has(embedB):
		return r.embedding(m)
	case has(partA) && has(partB):
		if r.isParameter(m) {
			return r.parameter(m)
		}
		return r.linear(m)
	}
	return fault.New(fault.Mismatch, "the adapter of %s is incomplete: it has only one of the two matrices", m.path).WithHint(saveAgain)
}

// rank checks the ranks of an update's two matrices, a of (rank, in), b of
// (out, rank), and returns in and out.
func (r *reader) rank(m *module, a, b Tensor) (in, out int, err error) {
	if len(a.Shape) != 2 || len(b.Shape) != 2 {
		return 0, 0, fault.New(fault.Unsupported, "adapter tensors %s and %s have shapes %v and %v; only matrices are converted", a.Name, b.Name, a.Shape, b.Shape)
	}
	n := a.Shape[0]
	if n != b.Shape[1] {
		return 0, 0, fault.New(fault.Mismatch, "the adapter of %s has rank %d on one side and %d on the other", m.path, n, b.Shape[1]).WithHint(saveAgain)
	}
	return a.Shape[1], b.Shape[0], nil
}

// declared checks a rank against the config.
func (r *reader) declared(m *module, n int) error {
	if r.c.Rank == 0 || n == r.c.Rank || slices.Contains(r.c.Ranks, n) {
		return nil
	}
	return fault.New(fault.Mismatch, "the adapter of %s has rank %d, and %s says %d", m.path, n, ConfigName, r.c.Rank).
		WithHint("config and weights are of two adapters: put together what was saved together")
}

// linear takes a LoRA on a linear map: a of (rank, in), b of (out, rank).
func (r *reader) linear(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	a, b := m.has[partA], m.has[partB]
	in, out, err := r.rank(m, a, b)
	if err == nil {
		err = r.declared(m, a.Shape[0])
	}
	if err != nil {
		return err
	}
	o, i, err := r.axes(m, of, shape, in, out)
	if err != nil {
		return err
	}
	return r.update(m, of, a, b, o, i)
}

// update lists the pieces of an update whose output runs along axis o of the
// weight, and whose input along i.
func (r *reader) update(m *module, of string, a, b Tensor, o, i int) error {
	left, right := []int{o, -1}, []int{-1, i}
	r.add(Piece{Name: b.Name, Of: of, Shape: b.Shape, Follows: left, Partner: right, Role: Output})
	r.add(Piece{Name: a.Name, Of: of, Shape: a.Shape, Follows: right, Partner: left, Role: Input})
	if v, ok := m.has[biasB]; ok {
		if len(v.Shape) != 1 || v.Shape[0] != b.Shape[0] {
			return fault.New(fault.Mismatch, "adapter tensor %s has shape %v", v.Name, v.Shape).WithHint(saveAgain)
		}
		r.add(Piece{Name: v.Name, Of: of, Shape: v.Shape, Follows: []int{o}, Partner: right, Role: Added})
	}
	return r.magnitudes(m, of, b.Shape[0], o)
}

// magnitudes takes DoRA's vector.
func (r *reader) magnitudes(m *module, of string, out, o int) error {
	v, ok := m.has[magnitude]
	switch {
	case ok != r.c.DoRA:
		return fault.New(fault.Mismatch, "the adapter of %s has a magnitude vector: %v; %s says use_dora is %v", m.path, ok, ConfigName, r.c.DoRA).
			WithHint("config and weights are of two adapters: put together what was saved together")
	case !ok:
		return nil
	case len(v.Shape) != 1 || v.Shape[0] != out:
		return fault.New(fault.Mismatch, "adapter tensor %s has shape %v; the module has %d outputs", v.Name, v.Shape, out).WithHint(saveAgain)
	}
	r.add(Piece{Name: v.Name, Of: of, Shape: v.Shape, Follows: []int{o}, Role: Magnitude})
	return nil
}

func (r *reader) add(p Piece) {
	p.Slot = p.Name[max(strings.LastIndex(p.Name, ".lora_"), strings.LastIndex(p.Name, ".ia3_"), 0):]
	r.out = append(r.out, p)
}

// embedding takes a LoRA on an embedding of (tokens, width): a of (rank,
// tokens), b of (width, rank).
func (r *reader) embedding(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	a, b := m.has[embedA], m.has[embedB]
	tokens, width, err := r.rank(m, a, b)
	if err == nil {
		err = r.declared(m, a.Shape[0])
	}
	if err != nil {
		return err
	}
	if shape != nil && !slices.Equal(shape, []int{tokens, width}) {
		return mismatch(m, of, shape, tokens, width)
	}
	if _, ok := m.has[magnitude]; ok || r.c.DoRA {
		return fault.New(fault.Unsupported, "the adapter of %s is a DoRA on an embedding, which is not converted", m.path)
	}
	return r.update(m, of, a, b, 1, 0)
}

// tokens takes new rows of an embedding.
func (r *reader) tokens(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	t := m.has[tokenDelta]
	if len(t.Shape) != 2 || shape != nil && (len(shape) != 2 || shape[1] != t.Shape[1]) {
		return fault.New(fault.Mismatch, "adapter tensor %s has shape %v; tensor %s of the sealed model has %v", t.Name, t.Shape, of, shape).WithHint(otherModel)
	}
	r.add(Piece{Name: t.Name, Of: of, Shape: t.Shape, Follows: []int{-1, 1}, Role: Full})
	return nil
}

// gain takes a vector of IA3: l ⊙ (R·y) = R·(l ⊙ y), so that no factor touches
// it, on outputs or on inputs; it only follows channels that change places.
func (r *reader) gain(m *module) error {
	of, shape, err := r.weight(m)
	if err != nil {
		return err
	}
	t := m.has[gain]
	wrong := fault.New(fault.Mismatch, "adapter tensor %s has shape %v; tensor %s of the sealed model has %v", t.Name, t.Shape, of, shape).WithHint(otherModel)
	if r.c.Type != IA3 || len(t.Shape) != 2 || t.Shape[0] != 1 && t.Shape[1] != 1 {
		return wrong
	}
	// (out, 1) on outputs, (1, in) on the inputs of feed-forward modules.
	along, axis := 0, 0
	if t.Shape[0] == 1 && t.Shape[1] > 1 {
		along, axis = 1, 1
	}
	if shape != nil {
		if len(shape) != 2 {
			return wrong
		}
		if r.c.FanInFanOut {
			axis = 1 - axis
		}
		if shape[axis] != t.Shape[along] {
			return wrong
		}
	}
	follows := []int{-1, -1}
	follows[along] = axis
	r.add(Piece{Name: t.Name, Of: of, Shape: t.Shape, Follows: follows, Role: Gain})
	return nil
}

// isParameter reports whether a module's update is of a parameter that PEFT
// finds by target_parameters.
func (r *reader) isParameter(m *module) bool {
	if len(r.c.Parameters) == 0 {
		return false
	}
	return slices.ContainsFunc(r.c.Parameters, func(p string) bool {
		i := strings.LastIndexByte(p, '.')
		return i < 0 && m.depth > 0 || i >= 0 && (m.path == p[:i] || strings.HasSuffix(m.path, "."+p[:i]))
	})
}
