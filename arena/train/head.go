package train

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// headFloats bounds the logits in memory at a time: with a vocabulary of tens of
// thousands they and their gradient would be the largest buffers of all. Only
// tests change it.
var headFloats = 8 << 20

// lossFunc computes the loss of the rows from lo on, and if the engine trains
// leaves its gradient in grad, which may be logits; it says whether it has.
type lossFunc func(lo int, logits, grad []float32) bool

// headRows is the number of rows of logits computed at a time, the same in every
// part but the last. It depends on sizes only, and so do the bits.
func headRows(rows, vocab, limit int) int {
	parts := (rows*vocab + limit - 1) / limit
	return max(1, (rows+parts-1)/max(1, parts))
}

// splitHead reports whether the output is a product that is computed in parts
// together with the loss and its gradients.
func (c *compiler) splitHead(id graph.ID) bool {
	x := &c.nodes[id]
	return id == c.out && c.headLimit > 0 && x.Op == graph.OpLinear && !x.Transposed && !c.nodes[x.In[1]].batched && c.size(id) > c.headLimit
}

// head emits the loss, and the gradient of the logits or, where these are
// computed in parts, of what they are made of.
func (c *compiler) head() {
	if c.splitHead(c.out) {
		c.lossInParts()
		return
	}
	logits := c.val[c.out]
	g := c.newBuf(logits.size)
	c.grads[c.out], c.holders[g] = g, 1
	c.emit(instr{run: func() { c.loss(0, logits.f(), g.f()) }, reads: []*buf{logits}, writes: []*buf{g}, inPlace: [][2]*buf{{logits, g}}})
}

func (c *compiler) lossInParts() {
	node := &c.nodes[c.out]
	x, w := c.val[node.In[0]], c.val[node.In[1]]
	n, k := node.Shape[1], c.shape(node.In[1])[1]
	rows := x.size / k
	step := headRows(rows, n, c.headLimit)
	logits := c.newBuf(step * n)
	in := instr{reads: []*buf{x, w}, writes: []*buf{logits}}
	var gx, gw *buf
	var addX, addW bool
	if c.needs(node.In[1]) {
		gw, addW = c.target(node.In[1])
		in.writes = append(in.writes, gw)
	}
	if c.needs(node.In[0]) {
		gx, addX = c.target(node.In[0])
		in.writes = append(in.writes, gx)
	}
	in.run = func() {
		y := logits.f()
		for lo := 0; lo < rows; lo += step {
			m := min(step, rows-lo)
			from := x.f()[lo*k : (lo+m)*k]
			c.timesWeight(true, m, n, k, from, w, k, 0, y)
			if !c.loss(lo, y[:m*n], y[:m*n]) {
				continue
			}
			if gw != nil {
				tensor.GemmParallel(c.workers, true, false, n, k, m, 1, y, n, from, k, beta(addW || lo > 0), gw.f(), k)
			}
			if gx != nil {
				c.timesWeight(false, m, k, n, y, w, k, beta(addX), gx.f()[lo*k:])
			}
		}
	}
	c.emit(in)
}
