// Package gauge derives from a computation graph which weights may be scaled
// without changing the function: the gauge freedom of the network.
//
// Every value has a log2-scale per element; every operation relates the scales
// of its inputs to that of its result (the table in spec/rules.md). The
// relations are linear; their solution space is the set of all seals that
// rescale rows and columns of weights. A rule that is not known pins its
// inputs, so that a mistake costs freedom, never exactness.
package gauge

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// Flags say what happens to a variable on its way through the network.
const (
	flagNorm uint8 = 1 << iota // a gain multiplied element by element
	flagQK                     // cancels in a product of two activations
	flagVO                     // passes through a product of two activations
)

type leaf struct {
	node  graph.ID
	scale scale
}

type solver struct {
	g      *graph.Graph
	sys    *system
	vals   []scale
	param  []bool // computed from weights alone
	leaves []leaf
	leafOf map[graph.ID]int
	eps    map[string]int32 // variable e of each epsilon key: eps × 4^e
	epsKey []string
}

// Solve returns the gauge freedom of g.
func Solve(g *graph.Graph) (*Solution, error) {
	s := &solver{
		g: g, sys: newSystem(), vals: make([]scale, len(g.Nodes)), param: make([]bool, len(g.Nodes)),
		leafOf: map[graph.ID]int{}, eps: map[string]int32{},
	}
	for i := range g.Nodes {
		// Epsilons come first: the oldest variables stay free the longest.
		if n := &g.Nodes[i]; n.Op == graph.OpRMSNorm && n.EpsKey != "" && n.Scalar != 0 {
			if _, ok := s.eps[n.EpsKey]; !ok {
				s.eps[n.EpsKey] = s.sys.fresh(1, origin{leaf: -1}, 0)
				s.epsKey = append(s.epsKey, n.EpsKey)
			}
		}
	}
	for i := range g.Nodes {
		s.sys.why = int32(i)
		s.param[i] = s.isParam(&g.Nodes[i])
		v, err := s.node(graph.ID(i))
		if err != nil {
			return nil, fmt.Errorf("solving node %d (%v at %s): %w", i, g.Nodes[i].Op, g.Nodes[i].Scope, err)
		}
		s.vals[i] = s.tidy(v)
	}
	s.sys.why = int32(len(g.Nodes)) // the outputs
	for _, o := range g.Outputs {
		s.pinAll(s.val(o))
	}
	s.sys.why = int32(len(g.Nodes)) + 1 // ties
	for _, t := range g.Ties() {
		a, b := g.Weights()[t[0]], g.Weights()[t[1]]
		s.equate(g.Shape(a), s.val(a), s.val(b))
	}
	return s.solution(), nil
}

func (s *solver) isParam(n *graph.Node) bool {
	if n.Op == graph.OpTokens {
		return false
	}
	for _, in := range n.In {
		if !s.param[in] {
			return false
		}
	}
	return true
}

// tidy drops parts that are zero and compresses parts that do not vary.
func (s *solver) tidy(v scale) scale {
	out := v[:0:0]
	for _, p := range v {
		same := true
		for _, f := range p.ids {
			if f != p.ids[0] {
				same = false
				break
			}
		}
		if same && len(p.ids) > 0 {
			if p.ids[0] == 0 {
				continue
			}
			p = uniform(len(p.dims), p.ids[0])
		}
		out = append(out, p)
	}
	return out
}

// val returns the scale of a value, giving a weight that no rule has shaped
// yet one factor per row and one per column.
func (s *solver) val(id graph.ID) scale {
	n := &s.g.Nodes[id]
	if n.Op != graph.OpWeight {
		return s.vals[id]
	}
	if l, ok := s.leafOf[id]; ok {
		return s.leaves[l].scale
	}
	rank := len(n.Shape)
	if rank <= 1 {
		v := s.define(id, nil)
		return s.setPart(v, slices.Clone(n.Shape), false)
	}
	l := s.define(id, nil)
	rows := slices.Clone(n.Shape)
	rows[rank-1] = 1
	s.setPart(l, rows, false)
	cols := slices.Clone(n.Shape)
	cols[rank-2] = 1
	return s.setPart(l, cols, true)
}

// define registers a weight with the given scale and returns its index.
func (s *solver) define(id graph.ID, v scale) int {
	l := len(s.leaves)
	s.leaves = append(s.leaves, leaf{id, v})
	s.leafOf[id] = l
	return l
}

// setPart adds a part of fresh variables to a leaf. With anchored, the first
// element along the last axis is fixed at zero, since a row and a column
// factor of a matrix are only defined up to their ratio.
func (s *solver) setPart(l int, dims []int, anchored bool) scale {
	n := size(dims)
	ids := make([]form, n)
	last := 1
	if len(dims) > 0 {
		last = dims[len(dims)-1]
	}
	count := n
	if anchored {
		count = n / max(last, 1) * (last - 1)
	}
	v := s.sys.fresh(count, origin{leaf: int32(l), part: int32(len(s.leaves[l].scale))}, 0)
	for i := range ids {
		if anchored && i%last == 0 {
			continue
		}
		ids[i] = plus(v)
		v++
	}
	s.leaves[l].scale = append(s.leaves[l].scale, part{dims, ids})
	return s.leaves[l].scale
}

// flat returns the sum of a value's parts as one part over dims.
func (s *solver) flat(v scale, dims []int) []form {
	if len(v) == 0 {
		return make([]form, size(dims))
	}
	acc := v[0].broadcast(dims)
	if len(v) == 1 {
		return acc
	}
	acc = slices.Clone(acc)
	for _, p := range v[1:] {
		for i, f := range p.broadcast(dims) {
			acc[i] = s.sys.sum(acc[i], f)
		}
	}
	return acc
}

// pinAll fixes every element of a value.
func (s *solver) pinAll(v scale) {
	if len(v) == 0 {
		return
	}
	d := union(len(v[0].dims), v)
	if len(v) > 1 && size(d) > formLimit {
		for _, p := range v {
			s.pinAll(scale{p})
		}
		return
	}
	for _, f := range s.flat(v, d) {
		s.sys.zero(f)
	}
}

// equate makes two values scale alike and returns the common scale.
func (s *solver) equate(shape []int, a, b scale) scale {
	rank := len(shape)
	a, b = a.align(rank), b.align(rank)
	d := union(rank, a, b)
	if size(d) > formLimit {
		s.pinAll(a)
		s.pinAll(b)
		return nil
	}
	x, y := s.flat(a, d), s.flat(b, d)
	for i := range x {
		s.sys.equal(x[i], y[i])
	}
	if size(union(rank, b)) < size(union(rank, a)) {
		return b
	}
	return a
}

// reduce demands equality along the last axis and returns the scale without it.
func (s *solver) reduce(v scale) scale {
	var rest, along scale
	for _, p := range v {
		if p.dims[len(p.dims)-1] > 1 {
			along = append(along, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(along) == 0 {
		return rest
	}
	rank := len(along[0].dims)
	d := union(rank, along)
	if size(d) > formLimit {
		s.pinAll(along)
		return rest
	}
	ids, k := s.flat(along, d), d[rank-1]
	out := make([]form, len(ids)/k)
	for i := range out {
		out[i] = ids[i*k]
		for j := 1; j < k; j++ {
			s.sys.equal(ids[i*k], ids[i*k+j])
		}
	}
	d = slices.Clone(d)
	d[rank-1] = 1
	return append(rest, part{d, out})
}
