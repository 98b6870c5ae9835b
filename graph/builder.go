package graph

import (
	"fmt"
	"slices"
)

// Builder appends nodes to a graph and infers their shapes. The first mistake
// is kept and returned by Finish; later calls do nothing harmful.
type Builder struct {
	g     Graph
	scope string
	layer int
	err   error
}

// NewBuilder starts a graph that reads the given number of tokens.
func NewBuilder(tokens int) *Builder {
	return &Builder{g: Graph{Tokens: tokens, weights: map[string]ID{}}, layer: -1}
}

// Scope sets the module path and block of the nodes that follow.
func (b *Builder) Scope(path string, layer int) { b.scope, b.layer = path, layer }

// Finish returns the graph with the given outputs, or the first mistake.
func (b *Builder) Finish(outputs ...ID) (*Graph, error) {
	if b.err != nil {
		return nil, b.err
	}
	b.g.Outputs = outputs
	return &b.g, nil
}

func (b *Builder) fail(format string, args ...any) ID {
	if b.err == nil {
		b.err = fmt.Errorf("building graph at %s: %s", b.scope, fmt.Sprintf(format, args...))
	}
	return b.add(Node{Op: OpInvalid, Shape: []int{0}})
}

func (b *Builder) add(n Node) ID {
	n.Scope, n.Layer = b.scope, b.layer
	b.g.Nodes = append(b.g.Nodes, n)
	return ID(len(b.g.Nodes) - 1)
}

func (b *Builder) shape(id ID) []int { return b.g.Nodes[id].Shape }

// Shape returns the shape of a value built so far.
func (b *Builder) Shape(id ID) []int { return slices.Clone(b.shape(id)) }

// Weight is a leaf that holds the checkpoint's tensor of that name. Asking for
// the same name again returns the same leaf.
func (b *Builder) Weight(name string, shape ...int) ID {
	if id, ok := b.g.weights[name]; ok {
		if !slices.Equal(b.shape(id), shape) {
			return b.fail("weight %s used with shapes %v and %v", name, b.shape(id), shape)
		}
		return id
	}
	id := b.add(Node{Op: OpWeight, Name: name, Shape: slices.Clone(shape)})
	b.g.weights[name] = id
	return id
}

// Tie declares that two weights hold the same values and must keep doing so.
func (b *Builder) Tie(first, second string) { b.g.ties = append(b.g.ties, [2]string{first, second}) }

// Const is a leaf with fixed values.
func (b *Builder) Const(data []float32, shape ...int) ID {
	if size(shape) != len(data) {
		return b.fail("constant of shape %v with %d values", shape, len(data))
	}
	return b.add(Node{Op: OpConst, Data: data, Shape: slices.Clone(shape)})
}

// TokenIDs is the leaf of token ids, shape [T].
func (b *Builder) TokenIDs() ID { return b.add(Node{Op: OpTokens, Shape: []int{b.g.Tokens}}) }

// Embedding looks rows of weight [V,d] up by ids [T].
func (b *Builder) Embedding(weight, ids ID) ID {
	w := b.shape(weight)
	if len(w) != 2 {
		return b.fail("embedding weight of shape %v", w)
	}
	return b.add(Node{Op: OpEmbedding, In: []ID{weight, ids}, Shape: append(slices.Clone(b.shape(ids)), w[1])})
}

// Linear multiplies x [...,in] by weight [out,in]; no bias.
func (b *Builder) Linear(x, weight ID) ID {
	xs, w := b.shape(x), b.shape(weight)
	if len(w) != 2 || len(xs) == 0 || xs[len(xs)-1] != w[1] {
		return b.fail("linear of input %v and weight %v", xs, w)
	}
	s := slices.Clone(xs)
	s[len(s)-1] = w[0]
	return b.add(Node{Op: OpLinear, In: []ID{x, weight}, Shape: s})
}

// MatMul multiplies a [...,m,k] by b [...,k,n]; leading axes must agree.
func (b *Builder) MatMul(x, y ID) ID {
	p, q := b.shape(x), b.shape(y)
	n := len(p)
	if n < 2 || len(q) != n || p[n-1] != q[n-2] || !slices.Equal(p[:n-2], q[:n-2]) {
		return b.fail("matmul of %v and %v", p, q)
	}
	s := slices.Clone(p)
	s[n-1] = q[n-1]
	return b.add(Node{Op: OpMatMul, In: []ID{x, y}, Shape: s})
}

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
	return b.add(Node{Op: op, In: []ID{x, y}, Shape: s})
}

// Add, Sub, Mul and Div work element by element with broadcasting.
func (b *Builder) Add(x, y ID) ID { return b.binary(OpAdd, x, y) }

// Sub subtracts y from x.
func (b *Builder) Sub(x, y ID) ID { return b.binary(OpSub, x, y) }

// Mul multiplies x by y.
func (b *Builder) Mul(x, y ID) ID { return b.binary(OpMul, x, y) }

// Div divides x by y.
func (b *Builder) Div(x, y ID) ID { return b.binary(OpDiv, x, y) }

func (b *Builder) unary(op Op, x ID, s float64) ID {
	return b.add(Node{Op: op, In: []ID{x}, Shape: b.shape(x), Scalar: s})
}

// AddScalar adds a constant.
func (b *Builder) AddScalar(x ID, s float64) ID { return b.unary(OpAddScalar, x, s) }

// MulScalar multiplies by a constant.
func (b *Builder) MulScalar(x ID, s float64) ID { return b.unary(OpMulScalar, x, s) }

// Apply applies a parameterless element-wise function, or softmax.
func (b *Builder) Apply(op Op, x ID) ID {
	switch op {
	case OpNeg, OpReLU, OpSiLU, OpGELU, OpGELUTanh, OpTanh, OpSigmoid, OpSoftmax:
		return b.unary(op, x, 0)
	}
	return b.fail("%v is not an element-wise function", op)
}

// RMSNorm divides x by the root mean square of its last axis. epsKey names the
// config key that eps was read from, so that a seal may move it; "" pins it.
func (b *Builder) RMSNorm(x ID, eps float64, epsKey string) ID {
	id := b.unary(OpRMSNorm, x, eps)
	b.g.Nodes[id].EpsKey = epsKey
	return id
}

// Sum adds up the last axis and keeps it with length 1.
func (b *Builder) Sum(x ID) ID {
	s := slices.Clone(b.shape(x))
	if len(s) == 0 {
		return b.fail("sum of a scalar")
	}
	s[len(s)-1] = 1
	return b.add(Node{Op: OpSum, In: []ID{x}, Shape: s})
}

// TopKMask is 1 where x is among the k largest of its last axis, else 0.
func (b *Builder) TopKMask(x ID, k int) ID {
	s := b.shape(x)
	if len(s) == 0 || k < 1 || k > s[len(s)-1] {
		return b.fail("top-%d of %v", k, s)
	}
	id := b.unary(OpTopKMask, x, 0)
	b.g.Nodes[id].K = k
	return id
}

// Reshape keeps the elements and their order.
func (b *Builder) Reshape(x ID, shape ...int) ID {
	if size(shape) != size(b.shape(x)) {
		return b.fail("reshape of %v to %v", b.shape(x), shape)
	}
	return b.add(Node{Op: OpReshape, In: []ID{x}, Shape: slices.Clone(shape)})
}

// Transpose permutes the axes: axis i of the result is axis perm[i] of x.
func (b *Builder) Transpose(x ID, perm ...int) ID {
	s := b.shape(x)
	if len(perm) != len(s) {
		return b.fail("transpose of %v by %v", s, perm)
	}
	out, seen := make([]int, len(s)), make([]bool, len(s))
	for i, p := range perm {
		if p < 0 || p >= len(s) || seen[p] {
			return b.fail("transpose of %v by %v", s, perm)
		}
		out[i], seen[p] = s[p], true
	}
	return b.add(Node{Op: OpTranspose, In: []ID{x}, Shape: out, Perm: slices.Clone(perm)})
}

// Slice takes elements [start,end) of one axis.
func (b *Builder) Slice(x ID, axis, start, end int) ID {
	s := slices.Clone(b.shape(x))
	if axis < 0 || axis >= len(s) || start < 0 || end > s[axis] || start >= end {
		return b.fail("slice [%d:%d] of axis %d of %v", start, end, axis, s)
	}
	s[axis] = end - start
	return b.add(Node{Op: OpSlice, In: []ID{x}, Shape: s, Axis: axis, Start: start, End: end})
}

// Concat joins values along one axis.
func (b *Builder) Concat(axis int, xs ...ID) ID {
	if len(xs) == 0 {
		return b.fail("concat of nothing")
	}
	s := slices.Clone(b.shape(xs[0]))
	if axis < 0 || axis >= len(s) {
		return b.fail("concat of %v along axis %d", s, axis)
	}
	s[axis] = 0
	for _, x := range xs {
		t := b.shape(x)
		if len(t) != len(s) {
			return b.fail("concat of %v and %v", b.shape(xs[0]), t)
		}
		for i := range t {
			if i != axis && t[i] != s[i] {
				return b.fail("concat of %v and %v along axis %d", b.shape(xs[0]), t, axis)
			}
		}
		s[axis] += t[axis]
	}
	return b.add(Node{Op: OpConcat, In: slices.Clone(xs), Shape: s, Axis: axis})
}

// Expand repeats axes of length 1; the rank stays the same.
func (b *Builder) Expand(x ID, shape ...int) ID {
	s := b.shape(x)
	if len(s) != len(shape) {
		return b.fail("expand of %v to %v", s, shape)
	}
	for i := range s {
		if s[i] != shape[i] && s[i] != 1 {
			return b.fail("expand of %v to %v", s, shape)
		}
	}
	return b.add(Node{Op: OpExpand, In: []ID{x}, Shape: slices.Clone(shape)})
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
