package neuroseal

import (
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/quant"
	"github.com/neuroseal/neuroseal/seal"
)

// A network's weights and the tensors that stand in a file are not always the
// same: a quantised weight has its factors in its scales. Solutions, coverage and
// holes speak of weights; plans, manifests and editors of stored tensors.

// solve derives the pairs, as far as the weights' formats let them move.
func (m *model) solve() (*gauge.Solution, error) {
	sol, err := gauge.Solve(m.net.Graph)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "deriving pairs")
	}
	if !slices.ContainsFunc(sol.Tensors, func(t gauge.Tensor) bool { return m.parts(t.Name, t.Shape) != nil }) {
		return sol, nil
	}
	sol = sol.Restrict(func(t *gauge.Tensor) []gauge.Partition { return m.parts(t.Name, t.Shape) })
	if still := m.still(sol); len(still) > 0 {
		sol = sol.Without(func(g int) bool { return still[g] })
	}
	return sol, nil
}

// parts says which elements of a weight share a stored scale; nil: none do.
func (m *model) parts(name string, shape []int) []gauge.Partition {
	if w := m.quant.Weight(name); w != nil {
		return w.Parts
	}
	t, _ := m.ck.Tensor(name)
	u, ok := seal.UnitOf(t)
	if n := len(shape); ok && n > 0 {
		p := []gauge.Partition{{Axis: n - 1, Block: u.Columns, Of: u.Order}}
		if n > 1 {
			p = append(p, gauge.Partition{Axis: n - 2, Block: u.Rows})
		}
		return p
	}
	return nil
}

// still finds the groups that move what must not: activations that a runtime
// quantises in a way that knows of no factors, or by a stored scale for which it
// is not certain how it would have to move.
func (m *model) still(sol *gauge.Solution) map[int]bool {
	out := map[int]bool{}
	tensors := map[string]*gauge.Tensor{}
	for i := range sol.Tensors {
		tensors[sol.Tensors[i].Name] = &sol.Tensors[i]
	}
	for name, inputs := range m.inputs(func(w *quant.Weight) bool { return w.Still || w.Input != "" }) {
		w := m.quant.Weight(name)
		factors, uniform := movesOf(sol, inputs)
		for _, f := range factors {
			if _, ok := quant.Facing(tensors[name], f); w.Still || !uniform || !ok {
				out[f.Group] = true
			}
		}
	}
	return out
}

// growing lists the values that must not shrink.
func (m *model) growing() (out []graph.ID) {
	for _, in := range m.inputs(func(w *quant.Weight) bool { return w.Dynamic }) {
		out = append(out, in...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// inputs lists the values that the quantised weights of some kind multiply.
func (m *model) inputs(kind func(*quant.Weight) bool) map[string][]graph.ID {
	g := m.net.Graph
	out := map[string][]graph.ID{}
	from := map[graph.ID]string{} // such weights, and moves of them
	for name, id := range g.Weights() {
		if w := m.quant.Weight(name); w != nil && kind(w) {
			from[id] = name
		}
	}
	if len(from) == 0 {
		return out
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		for _, in := range n.In {
			name, ok := from[in]
			switch {
			case !ok:
			case n.Op.Move():
				from[graph.ID(i)] = name
			default:
				for _, x := range n.In {
					if from[x] != name {
						out[name] = append(out[name], x)
					}
				}
			}
		}
	}
	return out
}

// movesOf lists the groups that move values; uniform is false where they may
// move some elements and not others, or one value and not another.
func movesOf(sol *gauge.Solution, values []graph.ID) (out []gauge.Factor, uniform bool) {
	uniform = len(values) == 1
	for _, v := range values {
		for _, sigs := range sol.Values[v] {
			uniform = uniform && len(sigs) == 1
			for _, sig := range sigs {
				for _, f := range sig {
					same := func(o gauge.Factor) bool { return o.Group == f.Group }
					uniform = uniform && !slices.ContainsFunc(out, same)
					out = append(out, f)
				}
			}
		}
	}
	return out, uniform
}

// stored returns the solution whose tensors are those that stand in the file.
func (m *model) stored(sol *gauge.Solution) (*gauge.Solution, error) {
	if m.quant == nil {
		return sol, nil
	}
	inputs := m.inputs(func(w *quant.Weight) bool { return w.Input != "" })
	out, err := m.quant.Stored(sol, func(weight string) []gauge.Factor {
		factors, _ := movesOf(sol, inputs[weight])
		return factors
	})
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "quantised weights")
	}
	return out, nil
}

// wholeOnly refuses to seal in parts what is not sealed shard by shard: of scales
// that are quantised themselves, the plain ones are computed as they are written.
func (m *model) wholeOnly() error {
	if m.nested != nil {
		return fault.New(fault.Usage, "%s has scales that are quantised themselves: such a checkpoint is sealed as a whole, not in parts", m.path).
			WithHint("leave --part and --finish out")
	}
	return nil
}

// shapes returns the weights that a network can read.
func (m *model) shapes() map[string][]int {
	if m.quant != nil {
		return m.quant.Shapes()
	}
	return m.ck.Shapes()
}

// parameters counts the numbers that the checkpoint stands for.
func (m *model) parameters() int64 {
	if m.quant != nil {
		return m.quant.Parameters()
	}
	return parameters(m.ck)
}

// storedBytes reads what stands in the file, as the model's editors leave it.
type storedBytes struct{ m *model }

func (s storedBytes) ReadWeight(name string, p []byte, off int64) error {
	return s.m.readStored(name, p, off)
}

// describe completes the figures of a quantised checkpoint: those of a scale are
// of the numbers that it stands for, and a weight's bounds follow from them.
func (m *model) describe(facts map[string]seal.TensorFacts) {
	if m.quant == nil {
		return
	}
	for _, name := range m.quant.Names() {
		w := m.quant.Weight(name)
		bound := w.Bound(func(s quant.Scale) quant.Figures {
			f := facts[s.Tensor]
			return quant.Figures{Any: f.Any, Max: f.Max, L2: f.Bound.L2}
		})
		facts[name] = seal.TensorFacts{DType: dtype.F32, Bound: seal.WeightBound{Max: bound.Max, RowL2: bound.RowL2, L2: bound.L2}}
	}
	for _, name := range m.quant.Names() {
		for _, s := range m.quant.Weight(name).Scales {
			f := facts[s.Tensor]
			if s.Half && f.DType != dtype.F16 {
				f.DType = dtype.F16
				if f.Any && f.Min < -14 { // rounded to a subnormal, which scaling would round otherwise
					f.Room = &seal.Room{}
				}
			}
			f.Max, f.Min = f.Max+s.High, f.Min+s.Low
			facts[s.Tensor] = f
		}
	}
}

// editorOf returns the editor that multiplies a stored tensor by its factors;
// nil where nothing moves.
func editorOf(p *gauge.Tensor, t checkpoint.Tensor, e [][]int16, sign int) checkpoint.Editor {
	if t.Format != nil {
		s, err := seal.NewBlockScaler(p, t.Format, e, sign)
		switch {
		case err != nil:
			return refusal{err}
		case s != nil:
			return s
		}
		return nil
	}
	if s := seal.NewScaler(p, t.DType, e, sign); s != nil {
		return s
	}
	return nil
}

// sameSize reports whether two shapes have as many elements: a plan may see a
// tensor of scales as one of more dimensions than it is stored with.
func sameSize(a, b []int) bool {
	size := func(shape []int) int64 {
		n := int64(1)
		for _, d := range shape {
			n *= int64(d)
		}
		return n
	}
	return slices.Equal(a, b) || size(a) == size(b)
}

// refusal is the editor of a tensor that a plan does not fit.
type refusal struct{ err error }

func (r refusal) Edit(int64, []byte) error { return r.err }

// elementAt returns the number of the element that begins at a byte of a tensor.
func elementAt(t checkpoint.Tensor, off int64) int64 {
	if t.Format != nil {
		elements, bytes := t.Format.Block()
		return off / int64(bytes) * int64(elements)
	}
	return off * 8 / int64(t.DType.Bits())
}

// offsetOf is the inverse of elementAt.
func offsetOf(t checkpoint.Tensor, element int64) int64 {
	if t.Format != nil {
		elements, bytes := t.Format.Block()
		return element / int64(elements) * int64(bytes)
	}
	return element * int64(t.DType.Bits()) / 8
}
