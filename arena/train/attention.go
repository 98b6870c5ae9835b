package train

import (
	"sync"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// attentionRows is the number of queries whose scores are in memory at a time.
const attentionRows = 64

var scratchPool = sync.Pool{New: func() any { return new([]float32) }}

// scratch returns n floats of any content, and takes them back.
func scratch(n int) (*[]float32, []float32) {
	p := scratchPool.Get().(*[]float32)
	if cap(*p) < n {
		*p = make([]float32, n)
	}
	return p, (*p)[:n]
}

// heads are the sizes of an attention.
type heads struct {
	q, kv, group, t, dim int // q and kv count all sequences
	scale                float32
	extents              [][2]int
}

func (c *compiler) heads(id graph.ID) heads {
	x := &c.nodes[id]
	s, k := c.shape(x.In[0]), c.shape(x.In[1])
	return heads{q: c.rows(id) * s[0], kv: c.rows(id) * k[0], group: s[0] / k[0], t: s[1], dim: s[2],
		scale: float32(x.Scalar), extents: x.extents}
}

// work is an estimate of the products of all heads, for sharing.
func (h heads) work() int { return h.q * h.t * h.t * h.dim / 16 }

// blocks calls f for blocks of queries with the keys that any of them sees.
func (h heads) blocks(f func(i, rows, lo, hi int)) {
	for i := 0; i < h.t; i += attentionRows {
		rows := min(attentionRows, h.t-i)
		lo, hi := h.t, 0
		for _, e := range h.extents[i : i+rows] {
			lo, hi = min(lo, e[0]), max(hi, e[1])
		}
		f(i, rows, lo, hi)
	}
}

// probabilities fills p, rows × (hi-lo), for the queries from i on.
func (h heads) probabilities(p, q, k []float32, i, rows, lo, hi int) {
	w := hi - lo
	tensor.Gemm(false, true, rows, w, h.dim, h.scale, q[i*h.dim:], h.dim, k[lo*h.dim:], h.dim, 0, p, w)
	for r := range rows {
		e, row := h.extents[i+r], p[r*w:(r+1)*w]
		clear(row[:e[0]-lo])
		clear(row[e[1]-lo:])
		tensor.SoftmaxRow(row[e[0]-lo : e[1]-lo])
	}
}

func (c *compiler) attention(id graph.ID, in []*buf) {
	out, h := c.result(id), c.heads(id)
	size := h.t * h.dim
	c.emit(instr{reads: in, writes: []*buf{out}, run: func() {
		q, k, v, y := in[0].f(), in[1].f(), in[2].f(), out.f()
		parallel(c.workers, h.q, h.work(), func(from, to int) {
			ref, p := scratch(attentionRows * h.t)
			defer scratchPool.Put(ref)
			for i := from; i < to; i++ {
				j := i / h.group * size
				h.blocks(func(r, rows, lo, hi int) {
					h.probabilities(p, q[i*size:], k[j:], r, rows, lo, hi)
					tensor.Gemm(false, false, rows, h.dim, hi-lo, 1, p, hi-lo, v[j+lo*h.dim:], h.dim, 0, y[i*size+r*h.dim:], h.dim)
				})
			}
		})
	}})
}

// attentionBack computes the probabilities anew instead of keeping them.
func (c *compiler) attentionBack(id graph.ID, g *buf) {
	x, h := &c.nodes[id], c.heads(id)
	var dst [3]*buf
	var add [3]bool
	ins := instr{reads: []*buf{g}}
	for i, in := range x.In {
		ins.reads = append(ins.reads, c.val[in])
		if c.needs(in) {
			dst[i], add[i] = c.target(in)
			ins.writes = append(ins.writes, dst[i])
			if add[i] {
				ins.reads = append(ins.reads, dst[i])
			}
		}
	}
	q, k, v := c.val[x.In[0]], c.val[x.In[1]], c.val[x.In[2]]
	ins.run = func() {
		parallel(c.workers, h.kv, 4*h.work(), func(from, to int) {
			ref, s := scratch(2 * attentionRows * h.t)
			defer scratchPool.Put(ref)
			b := headBack{heads: h, p: s[:attentionRows*h.t], ds: s[attentionRows*h.t:], add: add[0]}
			size := h.t * h.dim
			part := func(b *buf, i int) []float32 {
				if b == nil {
					return nil
				}
				return b.f()[i*size : (i+1)*size]
			}
			for j := from; j < to; j++ {
				b.k, b.v, b.dk, b.dv = part(k, j), part(v, j), part(dst[1], j), part(dst[2], j)
				if !add[1] {
					clear(b.dk)
				}
				if !add[2] {
					clear(b.dv)
				}
				for i := j * h.group; i < (j+1)*h.group; i++ {
					b.q, b.dq, b.g = part(q, i), part(dst[0], i), part(g, i)
					h.blocks(b.block)
				}
			}
		})
	}
	c.emit(ins)
}

// headBack is the way back through one head. Gradients that nobody needs are nil.
type headBack struct {
	heads
	p, ds, q, k, v, g, dq, dk, dv []float32
	add                           bool // to dq
}

func (b *headBack) block(i, rows, lo, hi int) {
	w, d := hi-lo, b.dim
	b.probabilities(b.p, b.q, b.k, i, rows, lo, hi)
	if b.dv != nil {
		tensor.Gemm(true, false, w, d, rows, 1, b.p, w, b.g[i*d:], d, 1, b.dv[lo*d:], d)
	}
	if b.dq == nil && b.dk == nil {
		return
	}
	tensor.Gemm(false, true, rows, w, d, 1, b.g[i*d:], d, b.v[lo*d:], d, 0, b.ds, w)
	for r := range rows {
		p, ds := b.p[r*w:(r+1)*w], b.ds[r*w:(r+1)*w]
		tensor.VecMul(ds, ds, p)
		var sum float32
		for _, v := range ds {
			sum += v
		}
		tensor.VecAxpy(ds, p, -sum)
	}
	if b.dq != nil {
		tensor.Gemm(false, false, rows, d, w, b.scale, b.ds, w, b.k[lo*d:], d, beta(b.add), b.dq[i*d:], d)
	}
	if b.dk != nil {
		tensor.Gemm(true, false, w, d, rows, b.scale, b.ds, w, b.q[i*d:], d, 1, b.dk[lo*d:], d)
	}
}

// rotary emits the rotation of pairs (j, j+width/2) by the tables' angles, or its
// transpose.
func (c *compiler) rotary(id graph.ID, in []*buf, out *buf, back, add bool) {
	x, cos, sin := in[0], in[1], in[2]
	s := c.shape(id)
	t, width := s[1], s[2]
	ins := instr{reads: in, writes: []*buf{out}, inPlace: [][2]*buf{{x, out}}}
	if add {
		ins.reads, ins.inPlace = append(ins.reads[:3:3], out), nil
	}
	ins.run = func() {
		c.lines(out.size/width, width, func(i int) {
			p := i % t * width
			rotate(out.f()[i*width:(i+1)*width], x.f()[i*width:(i+1)*width], cos.f()[p:p+width], sin.f()[p:p+width], back, add)
		})
	}
	c.emit(ins)
}

func rotate(y, x, cos, sin []float32, back, add bool) {
	h := len(y) / 2
	x1, x2, c1, c2, s1, s2 := x[:h], x[h:][:h], cos[:h], cos[h:][:h], sin[:h], sin[h:][:h]
	y1, y2 := y[:h], y[h:][:h]
	for j := range y1 {
		a, b := x1[j], x2[j]
		u, v := a*c1[j]-b*s1[j], b*c2[j]+a*s2[j]
		if back {
			u, v = a*c1[j]+b*s2[j], b*c2[j]-a*s1[j]
		}
		if add {
			u, v = u+y1[j], v+y2[j]
		}
		y1[j], y2[j] = u, v
	}
}

// doraScale emits m / ‖W + s·B·A‖ by rows. As in PEFT the norm is a constant to
// the gradient.
func (c *compiler) doraScale(id graph.ID, in []*buf) {
	x, out := &c.nodes[id], c.result(id)
	s, r := c.shape(x.In[0]), c.shape(x.In[1])[0]
	norm := c.newBuf(s[0])
	c.inverse(id, norm)
	scale := float32(x.Scalar)
	c.emit(instr{reads: in, writes: []*buf{out, norm}, run: func() {
		w, a, b, m := in[0].f(), in[1].f(), in[2].f(), in[3].f()
		const block = 32
		parallel(c.workers, (s[0]+block-1)/block, s[0]*s[1]*r/8, func(from, to int) {
			ref, tmp := scratch(block * s[1])
			defer scratchPool.Put(ref)
			for lo := from * block; lo < min(to*block, s[0]); lo += block {
				n := min(block, s[0]-lo)
				copy(tmp, w[lo*s[1]:(lo+n)*s[1]])
				tensor.Gemm(false, false, n, s[1], r, scale, b[lo*r:], r, a, s[1], 1, tmp, s[1])
				copy(norm.f()[lo:], rowNorms(tmp, n, s[1]))
				for i := lo; i < lo+n; i++ {
					out.f()[i] = m[i] / norm.f()[i]
				}
			}
		})
	}})
}

func (c *compiler) doraBack(id graph.ID, g *buf) {
	norm := c.inv[id]
	c.elements(c.nodes[id].In[3], func(d []float32, lo, hi int) { slopeDiv(d, g.f()[lo:hi], norm.f()[lo:hi]) }, g, norm)
}

func slopeDiv(d, g, norm []float32) {
	for i := range d {
		d[i] = g[i] / norm[i]
	}
}
