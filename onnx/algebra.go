package onnx

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// The operations of the graph on values: constants are folded.

func (l *lowerer) unary(op graph.Op, x *value) *value {
	if x.c != nil {
		if c, ok := fold.Unary(op, x.c); ok {
			return l.konst(c, x)
		}
		if x.size() == 0 {
			return x
		}
	}
	if op == graph.OpNot {
		return l.wrap(l.b.Not(l.id(x)), fold.Bool)
	}
	v := l.wrap(l.b.Apply(op, l.id(x)), max(x.kind, fold.Int))
	v.whole = x.whole && (op == graph.OpNeg || op == graph.OpAbs || op == graph.OpReLU) || op == graph.OpFloor || op == graph.OpRound
	return v
}

// binary applies an element-wise operation with broadcasting; comparisons and
// logical operations give truth values, and integers divide by truncating.
func (l *lowerer) binary(op graph.Op, a, b *value) *value {
	kind := max(a.kind, b.kind, fold.Int)
	if a.c != nil && b.c != nil {
		return l.konst(must(fold.Binary(op, a.c, b.c)), a, b)
	}
	shape, ok := fold.Broadcast(a.shape, b.shape)
	need(ok, "%v of shapes %v and %v", op, a.shape, b.shape)
	if n, ok := fold.Size(shape); ok && n == 0 {
		return l.konst(must(fold.New(kind, shape...)), a, b)
	}
	switch op {
	case graph.OpEqual, graph.OpLess:
		return l.wrap(l.b.Compare(op, l.id(a), l.id(b)), fold.Bool)
	case graph.OpAnd, graph.OpOr:
		return l.wrap(l.b.Logical(op, l.id(a), l.id(b)), fold.Bool)
	}
	if v := l.byScalar(op, a, b, shape, kind); v != nil {
		return v
	}
	x, y := l.id(a), l.id(b)
	var id graph.ID
	switch op {
	case graph.OpAdd:
		id = l.b.Add(x, y)
	case graph.OpSub:
		id = l.b.Sub(x, y)
	case graph.OpMul:
		id = l.b.Mul(x, y)
	case graph.OpMaximum:
		id = l.b.Maximum(x, y)
	case graph.OpMinimum:
		id = l.b.Minimum(x, y)
	case graph.OpDiv:
		v := l.wrap(l.b.Div(x, y), max(kind, fold.Float))
		if !kind.Real() {
			return l.truncate(v)
		}
		return v
	default:
		need(false, "%v of values", op)
	}
	v := l.wrap(id, kind)
	v.whole = a.whole && b.whole
	return v
}

// byScalar uses the operations with one number, which say more: nil where a
// and b do not fit them.
func (l *lowerer) byScalar(op graph.Op, a, b *value, shape []int, kind fold.Kind) *value {
	one := func(c, x *value) bool { return c.c != nil && c.c.Len() == 1 && sameShape(shape, x.shape) }
	done := func(id graph.ID, x *value, s float64) *value {
		v := l.wrap(id, kind)
		v.whole = x.whole && s == math.Trunc(s)
		return v
	}
	switch {
	case one(b, a):
		s := b.c.At(0)
		switch op {
		case graph.OpAdd:
			return done(l.b.AddScalar(l.id(a), s), a, s)
		case graph.OpSub:
			return done(l.b.AddScalar(l.id(a), -s), a, s)
		case graph.OpMul:
			return done(l.b.MulScalar(l.id(a), s), a, s)
		case graph.OpDiv:
			if _, e := math.Frexp(s); kind.Real() && math.Abs(s) == math.Ldexp(0.5, e) {
				return done(l.b.MulScalar(l.id(a), 1/s), a, 0.5)
			}
		}
	case one(a, b):
		s := a.c.At(0)
		switch op {
		case graph.OpAdd:
			return done(l.b.AddScalar(l.id(b), s), b, s)
		case graph.OpSub:
			return done(l.b.AddScalar(l.id(l.unary(graph.OpNeg, b)), s), b, s)
		case graph.OpMul:
			return done(l.b.MulScalar(l.id(b), s), b, s)
		}
	}
	return nil
}

func (l *lowerer) add(a, b *value) *value { return l.binary(graph.OpAdd, a, b) }
func (l *lowerer) sub(a, b *value) *value { return l.binary(graph.OpSub, a, b) }
func (l *lowerer) mul(a, b *value) *value { return l.binary(graph.OpMul, a, b) }
func (l *lowerer) div(a, b *value) *value { return l.binary(graph.OpDiv, a, b) }

func (l *lowerer) times(a *value, s float64) *value {
	if s == 1 {
		return a
	}
	return l.mul(a, l.scalar(a.kind, s))
}

// pow raises to a constant power.
func (l *lowerer) pow(x *value, p float64) *value {
	if p == 1 {
		return x
	}
	if x.c != nil {
		return l.binary(graph.OpPow, x, l.scalar(x.kind, p))
	}
	return l.wrap(l.b.Pow(l.id(x), p), x.kind)
}

func (l *lowerer) clamp(x *value, lo, hi float64) *value {
	if x.c != nil {
		out := x
		if !math.IsInf(lo, -1) {
			out = l.binary(graph.OpMaximum, out, l.scalar(x.kind, lo))
		}
		if !math.IsInf(hi, 1) {
			out = l.binary(graph.OpMinimum, out, l.scalar(x.kind, hi))
		}
		return out
	}
	v := l.wrap(l.b.Clamp(l.id(x), lo, hi), x.kind)
	v.whole = x.whole
	return v
}

func (l *lowerer) where(cond, a, b *value) *value {
	kind := max(a.kind, b.kind)
	shape, ok := fold.Broadcast(a.shape, b.shape)
	if ok {
		shape, ok = fold.Broadcast(cond.shape, shape)
	}
	need(ok, "where of shapes %v, %v and %v", cond.shape, a.shape, b.shape)
	if n, ok := fold.Size(shape); ok && n == 0 {
		return l.konst(must(fold.New(kind, shape...)), cond, a, b)
	}
	if cond.c != nil {
		if a.c != nil && b.c != nil {
			return l.konst(must(fold.Where(cond.c, a.c, b.c)), cond, a, b)
		}
	}
	v := l.wrap(l.b.Where(l.id(cond), l.id(a), l.id(b)), kind)
	v.whole = a.whole && b.whole
	return v
}

// cast changes the kind; between real types it changes nothing here.
func (l *lowerer) cast(x *value, k fold.Kind) *value {
	switch {
	case x.kind == k:
		return x
	case x.c != nil:
		return l.konst(x.c.Convert(k), x)
	case k == fold.Bool:
		return l.unary(graph.OpNot, l.unary(graph.OpNot, x))
	case k == fold.Int && x.kind.Real() && !x.whole:
		return l.truncate(x)
	}
	out := *x
	out.kind = k
	return &out
}

// truncate rounds real numbers towards zero and makes them integers.
func (l *lowerer) truncate(x *value) *value {
	x = l.cast(x, max(x.kind, fold.Float))
	zero := l.scalar(x.kind, 0)
	down := l.unary(graph.OpFloor, x)
	up := l.unary(graph.OpNeg, l.unary(graph.OpFloor, l.unary(graph.OpNeg, x)))
	v := l.where(l.binary(graph.OpLess, x, zero), up, down)
	v.whole = true
	return l.cast(v, fold.Int)
}

// moved wraps a move of x.
func (l *lowerer) moved(x *value, id graph.ID) *value {
	v := l.wrap(id, x.kind)
	v.whole = x.whole
	return v
}

func (l *lowerer) reshape(x *value, shape ...int) *value {
	if sameShape(x.shape, shape) {
		return x
	}
	if x.c != nil {
		return l.konst(must(x.c.Reshape(shape...)), x)
	}
	n, ok := fold.Size(shape)
	need(ok && n == x.size(), "reshape of %v to %v", x.shape, shape)
	return l.moved(x, l.b.Reshape(l.id(x), shape...))
}

func (l *lowerer) transpose(x *value, perm ...int) *value {
	if slices.IsSorted(perm) && len(perm) == len(x.shape) {
		return x
	}
	if x.c != nil {
		return l.konst(must(x.c.Transpose(perm...)), x)
	}
	return l.moved(x, l.b.Transpose(l.id(x), perm...))
}

// slice takes elements [start,end) of an axis.
func (l *lowerer) slice(x *value, a, start, end int) *value {
	need(a >= 0 && a < len(x.shape) && start >= 0 && end <= x.shape[a], "slice [%d:%d] of axis %d of %v", start, end, a, x.shape)
	switch {
	case start == 0 && end == x.shape[a]:
		return x
	case start >= end:
		shape := slices.Clone(x.shape)
		shape[a] = 0
		return l.konst(must(fold.New(x.kind, shape...)), x)
	case x.c != nil:
		return l.konst(must(x.c.Slice(a, start, 1, end-start)), x)
	}
	return l.moved(x, l.b.Slice(l.id(x), a, start, end))
}

func (l *lowerer) concat(a int, xs ...*value) *value {
	var kept []*value
	constant := true
	for _, x := range xs {
		need(!x.isSeq && a >= 0 && a < len(x.shape), "concat along axis %d", a)
		if x.size() == 0 && x.shape[a] == 0 {
			continue
		}
		kept = append(kept, x)
		constant = constant && x.c != nil
	}
	switch {
	case len(kept) == 0:
		return xs[0]
	case len(kept) == 1:
		return kept[0]
	case constant:
		cs := make([]*fold.Tensor, len(kept))
		for i, x := range kept {
			cs[i] = x.c
		}
		return l.konst(must(fold.Concat(a, cs...)), kept...)
	}
	ids := make([]graph.ID, len(kept))
	whole := true
	for i, x := range kept {
		ids[i] = l.id(x)
		whole = whole && x.whole
	}
	v := l.wrap(l.b.Concat(a, ids...), kept[0].kind)
	v.whole = whole
	return v
}

// expand broadcasts to a shape that x broadcasts to.
func (l *lowerer) expand(x *value, shape ...int) *value {
	if sameShape(x.shape, shape) {
		return x
	}
	if x.c != nil {
		return l.konst(must(x.c.Expand(shape...)), x)
	}
	n, ok := fold.Size(shape)
	need(ok && len(shape) >= len(x.shape), "expand of %v to %v", x.shape, shape)
	if n == 0 {
		return l.konst(must(fold.New(x.kind, shape...)), x)
	}
	x = l.reshape(x, append(slices.Repeat([]int{1}, len(shape)-len(x.shape)), x.shape...)...)
	return l.moved(x, l.b.Expand(l.id(x), shape...))
}

func (l *lowerer) pad(x *value, a, before, after int) *value {
	if before == 0 && after == 0 {
		return x
	}
	if x.c != nil {
		return l.konst(must(x.c.Pad(a, before, after, 0)), x)
	}
	return l.moved(x, l.b.Pad(l.id(x), a, before, after))
}

// index takes elements of an axis by ids, whose axes take that axis's place.
func (l *lowerer) index(x, ids *value, a int) *value {
	need(a >= 0 && a < len(x.shape), "axis %d of %v", a, x.shape)
	if ids.c != nil {
		ids = l.konst(wrapped(ids.c, x.shape[a]), ids)
		if x.c != nil {
			return l.konst(must(x.c.Index(ids.c, a)), x, ids)
		}
		n := ids.c.Len()
		shape := slices.Concat(x.shape[:a], ids.shape, x.shape[a+1:])
		if n == 0 {
			return l.konst(must(fold.New(x.kind, shape...)), x)
		}
		for i := range n {
			need(ids.c.Int(i) >= 0 && ids.c.Int(i) < int64(x.shape[a]), "index %d of an axis of length %d", ids.c.Int(i), x.shape[a])
		}
		if !l.table(x, a) && consecutive(ids.c) {
			first := int(ids.c.Int(0))
			return l.reshape(l.slice(x, a, first, first+n), shape...)
		}
	}
	if l.table(x, a) {
		return l.moved(x, l.b.Embedding(l.id(x), l.id(ids)))
	}
	return l.moved(x, l.b.Index(l.id(x), l.id(ids), a))
}

// table reports whether x is a weight matrix whose rows are looked up.
func (l *lowerer) table(x *value, a int) bool {
	return x.c == nil && a == 0 && len(x.shape) == 2 && x.kind.Real() && l.g.Nodes[x.id].Op == graph.OpWeight
}

// wrapped counts negative indices from the end.
func wrapped(ids *fold.Tensor, n int) *fold.Tensor {
	out := *ids
	out.Kind, out.F, out.I = fold.Int, nil, ids.Int64s()
	for i, v := range out.I {
		if v < 0 {
			out.I[i] = v + int64(n)
		}
	}
	return &out
}

func consecutive(ids *fold.Tensor) bool {
	for i := range ids.Len() {
		if ids.Int(i) != ids.Int(0)+int64(i) {
			return false
		}
	}
	return true
}
