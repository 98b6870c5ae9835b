package fold

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// Unary applies a parameterless element-wise function; ok is false for one that
// is not evaluated here.
func Unary(op graph.Op, x *Tensor) (*Tensor, bool) {
	if op == graph.OpNot {
		return x.Convert(Bool).ints(Bool, func(v int64) int64 { return 1 - v }), true
	}
	if !x.Kind.Real() {
		switch op {
		case graph.OpNeg:
			return x.ints(Int, func(v int64) int64 { return -v }), true
		case graph.OpAbs:
			return x.ints(Int, func(v int64) int64 { return max(v, -v) }), true
		case graph.OpReLU:
			return x.ints(Int, func(v int64) int64 { return max(v, 0) }), true
		}
		return nil, false
	}
	f, ok := functions[op]
	if !ok {
		return nil, false
	}
	return x.Map(f), true
}

var functions = map[graph.Op]func(float64) float64{
	graph.OpNeg: func(v float64) float64 { return -v }, graph.OpAbs: math.Abs,
	graph.OpReLU: func(v float64) float64 { return math.Max(v, 0) },
	graph.OpExp:  math.Exp, graph.OpLog: math.Log, graph.OpSin: math.Sin, graph.OpCos: math.Cos,
	graph.OpErf: math.Erf, graph.OpTanh: math.Tanh, graph.OpFloor: math.Floor, graph.OpRound: math.RoundToEven,
	graph.OpSigmoid: func(v float64) float64 { return 1 / (1 + math.Exp(-v)) },
}

func (t *Tensor) ints(k Kind, f func(int64) int64) *Tensor {
	out := &Tensor{Kind: k, Shape: t.Shape, I: make([]int64, len(t.I))}
	for i, v := range t.I {
		out.I[i] = f(v)
	}
	return out
}

// Map applies f to every element of real numbers.
func (t *Tensor) Map(f func(float64) float64) *Tensor {
	out := &Tensor{Kind: t.Kind, Shape: t.Shape, F: make([]float64, t.Len())}
	if !t.Kind.Real() {
		out.Kind = Float
	}
	for i := range out.F {
		out.F[i] = out.Kind.round(f(t.At(i)))
	}
	return out
}

// Binary applies an element-wise operation with broadcasting. Integers divide
// by truncating; comparisons and logical operations give truth values.
func Binary(op graph.Op, a, b *Tensor) (*Tensor, error) {
	kind := max(a.Kind, b.Kind)
	switch op {
	case graph.OpEqual, graph.OpLess:
	case graph.OpAnd, graph.OpOr:
		kind = Bool
	default:
		kind = max(kind, Int)
	}
	a, b = a.Convert(kind), b.Convert(kind)
	ia, ib, shape, err := pair(a.Shape, b.Shape)
	if err != nil {
		return nil, err
	}
	out, err := New(resultKind(op, kind), shape...)
	if err != nil {
		return nil, err
	}
	for i := range out.Len() {
		if kind.Real() {
			err = out.setReal(op, i, a.F[ia(i)], b.F[ib(i)])
		} else {
			err = out.setInt(op, i, a.I[ia(i)], b.I[ib(i)])
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func resultKind(op graph.Op, k Kind) Kind {
	switch op {
	case graph.OpEqual, graph.OpLess, graph.OpAnd, graph.OpOr:
		return Bool
	}
	return k
}

func (t *Tensor) setReal(op graph.Op, i int, x, y float64) error {
	var v float64
	switch op {
	case graph.OpAdd:
		v = x + y
	case graph.OpSub:
		v = x - y
	case graph.OpMul:
		v = x * y
	case graph.OpDiv:
		v = x / y
	case graph.OpPow:
		v = math.Pow(x, y)
	case graph.OpMaximum:
		v = math.Max(x, y)
	case graph.OpMinimum:
		v = math.Min(x, y)
	case graph.OpEqual:
		t.I[i] = truth(x == y)
		return nil
	case graph.OpLess:
		t.I[i] = truth(x < y)
		return nil
	default:
		return fmt.Errorf("%v of constants", op)
	}
	t.F[i] = t.Kind.round(v)
	return nil
}

func (t *Tensor) setInt(op graph.Op, i int, x, y int64) error {
	switch op {
	case graph.OpAdd:
		t.I[i] = x + y
	case graph.OpSub:
		t.I[i] = x - y
	case graph.OpMul:
		t.I[i] = x * y
	case graph.OpDiv:
		if y == 0 {
			return fmt.Errorf("division of the constant %d by zero", x)
		}
		t.I[i] = x / y
	case graph.OpPow:
		t.I[i] = truncate(math.Pow(float64(x), float64(y)))
	case graph.OpMaximum:
		t.I[i] = max(x, y)
	case graph.OpMinimum:
		t.I[i] = min(x, y)
	case graph.OpEqual:
		t.I[i] = truth(x == y)
	case graph.OpLess:
		t.I[i] = truth(x < y)
	case graph.OpAnd:
		t.I[i] = x & y
	case graph.OpOr:
		t.I[i] = x | y
	default:
		return fmt.Errorf("%v of constants", op)
	}
	return nil
}

// Where takes a where cond is not zero, else b; all three are broadcast.
func Where(cond, a, b *Tensor) (*Tensor, error) {
	kind := max(a.Kind, b.Kind)
	cond, a, b = cond.Convert(Bool), a.Convert(kind), b.Convert(kind)
	shape, ok := Broadcast(a.Shape, b.Shape)
	if ok {
		shape, ok = Broadcast(cond.Shape, shape)
	}
	if !ok {
		return nil, fmt.Errorf("where of %v, %v and %v", cond.Shape, a.Shape, b.Shape)
	}
	out, err := New(kind, shape...)
	if err != nil {
		return nil, err
	}
	ic, ia, ib := walk(cond.Shape, shape), walk(a.Shape, shape), walk(b.Shape, shape)
	for i := range out.Len() {
		from, at := b, ib
		if cond.I[ic(i)] != 0 {
			from, at = a, ia
		}
		out.copy(i, from, at(i))
	}
	return out, nil
}

func (t *Tensor) copy(i int, from *Tensor, j int) {
	if t.Kind.Real() {
		t.F[i] = from.F[j]
	} else {
		t.I[i] = from.I[j]
	}
}

// Broadcast returns the shape of an element-wise operation on two shapes; axes
// of length 0 count.
func Broadcast(p, q []int) ([]int, bool) {
	out := make([]int, max(len(p), len(q)))
	for i := range out {
		a, b := 1, 1
		if j := i - (len(out) - len(p)); j >= 0 {
			a = p[j]
		}
		if j := i - (len(out) - len(q)); j >= 0 {
			b = q[j]
		}
		switch {
		case a == b || b == 1:
			out[i] = a
		case a == 1:
			out[i] = b
		default:
			return nil, false
		}
	}
	return out, true
}

func pair(p, q []int) (a, b func(int) int, shape []int, err error) {
	shape, ok := Broadcast(p, q)
	if !ok {
		return nil, nil, nil, fmt.Errorf("shapes %v and %v do not broadcast", p, q)
	}
	return walk(p, shape), walk(q, shape), shape, nil
}

// walk maps an index into shape to one into a value that is broadcast to it.
func walk(from, shape []int) func(int) int {
	stride := make([]int, len(shape))
	n := 1
	for i := len(from) - 1; i >= 0; i-- {
		if from[i] > 1 {
			stride[len(shape)-len(from)+i] = n
		}
		n *= from[i]
	}
	return func(i int) int {
		at := 0
		for a := len(shape) - 1; a >= 0; a-- {
			at += i % shape[a] * stride[a]
			i /= shape[a]
		}
		return at
	}
}
