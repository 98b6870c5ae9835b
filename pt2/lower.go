package pt2

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// lowering is the state of one translation of a program into a graph.
type lowering struct {
	p        *Program
	b        *graph.Builder
	names    *names
	consts   map[*fold.Tensor]graph.ID
	joined   map[graph.ID]joint
	reshaped map[graph.ID]*value // what a reshape was made of
	made     map[string]graph.ID // moves, so that none is made twice
	norms    *norms
	unknown  map[string]int // operations that became opaque
	layers   int
	vocab    int
	nodes    int
	work     int
	where0   string
}

// stopped carries the reason out of a lowering that cannot go on.
type stopped struct{ err error }

func (l *lowering) stop(format string, args ...any) {
	panic(stopped{fault.New(fault.Unsupported, "%s%s", l.where0, fmt.Sprintf(format, args...))})
}

// catch turns a stop into an error. A rule that runs out of bounds was given
// arguments that ATen would have refused: the file is damaged or forged.
func catch(err *error) {
	switch r := recover().(type) {
	case nil:
	case stopped:
		*err = r.err
	case runtime.Error:
		*err = fault.New(fault.Unsupported, "the program does not fit together: %v", r)
	default:
		panic(r)
	}
}

// scope is one graph of the program with the values that its names have.
type scope struct {
	l   *lowering
	g   *graphJSON
	env map[string]*cell
}

func (s *scope) cell(name string) (*cell, error) {
	if c, ok := s.env[name]; ok {
		return c, nil
	}
	return nil, fmt.Errorf("value %s is read before it is computed", name)
}

// run evaluates all nodes.
func (s *scope) run() {
	for i := range s.g.Nodes {
		n := &s.g.Nodes[i]
		s.l.enter(n)
		s.node(n)
	}
}

// enter sets the module path of the nodes that follow.
func (l *lowering) enter(n *nodeJSON) {
	last := n.Metadata.Stack[strings.LastIndexByte(n.Metadata.Stack, ';')+1:]
	parts := strings.SplitN(last, ",", 3)
	path := ""
	if len(parts) == 3 {
		path = parts[1]
	}
	layer := -1
	for _, p := range strings.Split(path, ".") {
		if v, err := strconv.Atoi(p); err == nil && v >= 0 && v < 1<<16 {
			layer = v
			l.layers = max(l.layers, v+1)
			break
		}
	}
	l.b.Scope(path, layer)
	l.where0 = ""
	if path != "" {
		l.where0 = "at " + path + ": "
	}
}

func (s *scope) node(n *nodeJSON) {
	name := strings.TrimPrefix(n.Target, "torch.ops.")
	if ignored(name) {
		return
	}
	c := &call{l: s.l, target: name, args: map[string]any{}}
	for i, in := range n.Inputs {
		v, err := s.read(in.Arg)
		if err != nil {
			c.stop("%v", err)
		}
		key := in.Name
		if key == "" {
			key = "#" + strconv.Itoa(i)
		}
		c.args[key] = v
		c.named = append(c.named, key)
	}
	c.out = s.metas(c, n.Outputs)
	if strings.HasPrefix(name, "higher_order.") {
		s.higher(c)
		return
	}
	s.apply(c)
}

// ignored operations compute nothing that a graph needs.
func ignored(name string) bool {
	for _, p := range []string{"aten._assert", "aten.sym_constrain_range", "_operator.", "aten.sym_size", "aten.sym_numel",
		"aten.sym_stride", "aten.sym_storage_offset", "aten._functional_", "aten._functional_assert"} {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// metas lists the tensors that a node returns.
func (s *scope) metas(c *call, outputs []argument) []meta {
	var list []string
	for _, o := range outputs {
		var one struct{ Name string }
		var many []struct{ Name string }
		switch {
		case o["as_tensor"] != nil:
			if json.Unmarshal(o["as_tensor"], &one) == nil {
				list = append(list, one.Name)
			}
		case o["as_tensors"] != nil:
			if json.Unmarshal(o["as_tensors"], &many) == nil {
				for _, m := range many {
					list = append(list, m.Name)
				}
			}
		case o["as_none"] != nil:
			list = append(list, "")
		case o["as_optional_tensor"] != nil:
			var in argument
			if json.Unmarshal(o["as_optional_tensor"], &in) == nil && json.Unmarshal(in["as_tensor"], &one) == nil {
				list = append(list, one.Name)
			} else {
				list = append(list, "")
			}
		default:
			c.stop("it reads a number off a tensor, so that the graph depends on the input's values")
		}
	}
	out := make([]meta, len(list))
	for i, name := range list {
		out[i].name = name
		m, ok := s.g.Tensors[name]
		if !ok {
			continue
		}
		shape, err := m.sizes()
		if err != nil {
			c.stop("%s: %v", name, err)
		}
		out[i].kind, out[i].known = kindOf(m.DType)
		out[i].dtype, out[i].shape = m.DType, shape
	}
	return out
}

// apply evaluates an ATen operation and gives its results their names.
func (s *scope) apply(c *call) {
	l := s.l
	base, inplace := functional(c.target)
	self, _ := c.args[firstArg(c)].(*cell)
	f := lookup(base)
	outs := l.try(f, c)
	opaque := outs == nil
	if opaque {
		outs = l.unknownCall(c)
	}
	if inplace {
		if self == nil {
			c.stop("it writes in place into no tensor")
		}
		if name := strings.SplitN(base, ".", 3)[1]; name != "detach" && name != "squeeze" && name != "unsqueeze" {
			v := outs[0]
			if v.im == nil {
				v = l.expand(v, l.get(self).shape).as(l.get(self).kind)
			}
			l.put(self, v)
			s.name(c, 0, self)
			return
		}
	}
	view, isView := views[strings.SplitN(base, ".", 3)[1]]
	for i, v := range outs {
		n := &cell{v: v}
		if isView && self != nil && !opaque {
			n.base, n.seen, n.maybe = self, self.stamp(), view.maybe
			n.fwd = func(*value) *value { return l.try(f, c)[i] }
			if view.back != nil {
				n.back = func(b, new *value) *value { return view.back(c, i, b, new) }
			}
		}
		s.name(c, i, n)
	}
}

func firstArg(c *call) string {
	if len(c.named) == 0 {
		return ""
	}
	return c.named[0]
}

// functional returns the name of an operation without the underscore with which
// those end that write in place.
func functional(target string) (string, bool) {
	parts := strings.SplitN(target, ".", 3)
	if len(parts) < 3 {
		return target + ".", false
	}
	name := strings.TrimSuffix(parts[1], "_")
	if name == parts[1] || strings.HasPrefix(name, "__") {
		return target, false
	}
	return parts[0] + "." + name + "." + parts[2], true
}

// name gives a result its name, after checking it against the recorded type.
func (s *scope) name(c *call, i int, n *cell) {
	if i >= len(c.out) || c.out[i].name == "" {
		return
	}
	m := c.out[i]
	v := s.l.get(n)
	if m.known && !slices.Equal(v.shape, m.shape) {
		if _, err := s.l.b.Finish(); err != nil {
			c.stop("%v", err)
		}
		c.stop("%s has shape %v; the program says %v", m.name, v.shape, m.shape)
	}
	if m.known && v.kind != m.kind {
		n2 := *n
		if n.base == nil {
			n2.v = v.as(m.kind)
			*n = n2
		}
	}
	s.env[m.name] = n
}

// unknownCall makes every result of an operation that nobody here knows opaque.
func (l *lowering) unknownCall(c *call) []*value {
	if strings.HasSuffix(c.target, ".out") || strings.Contains(c.target, "_out.") {
		c.stop("it writes into an argument in a way that is not known")
	}
	var in []*value
	for _, k := range c.named {
		switch a := c.args[k].(type) {
		case *cell:
			in = append(in, l.get(a))
		case []*cell:
			for _, x := range a {
				if x != nil {
					in = append(in, l.get(x))
				}
			}
		}
	}
	outs := make([]*value, len(c.out))
	for i, m := range c.out {
		if m.name == "" {
			outs[i] = scalar(fold.Float, 0)
			continue
		}
		if !m.known {
			c.stop("its result %s has no shape", m.name)
		}
		name := c.target
		if len(c.out) > 1 {
			name += "#" + strconv.Itoa(i)
		}
		outs[i] = l.opaque(name, m.kind, m.shape, in...)
		if m.dtype >= typeComplexHalf && m.dtype <= typeComplex {
			outs[i].im = l.opaque(name+"#imag", m.kind, m.shape, in...)
		}
	}
	if len(outs) == 0 {
		outs = []*value{scalar(fold.Float, 0)}
	}
	return outs
}

// try runs a rule; on complex numbers, those that know none run on the parts.
func (l *lowering) try(f rule, c *call) []*value {
	if l.complexArgs(c) {
		return l.complexCall(f, c)
	}
	if f == nil {
		return nil
	}
	return f(c)
}

// higher evaluates operations that hold a graph of their own. Those that only
// set a mode are read through.
func (s *scope) higher(c *call) {
	var g *graphArgument
	graphs := 0
	var operands []*cell
	for _, k := range c.named {
		switch a := c.args[k].(type) {
		case *graphArgument:
			g = a
			graphs++ // of several, which one runs depends on values
		case *cell:
			if g != nil {
				operands = append(operands, a)
			}
		case []*cell:
			if g != nil {
				operands = append(operands, a...)
			}
		}
	}
	if !strings.HasPrefix(c.target, "higher_order.wrap_with_") && c.target != "higher_order.strict_mode" || graphs != 1 {
		for i, v := range s.l.unknownCall(c) {
			s.name(c, i, &cell{v: v})
		}
		return
	}
	in := &scope{l: s.l, g: &g.Graph, env: map[string]*cell{}}
	if len(operands) != len(g.Graph.Inputs) {
		c.stop("a graph of %d inputs is given %d", len(g.Graph.Inputs), len(operands))
	}
	for i, a := range g.Graph.Inputs {
		var t struct{ Name string }
		if a["as_tensor"] == nil || json.Unmarshal(a["as_tensor"], &t) != nil {
			c.stop("a graph's input that is no tensor")
		}
		in.env[t.Name] = operands[i]
	}
	in.run()
	outs := 0
	for _, a := range g.Graph.Outputs {
		v, err := in.read(a)
		if err != nil {
			c.stop("%v", err)
		}
		switch v := v.(type) {
		case *cell:
			s.name(c, outs, v)
			outs++
		case []*cell:
			for _, x := range v {
				s.name(c, outs, x)
				outs++
			}
		default:
			outs++
		}
	}
}
