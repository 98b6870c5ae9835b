package train

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// compiler turns a net into a program.
type compiler struct {
	*net
	p       program
	batch   int
	workers int
	tokens  *buf            // the ids of a step, batch × T
	inputs  map[string]*buf // what else a step brings, by name
	loss    lossFunc

	headLimit int // see headRows; 0: the logits are one value

	val     []*buf
	grads   []*buf
	holders map[*buf]int // values of which a buffer is the gradient
	leaf    map[*Param]*buf
	leafG   map[*Param]*buf
	seen    map[*Param]bool   // its gradient has been written
	inv     map[graph.ID]*buf // what norms keep for the way back
	remade  map[graph.ID]bool // computed anew on the way back

	at   int
	back bool
}

func compile(n *net, batch, workers int, loss lossFunc, headLimit int) *compiler {
	c := &compiler{net: n, batch: batch, workers: workers, loss: loss, headLimit: headLimit, val: make([]*buf, len(n.nodes)), grads: make([]*buf, len(n.nodes)),
		inputs: map[string]*buf{}, holders: map[*buf]int{}, leaf: map[*Param]*buf{}, leafG: map[*Param]*buf{}, seen: map[*Param]bool{}, remade: map[graph.ID]bool{}}
	c.tokens = fixed(batch * n.tokens)
	for i := range n.nodes {
		c.at = i
		c.forward(graph.ID(i))
	}
	c.head()
	c.p.forward = len(c.p.instrs)
	c.back = true
	for i := len(n.nodes) - 1; i >= 0; i-- {
		c.at = i
		if c.grads[i] != nil && n.nodes[i].grad {
			c.backward(graph.ID(i), c.grads[i])
			c.holders[c.grads[i]]--
		}
	}
	c.untouched()
	c.p.plan()
	return c
}

// untouched clears the gradients that nothing contributes to: an optimizer may
// have written there.
func (c *compiler) untouched() {
	for _, p := range c.params {
		if p.Trained && !c.seen[p] {
			g := c.leafG[p]
			c.emit(instr{writes: []*buf{g}, run: func() { clear(g.f()) }})
		}
	}
}

func (c *compiler) newBuf(n int) *buf {
	b := &buf{size: n}
	b.root = b
	return b
}

func (c *compiler) emit(i instr) {
	i.node, i.back = c.at, c.back
	c.p.instrs = append(c.p.instrs, i)
}

// rows is the size of the batch axis: 1 for what does not depend on tokens.
func (c *compiler) rows(id graph.ID) int {
	if c.nodes[id].batched {
		return c.batch
	}
	return 1
}

func (c *compiler) size(id graph.ID) int { return c.rows(id) * count(c.shape(id)) }

// box is the shape of a value with its batch axis, filled up with ones to rank.
func (c *compiler) box(id graph.ID, rank int) []int {
	s := c.shape(id)
	out := []int{c.rows(id)}
	for range rank - len(s) {
		out = append(out, 1)
	}
	return append(out, s...)
}

// fixed is memory of its own: a parameter, a gradient, a constant.
func fixed(n int) *buf {
	b := &buf{size: n, fixed: true}
	b.root = b
	return b
}

// result makes the buffer of a node's value.
func (c *compiler) result(id graph.ID) *buf {
	c.val[id] = c.newBuf(c.size(id))
	c.val[id].exact = c.nodes[id].Int
	return c.val[id]
}

// target returns the buffer to which a contribution to a value's gradient goes,
// and whether it is to be added. The buffer must be written next.
func (c *compiler) target(id graph.ID) (dst *buf, add bool) {
	if p := c.nodes[id].param; p != nil {
		add = c.seen[p]
		c.seen[p] = true
		return c.leafG[p], add
	}
	old := c.grads[id]
	if old != nil && c.holders[old] == 1 {
		return old, true
	}
	dst = c.newBuf(c.size(id))
	if old != nil { // it is another value's gradient too
		c.holders[old]--
		c.emit(instr{run: func() { copy(dst.f(), old.f()) }, reads: []*buf{old}, writes: []*buf{dst}, inPlace: [][2]*buf{{old, dst}}})
	}
	c.grads[id] = dst
	c.holders[dst] = 1
	return dst, old != nil
}

// give adds a whole buffer to a value's gradient, without a copy if it is the
// first.
func (c *compiler) give(id graph.ID, g *buf) {
	if !c.nodes[id].grad {
		return
	}
	if c.nodes[id].param == nil && c.grads[id] == nil {
		c.grads[id] = g
		c.holders[g]++
		return
	}
	dst, add := c.target(id)
	n := newNest([]int{g.size}, []int{1}, []int{1})
	c.emit(instr{reads: []*buf{g, dst}, writes: []*buf{dst}, run: func() {
		d, s := dst.f(), g.f()
		n.run(c.workers, func(o [3]int, w int) { copyRow(d[o[0]:], 1, s[o[1]:], 1, w, add) })
	}})
}

// needs reports whether an input of a node needs a gradient.
func (c *compiler) needs(id graph.ID) bool { return c.nodes[id].grad }

// flat runs f on parts of n elements.
func (c *compiler) flat(n int, f func(lo, hi int)) { parallel(c.workers, n, n, f) }

// chunk is the number of elements that fit the stack of a goroutine and the first
// level cache.
const chunk = 1024

// elements emits the gradient of an element-wise function: f sets dst.
func (c *compiler) elements(id graph.ID, f func(dst []float32, lo, hi int), reads ...*buf) {
	if !c.needs(id) {
		return
	}
	dst, add := c.target(id)
	in := instr{reads: slices.Concat(reads, []*buf{dst}), writes: []*buf{dst}}
	if !add {
		in.reads = reads
		for _, r := range reads {
			in.inPlace = append(in.inPlace, [2]*buf{r, dst})
		}
	}
	in.run = func() {
		d := dst.f()
		c.flat(len(d), func(lo, hi int) {
			if !add {
				f(d[lo:hi], lo, hi)
				return
			}
			var tmp [chunk]float32
			for ; lo < hi; lo += chunk {
				k := min(chunk, hi-lo)
				f(tmp[:k], lo, lo+k)
				copyRow(d[lo:], 1, tmp[:], 1, k, true)
			}
		})
	}
	c.emit(in)
}
