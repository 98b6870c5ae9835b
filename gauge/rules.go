package gauge

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// node applies the rule of one operation: it adds the operation's equations
// and returns the scale of its result.
func (s *solver) node(id graph.ID) (scale, error) {
	n := &s.g.Nodes[id]
	rank := len(n.Shape)
	switch n.Op {
	case graph.OpWeight, graph.OpConst, graph.OpTokens:
		return nil, nil
	case graph.OpEmbedding:
		return s.embedding(n), nil
	case graph.OpLinear:
		return s.linear(n), nil
	case graph.OpMatMul:
		return s.matmul(n), nil
	case graph.OpAdd, graph.OpSub:
		return s.equate(n.Shape, s.val(n.In[0]), s.val(n.In[1])), nil
	case graph.OpMul, graph.OpDiv:
		return s.product(n), nil
	case graph.OpAddScalar:
		if n.Scalar == 0 {
			return s.val(n.In[0]), nil
		}
		s.pinAll(s.val(n.In[0]))
		return nil, nil
	case graph.OpMulScalar, graph.OpNeg, graph.OpReLU, graph.OpExpand:
		// Positive factors pass; an expanded axis does not vary.
		return s.val(n.In[0]), nil
	case graph.OpRMSNorm:
		return s.rmsNorm(n), nil
	case graph.OpSum:
		return s.reduce(s.val(n.In[0])), nil
	case graph.OpTopKMask:
		// The order of the elements is all that counts.
		s.reduce(s.val(n.In[0]))
		return nil, nil
	case graph.OpReshape:
		from := s.g.Shape(n.In[0])
		return s.each(n.In[0], func(p part) part { return p.reshape(from, n.Shape) }), nil
	case graph.OpTranspose:
		return s.each(n.In[0], func(p part) part { return p.transpose(n.Perm) }), nil
	case graph.OpSlice:
		return s.each(n.In[0], func(p part) part { return p.slice(n.Axis, n.Start, n.End) }), nil
	case graph.OpConcat:
		return s.concat(n, rank), nil
	case graph.OpSiLU, graph.OpGELU, graph.OpGELUTanh, graph.OpTanh, graph.OpSigmoid, graph.OpSoftmax:
		s.pinAll(s.val(n.In[0]))
		return nil, nil
	case graph.OpInvalid:
		return nil, fmt.Errorf("invalid operation")
	}
	// An operation without a rule pins everything that goes into it.
	for _, in := range n.In {
		s.pinAll(s.val(in))
	}
	return nil, nil
}

func (s *solver) each(in graph.ID, f func(part) part) scale {
	v := s.val(in)
	out := make(scale, len(v))
	for i, p := range v {
		out[i] = f(p)
	}
	return out
}

// embedding: which rows are read depends on the input, so all rows share one
// factor, which belongs to the columns.
func (s *solver) embedding(n *graph.Node) scale {
	w := n.In[0]
	shape := s.g.Shape(w)
	if _, ok := s.leafOf[w]; !ok && s.g.Nodes[w].Op == graph.OpWeight {
		l := s.define(w, nil)
		v := s.setPart(l, []int{1, shape[1]}, false)
		return v.align(len(n.Shape))
	}
	var out scale
	for _, p := range s.val(w) {
		t := s.reduce(scale{p.transpose([]int{1, 0})})
		for _, q := range t {
			out = append(out, q.transpose([]int{1, 0}))
		}
	}
	return out.align(len(n.Shape))
}

// linear contracts the last axis of x with the weight's input axis. A weight
// met for the first time takes the inverse of x on its columns and one free
// factor per row: nothing else is possible, and no freedom is counted twice.
func (s *solver) linear(n *graph.Node) scale {
	x, w := n.In[0], n.In[1]
	xr := len(s.g.Shape(x))
	xv := s.val(x)
	shape := s.g.Shape(w)
	out, in := 0, 1
	if n.Transposed {
		out, in = 1, 0
	}
	if _, ok := s.leafOf[w]; !ok && s.g.Nodes[w].Op == graph.OpWeight {
		if cols, rest, ok := s.columns(xv, xr); ok {
			l := s.define(w, nil)
			d := []int{1, 1}
			d[out] = shape[out]
			rows := s.setPart(l, d, false)[0]
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
	return s.contract(xr, xv, mapX, s.val(w), mapW, 0)
}

// columns splits x into what varies along the last axis only (negated, for the
// weight's columns) and the rest. ok is false when a part mixes the two.
func (s *solver) columns(x scale, rank int) (cols vec, rest scale, ok bool) {
	for _, p := range x {
		k := p.dims[rank-1]
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
	out := s.contract(r, s.val(n.In[0]), mapA, s.val(n.In[1]), mapB, flags)
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
	for _, p := range s.reduce(along) {
		out = append(out, part{p.dims[:rank], p.v})
	}
	return out
}

// product adds log-scales; quotient subtracts them. A vector of the checkpoint
// that is multiplied element by element is a gain.
func (s *solver) product(n *graph.Node) scale {
	rank := len(n.Shape)
	for _, in := range n.In {
		if w := &s.g.Nodes[in]; w.Op == graph.OpWeight && len(w.Shape) <= 1 {
			for _, p := range s.val(in) {
				s.sys.mark(p.v, flagNorm)
			}
		}
	}
	a, b := s.val(n.In[0]).align(rank), s.val(n.In[1]).align(rank)
	if n.Op == graph.OpDiv {
		b = s.each(n.In[1], func(p part) part { return part{p.dims, negative(p.v)} }).align(rank)
	}
	out := slices.Clone(a)
	for _, q := range b {
		i := slices.IndexFunc(out, func(p part) bool { return slices.Equal(p.dims, q.dims) })
		if i < 0 {
			out = append(out, q)
			continue
		}
		out[i] = part{q.dims, s.sys.sum(out[i].v, q.v, 1)}
	}
	return out
}

// rmsNorm: its input must scale as one, by the square root of what eps scales
// by, and not at all when eps is fixed in the code; its result never scales.
func (s *solver) rmsNorm(n *graph.Node) scale {
	v := s.val(n.In[0])
	if n.Scalar == 0 {
		s.reduce(v)
		return nil
	}
	s.equate(n.Shape, v, scale{uniform(len(n.Shape), s.eps[n.EpsKey])})
	return nil
}

// concat joins the inputs' scales along one axis.
func (s *solver) concat(n *graph.Node, rank int) scale {
	ins := make([]scale, len(n.In))
	empty := true
	for i, in := range n.In {
		ins[i] = s.val(in)
		empty = empty && len(ins[i]) == 0
	}
	if empty {
		return nil
	}
	d := union(rank, ins...)
	d[n.Axis] = n.Shape[n.Axis]
	if size(d) > formLimit {
		for _, v := range ins {
			s.pinAll(v)
		}
		return nil
	}
	arrays := make([]vec, len(n.In))
	widths := make([]int, len(n.In))
	inner := size(d[n.Axis+1:])
	for i, in := range n.In {
		di := slices.Clone(d)
		di[n.Axis] = s.g.Shape(in)[n.Axis]
		widths[i] = di[n.Axis] * inner
		arrays[i] = s.flat(ins[i], di)
	}
	var out vec
	for o := range size(d[:n.Axis]) {
		for i, a := range arrays {
			out.append(a.slice(o*widths[i], (o+1)*widths[i]))
		}
	}
	return scale{{d, out}}
}
