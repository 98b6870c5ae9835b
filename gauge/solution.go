package gauge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
)

// Kind says along which kind of axis a group of classes lies. It is read off
// the way that the classes take through the graph, not off names.
type Kind string

// The kinds.
const (
	Norm     Kind = "norm"     // a norm's gain against its readers
	QK       Kind = "qk"       // cancels in a product of two activations: queries against keys
	VO       Kind = "vo"       // passes through a product of activations: values against the output projection
	FFN      Kind = "ffn"      // passes element by element: up against down
	Residual Kind = "residual" // the whole residual stream against the norms' epsilon
)

// Group is all classes along one axis of the network.
type Group struct {
	ID      string // stable: kind and the first tensor that holds the classes
	Kind    Kind
	Layer   int  // transformer block, or -1
	Classes int  // independent factors
	Flip    bool // factors may be negative, too
}

// Segment says that elements Start … Start+Count-1 of an axis carry Coef times
// the exponent of class First + i/Div of a group, i counting from Start.
type Segment struct {
	Start, Count      int
	Group, First, Div int
	Coef              int
}

// Axis is one summand of a tensor's exponents: the elements that it indexes
// are those of the named tensor axes, flattened in C order. No axes: one
// exponent for the whole tensor.
type Axis struct {
	Axes     []int
	Len      int
	Segments []Segment
}

// Tensor is how one weight may be scaled.
type Tensor struct {
	Name  string
	Shape []int
	Input int // the axis that a linear map contracts; -1 for vectors
	Terms []Axis
}

// EpsMove says that a config key takes the factor 4^(Coef × exponent) of the
// residual group.
type EpsMove struct {
	Key  string
	Coef int
}

// Hole is a weight that no factor touches.
type Hole struct {
	Tensor string `json:"tensor"`
	Why    string `json:"why"`
}

// Factor is a class's coefficient in a value's scale, by group.
type Factor struct {
	Group, Coef int
}

// Shift is how a value of the graph moves: for each summand of its scale, the
// distinct combinations of groups that occur in its elements; an empty one
// stands for elements that do not move.
type Shift [][][]Factor

// Solution is the gauge freedom of a network.
type Solution struct {
	Groups   []Group
	FreeDims int // independent factors with every epsilon fixed
	Residual int // index of the residual group, or -1
	Eps      []EpsMove
	Tensors  []Tensor // in the order in which the graph reads them
	Holes    []Hole
	Values   []Shift // per node
}

// stretch is a run of consecutive free variables with the same properties.
type stretch struct {
	v     int32
	n     int
	flags uint8
	lcm   int64 // coefficients are multiplied by it, so that all are whole
	group int
	first int // class of the first variable
}

// assembly turns the solved system into groups and segments.
type assembly struct {
	*solver
	sol     *Solution
	free    []stretch // in order of variables
	encoded map[*run][]Segment
}

func (s *solver) solution() *Solution {
	a := &assembly{solver: s, sol: &Solution{Residual: -1}, encoded: map[*run][]Segment{}}
	a.stretches()
	a.groups()
	a.epsilons()
	for l := range s.leaves {
		a.tensor(l)
	}
	a.values()
	return a.sol
}

// stretches lists the free variables, and hands the marks and denominators of
// every variable to those that it depends on.
func (a *assembly) stretches() {
	a.settle()
	for _, b := range a.sys.blocks {
		for _, p := range b.pieces {
			if !p.bound {
				a.free = append(a.free, stretch{v: p.start, n: p.n, lcm: 1})
			}
		}
	}
	for _, m := range a.sys.marks {
		ts := variables(m.v, m.n)[0].ts
		for _, r := range a.sys.resolve(m.n, ts) {
			a.touch(r, func(f *stretch, _ term) { f.flags |= m.flag })
		}
	}
	whole := func(f *stretch, t term) { f.lcm = f.lcm / gcd(f.lcm, t.den) * t.den }
	for _, b := range a.sys.blocks {
		for _, p := range b.pieces {
			if p.bound {
				a.touch(run{p.n, p.ts}, whole)
			}
		}
	}
	for _, v := range a.rooted() {
		for _, p := range v {
			for _, r := range a.sys.resolved(p.v) {
				a.touch(r, whole)
			}
		}
	}
	a.positive()
}

// rooted returns the scales that may have fractions which no variable has.
func (a *assembly) rooted() []scale {
	if !a.roots {
		return nil
	}
	out := slices.Clone(a.vals)
	for _, l := range a.leaves {
		out = append(out, l.scale)
	}
	return out
}

// settle brings every bound piece down to free variables.
func (a *assembly) settle() {
	for i := range a.sys.blocks {
		b := &a.sys.blocks[i]
		for v := b.start; v < b.start+int32(b.n); {
			p := a.sys.piece(v)
			v = p.start + int32(p.n)
		}
	}
	a.sys.final = true
}

// at returns the index of the stretch that holds a free variable.
func (a *assembly) at(v int32) int {
	return locate(a.free, v)
}

// touch applies f to the stretches that a resolved run refers to; they are
// split where it starts and ends.
func (a *assembly) touch(r run, f func(*stretch, term)) {
	for _, t := range r.ts {
		n := 1
		if t.step != 0 {
			n = r.n
		}
		for v := t.v; n > 0; {
			i := a.at(v)
			old := a.free[i]
			k := min(n, int(old.v-v)+old.n)
			part := old
			part.v, part.n = v, k
			f(&part, t)
			if part.flags == old.flags && part.lcm == old.lcm {
				v, n = v+int32(k), n-k
				continue
			}
			var parts []stretch
			if v > old.v {
				head := old
				head.n = int(v - old.v)
				parts = append(parts, head)
			}
			parts = append(parts, part)
			if rest := old.n - int(v-old.v) - k; rest > 0 {
				tail := old
				tail.v, tail.n = v+int32(k), rest
				parts = append(parts, tail)
			}
			a.free = slices.Replace(a.free, i, i+1, parts...)
			v, n = v+int32(k), n-k
		}
	}
}

func (a *assembly) kind(f stretch, o origin) Kind {
	switch {
	case o.leaf < 0:
		return Residual
	case f.flags&flagQK != 0:
		return QK
	case f.flags&flagVO != 0:
		return VO
	case f.flags&flagNorm != 0:
		return Norm
	}
	return FFN
}

// groups gathers the free variables by the weight axis that they stand for.
func (a *assembly) groups() {
	type key struct {
		leaf, part int32
		kind       Kind
		keep       bool
	}
	index := map[key]int{}
	names := map[string]bool{}
	for i := range a.free {
		f := &a.free[i]
		b, _ := a.sys.find(f.v)
		k := key{b.origin.leaf, b.origin.part, a.kind(*f, b.origin), f.flags&flagKeep != 0}
		if k.kind == Residual {
			k.part = f.v // each epsilon that moves on its own
		}
		g, ok := index[k]
		if !ok {
			g = len(a.sol.Groups)
			index[k] = g
			a.sol.Groups = append(a.sol.Groups, a.group(k.leaf, k.part, k.kind, names))
			a.sol.Groups[g].Flip = !k.keep && k.kind != Residual
		}
		f.group, f.first = g, a.sol.Groups[g].Classes
		a.sol.Groups[g].Classes += f.n
		if k.kind != Residual {
			a.sol.FreeDims += f.n
		}
	}
}

// group names a new group.
func (a *assembly) group(leaf, part int32, kind Kind, names map[string]bool) Group {
	g := Group{ID: string(kind), Kind: kind, Layer: -1}
	if leaf >= 0 {
		n := &a.g.Nodes[a.leaves[leaf].node]
		g.Layer = n.Layer
		g.ID += ":" + strings.TrimSuffix(n.Name, ".weight")
		if part > 0 {
			g.ID += fmt.Sprintf("#%d", part)
		}
	}
	for base, i := g.ID, 2; names[g.ID]; i++ {
		g.ID = fmt.Sprintf("%s@%d", base, i)
	}
	names[g.ID] = true
	return g
}

// epsilons finds the residual group and what it does to the config.
func (a *assembly) epsilons() {
	for i, g := range a.sol.Groups {
		if g.Kind == Residual && a.sol.Residual < 0 {
			a.sol.Residual = i
		}
	}
	for _, key := range a.epsKey {
		for _, s := range a.segments(repeat(a.eps[key], 1)) {
			if s.Group == a.sol.Residual {
				a.sol.Eps = append(a.sol.Eps, EpsMove{key, s.Coef})
			}
		}
	}
}

// tensor turns a leaf's scale into segments, or records a hole.
func (a *assembly) tensor(l int) {
	n := &a.g.Nodes[a.leaves[l].node]
	t := Tensor{Name: n.Name, Shape: n.Shape, Input: a.inputAxis(a.leaves[l].node)}
	for _, p := range a.leaves[l].scale {
		ax := Axis{Len: size(p.dims)}
		for i, d := range p.dims {
			if d > 1 {
				ax.Axes = append(ax.Axes, i)
			}
		}
		ax.Segments = a.segments(p.v)
		if len(ax.Segments) > 0 {
			t.Terms = append(t.Terms, compress(ax))
		}
	}
	a.sol.Tensors = append(a.sol.Tensors, t)
	if len(t.Terms) == 0 {
		a.sol.Holes = append(a.sol.Holes, Hole{n.Name, a.why(l)})
	}
}

// compress turns an axis whose elements all carry the same into a single
// exponent.
func compress(ax Axis) Axis {
	for _, s := range ax.Segments {
		if s.Start != 0 || s.Count != ax.Len || s.Div < s.Count {
			return ax
		}
	}
	out := Axis{Len: 1}
	for _, s := range ax.Segments {
		out.Segments = append(out.Segments, Segment{Count: 1, Group: s.Group, First: s.First, Div: 1, Coef: s.Coef})
	}
	return out
}

// inputAxis returns the axis of a weight that its first reader contracts, or
// the last axis of what is looked up or multiplied element by element.
func (a *assembly) inputAxis(id graph.ID) int {
	shape := a.g.Shape(id)
	if len(shape) < 2 {
		return -1
	}
	if axis, ok := a.input[id]; ok {
		return axis
	}
	return len(shape) - 1
}

// segments encodes an array; many weights share one.
func (a *assembly) segments(v vec) []Segment {
	if len(v) == 0 {
		return nil
	}
	if s, ok := a.encoded[&v[0]]; ok {
		return s
	}
	var out []Segment
	at := 0
	for _, r := range a.sys.resolved(v) {
		for _, t := range r.ts {
			out = a.encode(out, at, r.n, t)
		}
		at += r.n
	}
	out = slices.Clip(out)
	a.encoded[&v[0]] = out
	return out
}

// encode appends the segments of one term of a run, at the given place.
func (a *assembly) encode(out []Segment, at, n int, t term) []Segment {
	if t.step == 0 {
		f := a.free[a.at(t.v)]
		return extend(out, Segment{at, n, f.group, f.first + int(t.v-f.v), n, int(t.num * f.lcm / t.den)})
	}
	for n > 0 {
		f := a.free[a.at(t.v)]
		k := min(n, int(f.v-t.v)+f.n)
		out = extend(out, Segment{at, k, f.group, f.first + int(t.v-f.v), 1, int(t.num * f.lcm / t.den)})
		at, n = at+k, n-k
		t.v += int32(k)
	}
	return out
}

// values records how every node's value moves.
func (a *assembly) values() {
	a.sol.Values = make([]Shift, len(a.g.Nodes))
	memo := map[*run][][]Factor{}
	for i := range a.g.Nodes {
		v := a.vals[i]
		if l, ok := a.leafOf[graph.ID(i)]; ok {
			v = a.leaves[l].scale
		}
		for _, p := range v {
			if len(p.v) == 0 {
				continue
			}
			sigs, ok := memo[&p.v[0]]
			if !ok {
				sigs = a.signatures(p.v)
				memo[&p.v[0]] = sigs
			}
			if len(sigs) > 0 {
				a.sol.Values[i] = append(a.sol.Values[i], sigs)
			}
		}
	}
}

// signatures lists the distinct combinations of groups in an array, the empty
// one among them where an element does not move; nil when none does.
func (a *assembly) signatures(v vec) [][]Factor {
	var sigs [][]Factor
	for _, r := range a.sys.resolved(v) {
		// A run of steps may cross from one group to the next.
		for at := 0; at < r.n; {
			n := r.n - at
			var sig []Factor
			for _, t := range r.ts {
				v := t.v + t.step*int32(at)
				f := a.free[a.at(v)]
				sig = append(sig, Factor{f.group, int(t.num * f.lcm / t.den)})
				if t.step != 0 {
					n = min(n, int(f.v-v)+f.n)
				}
			}
			at += n
			if !slices.ContainsFunc(sigs, func(x []Factor) bool { return slices.Equal(x, sig) }) {
				sigs = append(sigs, sig)
			}
		}
	}
	if len(sigs) == 1 && len(sigs[0]) == 0 {
		return nil
	}
	return sigs
}
