package onnx

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Options say at which sizes a network is lowered and what its weights are
// called.
type Options struct {
	// Tokens is the length of free sequence axes. Batch axes have length 1, and
	// axes that count what was computed before (past_…) length 0.
	Tokens int
	// Dims gives the lengths of further free axes by name.
	Dims map[string]int
	// Leaf, if set, builds the value that stands for a weight; otherwise it is
	// the weight of that name. The value must have the weight's shape.
	Leaf func(b *graph.Builder, w Weight) (graph.ID, error)
}

// Info tells what a reader of a lowered network wants to know besides the graph.
type Info struct {
	Opaque []string // operations without a rule, whose inputs are pinned: names with counts, sorted
	Unread []string // weights that the network does not read
	Frozen []string // weights whose values decide what is computed, and may not change
	Vocab  int      // ids that the tokens may have; 0 where there are no tokens
}

// Graph lowers the network. What is not known becomes graph.OpOpaque where its
// shape is, so that all that it reads is pinned; otherwise the error, of kind
// Unsupported, names the operation.
func (m *Model) Graph(opt Options) (*graph.Graph, *Info, error) {
	if opt.Tokens < 1 {
		opt.Tokens = 1
	}
	l := &lowerer{m: m, opt: opt, info: &Info{}, inits: map[*tensorProto]*value{}, leaves: map[string]*tensorProto{},
		read: map[int]bool{}, frozen: map[graph.ID]bool{}, opaque: map[string]int{}}
	g, err := l.run()
	if err != nil {
		return nil, nil, fault.Wrap(fault.KindOf(err), err, "%s", m.files[0].name)
	}
	return g, l.info, nil
}

// lowerer is the state of one lowering.
type lowerer struct {
	m         *Model
	opt       Options
	info      *Info
	b         *graph.Builder
	g         *graph.Graph // what b has built so far
	inits     map[*tensorProto]*value
	leaves    map[string]*tensorProto // by the name of the graph's leaf
	read      map[int]bool            // weights, by their index
	frozen    map[graph.ID]bool
	params    []bool
	opaque    map[string]int
	constants int64
	inlined   int
	free      bool // some axis of an input has no length of its own
}

// scope is where names are looked up: a graph, a branch, a function's body.
type scope struct {
	vals   map[string]*value
	tensor map[string]*tensorProto
	infos  map[string]valueProto
	attrs  map[string]*attrProto // of a function's call
	opsets map[string]int64
	up     *scope // of a branch
	depth  int
}

func newScope(g *graphProto, up *scope) *scope {
	s := &scope{vals: map[string]*value{}, tensor: map[string]*tensorProto{}, infos: map[string]valueProto{}, up: up}
	if up != nil {
		s.attrs, s.opsets, s.depth = up.attrs, up.opsets, up.depth+1
	}
	if g == nil {
		return s
	}
	for _, t := range g.tensors {
		s.tensor[t.name] = t
	}
	for _, list := range [][]valueProto{g.values, g.outputs} {
		for _, v := range list {
			s.infos[v.name] = v
		}
	}
	return s
}

// run lowers the main graph.
func (l *lowerer) run() (g *graph.Graph, err error) {
	proto := l.m.proto.graph
	s := newScope(proto, nil)
	s.opsets = l.m.proto.opsets
	for _, d := range []string{"", "ai.onnx"} {
		if v, ok := s.opsets[d]; ok && (v < minOpset || v > maxOpset) {
			return nil, fault.New(fault.Unsupported, "operator set %d: %d to %d are supported", v, minOpset, maxOpset).
				WithHint("export the model again, or convert it with onnx.version_converter")
		}
	}
	in, err := l.planInputs(proto)
	if err != nil {
		return nil, err
	}
	l.b = graph.NewBuilder(in.tokens)
	l.g, _ = l.b.Finish()
	defer catch(&err)
	l.inputs(in, s)
	if err := l.nodes(proto.nodes, s); err != nil {
		return nil, err
	}
	var outs []graph.ID
	for _, o := range proto.outputs {
		v := l.get(s, o.name)
		if v.isSeq || v.size() == 0 {
			continue
		}
		outs = append(outs, l.id(v))
	}
	need(len(outs) > 0, "the model has no outputs")
	l.freeze()
	l.report()
	return l.b.Finish(outs...)
}

const (
	minOpset = 13
	maxOpset = 24
)

// catch turns a stop into the error that it carries.
func catch(err *error) {
	if r := recover(); r != nil {
		s, ok := r.(stop)
		if !ok {
			panic(r)
		}
		*err = s.err
	}
}

// freeze pins the weights that were read as constants.
func (l *lowerer) freeze() {
	l.b.Scope("", -1)
	for _, id := range slices.Sorted(maps.Keys(l.frozen)) {
		l.info.Frozen = append(l.info.Frozen, l.g.Nodes[id].Name)
		l.b.Opaque("read as a constant", false, []int{1}, id)
	}
}

func (l *lowerer) report() {
	for i, w := range l.m.weights {
		if !l.read[i] {
			l.info.Unread = append(l.info.Unread, w.Name)
		}
	}
	for op, n := range l.opaque {
		l.info.Opaque = append(l.info.Opaque, fmt.Sprintf("%s (%d)", op, n))
	}
	sort.Strings(l.info.Opaque)
}

// get looks a name up.
func (l *lowerer) get(s *scope, name string) *value {
	for at := s; at != nil; at = at.up {
		if v, ok := at.vals[name]; ok {
			return v
		}
		if t, ok := at.tensor[name]; ok {
			return l.initialiser(t)
		}
	}
	panic(stop{fault.New(fault.Mismatch, "value %q is used before it is computed, or never", name)})
}

// initialiser returns the value of a tensor of the file: a leaf, or a constant.
func (l *lowerer) initialiser(t *tensorProto) *value {
	if v, ok := l.inits[t]; ok {
		return v
	}
	v := l.leaf(t)
	if v == nil {
		v = l.fixed(t)
	}
	l.inits[t] = v
	return v
}

// fixed is a tensor that is no weight: a constant where it is small, else a
// stand-in that nothing is known of.
func (l *lowerer) fixed(t *tensorProto) *value {
	shape := must(t.shape())
	kind, ok := kindOf(t.elem)
	n, _ := fold.Size(shape)
	if ok && n <= fold.MaxElements && l.constants+int64(n) <= maxConstants/2 {
		return l.konst(must(l.m.constant(t)))
	}
	need(n > 0, "tensor %q of shape %v", t.name, shape)
	l.opaque["tensor of "+dtypes[t.elem].String()]++
	return l.wrap(l.b.Opaque("tensor "+t.name, ok && !kind.Real(), shape), kind)
}

func (l *lowerer) leaf(t *tensorProto) *value {
	i, ok := l.m.leaf[t]
	if !ok {
		return nil
	}
	w := l.m.weights[i]
	l.b.Scope(scopeOf(w.Name))
	build := l.opt.Leaf
	if build == nil {
		build = func(b *graph.Builder, w Weight) (graph.ID, error) { return b.Weight(w.Name, w.Shape...), nil }
	}
	id := must(build(l.b, w))
	kind, _ := kindOf(t.elem)
	l.leaves[leafName(l.g, id, w.Name)] = t
	l.read[i] = true
	v := l.wrap(id, kind)
	need(sameShape(v.shape, w.Shape), "weight %q of shape %v stands for %v", w.Name, v.shape, w.Shape)
	return l.reshape(v, must(t.shape())...)
}

// leafName is the name of a node that is a weight.
func leafName(g *graph.Graph, id graph.ID, name string) string {
	if n := &g.Nodes[id]; n.Op == graph.OpWeight {
		return n.Name
	}
	return name
}

// scopeOf reads the module path and the block's number off a dotted name or a
// path.
func scopeOf(name string) (string, int) {
	path := strings.ReplaceAll(strings.Trim(name, "/"), "/", ".")
	for _, part := range strings.Split(path, ".") {
		if n, err := strconv.Atoi(part); err == nil && n >= 0 && n < 1<<16 {
			return path, n
		}
	}
	return path, -1
}

// nodes lowers a list of nodes in order.
func (l *lowerer) nodes(list []*nodeProto, s *scope) error {
	for _, n := range list {
		if l.inlined++; l.inlined > maxNodes {
			return fault.New(fault.Unsupported, "functions call each other more than %d times", maxNodes)
		}
		if err := l.node(n, s); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "%s", describe(n))
		}
	}
	return nil
}

func describe(n *nodeProto) string {
	d := n.op
	if n.domain != "" {
		d = n.domain + "." + d
	}
	if n.name != "" {
		d += " " + strconv.Quote(n.name)
	} else if len(n.out) > 0 {
		d += " of " + strconv.Quote(n.out[0])
	}
	return d
}

// node lowers one node, as what it is or as opaque.
func (l *lowerer) node(n *nodeProto, s *scope) error {
	if n.name != "" {
		l.b.Scope(scopeOf(n.name))
	}
	outs, err := l.try(n, s)
	if err != nil && fault.KindOf(err) == fault.Unsupported && l.healthy() {
		if hidden, ok := l.hide(n, s); ok {
			outs, err = hidden, nil
		}
	}
	if err != nil {
		return err
	}
	for i, name := range n.out {
		if i >= len(outs) || name == "" {
			continue
		}
		if outs[i] == nil {
			continue // whoever reads it learns that it is not computed
		}
		s.vals[name] = outs[i]
	}
	return nil
}

// healthy reports whether the builder has made no mistake that it would keep.
func (l *lowerer) healthy() bool {
	_, err := l.b.Finish()
	return err == nil
}

// try lowers a node by its rule, or by the body of its function.
func (l *lowerer) try(n *nodeProto, s *scope) (outs []*value, err error) {
	defer catch(&err)
	if fn, ok := l.m.proto.functions[functionKey{n.domain, n.op, n.overload}]; ok {
		return l.call(fn, n, s), nil
	}
	f := rules[n.domain+":"+n.op]
	if n.domain == "ai.onnx" {
		f = rules[":"+n.op]
	}
	if n.op == "If" {
		f = branch
	}
	if f == nil {
		return nil, fault.New(fault.Unsupported, "operation %s is not known", describe(n))
	}
	return f(&call{lowerer: l, n: n, s: s, version: s.opsets[n.domain]}), nil
}

// call inlines a function.
func (l *lowerer) call(fn *functionProto, n *nodeProto, s *scope) []*value {
	need(s.depth < maxDepth, "functions within each other deeper than %d", maxDepth)
	in := newScope(nil, nil)
	in.depth, in.opsets, in.attrs = s.depth+1, fn.opsets, map[string]*attrProto{}
	for _, a := range fn.defaults {
		in.attrs[a.name] = a
	}
	for _, a := range n.attrs {
		if a.ref != "" {
			a = s.attrs[a.ref]
		}
		if a != nil {
			in.attrs[a.name] = a
		}
	}
	for i, name := range fn.inputs {
		if i < len(n.in) && n.in[i] != "" {
			in.vals[name] = l.get(s, n.in[i])
		}
	}
	if err := l.nodes(fn.nodes, in); err != nil {
		panic(stop{err})
	}
	out := make([]*value, len(fn.outputs))
	for i, name := range fn.outputs {
		if i < len(n.out) && n.out[i] != "" {
			out[i] = l.get(in, name)
		}
	}
	return out
}

// hide makes a node opaque: all that it reads is pinned. ok is false where the
// shape of a result is not known.
func (l *lowerer) hide(n *nodeProto, s *scope) (outs []*value, ok bool) {
	var err error
	defer catch(&err)
	shapes := make([][]int, len(n.out))
	kinds := make([]fold.Kind, len(n.out))
	for i, name := range n.out {
		if name == "" {
			continue
		}
		if shapes[i], kinds[i], ok = l.declared(s, name); !ok {
			return nil, false
		}
	}
	ids := l.reads(n, s)
	l.opaque[n.op]++
	outs = make([]*value, len(n.out))
	for i, name := range n.out {
		if name != "" {
			outs[i] = l.wrap(l.b.Opaque(n.op, !kinds[i].Real(), shapes[i], ids...), kinds[i])
		}
	}
	return outs, err == nil
}

// declared is the shape that the file gives for a value.
func (l *lowerer) declared(s *scope, name string) ([]int, fold.Kind, bool) {
	v, ok := s.infos[name]
	kind, known := kindOf(v.elem)
	if !ok || !v.known || !known {
		return nil, 0, false
	}
	shape, err := l.resolve(v, -1)
	if n, ok := fold.Size(shape); err != nil || !ok || n == 0 {
		return nil, 0, false
	}
	return shape, kind, true
}

// reads lists the nodes that a node reads, in its branches too. Constants do
// not count.
func (l *lowerer) reads(n *nodeProto, s *scope) []graph.ID {
	var ids []graph.ID
	seen := map[graph.ID]bool{}
	var visit func(list []string, graphs []*attrProto, own map[string]bool)
	visit = func(list []string, attrs []*attrProto, own map[string]bool) {
		for _, name := range list {
			if name == "" || own[name] {
				continue
			}
			for _, v := range l.parts(s, name) {
				if v.c == nil && !seen[v.id] {
					seen[v.id] = true
					ids = append(ids, v.id)
				}
			}
		}
		for _, a := range attrs {
			if a.g == nil {
				continue
			}
			inner := maps.Clone(own)
			for _, t := range a.g.tensors {
				inner[t.name] = true
			}
			for _, v := range a.g.inputs {
				inner[v.name] = true
			}
			for _, k := range a.g.nodes {
				visit(k.in, k.attrs, inner)
				for _, o := range k.out {
					inner[o] = true
				}
			}
			for _, v := range a.g.outputs {
				visit([]string{v.name}, nil, inner)
			}
		}
	}
	visit(n.in, n.attrs, map[string]bool{})
	return ids
}

// parts returns the values behind a name, or nothing where it has none that
// moves: integers of the file are not even loaded.
func (l *lowerer) parts(s *scope, name string) []*value {
	for at := s; at != nil; at = at.up {
		if v, ok := at.vals[name]; ok {
			if v.isSeq {
				return v.seq
			}
			return []*value{v}
		}
		if t, ok := at.tensor[name]; ok {
			if _, weight := l.m.leaf[t]; !weight {
				return nil
			}
			return []*value{l.initialiser(t)}
		}
	}
	panic(stop{fault.New(fault.Mismatch, "value %q is used before it is computed, or never", name)})
}
