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
	eps    map[string][]term // variable e of each epsilon key: eps × 4^e
	epsKey []string
	negs   map[*run]vec
}

// Solve returns the gauge freedom of g.
func Solve(g *graph.Graph) (*Solution, error) {
	s := &solver{
		g: g, sys: &system{}, vals: make([]scale, len(g.Nodes)), param: make([]bool, len(g.Nodes)),
		leafOf: map[graph.ID]int{}, eps: map[string][]term{}, negs: map[*run]vec{},
	}
	for i := range g.Nodes {
		// Epsilons come first: the oldest variables stay free the longest.
		if n := &g.Nodes[i]; n.Op == graph.OpRMSNorm && n.EpsKey != "" && n.Scalar != 0 {
			if _, ok := s.eps[n.EpsKey]; !ok {
				s.eps[n.EpsKey] = s.sys.fresh(1, origin{leaf: -1})[0].ts
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
		if len(p.v) > 0 && p.v.uniform() {
			if len(p.v[0].ts) == 0 {
				continue
			}
			p = uniform(len(p.dims), p.v[0].ts)
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
	l := s.define(id, nil)
	if rank <= 1 {
		return s.setPart(l, slices.Clone(n.Shape), false)
	}
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
	o := origin{leaf: int32(l), part: int32(len(s.leaves[l].scale))}
	n := size(dims)
	v := vec(nil)
	if !anchored {
		v = s.sys.fresh(n, o)
	} else {
		last := dims[len(dims)-1]
		all := s.sys.fresh(n/last*(last-1), o)
		for i := range n / last {
			v.push(1, nil)
			v.append(all.slice(i*(last-1), (i+1)*(last-1)))
		}
	}
	s.leaves[l].scale = append(s.leaves[l].scale, part{dims, v})
	return s.leaves[l].scale
}

// flat returns the sum of a value's parts as one array over dims.
func (s *solver) flat(v scale, dims []int) vec {
	if len(v) == 0 {
		return repeat(nil, size(dims))
	}
	acc := v[0].broadcast(dims)
	for _, p := range v[1:] {
		acc = s.sys.sum(acc, p.broadcast(dims), 1)
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
	s.sys.zero(s.flat(v, d))
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
	s.sys.equal(s.flat(a, d), s.flat(b, d))
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
	all, k := s.flat(along, d), d[rank-1]
	var out vec
	for i := range size(d) / k {
		row := all.slice(i*k, (i+1)*k)
		first := row.slice(0, 1)
		if !row.uniform() {
			s.sys.equal(repeat(first[0].ts, k-1), row.slice(1, k))
		}
		out.append(first)
	}
	d = slices.Clone(d)
	d[rank-1] = 1
	return append(rest, part{d, out})
}
