package train

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// indexed is the loop of an operation that finds elements of a value, the table,
// by ids along an axis: over all ids, with the strides of a plain operand that has
// an element for each, of the ids, and of the table without that axis.
type indexed struct {
	dims, plain, ids, table []int
	step                    int // elements between neighbours along the axis
	limit                   int // length of the axis
	c                       *compiler
	id                      graph.ID
}

// indexing returns the loop of a node; the table has the shape, with or without
// batch, of the value at.
func (c *compiler) indexing(id, at graph.ID) indexed {
	x := &c.nodes[id]
	s := c.shape(at)
	full := dense(s)
	loop := indexed{step: full[x.Axis], limit: s[x.Axis], c: c, id: id}
	switch x.Op {
	case graph.OpFlip, graph.OpIndex, graph.OpEmbedding:
		pre, n, post := count(s[:x.Axis]), s[x.Axis], count(s[x.Axis+1:])
		batch := 0
		if x.Op != graph.OpFlip {
			n = count(c.shape(x.In[1]))
			if c.nodes[x.In[1]].batched {
				batch = n
			}
		}
		loop.dims = []int{c.rows(id), pre, n, post}
		loop.plain, loop.ids = dense(loop.dims), []int{batch, 0, 1, 0}
		loop.table = []int{c.perRow(at), loop.limit * post, 0, 1}
	default: // element by element
		loop.dims = c.box(x.In[1], len(s))
		loop.dims[0] = c.rows(id)
		loop.plain = dense(loop.dims)
		if src := len(x.In) - 1; src == 2 {
			loop.plain = stretched(c.box(x.In[src], len(s)))
		}
		loop.ids = stretched(c.box(x.In[1], len(s)))
		loop.table = append([]int{c.perRow(at)}, full...)
		loop.table[1+x.Axis] = 0
	}
	return loop
}

// perRow is the distance between a value's parts for two sequences.
func (c *compiler) perRow(id graph.ID) int {
	if c.nodes[id].batched {
		return count(c.shape(id))
	}
	return 0
}

// offset is where an id points. What is out of range is reported, and read as 0.
func (x *indexed) offset(id float32) int {
	if k := int(id); id >= 0 && k < x.limit && float32(k) == id {
		return k * x.step
	}
	n := &x.c.nodes[x.id]
	x.c.p.trouble.report(fault.New(fault.Unsupported, "%v in %s: index %g of an axis of %d", n.Op, n.Scope, id, x.limit))
	return 0
}

// read sets, or adds to, the plain operand the elements that the ids choose.
func (x *indexed) read(plain, ids, table []float32, add bool) {
	n := newNest(x.dims, x.plain, x.ids, x.table)
	sp, si, st := n.inner(0), n.inner(1), n.inner(2)
	n.run(x.c.workers, func(o [3]int, w int) {
		if si == 0 {
			copyRow(plain[o[0]:], sp, table[o[2]+x.offset(ids[o[1]]):], st, w, add)
			return
		}
		for i := range w {
			v := table[o[2]+i*st+x.offset(ids[o[1]+i*si])]
			if add {
				v += plain[o[0]+i*sp]
			}
			plain[o[0]+i*sp] = v
		}
	})
}

// write puts, or adds, the plain operand's elements where the ids point. Without a
// plain operand it puts zeros.
func (x *indexed) write(table, ids, plain []float32, add bool) {
	n := newNest(x.dims, x.table, x.ids, x.plain)
	st, si, sp := n.inner(0), n.inner(1), n.inner(2)
	n.run(x.c.workers, func(o [3]int, w int) {
		if si == 0 && plain != nil && (st != 0 || w == 1) {
			copyRow(table[o[0]+x.offset(ids[o[1]]):], st, plain[o[2]:], sp, w, add)
			return
		}
		for i := range w {
			to := &table[o[0]+i*st+x.offset(ids[o[1]+i*si])]
			switch {
			case plain == nil:
				*to = 0
			case add:
				*to += plain[o[2]+i*sp]
			default:
				*to = plain[o[2]+i*sp]
			}
		}
	})
}

// idsOf are the ids of a node; those of a flip are the axis backwards.
func (c *compiler) idsOf(id graph.ID) *buf {
	x := &c.nodes[id]
	if x.Op != graph.OpFlip {
		return c.val[x.In[1]]
	}
	n := x.Shape[x.Axis]
	b := fixed(n)
	b.data = make([]float32, n)
	for i := range b.data {
		b.data[i] = float32(n - 1 - i)
	}
	return b
}

func (c *compiler) fetch(id graph.ID, in []*buf) {
	out, ids, x := c.result(id), c.idsOf(id), c.indexing(id, c.nodes[id].In[0])
	c.emit(instr{reads: []*buf{in[0], ids}, writes: []*buf{out}, run: func() { x.read(out.f(), ids.f(), in[0].f(), false) }})
}

func (c *compiler) fetchBack(id graph.ID, g *buf) {
	in := c.nodes[id].In[0]
	if !c.needs(in) {
		return
	}
	ids, x := c.idsOf(id), c.indexing(id, in)
	dst, add := c.target(in)
	ins := instr{reads: []*buf{g, ids}, writes: []*buf{dst}}
	if add {
		ins.reads = append(ins.reads, dst)
	}
	ins.run = func() {
		if !add {
			clear(dst.f())
		}
		x.write(dst.f(), ids.f(), g.f(), true)
	}
	c.emit(ins)
}

func (c *compiler) scatter(id graph.ID, in []*buf) {
	node := &c.nodes[id]
	out, x := c.result(id), c.indexing(id, id)
	dims := c.box(id, len(node.Shape))
	n := newNest(dims, dense(dims), stretched(c.box(node.In[0], len(node.Shape))))
	c.emit(instr{reads: in, writes: []*buf{out}, run: func() {
		c.copyNest(n, out.f(), in[0].f(), false)
		x.write(out.f(), in[1].f(), in[2].f(), node.Op == graph.OpScatterAdd)
	}})
}

// scatterBack: what was written over has no gradient. Where several elements were
// written to one place each gets the gradient, as in PyTorch.
func (c *compiler) scatterBack(id graph.ID, g *buf) {
	node := &c.nodes[id]
	ids, x := c.val[node.In[1]], c.indexing(id, id)
	if c.needs(node.In[2]) {
		dst, add := c.target(node.In[2])
		whole := !add && c.size(node.In[2]) == count(x.dims)
		ins := instr{reads: []*buf{g, ids}, writes: []*buf{dst}}
		if add {
			ins.reads = append(ins.reads, dst)
		}
		ins.run = func() {
			if !add && !whole {
				clear(dst.f())
			}
			x.read(dst.f(), ids.f(), g.f(), !whole)
		}
		c.emit(ins)
	}
	if !c.needs(node.In[0]) {
		return
	}
	rest := g
	if node.Op == graph.OpScatter {
		rest = c.newBuf(g.size)
		c.emit(instr{reads: []*buf{g, ids}, writes: []*buf{rest}, inPlace: [][2]*buf{{g, rest}}, run: func() {
			copy(rest.f(), g.f())
			x.write(rest.f(), ids.f(), nil, false)
		}})
	}
	dims := c.box(id, len(node.Shape))
	c.collect(node.In[0], newNest(dims, stretched(c.box(node.In[0], len(node.Shape))), dense(dims)), rest, 0, 0)
}
