package gauge

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// choice says which computed ids decided what stands at a place of a value:
// the element of ids with flat index at + Σ stride·place. The scale of such a
// value has one more axis in front, over everything that could be chosen, and
// every rule works on it as on any other axis: an equation then holds whatever
// the ids are. Values that depend on the same choice share the axis, so that
// each expert of a mixture keeps factors of its own; where different choices
// meet, the axis is made alike first.
type choice struct {
	ids    graph.ID
	n      int // length of the axis that they index
	at     int
	stride []int // per axis of the value; 0 where its length is 1
}

func (c *choice) equal(d *choice) bool {
	return c.ids == d.ids && c.n == d.n && c.at == d.at && slices.Equal(c.stride, d.stride)
}

// idsChoice follows ids from where experts are chosen, through moves.
func (s *solver) idsChoice(id graph.ID, n *graph.Node) *choice {
	switch {
	case !n.Int || len(n.In) == 0:
	case n.Op == graph.OpTopKIndices, n.Op == graph.OpArgMax,
		n.Op == graph.OpClamp && s.ids[n.In[0]] != nil,
		n.Op == graph.OpConcat && slices.ContainsFunc(n.In, func(in graph.ID) bool { return s.ids[in] != nil }):
		// Joined ids are ids of their own: each may be anything.
		return normalised(&choice{ids: id, stride: strides(n.Shape)}, n.Shape)
	case n.Op.Move() && n.Op != graph.OpPad && s.ids[n.In[0]] != nil:
		return s.through(n, 0, s.ids[n.In[0]])
	}
	return nil
}

// normalised clears the strides of axes of length 1, along which nothing moves.
func normalised(c *choice, shape []int) *choice {
	for i, k := range shape {
		if k == 1 {
			c.stride[i] = 0
		}
	}
	return c
}

// through takes the choice of an operation's input to its result. It returns
// nil where that has no such form, or where elements with different ids are
// taken together.
func (s *solver) through(n *graph.Node, i int, c *choice) *choice {
	from := s.g.Shape(n.In[i])
	r := len(from)
	out := *c
	out.stride = slices.Clone(c.stride)
	switch {
	case elementwise(n.Op):
		out.stride = append(make([]int, len(n.Shape)-r), out.stride...)
	case n.Op == graph.OpReshape:
		if out.stride = restride(c.stride, from, n.Shape); out.stride == nil {
			return nil
		}
	case n.Op == graph.OpTranspose:
		for j, p := range n.Perm {
			out.stride[j] = c.stride[p]
		}
	case n.Op == graph.OpSlice:
		out.at += c.stride[n.Axis] * n.Start
	case n.Op == graph.OpFlip:
		out.at += c.stride[n.Axis] * (from[n.Axis] - 1)
		out.stride[n.Axis] *= -1
	case n.Op == graph.OpExpand:
	case n.Op == graph.OpConcat, n.Op == graph.OpPad:
		if c.stride[n.Axis] != 0 {
			return nil
		}
	case n.Op == graph.OpIndex:
		if i != 0 || c.stride[n.Axis] != 0 {
			return nil
		}
		out.stride = slices.Concat(c.stride[:n.Axis], make([]int, len(s.g.Shape(n.In[1]))), c.stride[n.Axis+1:])
	case n.Op == graph.OpMatMul:
		k := r - 1 - i // the contracted axis
		if c.stride[k] != 0 {
			return nil
		}
	case alongLast(n.Op) && i == 0:
		if c.stride[r-1] != 0 {
			return nil
		}
	default:
		return nil
	}
	return normalised(&out, n.Shape)
}

// elementwise reports whether an operation works element by element, with
// broadcasting.
func elementwise(op graph.Op) bool { return op >= graph.OpAdd && op <= graph.OpOr }

// alongLast reports whether an operation takes the last axis of its input
// together and leaves the others alone.
func alongLast(op graph.Op) bool {
	switch op {
	case graph.OpLinear, graph.OpSoftmax, graph.OpRMSNorm, graph.OpLayerNorm, graph.OpSum, graph.OpMax,
		graph.OpArgMax, graph.OpCumSum, graph.OpTopKMask, graph.OpTopKValues, graph.OpTopKIndices:
		return true
	}
	return false
}

// restride finds the strides after a reshape: axes may be split, and joined
// where they step evenly.
func restride(stride, from, to []int) []int {
	out := make([]int, len(to))
	for i, j := 0, 0; i < len(from) && j < len(to); {
		i0, j0 := i, j
		a, b := from[i], to[j]
		i, j = i+1, j+1
		for a != b {
			if a < b {
				a *= from[i]
				i++
			} else {
				b *= to[j]
				j++
			}
		}
		step, inner, known := 0, 1, false
		for k := i - 1; k >= i0; k-- {
			if from[k] > 1 {
				if known && stride[k] != step*inner {
					return nil
				}
				if !known {
					step, known = stride[k], true
				}
				inner *= from[k]
			}
		}
		inner = 1
		for k := j - 1; k >= j0; k-- {
			out[k] = step * inner
			inner *= to[k]
		}
	}
	return out
}

// common returns the choice that an operation's inputs share, in terms of its
// result, or nil; inputs with any other are made alike along it.
func (s *solver) common(n *graph.Node) *choice {
	var by *choice
	for i, in := range n.In {
		c := s.by[in]
		if c == nil {
			continue
		}
		c = s.through(n, i, c)
		if by == nil {
			by = c
		}
		if c == nil || !c.equal(by) {
			s.settle(in)
		}
	}
	return by
}

// settle makes a value's scale the same whatever was chosen.
func (s *solver) settle(id graph.ID) {
	if s.by[id] == nil {
		return
	}
	v := s.level(s.vals[id], 0)
	for i, p := range v {
		v[i] = part{p.dims[1:], p.v}
	}
	s.vals[id], s.by[id] = v, nil
}

// lifted applies an operation's rule with the choice as a further axis in front.
func (s *solver) lifted(n *graph.Node, by *choice) (scale, *choice) {
	m := *n
	m.Shape = append([]int{by.n}, n.Shape...)
	m.Axis++
	m.Perm = []int{0}
	for _, p := range n.Perm {
		m.Perm = append(m.Perm, p+1)
	}
	s.among = by.n
	if elementwise(n.Op) {
		s.wide = len(m.Shape)
	}
	v := s.tidy(s.rule(&m))
	s.among, s.wide = 0, 0
	return drop(v, by)
}

// drop removes the axis in front where no part varies along it.
func drop(v scale, by *choice) (scale, *choice) {
	for _, p := range v {
		if p.dims[0] > 1 {
			return v, by
		}
	}
	for i, p := range v {
		v[i] = part{p.dims[1:], p.v}
	}
	return v, nil
}

// front gives a value's scale the axis of the choice at hand. The axes of a
// value of lower rank are the last ones, after it.
func (s *solver) front(id graph.ID, v scale) scale {
	if s.by[id] == nil {
		return v.align(len(s.g.Shape(id)) + 1)
	}
	out := make(scale, len(v))
	for i, p := range v {
		out[i] = part{slices.Concat(p.dims[:1], ones(max(s.wide-len(p.dims), 0)), p.dims[1:]), p.v}
	}
	return out
}

// shape is that of a value, as the rule at hand sees it.
func (s *solver) shape(id graph.ID) []int {
	if s.among > 0 {
		return append([]int{s.among}, s.g.Shape(id)...)
	}
	return s.g.Shape(id)
}

// choose indexes an axis by ids of which each may be anything: the axis comes
// to the front.
func (s *solver) choose(n *graph.Node) (scale, *choice) {
	x, ids := n.In[0], s.ids[n.In[1]]
	s.settle(x)
	shape := s.g.Shape(x)
	if s.fresh(x) && len(shape) == 2 && n.Axis == 0 && !s.matrix[x] {
		s.setPart(s.define(x, nil), slices.Clone(shape)) // one vector each
	}
	mid := s.g.Shape(n.In[1])
	perm := []int{n.Axis}
	for i := range shape {
		if i != n.Axis {
			perm = append(perm, i)
		}
	}
	v := s.each(x, func(p part) part {
		q := p.transpose(perm)
		return part{slices.Concat(q.dims[:n.Axis+1], ones(len(mid)), q.dims[n.Axis+1:]), q.v}
	})
	by := &choice{ids: ids.ids, n: shape[n.Axis], at: ids.at}
	by.stride = slices.Concat(make([]int, n.Axis), ids.stride, make([]int, len(shape)-n.Axis-1))
	return drop(s.tidy(v), by)
}
