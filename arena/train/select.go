package train

import "github.com/neuroseal/neuroseal/graph"

// pickRow sets w elements of d, or adds to them, to those of x where cond is not
// zero if want, else where it is.
func pickRow(d []float32, sd int, x []float32, sx int, cond []float32, sc, w int, want, add bool) {
	for i := range w {
		if cond[i*sc] != 0 == want {
			if add {
				d[i*sd] += x[i*sx]
			} else {
				d[i*sd] = x[i*sx]
			}
		}
	}
}

// where emits the choice of either operand.
func (c *compiler) where(id graph.ID, cond, x, y *buf) {
	out, node := c.result(id), &c.nodes[id]
	r := len(node.Shape)
	dims := c.box(id, r)
	var loops [2]nest
	for i := range loops {
		loops[i] = newNest(dims, dense(dims), stretched(c.box(node.In[1+i], r)), stretched(c.box(node.In[0], r)))
	}
	c.emit(instr{reads: []*buf{cond, x, y}, writes: []*buf{out}, run: func() {
		for i, from := range []*buf{x, y} {
			n := loops[i]
			d, s, q := out.f(), from.f(), cond.f()
			sd, ss, sq := n.inner(0), n.inner(1), n.inner(2)
			n.run(c.workers, func(o [3]int, w int) { pickRow(d[o[0]:], sd, s[o[1]:], ss, q[o[2]:], sq, w, i == 0, false) })
		}
	}})
}

func (c *compiler) whereBack(id graph.ID, g *buf) {
	node := &c.nodes[id]
	r := len(node.Shape)
	dims, cond := c.box(id, r), c.val[node.In[0]]
	for i, in := range node.In[1:] {
		if !c.needs(in) {
			continue
		}
		dst, add := c.target(in)
		n := newNest(dims, stretched(c.box(in, r)), dense(dims), stretched(c.box(node.In[0], r)))
		ins := instr{reads: []*buf{g, cond}, writes: []*buf{dst}}
		if add {
			ins.reads = append(ins.reads, dst)
		}
		ins.run = func() {
			d, s, q := dst.f(), g.f(), cond.f()
			if !add {
				clear(d)
			}
			sd, ss, sq := n.inner(0), n.inner(1), n.inner(2)
			n.run(c.workers, func(o [3]int, w int) { pickRow(d[o[0]:], sd, s[o[1]:], ss, q[o[2]:], sq, w, i == 0, true) })
		}
		c.emit(ins)
	}
}

// extremeBack passes the gradient to the operand that was taken; equals share it.
func (c *compiler) extremeBack(id graph.ID, g *buf) {
	node := &c.nodes[id]
	dims, so, sa, sb := c.boxes(id)
	for i, st := range [][]int{sa, sb} {
		in, other, sy := node.In[i], node.In[1-i], [][]int{sb, sa}[i]
		if !c.needs(in) {
			continue
		}
		x, y, part := c.val[in], c.val[other], c.newBuf(g.size)
		n := newNest(dims, so, st, sy)
		c.emit(instr{reads: []*buf{x, y, g}, writes: []*buf{part}, inPlace: [][2]*buf{{g, part}}, run: func() {
			d, u, a, b := part.f(), g.f(), x.f(), y.f()
			s1, s2 := n.inner(1), n.inner(2)
			n.run(c.workers, func(o [3]int, w int) { takenRow(node.Op, d[o[0]:o[0]+w], u[o[0]:], a[o[1]:], s1, b[o[2]:], s2) })
		}})
		c.collect(in, newNest(dims, st, so), part, 0, 0)
	}
}

// takenRow is g where a was taken rather than b, half of it where they are equal.
func takenRow(op graph.Op, d, g, a []float32, sa int, b []float32, sb int) {
	for i := range d {
		x, y := a[i*sa], b[i*sb]
		switch {
		case x == y:
			d[i] = g[i] / 2
		case x > y == (op == graph.OpMaximum):
			d[i] = g[i]
		default:
			d[i] = 0
		}
	}
}
