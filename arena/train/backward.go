package train

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// backward emits the gradients of a node's inputs, given that of its value.
func (c *compiler) backward(id graph.ID, g *buf) {
	x := &c.nodes[id]
	switch x.Op {
	case graph.OpWeight, graph.OpConst, graph.OpTokens, graph.OpInput, graph.OpTopKMask:
	case graph.OpReshape, graph.OpAddScalar:
		c.give(x.In[0], g)
	case graph.OpEmbedding:
		c.embeddingBack(id, g)
	case graph.OpLinear:
		c.linearBack(id, g)
	case graph.OpMatMul:
		c.matmulBack(id, g)
	case graph.OpConv:
		c.convBack(id, g)
	case graph.OpAdd:
		c.addBack(id, g)
	case graph.OpSub, graph.OpMul, graph.OpDiv:
		c.productBack(id, g)
	case graph.OpTranspose, graph.OpSlice, graph.OpExpand:
		c.moveBack(id, g)
	case graph.OpConcat:
		for i, p := range c.parts(id) {
			if c.needs(x.In[i]) {
				c.collect(x.In[i], p.back, g, p.at, 0)
			}
		}
	case graph.OpMaximum, graph.OpMinimum:
		c.extremeBack(id, g)
	case graph.OpWhere:
		c.whereBack(id, g)
	case graph.OpPad:
		n, at := c.padding(id)
		c.collect(x.In[0], newNest(n.dims, n.strides[1], n.strides[0]), g, at, 0)
	case graph.OpFlip, graph.OpIndex, graph.OpGather:
		c.fetchBack(id, g)
	case graph.OpScatter, graph.OpScatterAdd:
		c.scatterBack(id, g)
	case graph.OpSoftmax, graph.OpRMSNorm, graph.OpLayerNorm:
		c.rowsBack(id, g)
	case graph.OpMax, graph.OpCumSum, graph.OpTopKValues:
		c.alongLastBack(id, g)
	case opLayerNorm:
		c.layerNormBack(id, g)
	case graph.OpSum:
		r := len(x.Shape)
		dims := c.box(x.In[0], r)
		c.collect(x.In[0], newNest(dims, dense(dims), stretched(c.box(id, r))), g, 0, 0)
	case opSwiGLU:
		c.swigluBack(id, g)
	case opRotary:
		if c.needs(x.In[0]) {
			dst, add := c.target(x.In[0])
			c.rotary(id, []*buf{g, c.val[x.In[1]], c.val[x.In[2]]}, dst, true, add)
		}
	case opAttention:
		c.attentionBack(id, g)
	case opScan:
		c.scanBack(id, g)
	case opDoRAScale:
		c.doraBack(id, g)
	default:
		c.unaryBack(id, g)
	}
}

// again returns a value that the way back reads. A product by a weight, a norm with
// its gain and a gated activation are computed anew there, from operands that are kept in any case:
// cheap, and their memory is free in between. That is a third of what a decoder
// layer keeps.
func (c *compiler) again(id graph.ID) *buf {
	x := &c.nodes[id]
	if !x.batched || !x.grad || c.remade[id] {
		return c.val[id]
	}
	gain := x.Op == graph.OpMul && (c.nodes[x.In[0]].param != nil || c.nodes[x.In[1]].param != nil)
	if gain || x.Op == opSwiGLU || x.Op == opLayerNorm {
		c.forward(id)
		c.remade[id] = true
	}
	return c.val[id]
}

// addBack passes the gradient on, summed where an operand was broadcast.
func (c *compiler) addBack(id graph.ID, g *buf) {
	dims, so, sa, sb := c.boxes(id)
	for i, st := range [][]int{sa, sb} {
		in := c.nodes[id].In[i]
		switch {
		case !c.needs(in):
		case c.size(in) == g.size:
			c.give(in, g)
		default:
			c.collect(in, newNest(dims, st, so), g, 0, 0)
		}
	}
}

// productBack emits the gradients of a difference, product or quotient.
func (c *compiler) productBack(id graph.ID, g *buf) {
	x := &c.nodes[id]
	dims, so, sa, sb := c.boxes(id)
	a, b := c.val[x.In[0]], c.val[x.In[1]]
	switch x.Op {
	case graph.OpMul:
		c.mulInto(x.In[0], dims, sa, g, so, b, sb)
		c.mulInto(x.In[1], dims, sb, g, so, a, sa)
	case graph.OpSub:
		if c.needs(x.In[0]) {
			c.collect(x.In[0], newNest(dims, sa, so), g, 0, 0)
		}
		if c.needs(x.In[1]) {
			neg := c.newBuf(g.size)
			c.emit(instr{reads: []*buf{g}, writes: []*buf{neg}, run: func() { tensor.VecScale(neg.f(), g.f(), -1) }})
			c.collect(x.In[1], newNest(dims, sb, so), neg, 0, 0)
		}
	default:
		q, y := c.newBuf(g.size), c.val[id]
		n := newNest(dims, so, so, sb)
		c.emit(instr{reads: []*buf{g, b}, writes: []*buf{q}, run: func() {
			d, u, v := q.f(), g.f(), b.f()
			sy := n.inner(2)
			n.run(c.workers, func(o [3]int, w int) { binaryRow(graph.OpDiv, d[o[0]:o[0]+w], u[o[1]:], 1, v[o[2]:], sy) })
		}})
		if c.needs(x.In[0]) {
			c.collect(x.In[0], newNest(dims, sa, so), q, 0, 0)
		}
		if c.needs(x.In[1]) {
			r := c.newBuf(g.size)
			c.emit(instr{reads: []*buf{q, y}, writes: []*buf{r}, run: func() {
				tensor.VecMul(r.f(), q.f(), y.f())
				tensor.VecScale(r.f(), r.f(), -1)
			}})
			c.collect(x.In[1], newNest(dims, sb, so), r, 0, 0)
		}
	}
}

// mulInto adds g·y to the gradient of an input, summed where it was broadcast.
func (c *compiler) mulInto(in graph.ID, dims, st []int, g *buf, sg []int, y *buf, sy []int) {
	if !c.needs(in) {
		return
	}
	dst, add := c.target(in)
	n := newNest(dims, st, sg, sy)
	whole := !add && covers(n) && dst.size == count(dims)
	ins := instr{reads: []*buf{g, y}, writes: []*buf{dst}}
	if add {
		ins.reads = append(ins.reads, dst)
	} else if whole {
		ins.inPlace = [][2]*buf{{g, dst}, {y, dst}}
	}
	ins.run = func() {
		d, u, v := dst.f(), g.f(), y.f()
		if !add && !whole {
			clear(d)
		}
		d0, d1, d2 := n.inner(0), n.inner(1), n.inner(2)
		n.run(c.workers, func(o [3]int, w int) { mulRow(d[o[0]:], d0, u[o[1]:], d1, v[o[2]:], d2, w, !whole) })
	}
	c.emit(ins)
}

func (c *compiler) swigluBack(id graph.ID, g *buf) {
	x := &c.nodes[id]
	gate, up := c.val[x.In[0]], c.val[x.In[1]]
	dg, du := c.newBuf(g.size), c.newBuf(g.size)
	c.emit(instr{reads: []*buf{gate, up, g}, writes: []*buf{dg, du}, inPlace: [][2]*buf{{gate, dg}, {g, du}}, run: func() {
		c.flat(g.size, func(lo, hi int) {
			tensor.SwiGLUBackward(dg.f()[lo:hi], du.f()[lo:hi], gate.f()[lo:hi], up.f()[lo:hi], g.f()[lo:hi])
		})
	}})
	c.give(x.In[0], dg)
	c.give(x.In[1], du)
}
