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
	Layer   int // transformer block, or -1
	Classes int // independent factors
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

// ref is one class with its coefficient.
type ref struct{ group, class, coef int }

// assembly turns the solved system into groups and segments.
type assembly struct {
	*solver
	group []int32 // per variable, -1 unless free
	class []int32
	lcm   []int64 // per variable: coefficients are multiplied by it
	sol   *Solution
	memo  map[form][]ref

	transposed map[graph.ID]bool // weights stored [in,out]
}

func (s *solver) solution() *Solution {
	a := &assembly{
		solver: s, sol: &Solution{Residual: -1}, memo: map[form][]ref{},
		group: make([]int32, len(s.sys.subst)), class: make([]int32, len(s.sys.subst)),
		lcm: make([]int64, len(s.sys.subst)), transposed: map[graph.ID]bool{},
	}
	for i := range s.g.Nodes {
		if n := &s.g.Nodes[i]; n.Op == graph.OpLinear && n.Transposed {
			a.transposed[n.In[1]] = true
		}
	}
	a.integers()
	a.groups()
	a.epsilons()
	for l := range s.leaves {
		a.tensor(l)
	}
	a.values()
	return a.sol
}

// integers finds, for each free variable, the factor that makes all its
// coefficients whole, and hands the flags of every variable to its roots.
func (a *assembly) integers() {
	sys := a.sys
	for v := range sys.subst {
		a.group[v], a.lcm[v] = -1, 1
	}
	var buf [8]term
	for v := range sys.subst {
		for _, t := range sys.terms(sys.root(int32(v)), buf[:0]) {
			a.lcm[t.v] = a.lcm[t.v] / gcd(a.lcm[t.v], t.den) * t.den
			sys.flags[t.v] |= sys.flags[v]
		}
	}
}

func (a *assembly) kind(v int32) Kind {
	switch f := a.sys.flags[v]; {
	case a.sys.origin[v].leaf < 0:
		return Residual
	case f&flagQK != 0:
		return QK
	case f&flagVO != 0:
		return VO
	case f&flagNorm != 0:
		return Norm
	}
	return FFN
}

// groups gathers the free variables by the weight axis that they stand for.
func (a *assembly) groups() {
	type key struct {
		leaf, part int32
		kind       Kind
	}
	index := map[key]int{}
	names := map[string]bool{}
	for v := range a.sys.subst {
		if a.sys.subst[v] != plus(int32(v)) {
			continue
		}
		o := a.sys.origin[v]
		k := key{o.leaf, o.part, a.kind(int32(v))}
		if k.kind == Residual {
			k.part = int32(v) // each epsilon that moves on its own
		}
		g, ok := index[k]
		if !ok {
			g = len(a.sol.Groups)
			index[k] = g
			gr := Group{ID: string(k.kind), Kind: k.kind, Layer: -1}
			if k.leaf >= 0 {
				n := &a.g.Nodes[a.leaves[k.leaf].node]
				gr.Layer = n.Layer
				gr.ID += ":" + strings.TrimSuffix(n.Name, ".weight")
				if k.part > 0 {
					gr.ID += fmt.Sprintf("#%d", k.part)
				}
			}
			for base, i := gr.ID, 2; names[gr.ID]; i++ {
				gr.ID = fmt.Sprintf("%s@%d", base, i)
			}
			names[gr.ID] = true
			a.sol.Groups = append(a.sol.Groups, gr)
		}
		a.group[v], a.class[v] = int32(g), int32(a.sol.Groups[g].Classes)
		a.sol.Groups[g].Classes++
		if k.kind != Residual {
			a.sol.FreeDims++
		}
	}
}

// epsilons finds the residual group and what it does to the config.
func (a *assembly) epsilons() {
	for i, g := range a.sol.Groups {
		if g.Kind == Residual && a.sol.Residual < 0 {
			a.sol.Residual = i
		}
	}
	for _, key := range a.epsKey {
		for _, r := range a.refs(plus(a.eps[key])) {
			if r.group == a.sol.Residual {
				a.sol.Eps = append(a.sol.Eps, EpsMove{key, r.coef})
			}
		}
	}
}

// refs resolves a form to classes.
func (a *assembly) refs(f form) []ref {
	if f == 0 {
		return nil
	}
	if r, ok := a.memo[f]; ok {
		return r
	}
	var buf [8]term
	var out []ref
	for _, t := range a.sys.terms(a.sys.resolve(f), buf[:0]) {
		out = append(out, ref{int(a.group[t.v]), int(a.class[t.v]), int(t.num * a.lcm[t.v] / t.den)})
	}
	if f < 0 {
		a.memo[f] = out
	}
	return out
}

// tensor turns a leaf's scale into segments, or records a hole.
func (a *assembly) tensor(l int) {
	n := &a.g.Nodes[a.leaves[l].node]
	t := Tensor{Name: n.Name, Shape: n.Shape, Input: a.inputAxis(a.leaves[l].node)}
	for _, p := range a.leaves[l].scale {
		ax := Axis{Len: len(p.ids)}
		for i, d := range p.dims {
			if d > 1 {
				ax.Axes = append(ax.Axes, i)
			}
		}
		ax.Segments = encode(len(p.ids), func(i int) []ref { return a.refs(p.ids[i]) })
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
// the last axis of an embedding.
func (a *assembly) inputAxis(id graph.ID) int {
	shape := a.g.Shape(id)
	if len(shape) < 2 {
		return -1
	}
	if a.transposed[id] {
		return len(shape) - 2
	}
	return len(shape) - 1
}

// why names the operation that fixes a weight.
func (a *assembly) why(l int) string {
	for _, p := range a.leaves[l].scale {
		for _, f := range p.ids {
			if f <= 0 {
				continue
			}
			v, _ := f.single()
			a.sys.root(v)
			if r := a.sys.reason[v]; r >= 0 {
				return a.explain(int(r))
			}
		}
	}
	return "every factor is fixed by what reads it"
}

func (a *assembly) explain(node int) string {
	switch {
	case node == len(a.g.Nodes):
		return "its scale would reach the output"
	case node > len(a.g.Nodes):
		return "tied to another tensor that cannot move"
	}
	n := &a.g.Nodes[node]
	at := ""
	if n.Scope != "" {
		at = " in " + n.Scope
	}
	switch n.Op {
	case graph.OpAddScalar:
		return fmt.Sprintf("used as %g + w%s: the constant does not scale", n.Scalar, at)
	case graph.OpSiLU, graph.OpGELU, graph.OpGELUTanh, graph.OpTanh, graph.OpSigmoid:
		return fmt.Sprintf("goes into %v%s, which does not scale", n.Op, at)
	case graph.OpSoftmax:
		return "its scale would reach the softmax" + at
	case graph.OpRMSNorm:
		return "the norm" + at + " needs one scale over its whole input, and its epsilon is fixed"
	case graph.OpAdd, graph.OpSub:
		return "added to a value that cannot move" + at
	}
	return fmt.Sprintf("fixed by %v%s", n.Op, at)
}

// values records how every node's value moves.
func (a *assembly) values() {
	a.sol.Values = make([]Shift, len(a.g.Nodes))
	for i := range a.g.Nodes {
		if _, read := a.leafOf[graph.ID(i)]; a.g.Nodes[i].Op == graph.OpWeight && !read {
			continue // no operation reads it: it has no factors
		}
		for _, p := range a.val(graph.ID(i)) {
			var sigs [][]Factor
			var last []Factor
			still := false // some element does not move
			for _, f := range p.ids {
				var sig []Factor
				for _, r := range a.refs(f) {
					sig = append(sig, Factor{r.group, r.coef})
				}
				if len(sig) == 0 {
					still = true
					continue
				}
				if slices.Equal(sig, last) {
					continue
				}
				last = sig
				if !slices.ContainsFunc(sigs, func(x []Factor) bool { return slices.Equal(x, sig) }) {
					sigs = append(sigs, sig)
				}
			}
			if len(sigs) > 0 && still {
				sigs = append(sigs, nil)
			}
			if len(sigs) > 0 {
				a.sol.Values[i] = append(a.sol.Values[i], sigs)
			}
		}
	}
}
