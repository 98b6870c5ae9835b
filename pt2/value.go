package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// value is what an operation of the program computes: a constant, which is
// folded, or a node of the graph. A complex number is a pair of values.
type value struct {
	c     *fold.Tensor // nil: a node
	id    graph.ID
	kind  fold.Kind
	shape []int
	im    *value // imaginary part; nil for real values
}

func constant(t *fold.Tensor) *value { return &value{c: t, kind: t.Kind, shape: t.Shape} }

func scalar(k fold.Kind, v float64) *value { return constant(fold.Scalar(k, v)) }

func (v *value) rank() int { return len(v.shape) }

func (v *value) size() int {
	n := 1
	for _, d := range v.shape {
		n *= d
	}
	return n
}

// as gives the value another type without any operation: what a cast does that
// changes no number.
func (v *value) as(k fold.Kind) *value {
	if v.kind == k {
		return v
	}
	w := *v
	w.kind = k
	if v.c != nil {
		w.c = v.c.Convert(k)
	}
	return &w
}

// uniform returns the number that all elements of a constant are.
func (v *value) uniform() (float64, bool) {
	if v.c == nil || v.c.Len() == 0 {
		return 0, false
	}
	first := v.c.At(0)
	for i := range v.c.Len() {
		if v.c.At(i) != first {
			return 0, false
		}
	}
	return first, true
}

// cell is a name's place: operations that write in place change it, and views
// of it see the change.
type cell struct {
	v       *value
	make    func() *value // computes v when it is first read
	big     bool          // made again for every reader rather than kept
	version int

	base  *cell
	fwd   func(base *value) *value      // the view of a base
	back  func(base, new *value) *value // the base after the view was overwritten; nil: not a view that can be written
	seen  int                           // base's version when v was computed
	maybe bool                          // torch copies where the layout forbids a view
	stale bool                          // a maybe-view of it was overwritten: its content is not known
}

func (c *cell) stamp() int {
	if c.base == nil {
		return c.version
	}
	return c.base.stamp()
}

// get returns the current content.
func (l *lowering) get(c *cell) *value {
	for b := c; b != nil; b = b.base {
		if b.stale {
			l.stop("a value is read after something wrote into what may be a view of it")
		}
	}
	if c.v == nil && c.make != nil {
		if c.big {
			return c.make()
		}
		c.v = c.make()
	}
	if c.base != nil && c.seen != c.base.stamp() {
		c.v, c.seen = c.fwd(l.get(c.base)), c.base.stamp()
	}
	return c.v
}

// put overwrites the content, through views.
func (l *lowering) put(c *cell, v *value) {
	if old := l.get(c); !slices.Equal(v.shape, old.shape) {
		l.stop("writing shape %v in place of %v", v.shape, old.shape)
	}
	if c.base == nil {
		c.v = v
		c.version++
		return
	}
	if c.back == nil {
		l.stop("writing in place through a view that repeats elements")
	}
	if c.maybe {
		// It may be a copy. Going on with a copy is right as long as nobody reads the base.
		for b := c.base; b != nil; b = b.base {
			b.stale = true
		}
		c.base, c.v = nil, v
		return
	}
	l.put(c.base, c.back(l.get(c.base), v))
	c.v, c.seen = v, c.base.stamp()
}
