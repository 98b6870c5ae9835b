package train

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/tensor"
)

func (c *compiler) embedding(id graph.ID, w, ids *buf) {
	x := &c.nodes[id]
	if c.nodes[x.In[0]].batched {
		c.fetch(id, []*buf{w})
		return
	}
	out, table := c.result(id), c.indexing(id, x.In[0])
	width := table.step
	c.emit(instr{reads: []*buf{w, ids}, writes: []*buf{out}, run: func() {
		o := out.f()
		for i, k := range ids.f() {
			if at := table.offset(k); w.stored != nil {
				dtype.ToFloat32(dtype.BF16, o[i*width:(i+1)*width], w.stored[2*at:2*(at+width)])
			} else {
				copy(o[i*width:(i+1)*width], w.f()[at:])
			}
		}
	}})
}

// linear multiplies the rows of all sequences at once.
func (c *compiler) linear(id graph.ID, x, w *buf) {
	node := &c.nodes[id]
	if c.nodes[node.In[1]].batched {
		c.matmul(id, x, w)
		return
	}
	out, s := c.result(id), c.shape(node.In[1])
	k, n := s[1], s[0]
	if node.Transposed {
		k, n = n, k
	}
	m, ld, trans := x.size/k, s[1], !node.Transposed
	c.emit(instr{reads: []*buf{x, w}, writes: []*buf{out}, run: func() {
		c.timesWeight(trans, m, n, k, x.f(), w, ld, 0, out.f())
	}})
}

// timesWeight sets y, m × n, to x·op(w) + beta·y, where the rows of w as stored
// are ld elements apart.
func (c *compiler) timesWeight(trans bool, m, n, k int, x []float32, w *buf, ld int, beta float32, y []float32) {
	if w.stored != nil {
		tensor.GemmBF16(c.workers, trans, m, n, k, 1, x, k, w.stored, ld, beta, y, n)
		return
	}
	tensor.GemmParallel(c.workers, false, trans, m, n, k, 1, x, k, w.f(), ld, beta, y, n)
}

// asStored reports which parameters may stay in bfloat16: frozen ones that are
// only looked up and multiplied by.
func (n *net) asStored() map[*Param]bool {
	ok := map[*Param]bool{}
	for i := range n.nodes {
		x := &n.nodes[i]
		if x.param != nil {
			ok[x.param] = !x.param.Trained
		}
		for j, in := range x.In {
			if p := n.nodes[in].param; p != nil && !(x.Op == graph.OpLinear && j == 1 || x.Op == graph.OpEmbedding) {
				ok[p] = false
			}
		}
	}
	return ok
}

// products describes a batch of matrix products: their sizes, and how many
// different matrices each operand has, which repeat for every sequence.
type products struct {
	batch, m, n, k, na, nb int
	transB                 bool
}

func (c *compiler) products(id graph.ID) products {
	x := &c.nodes[id]
	a, s := c.shape(x.In[0]), x.Shape
	r := len(s)
	if x.Op == graph.OpLinear { // with a weight of every sequence's own
		return products{batch: c.rows(id), m: count(s[:r-1]), n: s[r-1], k: a[len(a)-1],
			na: c.rows(x.In[0]), nb: c.rows(x.In[1]), transB: !x.Transposed}
	}
	p := products{m: s[r-2], n: s[r-1], k: a[r-1], transB: x.transB}
	p.batch = c.rows(id) * count(s[:r-2])
	p.na, p.nb = c.rows(x.In[0])*count(s[:r-2]), c.rows(x.In[1])*count(s[:r-2])
	return p
}

// each runs f on the products, shared among goroutines.
func (p products) each(workers, n int, f func(i int)) {
	parallel(workers, n, p.batch*p.m*p.n*p.k/16, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i)
		}
	})
}

func (p products) ldb() int {
	if p.transB {
		return p.k
	}
	return p.n
}

func (c *compiler) matmul(id graph.ID, a, b *buf) {
	out, p := c.result(id), c.products(id)
	c.emit(instr{reads: []*buf{a, b}, writes: []*buf{out}, run: func() {
		x, y, z := a.f(), b.f(), out.f()
		p.each(c.workers, p.batch, func(i int) {
			tensor.Gemm(false, p.transB, p.m, p.n, p.k, 1, x[i%p.na*p.m*p.k:], p.k, y[i%p.nb*p.k*p.n:], p.ldb(), 0, z[i*p.m*p.n:], p.n)
		})
	}})
}

func (c *compiler) embeddingBack(id graph.ID, g *buf) {
	x := &c.nodes[id]
	if c.nodes[x.In[0]].batched {
		c.fetchBack(id, g)
		return
	}
	if !c.needs(x.In[0]) {
		return
	}
	dst, add := c.target(x.In[0])
	ids, table := c.val[x.In[1]], c.indexing(id, x.In[0])
	width := table.step
	c.emit(instr{reads: []*buf{g, ids, dst}, writes: []*buf{dst}, run: func() {
		d, s := dst.f(), g.f()
		if !add {
			clear(d)
		}
		parallel(c.workers, width, len(s), func(lo, hi int) {
			for i, k := range ids.f() {
				at := table.offset(k)
				row := d[at+lo : at+hi]
				tensor.VecAdd(row, row, s[i*width+lo:i*width+hi])
			}
		})
	}})
}

func beta(add bool) float32 {
	if add {
		return 1
	}
	return 0
}

func (c *compiler) linearBack(id graph.ID, g *buf) {
	node := &c.nodes[id]
	if c.nodes[node.In[1]].batched {
		c.matmulBack(id, g)
		return
	}
	w, s := c.val[node.In[1]], c.shape(node.In[1])
	k, n := s[1], s[0]
	if node.Transposed {
		k, n = n, k
	}
	m, ld, trans := g.size/n, s[1], node.Transposed
	if c.needs(node.In[1]) {
		x := c.again(node.In[0])
		dst, add := c.target(node.In[1])
		c.emit(instr{reads: []*buf{x, g, dst}, writes: []*buf{dst}, run: func() {
			if trans {
				tensor.GemmParallel(c.workers, true, false, k, n, m, 1, x.f(), k, g.f(), n, beta(add), dst.f(), n)
			} else {
				tensor.GemmParallel(c.workers, true, false, n, k, m, 1, g.f(), n, x.f(), k, beta(add), dst.f(), k)
			}
		}})
	}
	if c.needs(node.In[0]) {
		dst, add := c.target(node.In[0])
		in := instr{reads: []*buf{w, g}, writes: []*buf{dst}}
		if add {
			in.reads = append(in.reads, dst)
		}
		in.run = func() {
			c.timesWeight(trans, m, k, n, g.f(), w, ld, beta(add), dst.f())
		}
		c.emit(in)
	}
}

func (c *compiler) matmulBack(id graph.ID, g *buf) {
	x, p := &c.nodes[id], c.products(id)
	a, b := c.val[x.In[0]], c.val[x.In[1]]
	if c.needs(x.In[0]) {
		dst, add := c.target(x.In[0])
		c.emit(instr{reads: []*buf{b, g, dst}, writes: []*buf{dst}, run: func() {
			d, y, z := dst.f(), b.f(), g.f()
			p.each(c.workers, p.na, func(j int) {
				for i := j; i < p.batch; i += p.na {
					tensor.Gemm(false, !p.transB, p.m, p.k, p.n, 1, z[i*p.m*p.n:], p.n, y[i%p.nb*p.k*p.n:], p.ldb(), beta(add || i > j), d[j*p.m*p.k:], p.k)
				}
			})
		}})
	}
	if c.needs(x.In[1]) {
		dst, add := c.target(x.In[1])
		c.emit(instr{reads: []*buf{a, g, dst}, writes: []*buf{dst}, run: func() {
			d, y, z := dst.f(), a.f(), g.f()
			p.each(c.workers, p.nb, func(j int) {
				for i := j; i < p.batch; i += p.nb {
					u, v := y[i%p.na*p.m*p.k:], z[i*p.m*p.n:]
					if p.transB {
						tensor.Gemm(true, false, p.n, p.k, p.m, 1, v, p.n, u, p.k, beta(add || i > j), d[j*p.k*p.n:], p.k)
					} else {
						tensor.Gemm(true, false, p.k, p.n, p.m, 1, u, p.k, v, p.n, beta(add || i > j), d[j*p.k*p.n:], p.n)
					}
				}
			})
		}})
	}
}
