package onnx

import (
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// input is one input of the network, at its concrete shape.
type input struct {
	name  string
	kind  fold.Kind
	shape []int
	limit int // integers are below it
}

// inputPlan says what the inputs are; at most one of them is the tokens.
type inputPlan struct {
	list   []input
	main   int // index of the tokens in list, or -1
	tokens int // its number of elements
}

// planInputs gives every input a shape and a role.
func (l *lowerer) planInputs(g *graphProto) (*inputPlan, error) {
	p := &inputPlan{main: -1}
	initial := map[string]bool{}
	for _, t := range g.tensors {
		initial[t.name] = true
	}
	var free []string
	for _, v := range g.inputs {
		if initial[v.name] {
			continue // has a value of its own
		}
		kind, ok := kindOf(v.elem)
		if !ok || !v.known {
			return nil, fault.New(fault.Unsupported, "input %q is no tensor of a known rank", v.name)
		}
		shape, err := l.resolve(v, len(v.shape))
		if err != nil {
			free = append(free, err.Error())
			continue
		}
		p.list = append(p.list, input{v.name, kind, shape, 0})
	}
	if len(free) > 0 {
		sort.Strings(free)
		return nil, fault.New(fault.Unsupported, "sizes that are not known: %s", strings.Join(slices.Compact(free), ", ")).
			WithHint("export the model with these axes fixed, or call them batch…, …sequence… or past…")
	}
	for i := range p.list {
		if in := &p.list[i]; !in.kind.Real() {
			in.limit = l.limit(g, in)
		}
	}
	p.choose()
	return p, nil
}

// choose makes input_ids the tokens, or the only input of ids that a table is
// read by.
func (p *inputPlan) choose() {
	for i, in := range p.list {
		if size, _ := fold.Size(in.shape); in.kind != fold.Int || size == 0 {
			continue
		}
		if in.name == "input_ids" || p.main < 0 && (in.name == "decoder_input_ids" || in.name == "tokens" || in.name == "input") {
			p.main = i
			if in.name == "input_ids" {
				break
			}
		}
	}
	if p.main >= 0 {
		p.tokens, _ = fold.Size(p.list[p.main].shape)
	}
}

// inputs makes the leaves. An input without elements is an empty constant: a
// cache of what was computed before.
func (l *lowerer) inputs(p *inputPlan, s *scope) {
	for i, in := range p.list {
		size, _ := fold.Size(in.shape)
		switch {
		case size == 0:
			v := l.konst(must(fold.New(in.kind, in.shape...)))
			v.sized = true
			s.vals[in.name] = v
		case i == p.main:
			l.info.Vocab = in.limit
			s.vals[in.name] = l.wrap(l.b.TokenIDs(in.shape...), in.kind)
		case in.kind.Real():
			s.vals[in.name] = l.wrap(l.b.Input(in.name, in.shape...), in.kind)
		default:
			s.vals[in.name] = l.wrap(l.b.InputIDs(in.name, in.limit, in.shape...), in.kind)
		}
	}
}

// limit is what the integers of an input are below: the rows of the table that
// they choose from, two for masks, else the number of tokens.
func (l *lowerer) limit(g *graphProto, in *input) int {
	if in.kind == fold.Bool || strings.Contains(in.name, "mask") {
		return 2
	}
	rows := 0
	shapes := map[string][]int64{}
	for _, t := range g.tensors {
		shapes[t.name] = t.dims
	}
	names := map[string]bool{in.name: true}
	for _, n := range g.nodes {
		switch n.op {
		case "Cast", "Reshape", "Unsqueeze", "Squeeze", "Identity":
			if len(n.in) > 0 && names[n.in[0]] && len(n.out) > 0 {
				names[n.out[0]] = true
			}
		case "Gather":
			if len(n.in) == 2 && names[n.in[1]] {
				if d := shapes[n.in[0]]; len(d) > 0 && d[0] > 0 && d[0] < 1<<24 && (rows == 0 || int(d[0]) < rows) {
					rows = int(d[0])
				}
			}
		}
	}
	if rows > 0 {
		return rows
	}
	return max(l.opt.Tokens, 2)
}

// resolve gives a value's axes their lengths; rank limits the rule for inputs
// of tokens, -1 for other values. The error is the name of an axis that is not
// known.
func (l *lowerer) resolve(v valueProto, rank int) ([]int, error) {
	out := make([]int, len(v.shape))
	for i, d := range v.shape {
		switch {
		case d.n >= 0 && d.n <= 1<<31-1:
			out[i] = int(d.n)
			continue
		case d.param != "":
			n, ok := l.dim(d.param)
			if !ok && rank < 0 {
				return nil, fault.New(fault.Unsupported, "%s", d.param)
			}
			if !ok {
				if n, ok = l.place(v, i); !ok {
					return nil, fault.New(fault.Unsupported, "%s of input %q", d.param, v.name)
				}
			}
			out[i] = n
		default:
			n, ok := l.place(v, i)
			if !ok || rank < 0 {
				return nil, fault.New(fault.Unsupported, "axis %d of %q", i, v.name)
			}
			out[i] = n
		}
		l.free = true
	}
	return out, nil
}

// place knows the axes of inputs by where they stand: the first is the batch,
// and of two axes of integers the second is the sequence.
func (l *lowerer) place(v valueProto, i int) (int, bool) {
	kind, _ := kindOf(v.elem)
	switch {
	case i == 0:
		return 1, true
	case i == 1 && len(v.shape) == 2 && !kind.Real():
		return l.opt.Tokens, true
	}
	return 0, false
}

// dim is the length of a free axis by its name, which may be a sum.
func (l *lowerer) dim(name string) (int, bool) {
	if n, ok := l.opt.Dims[name]; ok {
		return n, n >= 0
	}
	if parts := strings.Split(name, "+"); len(parts) > 1 && len(parts) < 8 {
		sum := 0
		for _, p := range parts {
			n, ok := l.dim(strings.TrimSpace(p))
			if !ok {
				return 0, false
			}
			sum += n
		}
		return sum, true
	}
	if n, err := strconv.Atoi(name); err == nil && n >= 0 && n < 1<<24 {
		return n, true
	}
	lower := strings.ToLower(name)
	switch {
	case strings.Contains(lower, "batch"):
		return 1, true
	case strings.HasPrefix(lower, "past"):
		return 0, true
	case strings.Contains(lower, "seq"), strings.Contains(lower, "token"), strings.HasPrefix(lower, "total"):
		return l.opt.Tokens, true
	}
	return 0, false
}
