package gauge

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// fresh reports whether an operand is a weight that no rule has shaped yet.
func (s *solver) fresh(id graph.ID) bool {
	_, shaped := s.leafOf[id]
	return !shaped && s.g.Nodes[id].Op == graph.OpWeight
}

// embedding: which rows are read depends on the input, so all rows share one
// factor, which belongs to the columns.
func (s *solver) embedding(n *graph.Node) scale {
	return s.rowsAlike(n.In[0]).align(len(n.Shape))
}

// rowsAlike is the scale [1,d] of a matrix of which any row may be read.
func (s *solver) rowsAlike(w graph.ID) scale {
	if s.fresh(w) {
		return s.setPart(s.define(w, nil), []int{1, s.g.Shape(w)[1]})
	}
	return s.level(s.val(w), 0)
}

// linear contracts the last axis of x with the weight's input axis. A weight
// met for the first time takes the inverse of x on its columns and one free
// factor per row: nothing else is possible, and no freedom is counted twice.
func (s *solver) linear(n *graph.Node) scale {
	x, w := n.In[0], n.In[1]
	xr := len(n.Shape)
	xv := s.val(x)
	shape := s.g.Shape(w)
	out, in := 0, 1
	if n.Transposed {
		out, in = 1, 0
	}
	if s.fresh(w) {
		if cols, rest, ok := s.columns(xv, xr-1); ok {
			l := s.define(w, nil)
			d := []int{1, 1}
			d[out] = shape[out]
			rows := s.setPart(l, d)[0]
			if cols != nil {
				d := []int{1, 1}
				d[in] = cols.len()
				s.leaves[l].scale = append(s.leaves[l].scale, part{d, cols})
			}
			od := ones(xr)
			od[xr-1] = shape[out]
			return append(rest, part{od, rows.v})
		}
	}
	mapW := []int{xr - 1, -1}
	if n.Transposed {
		mapW = []int{-1, xr - 1}
	}
	mapX := make([]int, xr)
	for i := range mapX {
		mapX[i] = i
	}
	mapX[xr-1] = -1
	return s.contract(xr, xv, mapX, s.plain(w), mapW, 0)
}

// columns splits x into what varies along one axis only (negated, for the
// weight's columns) and the rest. ok is false when a part mixes the two.
func (s *solver) columns(x scale, axis int) (cols vec, rest scale, ok bool) {
	for _, p := range x {
		k := p.dims[axis]
		switch {
		case k == 1:
			rest = append(rest, p)
		case size(p.dims) != k:
			return nil, nil, false
		case cols == nil:
			cols = s.negated(p.v)
		default:
			cols = s.sys.sum(cols, p.v, -1)
		}
	}
	return cols, rest, true
}

// negated returns -v. The readers of one value, thousands of experts among
// them, share one array.
func (s *solver) negated(v vec) vec {
	n, ok := s.negs[&v[0]]
	if !ok {
		n = negative(s.sys.resolved(v))
		s.negs[&v[0]] = n
	}
	return n
}

// matmul contracts two activations (or any two values).
func (s *solver) matmul(n *graph.Node) scale {
	r := len(n.Shape)
	mapA, mapB := make([]int, r), make([]int, r)
	for i := range r {
		mapA[i], mapB[i] = i, i
	}
	mapA[r-1], mapB[r-2] = -1, -1
	var flags uint8
	if !s.param[n.In[0]] && !s.param[n.In[1]] {
		flags = flagQK
	}
	out := s.contract(r, s.val(n.In[0]).align(r), mapA, s.val(n.In[1]).align(r), mapB, flags)
	if flags != 0 {
		for _, p := range out {
			s.sys.mark(p.v, flagVO)
		}
	}
	return out
}

// contract sums over one axis (mapped to -1) of each operand; the others are
// mapped to axes of the result. The products must scale alike along it.
func (s *solver) contract(rank int, a scale, mapA []int, b scale, mapB []int, flag uint8) scale {
	var out, along scale
	split := func(v scale, m []int) {
		k := slices.Index(m, -1)
		for _, p := range v {
			q := part{ones(rank + 1), nil}
			perm := make([]int, 0, len(m)) // p's axes in the result's order, contracted axis last
			for o := range rank {
				if i := slices.Index(m, o); i >= 0 {
					perm = append(perm, i)
					q.dims[o] = p.dims[i]
				}
			}
			perm = append(perm, k)
			q.dims[rank] = p.dims[k]
			q.v = p.transpose(perm).v
			if p.dims[k] == 1 {
				out = append(out, part{q.dims[:rank], q.v})
				continue
			}
			along = append(along, q)
			if flag != 0 {
				s.sys.mark(p.v, flag)
			}
		}
	}
	split(a, mapA)
	split(b, mapB)
	s.anchor(along)
	for _, p := range s.reduce(along) {
		out = append(out, part{p.dims[:rank], p.v})
	}
	return out
}

// conv contracts channels and kernel. Its input must not vary along the spatial
// axes, over which the kernel slides; zeros around it have any scale.
func (s *solver) conv(n *graph.Node) scale {
	x, w := n.In[0], n.In[1]
	xs, ws := s.g.Shape(x), s.g.Shape(w)
	xv := s.val(x)
	for i := 2; i < len(xs); i++ {
		xv = s.level(xv, i)
	}
	flat := make(scale, len(xv)) // [N,C]
	for i, p := range xv {
		flat[i] = part{p.dims[:2], p.v}
	}
	var out scale
	if s.fresh(w) {
		out = s.filters(w, flat, n.Conv.Groups)
	}
	if out == nil {
		out = s.sharedFilters(s.plain(w), flat, xs[1], ws, n.Conv.Groups)
	}
	for i, p := range out {
		out[i] = part{slices.Concat(p.dims, ones(len(xs)-2)), p.v}
	}
	return out
}

// filters shapes a convolution's weight that is met for the first time: one
// free factor per filter, and the inverse of what the filter reads per channel.
// Where every filter reads one channel, the input's factor passes through.
// It returns nil where the input mixes batch and channels.
func (s *solver) filters(w graph.ID, x scale, groups int) scale {
	ws := s.g.Shape(w)
	each := ws[0] / groups // filters per group
	var through, rest scale
	var cols vec
	if ws[1] == 1 {
		for _, p := range x {
			if p.dims[1] > 1 {
				p = part{[]int{p.dims[0], groups, 1}, p.v}
				p = part{[]int{p.dims[0], ws[0]}, p.broadcast([]int{p.dims[0], groups, each})}
			}
			through = append(through, p)
		}
	} else {
		var ok bool
		if cols, rest, ok = s.columns(x, 1); !ok {
			return nil
		}
	}
	l := s.define(w, nil)
	d := ones(len(ws))
	d[0] = ws[0]
	rows := s.setPart(l, d)[0]
	if cols != nil {
		d := ones(len(ws))
		d[1] = ws[1]
		if groups > 1 {
			d[0] = ws[0]
			cols = part{[]int{groups, 1, ws[1]}, cols}.broadcast([]int{groups, each, ws[1]})
		}
		s.leaves[l].scale = append(s.leaves[l].scale, part{d, cols})
	}
	return s.plus(append(through, rest...), part{[]int{1, ws[0]}, rows.v})
}

// sharedFilters contracts with a weight that already has a scale.
func (s *solver) sharedFilters(wv, x scale, channels int, ws []int, groups int) scale {
	for i := 2; i < len(ws); i++ {
		wv = s.level(wv, i)
	}
	var all scale // [N, group, filter, channel]
	for _, p := range x {
		p = p.reshape([]int{p.dims[0], channels}, []int{p.dims[0], groups, ws[1]})
		all = append(all, part{[]int{p.dims[0], p.dims[1], 1, p.dims[2]}, p.v})
	}
	for _, p := range wv {
		p = part{p.dims[:2], p.v}.reshape(ws[:2], []int{groups, ws[0] / groups, ws[1]})
		all = append(all, part{append([]int{1}, p.dims...), p.v})
	}
	var out scale
	s.anchor(all)
	for _, p := range s.reduce(all) {
		batch := p.dims[0]
		p = part{p.dims[1:3], p.v}
		if batch > 1 {
			p = part{[]int{batch, p.dims[0], p.dims[1]}, p.v}
			out = append(out, p.reshape([]int{batch, groups, ws[0] / groups}, []int{batch, ws[0]}))
			continue
		}
		p = p.reshape([]int{groups, ws[0] / groups}, ws[:1])
		out = append(out, part{[]int{1, p.dims[0]}, p.v})
	}
	return out
}
