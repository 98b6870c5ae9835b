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
	flagKeep                   // must stay positive: something on its way is not odd
)

type leaf struct {
	node  graph.ID
	scale scale
}

type solver struct {
	g      *graph.Graph
	sys    *system
	vals   []scale
	by     []*choice // on which computed ids a value's scale depends
	ids    []*choice // of integers: where they were chosen
	void   []bool    // constants that no factor changes
	param  []bool    // computed from weights alone
	live   []bool    // read on the way to an output
	read   map[axisOf][]bool
	matrix map[graph.ID]bool // weights with a factor per row and per column
	input  map[graph.ID]int  // the axis of a weight that is contracted
	loose  map[int][]bool    // per leaf: where rows and columns share a factor still
	roots  bool              // some scale has fractions that no equation shows
	among  int               // length of the axis in front that the rule at hand has for a choice, or 0
	wide   int               // rank to which its inputs are aligned behind that axis
	leaves []leaf
	leafOf map[graph.ID]int
	eps    map[string][]term // variable e of each epsilon key: eps × 4^e
	epsKey []string
	negs   map[*run]vec
	keeps  []vec         // scales of values whose sign must stay
	kept   map[*run]bool // those that are listed already
}

// Solve returns the gauge freedom of g.
func Solve(g *graph.Graph) (*Solution, error) {
	k := len(g.Nodes)
	s := &solver{
		g: g, sys: &system{}, vals: make([]scale, k), by: make([]*choice, k), ids: make([]*choice, k),
		void: make([]bool, k), param: make([]bool, k), live: reach(g), loose: map[int][]bool{},
		leafOf: map[graph.ID]int{}, eps: map[string][]term{}, negs: map[*run]vec{}, kept: map[*run]bool{},
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		s.param[i] = s.isParam(n)
		// Epsilons come first: the oldest variables stay free the longest.
		if (n.Op == graph.OpRMSNorm || n.Op == graph.OpLayerNorm) && n.EpsKey != "" && n.Scalar != 0 {
			if _, ok := s.eps[n.EpsKey]; !ok {
				s.eps[n.EpsKey] = s.sys.fresh(1, origin{leaf: -1})[0].ts
				s.epsKey = append(s.epsKey, n.EpsKey)
			}
		}
	}
	s.readParts()
	s.matrices()
	for i := range g.Nodes {
		s.sys.why = int32(i)
		v, err := s.node(graph.ID(i))
		if err != nil {
			return nil, fmt.Errorf("solving node %d (%v at %s): %w", i, g.Nodes[i].Op, g.Nodes[i].Scope, err)
		}
		s.vals[i] = s.tidy(v)
		s.sys.tidy()
	}
	s.finish()
	return s.solution(), nil
}

// longLimit is the number of runs past which a scale is worth a second look.
const longLimit = 1 << 10

// forget drops the long scales of values that an operation has just pinned, and
// of those that they were moved from: a network takes tensors of all its experts
// apart element by element, and the solver would keep that for every layer.
func (s *solver) forget(n *graph.Node) {
	for _, in := range n.In {
		for s.pinned(in) {
			s.vals[in], s.by[in] = nil, nil
			if n := &s.g.Nodes[in]; n.Op == graph.OpReshape || n.Op == graph.OpTranspose {
				in = n.In[0]
			}
		}
	}
}

// pinned reports whether a value has a long scale that is zero.
func (s *solver) pinned(id graph.ID) bool {
	return s.vals[id].long() && !slices.ContainsFunc(s.vals[id], func(p part) bool { return !s.sys.isZero(p.v) })
}

// long reports whether a scale has fallen into many runs.
func (s scale) long() bool {
	return slices.ContainsFunc(s, func(p part) bool { return len(p.v) > longLimit })
}

// added takes the elements of a value together along its last axis. From then
// on they are alike, which says in short what may have been long before.
func (s *solver) added(x graph.ID) scale {
	v := s.val(x)
	out := s.reduce(v)
	if v.long() && s.among == 0 && s.g.Nodes[x].Op != graph.OpWeight {
		s.vals[x] = slices.Clone(out)
	}
	return out
}

// What fixes a variable beside the nodes, as reasons counted from their number.
const (
	atOutput = iota
	byTie
	byNothing // nothing reads it
)

// finish adds the equations that belong to no operation.
func (s *solver) finish() {
	k := int32(len(s.g.Nodes))
	s.sys.why = k + atOutput
	for _, o := range s.g.Outputs {
		s.settle(o)
		s.pinAll(s.val(o))
	}
	s.sys.why = k + byTie
	tied := map[graph.ID]bool{}
	for _, t := range s.g.Ties() {
		a, b := s.g.Weights()[t[0]], s.g.Weights()[t[1]]
		s.equate(s.g.Shape(a), s.val(a), s.val(b))
		tied[a], tied[b] = true, true
	}
	// What nothing reads keeps pace with what it would read, and no more.
	s.sys.why = k + byNothing
	for i := range s.sys.blocks {
		b := s.sys.blocks[i]
		if l := b.origin.leaf; l < 0 || s.live[s.leaves[l].node] || tied[s.leaves[l].node] {
			continue
		}
		for _, p := range slices.Clone(b.pieces) {
			if !p.bound {
				s.sys.zero(variables(p.start, p.n))
			}
		}
	}
	s.sys.why = -1 // one of two names for the same factor is no reason
	s.tighten()
}

// isParam reports whether a value is computed from weights and constants; which
// of its elements are picked may depend on the input.
func (s *solver) isParam(n *graph.Node) bool {
	switch n.Op {
	case graph.OpTokens, graph.OpInput:
		return false
	case graph.OpIndex, graph.OpGather:
		return s.param[n.In[0]]
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

// val returns the scale of a value, as the rule at hand sees it.
func (s *solver) val(id graph.ID) scale {
	if s.among > 0 {
		return s.front(id, s.plain(id))
	}
	return s.plain(id)
}

// elementLimit bounds the weights that have a factor per element.
const elementLimit = 1 << 22

// plain returns the scale of a value, giving a weight that no rule has shaped
// yet one factor per row and one per column if it is a matrix, or several in a
// stack, else one per element.
func (s *solver) plain(id graph.ID) scale {
	n := &s.g.Nodes[id]
	if n.Op != graph.OpWeight {
		return s.vals[id]
	}
	if l, ok := s.leafOf[id]; ok {
		return s.leaves[l].scale
	}
	rank := len(n.Shape)
	l := s.define(id, nil)
	if rank <= 1 || !s.matrix[id] && size(n.Shape) <= elementLimit {
		return s.setPart(l, slices.Clone(n.Shape))
	}
	rows := slices.Clone(n.Shape)
	rows[rank-1] = 1
	s.setPart(l, rows)
	cols := slices.Clone(n.Shape)
	cols[rank-2] = 1
	s.loose[l] = make([]bool, size(n.Shape[:rank-2]))
	for i := range s.loose[l] {
		s.loose[l][i] = true
	}
	return s.setPart(l, cols)
}

// anchor settles what rows and columns of a matrix share. They are defined only
// up to their ratio; where the matrix is contracted for the first time, its
// factors there become the inverse of what they meet, so that no class stands
// for the sum of two.
func (s *solver) anchor(along scale) {
	for _, q := range along {
		if len(q.v) == 0 || len(q.v[0].ts) != 1 {
			continue
		}
		b, _ := s.sys.find(q.v[0].ts[0].v)
		if b.origin.leaf < 0 || s.loose[int(b.origin.leaf)] == nil {
			continue
		}
		d := union(len(q.dims), along)
		if !slices.Equal(d, q.dims) || size(d) > formLimit {
			return
		}
		all, k := reader{v: s.flat(along, d)}, d[len(d)-1]
		for i := range size(d) / k {
			if ts := q.v.slice(i*k, i*k+1)[0].ts; len(ts) == 1 && s.claim(ts[0].v) {
				s.sys.zero(all.slice(i*k, (i+1)*k))
			}
		}
		return
	}
}

// claim reports whether the matrix that a variable belongs to is loose, and
// makes it firm.
func (s *solver) claim(v int32) bool {
	b, _ := s.sys.find(v)
	if b.origin.leaf < 0 {
		return false
	}
	l := s.loose[int(b.origin.leaf)]
	if l == nil {
		return false
	}
	i := int(v-b.start) / (b.n / len(l))
	was := l[i]
	l[i] = false
	return was
}

// tighten makes every matrix firm: its first column has no factor.
func (s *solver) tighten() {
	for l := range s.leaves {
		cols := s.loose[l]
		if cols == nil {
			continue
		}
		v := s.leaves[l].scale[1].v
		k := v.len() / len(cols)
		for i, loose := range cols {
			if loose {
				s.sys.zero(v.slice(i*k, i*k+1))
			}
		}
	}
}

// define registers a weight with the given scale and returns its index.
func (s *solver) define(id graph.ID, v scale) int {
	l := len(s.leaves)
	s.leaves = append(s.leaves, leaf{id, v})
	s.leafOf[id] = l
	return l
}

// setPart adds a part of fresh variables to a leaf.
func (s *solver) setPart(l int, dims []int) scale {
	o := origin{leaf: int32(l), part: int32(len(s.leaves[l].scale))}
	s.leaves[l].scale = append(s.leaves[l].scale, part{dims, s.sys.fresh(size(dims), o)})
	return s.leaves[l].scale
}

// flat returns the sum of a value's parts as one array over dims.
func (s *solver) flat(v scale, dims []int) vec {
	if len(v) == 0 {
		return repeat(nil, size(dims))
	}
	var acc vec
	long := len(v) > 1 && v.long()
	for _, p := range v {
		if long && s.sys.isZero(p.v) {
			continue // the sum would go through all of it for nothing
		}
		if q := p.broadcast(dims); acc == nil {
			acc = q
		} else {
			acc = s.sys.sum(acc, q, 1)
		}
	}
	if acc == nil {
		return repeat(nil, size(dims))
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

// level demands equality along one axis, which keeps length 1.
func (s *solver) level(v scale, axis int) scale {
	var out, along scale
	var perm, back []int
	for _, p := range v {
		if p.dims[axis] == 1 {
			out = append(out, p)
			continue
		}
		if perm == nil {
			for i := range p.dims {
				if i != axis {
					perm = append(perm, i)
				}
			}
			perm = append(perm, axis)
			back = make([]int, len(perm))
			for i, j := range perm {
				back[j] = i
			}
		}
		along = append(along, p.transpose(perm))
	}
	for _, p := range s.reduce(along) {
		out = append(out, p.transpose(back))
	}
	return out
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
	all, k := reader{v: s.flat(along, d)}, d[rank-1]
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
