package train

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// move is the loop of a transpose, slice or expand: over its result, and the place
// in its input.
func (c *compiler) move(id graph.ID) nest {
	x := &c.nodes[id]
	r := len(x.Shape)
	dims, from := c.box(id, r), c.box(x.In[0], r)
	st := stretched(from)
	switch x.Op {
	case graph.OpTranspose:
		to := slices.Clone(st)
		for i, p := range x.Perm {
			to[i+1] = st[p+1]
		}
		st = to
	case graph.OpSlice:
		st = dense(from)
	}
	return newNest(dims, dense(dims), st)
}

// skip is where a slice begins in its input.
func (c *compiler) skip(id graph.ID) int {
	x := &c.nodes[id]
	if x.Op != graph.OpSlice {
		return 0
	}
	return x.Start * count(c.shape(x.In[0])[x.Axis+1:])
}

func (c *compiler) copyNest(n nest, dst, src []float32, add bool) {
	ds, ss := n.inner(0), n.inner(1)
	n.run(c.workers, func(o [3]int, w int) { copyRow(dst[o[0]:], ds, src[o[1]:], ss, w, add) })
}

// part is the place of one input of a concatenation in the result.
type part struct {
	n    nest // over the input's box: the result, the input
	back nest // the same, with the input written
	at   int
}

func (c *compiler) parts(id graph.ID) []part {
	x := &c.nodes[id]
	r, st := len(x.Shape), dense(c.box(id, len(x.Shape)))
	var out []part
	at := 0
	for _, in := range x.In {
		dims := c.box(in, r)
		own := dense(dims)
		if dims[0] != c.rows(id) { // the same for every sequence
			dims[0], own[0] = c.rows(id), 0
		}
		out = append(out, part{n: newNest(dims, st, own), back: newNest(dims, own, st), at: at * st[x.Axis+1]})
		at += c.shape(in)[x.Axis]
	}
	return out
}

func (c *compiler) concat(id graph.ID, in []*buf) {
	out, parts := c.result(id), c.parts(id)
	c.emit(instr{reads: in, writes: []*buf{out}, run: func() {
		for i, p := range parts {
			c.copyNest(p.n, out.f()[p.at:], in[i].f(), false)
		}
	}})
}

// collect adds to an input's gradient, whose part begins at "to", the elements of
// g from "from" on, in the order of a loop that writes the former.
func (c *compiler) collect(in graph.ID, n nest, g *buf, from, to int) {
	dst, add := c.target(in)
	whole := !add && to == 0 && count(n.dims) == dst.size && covers(n)
	reads := []*buf{g}
	if add {
		reads = append(reads, dst)
	}
	c.emit(instr{reads: reads, writes: []*buf{dst}, run: func() {
		d := dst.f()
		if !add && !whole {
			clear(d)
		}
		c.copyNest(n, d[to:], g.f()[from:], !whole)
	}})
}

// covers reports whether a loop writes every place once.
func covers(n nest) bool {
	for k, d := range n.dims {
		if d > 1 && n.strides[0][k] == 0 {
			return false
		}
	}
	return true
}

func (c *compiler) moveBack(id graph.ID, g *buf) {
	n := c.move(id)
	c.collect(c.nodes[id].In[0], newNest(n.dims, n.strides[1], n.strides[0]), g, 0, c.skip(id))
}

// padding is the loop over a pad's input: the result, the input; and where the
// input begins in the result.
func (c *compiler) padding(id graph.ID) (n nest, at int) {
	x := &c.nodes[id]
	r := len(x.Shape)
	dims, st := c.box(x.In[0], r), dense(c.box(id, r))
	return newNest(dims, st, dense(dims)), x.Start * st[x.Axis+1]
}

func (c *compiler) pad(id graph.ID, x *buf) {
	out := c.result(id)
	n, at := c.padding(id)
	c.emit(instr{reads: []*buf{x}, writes: []*buf{out}, run: func() {
		clear(out.f())
		c.copyNest(n, out.f()[at:], x.f(), false)
	}})
}
