package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// This file holds the operations of package graph on values: constants are
// folded, everything else becomes a node.

// id returns the node of a value.
func (l *lowering) id(v *value) graph.ID {
	if v.im != nil {
		l.stop("a complex number where a real one is needed")
	}
	if v.c == nil {
		return v.id
	}
	if id, ok := l.consts[v.c]; ok {
		return id
	}
	var id graph.ID
	if v.c.Kind.Real() {
		id = l.b.Const(v.c.Float32s(), v.shape...)
	} else {
		ints := make([]int, v.c.Len())
		for i, x := range v.c.Int64s() {
			ints[i] = int(x)
		}
		id = l.b.ConstInts(ints, v.shape...)
	}
	l.consts[v.c] = id
	return id
}

// node wraps a fresh node.
func (l *lowering) node(id graph.ID, k fold.Kind) *value {
	if l.nodes++; l.nodes > maxNodes {
		l.stop("the program becomes more than %d operations", maxNodes)
	}
	return &value{id: id, kind: k, shape: l.b.Shape(id)}
}

// maxNodes bounds a graph: a program may ask for much more than it holds.
const maxNodes = 1 << 20

func (l *lowering) folded(t *fold.Tensor, err error) *value {
	if err != nil {
		l.stop("%v", err)
	}
	if l.work += t.Len(); l.work > maxWork {
		l.stop("the program computes more than %d constant elements", maxWork)
	}
	return constant(t)
}

// maxWork bounds what constant folding may compute in all.
const maxWork = 1 << 30

func constants(vs ...*value) bool {
	for _, v := range vs {
		if v.c == nil {
			return false
		}
	}
	return true
}

// empty is a value without elements, whatever it was computed from.
func (l *lowering) empty(k fold.Kind, shape []int) *value { return l.folded(fold.New(k, shape...)) }

func (l *lowering) unary(op graph.Op, x *value) *value {
	if x.c != nil {
		c := x.c
		if op != graph.OpNot && op != graph.OpNeg && op != graph.OpAbs && op != graph.OpReLU && !c.Kind.Real() {
			c = c.Convert(fold.Float)
		}
		if t, ok := fold.Unary(op, c); ok {
			return l.folded(t, nil)
		}
	}
	k := x.kind
	switch {
	case op == graph.OpNot:
		return l.node(l.b.Not(l.id(x)), fold.Bool)
	case k.Real(), op == graph.OpNeg, op == graph.OpAbs, op == graph.OpReLU:
	default:
		k = fold.Float
	}
	return l.node(l.b.Apply(op, l.id(x)), k)
}

// binary is add, sub, mul, maximum or minimum with broadcasting.
func (l *lowering) binary(op graph.Op, x, y *value) *value {
	kind := max(x.kind, y.kind, fold.Int)
	if constants(x, y) {
		return l.folded(fold.Binary(op, x.c, y.c))
	}
	shape, ok := graph.Broadcast(x.shape, y.shape)
	if !ok {
		l.stop("%v of shapes %v and %v", op, x.shape, y.shape)
	}
	if x.size() == 0 || y.size() == 0 {
		return l.empty(kind, shape)
	}
	if v := l.withScalar(op, x, y, shape); v != nil {
		return v.as(kind)
	}
	switch op {
	case graph.OpAdd:
		return l.node(l.b.Add(l.id(x), l.id(y)), kind)
	case graph.OpSub:
		v := l.node(l.b.Sub(l.id(x), l.id(y)), kind)
		l.norms.sub(v, x, y)
		return v
	case graph.OpMul:
		if n := l.norms.mul(l, x, y); n != nil {
			return n
		}
		v := l.node(l.b.Mul(l.id(x), l.id(y)), kind)
		if x.c == nil && y.c == nil && x.id == y.id {
			l.norms.square[v.id] = x
		}
		return v
	case graph.OpMaximum:
		return l.node(l.b.Maximum(l.id(x), l.id(y)), kind)
	}
	return l.node(l.b.Minimum(l.id(x), l.id(y)), kind)
}

// withScalar lowers an operation with a constant of equal elements; nil where
// it is none.
func (l *lowering) withScalar(op graph.Op, x, y *value, shape []int) *value {
	s, ok := y.uniform()
	flip := false
	if !ok {
		if s, ok = x.uniform(); !ok {
			return nil
		}
		x, y, flip = y, x, true
	}
	switch {
	case op == graph.OpSub && flip:
		x, op = l.unary(graph.OpNeg, x), graph.OpAdd
	case op == graph.OpSub:
		s, op = -s, graph.OpAdd
	}
	if op == graph.OpMul && s == 0 {
		// An empty state. Only infinities would tell it from zero.
		return l.expand(scalar(max(x.kind, y.kind, fold.Int), 0), shape)
	}
	x = l.expand(x, shape)
	switch op {
	case graph.OpAdd:
		if s == 0 {
			return x
		}
		v := l.node(l.b.AddScalar(l.id(x), s), x.kind)
		l.norms.addScalar(v, x, s)
		return v
	case graph.OpMul:
		if s == 1 {
			return x
		}
		return l.node(l.b.MulScalar(l.id(x), s), x.kind)
	}
	return nil
}

func (l *lowering) add(x, y *value) *value { return l.binary(graph.OpAdd, x, y) }
func (l *lowering) sub(x, y *value) *value { return l.binary(graph.OpSub, x, y) }
func (l *lowering) mul(x, y *value) *value { return l.binary(graph.OpMul, x, y) }

// times multiplies by a number that Python wrote.
func (l *lowering) times(x *value, s float64) *value {
	if s == 1 {
		return x
	}
	return l.mul(x, scalar(fold.Float, s))
}

func real1(k fold.Kind) fold.Kind { return max(k, fold.Float) }

// div is a real quotient.
func (l *lowering) div(x, y *value) *value {
	x, y = x.as(real1(x.kind)), y.as(real1(y.kind))
	if constants(x, y) {
		return l.folded(fold.Binary(graph.OpDiv, x.c, y.c))
	}
	if s, ok := y.uniform(); ok && s == 1 && y.size() == 1 {
		return l.expandTo(x, y)
	}
	if s, ok := x.uniform(); ok && s == 1 && x.size() == 1 && x.rank() <= y.rank() {
		return l.pow(y, -1)
	}
	if n := l.norms.div(l, x, y); n != nil {
		return n
	}
	return l.node(l.b.Div(l.id(x), l.id(y)), max(x.kind, y.kind))
}

// floorDiv is the quotient of integers or reals, rounded down.
func (l *lowering) floorDiv(x, y *value) *value {
	k := max(x.kind, y.kind)
	q := l.div(x.as(max(fold.Double, x.kind)), y.as(max(fold.Double, y.kind)))
	return l.unary(graph.OpFloor, q).as(max(k, fold.Int))
}

func (l *lowering) expandTo(x, y *value) *value {
	s, ok := graph.Broadcast(x.shape, y.shape)
	if !ok {
		l.stop("shapes %v and %v do not broadcast", x.shape, y.shape)
	}
	return l.expand(x, s)
}

func (l *lowering) pow(x *value, p float64) *value {
	x = x.as(max(x.kind, fold.Int))
	if x.c != nil {
		return l.folded(fold.Binary(graph.OpPow, x.c, fold.Scalar(max(x.kind, fold.Float), p)))
	}
	if p == 1 {
		return x
	}
	v := l.node(l.b.Pow(l.id(x), p), real1(x.kind))
	l.norms.pow(v, x, p)
	return v
}

func (l *lowering) clamp(x *value, lo, hi float64) *value {
	if x.c != nil {
		t := x.c
		if lo > hi {
			lo = hi
		}
		for _, bound := range []struct {
			op graph.Op
			v  float64
		}{{graph.OpMaximum, lo}, {graph.OpMinimum, hi}} {
			if bound.v == bound.v && bound.v-bound.v == 0 {
				t = l.folded(fold.Binary(bound.op, t, fold.Scalar(t.Kind, bound.v))).c
			}
		}
		return constant(t)
	}
	return l.node(l.b.Clamp(l.id(x), lo, hi), x.kind)
}

// compare is OpEqual or OpLess.
func (l *lowering) compare(op graph.Op, x, y *value) *value {
	if constants(x, y) {
		return l.folded(fold.Binary(op, x.c, y.c))
	}
	return l.node(l.b.Compare(op, l.id(x), l.id(y)), fold.Bool)
}

func (l *lowering) logical(op graph.Op, x, y *value) *value {
	if constants(x, y) {
		return l.folded(fold.Binary(op, x.c, y.c))
	}
	for _, p := range [][2]*value{{x, y}, {y, x}} {
		if s, ok := p[0].uniform(); ok && p[1].kind == fold.Bool {
			if (s != 0) == (op == graph.OpAnd) {
				return l.expandTo(p[1], p[0])
			}
			return l.folded(l.expandTo(p[0].as(fold.Bool), p[1]).c, nil)
		}
	}
	return l.node(l.b.Logical(op, l.id(x), l.id(y)), fold.Bool)
}

func (l *lowering) where(cond, x, y *value) *value {
	kind := max(x.kind, y.kind)
	x, y = x.as(kind), y.as(kind)
	if constants(cond, x, y) {
		return l.folded(fold.Where(cond.c, x.c, y.c))
	}
	if s, ok := cond.uniform(); ok {
		shape, _ := graph.Broadcast(x.shape, y.shape)
		shape, _ = graph.Broadcast(shape, cond.shape)
		if s != 0 {
			return l.expand(x, shape)
		}
		return l.expand(y, shape)
	}
	return l.node(l.b.Where(l.id(cond), l.id(x), l.id(y)), kind)
}

// along applies an operation of the last axis to any axis.
func (l *lowering) along(x *value, axis int, f func(*value) *value) *value {
	last := x.rank() - 1
	if axis == last {
		return f(x)
	}
	perm := make([]int, x.rank())
	for i := range perm {
		perm[i] = i
	}
	perm[axis], perm[last] = last, axis
	return l.transpose(f(l.transpose(x, perm)), perm)
}

// reduce is OpSum, OpMax or OpArgMax along the last axis, which stays with length 1.
func (l *lowering) reduce(op graph.Op, x *value) *value {
	k := max(x.kind, fold.Int)
	if op == graph.OpArgMax {
		k = fold.Int
	}
	if x.c != nil {
		return l.folded(fold.Reduce(op, x.c))
	}
	switch op {
	case graph.OpSum:
		return l.node(l.b.Sum(l.id(x)), k)
	case graph.OpMax:
		return l.node(l.b.Max(l.id(x)), k)
	}
	return l.node(l.b.ArgMax(l.id(x)), k)
}

func (l *lowering) cumsum(x *value) *value {
	if x.c != nil {
		return l.folded(fold.CumSum(x.c))
	}
	return l.node(l.b.CumSum(l.id(x)), max(x.kind, fold.Int))
}

func (l *lowering) matmul(x, y *value) *value {
	if constants(x, y) {
		return l.folded(fold.MatMul(x.c, y.c))
	}
	return l.node(l.b.MatMul(l.id(x), l.id(y)), max(x.kind, y.kind))
}

// opaque is a value that nobody here can compute.
func (l *lowering) opaque(name string, k fold.Kind, shape []int, in ...*value) *value {
	var ids []graph.ID
	for _, v := range in {
		if v.im != nil {
			ids = append(ids, l.id(v.im))
			v = &value{c: v.c, id: v.id, kind: v.kind, shape: v.shape}
		}
		ids = append(ids, l.id(v))
	}
	l.unknown[name]++
	return l.node(l.b.Opaque(name, !k.Real(), slices.Clone(shape), ids...), k)
}
