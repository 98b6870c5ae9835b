package pt2

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

func (l *lowering) reshape(x *value, shape []int) *value {
	if slices.Equal(x.shape, shape) {
		return x
	}
	if x.c != nil {
		return l.folded(x.c.Reshape(shape...))
	}
	from := x
	if f, ok := l.reshaped[x.id]; ok {
		from = f // there and back is nowhere: a weight stays a leaf
	}
	if slices.Equal(from.shape, shape) {
		return from.as(x.kind)
	}
	v := l.once(from, "reshape", shape, func() graph.ID { return l.b.Reshape(from.id, shape...) }).as(x.kind)
	l.reshaped[v.id] = from
	return v
}

func (l *lowering) transpose(x *value, perm []int) *value {
	same := true
	for i, p := range perm {
		same = same && p == i
	}
	if same {
		return x
	}
	if x.c != nil {
		return l.folded(x.c.Transpose(perm...))
	}
	return l.once(x, "transpose", perm, func() graph.ID { return l.b.Transpose(x.id, perm...) })
}

// once makes a move, or finds the one that was made before: so two parts of a
// value are seen to be parts of one.
func (l *lowering) once(x *value, name string, how []int, make func() graph.ID) *value {
	if x.im != nil {
		l.id(x) // refuses
	}
	key := fmt.Sprint(x.id, name, how)
	if id, ok := l.made[key]; ok {
		return &value{id: id, kind: x.kind, shape: l.b.Shape(id)}
	}
	v := l.node(make(), x.kind)
	l.made[key] = v.id
	return v
}

// expand broadcasts to a shape of at least the same rank.
func (l *lowering) expand(x *value, shape []int) *value {
	if slices.Equal(x.shape, shape) {
		return x
	}
	if s, ok := fold.Broadcast(x.shape, shape); !ok || !slices.Equal(s, shape) {
		l.stop("expanding shape %v to %v", x.shape, shape)
	}
	if x.c != nil {
		return l.folded(x.c.Expand(shape...))
	}
	if n := 1; true {
		for _, d := range shape {
			n *= d
		}
		if n == 0 {
			return l.empty(x.kind, shape)
		}
	}
	full := slices.Concat(ones(len(shape)-x.rank()), x.shape)
	x = l.reshape(x, full)
	if slices.Equal(full, shape) {
		return x
	}
	return l.node(l.b.Expand(l.id(x), shape...), x.kind)
}

func ones(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// slice takes elements [start,end) of an axis.
func (l *lowering) slice(x *value, axis, start, end int) *value {
	if start == 0 && end == x.shape[axis] {
		return x
	}
	if x.c != nil || start >= end {
		shape := slices.Clone(x.shape)
		shape[axis] = max(end-start, 0)
		if x.c == nil || start >= end {
			return l.empty(x.kind, shape)
		}
		return l.folded(x.c.Slice(axis, start, 1, end-start))
	}
	if j, ok := l.joined[x.id]; ok && j.axis == axis {
		if v := l.part(j, start, end); v != nil {
			return v
		}
	}
	return l.once(x, "slice", []int{axis, start, end}, func() graph.ID { return l.b.Slice(x.id, axis, start, end) })
}

// joint remembers what a concatenation was made of, so that parts of it can be
// taken without it.
type joint struct {
	axis  int
	parts []*value
}

func (l *lowering) part(j joint, start, end int) *value {
	at := 0
	var in []*value
	for _, p := range j.parts {
		n := p.shape[j.axis]
		lo, hi := max(start, at), min(end, at+n)
		if lo < hi {
			in = append(in, l.slice(p, j.axis, lo-at, hi-at))
		}
		at += n
	}
	if len(in) == 0 {
		return nil
	}
	return l.concat(j.axis, in...)
}

func (l *lowering) concat(axis int, xs ...*value) *value {
	var in []*value
	kind := fold.Bool
	for _, x := range xs {
		kind = max(kind, x.kind)
		if x.rank() > axis && x.size() > 0 {
			in = append(in, x)
		}
	}
	switch {
	case len(in) == 0:
		return xs[0]
	case len(in) == 1:
		return in[0].as(kind)
	case constants(in...):
		ts := make([]*fold.Tensor, len(in))
		for i, x := range in {
			ts[i] = x.c
		}
		return l.folded(fold.Concat(axis, ts...))
	}
	ids := make([]graph.ID, len(in))
	for i, x := range in {
		ids[i] = l.id(x)
	}
	v := l.node(l.b.Concat(axis, ids...), kind)
	l.joined[v.id] = joint{axis, in}
	return v
}

// stride takes elements start, start+step, … below end.
func (l *lowering) stride(x *value, axis, start, end, step int) *value {
	if step == 1 {
		return l.slice(x, axis, start, end)
	}
	n := max(0, (end-start+step-1)/step)
	if x.c != nil {
		return l.folded(x.c.Slice(axis, start, step, n))
	}
	if n == 0 {
		return l.slice(x, axis, 0, 0)
	}
	if d := x.shape[axis]; d%step == 0 && start < step && end > d-step+start {
		s := slices.Concat(x.shape[:axis], []int{d / step, step}, x.shape[axis+1:])
		out := slices.Clone(x.shape)
		out[axis] = d / step
		return l.reshape(l.slice(l.reshape(x, s), axis+1, start, start+1), out)
	}
	ids := l.folded(fold.Range(fold.Int, float64(start), float64(start+n*step), float64(step)))
	return l.index(x, ids, axis)
}

// overwrite replaces elements start, start+step, … of an axis.
func (l *lowering) overwrite(x, part *value, axis, start, step int) *value {
	n := part.shape[axis]
	if step == 1 {
		return l.concat(axis, l.slice(x, axis, 0, start), part.as(x.kind), l.slice(x, axis, start+n, x.shape[axis]))
	}
	var parts []*value
	at := 0
	for i := range n {
		parts = append(parts, l.slice(x, axis, at, start+i*step), l.slice(part.as(x.kind), axis, i, i+1))
		at = start + i*step + 1
	}
	return l.concat(axis, append(parts, l.slice(x, axis, at, x.shape[axis]))...)
}

func (l *lowering) pad(x *value, axis, before, after int) *value {
	if before < 0 {
		x, before = l.slice(x, axis, -before, x.shape[axis]), 0
	}
	if after < 0 {
		x, after = l.slice(x, axis, 0, x.shape[axis]+after), 0
	}
	if before == 0 && after == 0 {
		return x
	}
	if x.c != nil {
		return l.folded(x.c.Pad(axis, before, after, 0))
	}
	return l.node(l.b.Pad(l.id(x), axis, before, after), x.kind)
}

func (l *lowering) flip(x *value, axis int) *value {
	if x.c != nil {
		return l.folded(x.c.Slice(axis, x.shape[axis]-1, -1, x.shape[axis]))
	}
	return l.node(l.b.Flip(l.id(x), axis), x.kind)
}

// index takes elements of an axis by ids, which count from the end where they
// are negative constants.
func (l *lowering) index(x, ids *value, axis int) *value {
	ids = l.wrap(ids, x.shape[axis])
	if constants(x, ids) {
		return l.folded(x.c.Index(ids.c, axis))
	}
	if ids.c != nil && l.identity(ids, x.shape[axis]) {
		return x
	}
	return l.node(l.b.Index(l.id(x), l.id(ids), axis), x.kind)
}

func (l *lowering) identity(ids *value, n int) bool {
	if ids.rank() != 1 || ids.c.Len() != n {
		return false
	}
	for i := range n {
		if ids.c.Int(i) != int64(i) {
			return false
		}
	}
	return true
}

func (l *lowering) wrap(ids *value, n int) *value {
	if ids.c == nil {
		return ids
	}
	neg := false
	for i := range ids.c.Len() {
		neg = neg || ids.c.Int(i) < 0
		if v := ids.c.Int(i); v >= int64(n) || v < -int64(n) {
			l.stop("index %d of an axis of length %d", v, n)
		}
	}
	if !neg {
		return ids
	}
	out := &fold.Tensor{Kind: fold.Int, Shape: ids.shape, I: make([]int64, ids.c.Len())}
	for i := range out.I {
		if out.I[i] = ids.c.Int(i); out.I[i] < 0 {
			out.I[i] += int64(n)
		}
	}
	return constant(out)
}

func (l *lowering) gather(x, ids *value, axis int) *value {
	ids = l.wrap(ids, x.shape[axis])
	if constants(x, ids) {
		return l.folded(x.c.Gather(ids.c, axis))
	}
	return l.node(l.b.Gather(l.id(x), l.id(ids), axis), x.kind)
}

func (l *lowering) scatter(op graph.Op, x, ids, src *value, axis int) *value {
	ids = l.wrap(ids, x.shape[axis])
	return l.node(l.b.Scatter(op, l.id(x), l.id(ids), l.id(src.as(x.kind)), axis), x.kind)
}
