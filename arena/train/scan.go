package train

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// fuseScan finds s[t] = decay[t]·s[t-1] + in[t] along the first axis, unrolled
// over the tokens as package arch writes state space models.
func (n *net) fuseScan(x *node) {
	if x.Axis != 0 || len(x.In) < 2 {
		return
	}
	first, ok := n.is(x.In[0], graph.OpSlice)
	if !ok || !slices.Equal(n.shape(first.In[0]), x.Shape) {
		return
	}
	in, decay := first.In[0], graph.ID(-1)
	for t, id := range x.In {
		if t == 0 {
			if !n.isRow(id, in, 0) {
				return
			}
			continue
		}
		d, ok := n.scanStep(id, x.In[t-1], in, t)
		if !ok || t > 1 && d != decay {
			return
		}
		decay = d
	}
	if slices.Equal(n.shape(decay), x.Shape) {
		x.Op, x.In = opScan, []graph.ID{decay, in}
	}
}

// scanStep returns the decay of which a state takes row t.
func (n *net) scanStep(id, before, in graph.ID, t int) (decay graph.ID, ok bool) {
	sum, ok := n.is(id, graph.OpAdd)
	if !ok || !n.isRow(sum.In[1], in, t) {
		return 0, false
	}
	product, ok := n.is(sum.In[0], graph.OpMul)
	if !ok || product.In[1] != before {
		return 0, false
	}
	row, ok := n.is(product.In[0], graph.OpSlice)
	if !ok || !n.isRow(product.In[0], row.In[0], t) {
		return 0, false
	}
	return row.In[0], true
}

// isRow reports whether a value is row t of another.
func (n *net) isRow(id, of graph.ID, t int) bool {
	s, ok := n.is(id, graph.OpSlice)
	return ok && s.In[0] == of && s.Axis == 0 && s.Start == t && s.End == t+1
}

// scanned are the sizes of a scan.
type scanned struct{ seqs, t, width int }

func (c *compiler) scanned(id graph.ID) scanned {
	s := c.shape(id)
	return scanned{c.rows(id), s[0], count(s[1:])}
}

// at is the row of a sequence's token in a value, which may be the same for all.
func (s scanned) at(x []float32, seq, t, lo, hi int) []float32 {
	from := (seq*s.t + t) * s.width % len(x)
	return x[from+lo : from+hi]
}

func (c *compiler) scan(id graph.ID, decay, in *buf) {
	out, s := c.result(id), c.scanned(id)
	c.emit(instr{reads: []*buf{decay, in}, writes: []*buf{out}, run: func() {
		d, x, y := decay.f(), in.f(), out.f()
		parallel(c.workers, s.width, out.size, func(lo, hi int) {
			for seq := range s.seqs {
				for t := range s.t {
					to := s.at(y, seq, t, lo, hi)
					copy(to, s.at(x, seq, t, lo, hi))
					if t > 0 {
						tensor.VecMulAdd(to, s.at(d, seq, t, lo, hi), s.at(y, seq, t-1, lo, hi))
					}
				}
			}
		})
	}})
}

// scanBack runs backwards over the tokens; columns are shared among goroutines.
func (c *compiler) scanBack(id graph.ID, g *buf) {
	node, s := &c.nodes[id], c.scanned(id)
	decay, y := c.val[node.In[0]], c.val[id]
	ins := instr{reads: []*buf{decay, y, g}}
	var dst [2]*buf
	var add [2]bool
	for i, in := range node.In {
		if !c.needs(in) {
			continue
		}
		dst[i], add[i] = c.target(in)
		ins.writes = append(ins.writes, dst[i])
		if add[i] {
			ins.reads = append(ins.reads, dst[i])
		}
	}
	ins.run = func() {
		for i, b := range dst {
			if b != nil && !add[i] {
				clear(b.f())
			}
		}
		parallel(c.workers, s.width, g.size, func(lo, hi int) {
			sum := make([]float32, hi-lo)
			for seq := range s.seqs {
				clear(sum)
				for t := s.t - 1; t >= 0; t-- {
					if t < s.t-1 {
						tensor.VecMul(sum, sum, s.at(decay.f(), seq, t+1, lo, hi))
					}
					tensor.VecAdd(sum, sum, s.at(g.f(), seq, t, lo, hi))
					if dst[0] != nil && t > 0 {
						tensor.VecMulAdd(s.at(dst[0].f(), seq, t, lo, hi), sum, s.at(y.f(), seq, t-1, lo, hi))
					}
					if dst[1] != nil {
						d := s.at(dst[1].f(), seq, t, lo, hi)
						tensor.VecAdd(d, d, sum)
					}
				}
			}
		})
	}
	c.emit(ins)
}
