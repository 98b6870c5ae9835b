package arch

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// views stand between a builder, which knows a family's weights by the names
// and shapes of the Hub, and a checkpoint that stores them otherwise.
type views struct {
	stored map[string][]int // the checkpoint's own tensors
	byName map[string]view  // by the Hub's name
	kept   []string         // stored tensors that decide what is computed and never move
	pairs  bool             // rotary pairs stand side by side, (2i, 2i+1), which the Hub has as (i, i+dim/2)
	gains  bool             // norms that the Hub stores as 1+w stand as what they multiply with
}

// view is one weight as a builder asks for it.
type view struct {
	shape []int
	// build makes it of leaves, which leaf returns by their stored names.
	build func(b *graph.Builder, leaf func(name string) graph.ID) graph.ID
}

// shapes returns the weights as the builder expects them.
func (v *views) shapes() map[string][]int {
	out := make(map[string][]int, len(v.byName))
	for name, x := range v.byName {
		out[name] = x.shape
	}
	return out
}

// keeps reports whether a stored tensor is one that never moves.
func (v *views) keeps(name string) bool { return v != nil && slices.Contains(v.kept, name) }

// resolver is what makes a builder see the views.
func (v *views) resolver(b *graph.Builder) func(name string, shape []int) (graph.ID, bool) {
	leaf := func(name string) graph.ID { return b.Leaf(name, v.stored[name]...) }
	return func(name string, shape []int) (graph.ID, bool) {
		x, ok := v.byName[name]
		if !ok || !slices.Equal(x.shape, shape) {
			return 0, false
		}
		return x.build(b, leaf), true
	}
}

// same shows a stored tensor as it is; where the shapes differ, they do so in
// axes of length 1.
func (v *views) same(name, stored string, shape []int) {
	v.byName[name] = view{shape, func(b *graph.Builder, leaf func(string) graph.ID) graph.ID {
		x := leaf(stored)
		if slices.Equal(b.Shape(x), shape) {
			return x
		}
		return b.Reshape(x, shape...)
	}}
}

// part shows element i of a stored tensor's first axis.
func (v *views) part(name, stored string, i int) {
	shape := v.stored[stored][1:]
	v.byName[name] = view{shape, func(b *graph.Builder, leaf func(string) graph.ID) graph.ID {
		return b.Reshape(b.Slice(leaf(stored), 0, i, i+1), shape...)
	}}
}

// transposed shows a stored matrix with its axes exchanged.
func (v *views) transposed(name, stored string) {
	s := v.stored[stored]
	v.byName[name] = view{[]int{s[1], s[0]}, func(b *graph.Builder, leaf func(string) graph.ID) graph.ID {
		return b.Transpose(leaf(stored), 1, 0)
	}}
}

// grouped shows rows [all queries; all keys; all values] as the Hub has them:
// for each of kv heads its n queries, its key and its value.
func (v *views) grouped(name, stored string, kv, n, dim int) {
	shape := v.stored[stored]
	v.byName[name] = view{shape, func(b *graph.Builder, leaf func(string) graph.ID) graph.ID {
		x, at := leaf(stored), 0
		take := func(heads int) graph.ID {
			y := b.Slice(x, 0, at, at+kv*heads*dim)
			at += kv * heads * dim
			return b.Reshape(y, append([]int{kv, heads, dim}, shape[1:]...)...)
		}
		return b.Reshape(b.Concat(1, take(n), take(1), take(1)), shape...)
	}}
}
