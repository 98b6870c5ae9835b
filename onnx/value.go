package onnx

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// value is what a name of the model stands for: a constant, a node of the
// graph, or a sequence of values.
type value struct {
	c     *fold.Tensor // nil: a node
	id    graph.ID     // the node; of a constant, once it is one
	made  bool         // the constant is a node
	shape []int
	kind  fold.Kind
	whole bool // real numbers that are integers
	sized bool // a constant that depends on the sizes chosen for free dimensions
	seq   []*value
	isSeq bool
}

func (v *value) size() int {
	n, _ := fold.Size(v.shape)
	return n
}

// stop ends the lowering of one operation; lowerer.try recovers it.
type stop struct{ err error }

// need stops unless ok: the operation is not one that can be lowered.
func need(ok bool, format string, args ...any) {
	if !ok {
		panic(stop{fault.New(fault.Unsupported, format, args...)})
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(stop{err})
	}
	return v
}

// konst wraps a constant.
func (l *lowerer) konst(t *fold.Tensor, from ...*value) *value {
	v := &value{c: t, shape: t.Shape, kind: t.Kind}
	for _, f := range from {
		v.sized = v.sized || f != nil && f.sized
	}
	l.constants += int64(t.Len())
	if l.constants > maxConstants {
		panic(stop{fault.New(fault.Unsupported, "the constants of the graph have more than %d elements", maxConstants)})
	}
	return v
}

// maxConstants bounds the elements of all constants that a lowering computes.
const maxConstants = 1 << 26

func (l *lowerer) scalar(k fold.Kind, x float64) *value { return l.konst(fold.Scalar(k, x)) }

// wrap takes a new node of the graph.
func (l *lowerer) wrap(id graph.ID, k fold.Kind) *value {
	if _, err := l.b.Finish(); err != nil {
		panic(stop{fault.Wrap(fault.Unsupported, err, "")})
	}
	shape := l.g.Shape(id)
	n, ok := fold.Size(shape)
	need(ok && n > 0, "a value of shape %v", shape)
	if len(l.g.Nodes) > maxNodes {
		panic(stop{fault.New(fault.Unsupported, "the graph has more than %d operations", maxNodes)})
	}
	return &value{id: id, shape: shape, kind: k, whole: !k.Real()}
}

const maxNodes = 1 << 21

// id returns the node of a value, making one of a constant.
func (l *lowerer) id(v *value) graph.ID {
	need(!v.isSeq, "a sequence where a tensor is expected")
	if v.c == nil || v.made {
		return v.id
	}
	need(v.c.Len() > 0, "a value of shape %v", v.shape)
	ints, ok := integers(v.c)
	if ok {
		v.id = l.b.ConstInts(ints, v.shape...)
	} else {
		v.id = l.b.Const(v.c.Float32s(), v.shape...)
	}
	v.made = true
	l.wrap(v.id, v.kind)
	return v.id
}

// integers returns the elements of an integer constant that fits into float32.
func integers(c *fold.Tensor) ([]int, bool) {
	if c.Kind.Real() {
		return nil, false
	}
	out := make([]int, len(c.I))
	for i, x := range c.I {
		if x < -(1<<24) || x > 1<<24 {
			return nil, false
		}
		out[i] = int(x)
	}
	return out, true
}

// static returns the elements of a value that must be known: a constant, or a
// weight whose values decide what is computed and which is frozen then.
func (l *lowerer) static(v *value, what string) *fold.Tensor {
	need(v != nil && !v.isSeq, "%s is missing", what)
	if v.c != nil {
		return v.c
	}
	n := &l.g.Nodes[v.id]
	t, ok := l.leaves[n.Name]
	need(n.Op == graph.OpWeight && ok, "%s depends on the input", what)
	c := must(l.m.constant(t))
	l.frozen[v.id] = true
	return must(c.Reshape(v.shape...))
}

// ints returns the elements of a value that must be known integers.
func (l *lowerer) ints(v *value, what string) []int {
	c := l.static(v, what)
	out := make([]int, c.Len())
	for i := range out {
		x := c.Int(i)
		// Slices end at the largest int64; nothing else comes close to 2^31.
		out[i] = int(max(min(x, 1<<40), -(1 << 40)))
	}
	return out
}

// axis brings an axis that may be negative into range.
func axis(a, rank int) int {
	need(a >= -rank && a < rank, "axis %d of rank %d", a, rank)
	if a < 0 {
		a += rank
	}
	return a
}

// sameShape reports whether two shapes are equal.
func sameShape(a, b []int) bool { return slices.Equal(a, b) }

// param reports whether a node is computed from weights and constants alone.
func (l *lowerer) param(id graph.ID) bool {
	for len(l.params) < len(l.g.Nodes) {
		n := &l.g.Nodes[len(l.params)]
		p := n.Op != graph.OpTokens && n.Op != graph.OpInput && n.Op != graph.OpConst && n.Op != graph.OpOpaque
		if len(n.In) > 0 {
			p = n.Op != graph.OpOpaque
			for _, in := range n.In {
				p = p && (l.params[in] || l.g.Nodes[in].Op == graph.OpConst)
			}
		}
		l.params = append(l.params, p)
	}
	return l.params[id]
}

func (v *value) String() string {
	switch {
	case v == nil:
		return "nothing"
	case v.isSeq:
		return fmt.Sprintf("sequence of %d", len(v.seq))
	}
	return fmt.Sprintf("%v", v.shape)
}
