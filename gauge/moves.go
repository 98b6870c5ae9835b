package gauge

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// move takes a scale along with the elements that it belongs to.
func (s *solver) move(n *graph.Node) scale {
	x := n.In[0]
	switch n.Op {
	case graph.OpExpand: // does not vary along an axis that it repeats
		return s.val(x)
	case graph.OpReshape:
		from := s.shape(x)
		return s.each(x, func(p part) part { return p.reshape(from, n.Shape) })
	case graph.OpTranspose:
		return s.each(x, func(p part) part { return p.transpose(n.Perm) })
	case graph.OpSlice:
		return s.slice(n)
	case graph.OpConcat:
		return s.concat(n)
	case graph.OpFlip, graph.OpPad:
		ids := make([]int, n.Shape[n.Axis])
		last := s.shape(x)[n.Axis] - 1
		for i := range ids {
			if ids[i] = last - i; n.Op == graph.OpPad {
				// Zeros have any scale: that of the nearest element.
				ids[i] = min(max(i-n.Start, 0), last)
			}
		}
		return s.each(x, func(p part) part { return p.take(n.Axis, ids) })
	case graph.OpIndex:
		return s.index(n)
	}
	return s.gather(n)
}

func (s *solver) each(in graph.ID, f func(part) part) scale {
	v := s.val(in)
	out := make(scale, len(v))
	for i, p := range v {
		out[i] = f(p)
	}
	return out
}

// slice reads a stretch of one axis.
func (s *solver) slice(n *graph.Node) scale {
	v := s.source(n.In[0], n.Axis)
	for i, p := range v {
		v[i] = p.slice(n.Axis, n.Start, n.End)
	}
	return v
}

// concat joins the inputs' scales along one axis.
func (s *solver) concat(n *graph.Node) scale {
	rank := len(n.Shape)
	ins := make([]scale, len(n.In))
	for i, in := range n.In {
		ins[i] = s.val(in).align(rank)
	}
	s.fill(n, ins)
	if alike(ins, n.Axis) {
		return ins[0]
	}
	d := union(rank, ins...)
	d[n.Axis] = n.Shape[n.Axis]
	if size(d) > formLimit {
		for _, v := range ins {
			s.pinAll(v)
		}
		return nil
	}
	arrays := make([]reader, len(n.In))
	widths := make([]int, len(n.In))
	inner := size(d[n.Axis+1:])
	for i, in := range n.In {
		di := slices.Clone(d)
		di[n.Axis] = s.shape(in)[n.Axis]
		widths[i] = di[n.Axis] * inner
		arrays[i] = reader{v: s.flat(ins[i], di)}
	}
	var out vec
	for o := range size(d[:n.Axis]) {
		for i := range arrays {
			out.append(arrays[i].slice(o*widths[i], (o+1)*widths[i]))
		}
	}
	return scale{{d, out}}
}

// fill gives zeros among the inputs the scale of what they are joined to.
func (s *solver) fill(n *graph.Node, ins []scale) {
	edge := func(from, at int) scale {
		var out scale
		for _, p := range ins[from] {
			out = append(out, p.slice(n.Axis, at, at+1))
		}
		return out
	}
	last := -1
	for i, in := range n.In {
		switch {
		case !s.void[in]:
			if last < 0 {
				for j := range i {
					ins[j] = edge(i, 0)
				}
			}
			last = i
		case last >= 0:
			ins[i] = edge(last, s.shape(n.In[last])[n.Axis]-1)
		}
	}
}

// alike reports whether all scales are one and the same, which does not vary
// along the axis.
func alike(ins []scale, axis int) bool {
	for _, v := range ins {
		if len(v) != len(ins[0]) {
			return false
		}
		for i, p := range v {
			q := ins[0][i]
			if p.dims[axis] != 1 || !slices.Equal(p.dims, q.dims) || len(p.v) == 0 || len(q.v) == 0 || &p.v[0] != &q.v[0] {
				return false
			}
		}
	}
	return true
}

// index reads elements of one axis by ids. Constant ids are a move; of ids that
// are computed anything may come, so that the axis is all alike.
func (s *solver) index(n *graph.Node) scale {
	x := n.In[0]
	at := s.ints(n.In[1], s.shape(x)[n.Axis])
	if at == nil {
		return s.spread(s.anyOf(x, n.Axis), n)
	}
	v := s.source(x, n.Axis)
	for i, p := range v {
		v[i] = p.take(n.Axis, at)
	}
	return s.spread(v, n)
}

// anyOf is the scale of a value of which any element along an axis may be read.
func (s *solver) anyOf(x graph.ID, axis int) scale {
	if axis == 0 && len(s.shape(x)) == 2 {
		return s.rowsAlike(x)
	}
	return s.level(s.val(x), axis)
}

// spread replaces the indexed axis by the axes of the ids.
func (s *solver) spread(v scale, n *graph.Node) scale {
	ids := s.g.Shape(n.In[1])
	out := make(scale, len(v))
	for i, p := range v {
		mid := ids
		if p.dims[n.Axis] == 1 && size(ids) != 1 {
			mid = ones(len(ids))
		}
		out[i] = part{slices.Concat(p.dims[:n.Axis], mid, p.dims[n.Axis+1:]), p.v}
	}
	return out
}

// ints returns constant ids that are all below the limit, else nil.
func (s *solver) ints(id graph.ID, limit int) []int {
	n := &s.g.Nodes[id]
	if n.Op != graph.OpConst || len(n.Data) == 0 {
		return nil
	}
	out := make([]int, len(n.Data))
	for i, x := range n.Data {
		out[i] = int(x)
		if out[i] < 0 || out[i] >= limit {
			return nil
		}
	}
	return out
}

// gather reads one element per place: any along the axis.
func (s *solver) gather(n *graph.Node) scale {
	v := s.level(s.val(n.In[0]), n.Axis)
	for i, k := range n.Shape {
		if i == n.Axis {
			continue
		}
		for j, p := range v {
			v[j] = p.slice(i, 0, min(k, p.dims[i]))
		}
	}
	return v
}

// scatter writes anywhere along the axis, so that all of it is alike; zeros
// take the scale of what is written over them, or of what they overwrite.
func (s *solver) scatter(n *graph.Node) scale {
	x, src := n.In[0], n.In[2]
	if s.void[src] {
		return s.val(x)
	}
	v := s.level(s.val(src), n.Axis)
	for i, k := range n.Shape {
		if i != n.Axis && s.g.Shape(src)[i] < k {
			v = s.level(v, i)
		}
	}
	if s.void[x] {
		return v
	}
	return s.equate(n.Shape, s.level(s.val(x), n.Axis), v)
}
