package graph

import "math"

// Broadcast returns the shape of an element-wise operation on two shapes.
func Broadcast(p, q []int) ([]int, bool) {
	n := max(len(p), len(q))
	s := make([]int, n)
	for i := range s {
		a, c := 1, 1
		if j := i - (n - len(p)); j >= 0 {
			a = p[j]
		}
		if j := i - (n - len(q)); j >= 0 {
			c = q[j]
		}
		if a != c && a != 1 && c != 1 {
			return nil, false
		}
		s[i] = max(a, c)
	}
	return s, true
}

func (b *Builder) binary(op Op, x, y ID) ID {
	s, ok := Broadcast(b.shape(x), b.shape(y))
	if !ok {
		return b.fail("%v of %v and %v", op, b.shape(x), b.shape(y))
	}
	return b.add(Node{Op: op, In: []ID{x, y}, Shape: s, Int: b.ints(x, y)})
}

// ints reports whether all values are integers.
func (b *Builder) ints(ids ...ID) bool {
	for _, id := range ids {
		if !b.g.Nodes[id].Int {
			return false
		}
	}
	return true
}

// Add, Sub, Mul and Div work element by element with broadcasting.
func (b *Builder) Add(x, y ID) ID { return b.binary(OpAdd, x, y) }

// Sub subtracts y from x.
func (b *Builder) Sub(x, y ID) ID { return b.binary(OpSub, x, y) }

// Mul multiplies x by y.
func (b *Builder) Mul(x, y ID) ID { return b.binary(OpMul, x, y) }

// Div divides x by y; the result is real even for integers.
func (b *Builder) Div(x, y ID) ID {
	id := b.binary(OpDiv, x, y)
	b.g.Nodes[id].Int = false
	return id
}

// Maximum and Minimum work element by element with broadcasting.
func (b *Builder) Maximum(x, y ID) ID { return b.binary(OpMaximum, x, y) }

// Minimum returns the smaller of x and y.
func (b *Builder) Minimum(x, y ID) ID { return b.binary(OpMinimum, x, y) }

// Compare is OpEqual or OpLess of x and y: 1 where it holds, else 0.
func (b *Builder) Compare(op Op, x, y ID) ID {
	if op != OpEqual && op != OpLess {
		return b.fail("%v is not a comparison", op)
	}
	return b.truth(b.binary(op, x, y))
}

// Logical is OpAnd or OpOr of two values, of which zero means false.
func (b *Builder) Logical(op Op, x, y ID) ID {
	if op != OpAnd && op != OpOr {
		return b.fail("%v is not a logical operation", op)
	}
	return b.truth(b.binary(op, x, y))
}

// Not is 1 where x is zero, else 0.
func (b *Builder) Not(x ID) ID { return b.truth(b.unary(OpNot, x, 0)) }

func (b *Builder) truth(id ID) ID {
	b.g.Nodes[id].Int = true
	return id
}

// Where takes x where cond is not zero, else y; all three are broadcast.
func (b *Builder) Where(cond, x, y ID) ID {
	s, ok := Broadcast(b.shape(x), b.shape(y))
	if ok {
		s, ok = Broadcast(b.shape(cond), s)
	}
	if !ok {
		return b.fail("where of %v, %v and %v", b.shape(cond), b.shape(x), b.shape(y))
	}
	return b.add(Node{Op: OpWhere, In: []ID{cond, x, y}, Shape: s, Int: b.ints(x, y)})
}

func (b *Builder) unary(op Op, x ID, s float64) ID {
	return b.add(Node{Op: op, In: []ID{x}, Shape: b.shape(x), Scalar: s})
}

// scalar keeps integers integers where the constant is one.
func (b *Builder) scalar(op Op, x ID, s float64) ID {
	id := b.unary(op, x, s)
	b.g.Nodes[id].Int = b.ints(x) && s == math.Trunc(s)
	return id
}

// AddScalar adds a constant.
func (b *Builder) AddScalar(x ID, s float64) ID { return b.scalar(OpAddScalar, x, s) }

// MulScalar multiplies by a constant.
func (b *Builder) MulScalar(x ID, s float64) ID { return b.scalar(OpMulScalar, x, s) }

// Pow raises x to a constant power.
func (b *Builder) Pow(x ID, p float64) ID { return b.unary(OpPow, x, p) }

// LeakyReLU multiplies what is negative by slope.
func (b *Builder) LeakyReLU(x ID, slope float64) ID { return b.unary(OpLeakyReLU, x, slope) }

// ELU is x where x > 0, else alpha·(exp(x)-1).
func (b *Builder) ELU(x ID, alpha float64) ID { return b.unary(OpELU, x, alpha) }

// Clamp bounds x from below and above; an infinite bound is none.
func (b *Builder) Clamp(x ID, lo, hi float64) ID {
	id := b.unary(OpClamp, x, 0)
	n := &b.g.Nodes[id]
	n.Min, n.Max, n.Int = lo, hi, b.ints(x)
	return id
}

// Apply applies a parameterless element-wise function, or softmax.
func (b *Builder) Apply(op Op, x ID) ID {
	if op.Function() || op == OpSoftmax {
		id := b.unary(op, x, 0)
		b.g.Nodes[id].Int = b.ints(x) && (op == OpNeg || op == OpAbs || op == OpReLU) || op == OpFloor || op == OpRound
		return id
	}
	return b.fail("%v is not an element-wise function", op)
}
