package train

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// alongLast emits softmax, RMS norm, sum and top-k mask.
func (c *compiler) alongLast(id graph.ID, x *buf) {
	out, node := c.result(id), &c.nodes[id]
	s := c.shape(node.In[0])
	width := s[len(s)-1]
	n := x.size / width
	ow := out.size / n
	in := instr{reads: []*buf{x}, writes: []*buf{out}}
	if ow == width {
		in.inPlace = [][2]*buf{{x, out}}
	}
	in.run = func() {
		c.lines(n, width, func(i int) {
			rowwise(&node.Node, out.f()[i*ow:(i+1)*ow], x.f()[i*width:(i+1)*width])
		})
	}
	if node.Op == graph.OpRMSNorm {
		inv := c.newBuf(n)
		c.inverse(id, inv)
		in.writes = append(in.writes, inv)
		in.run = func() {
			c.lines(n, width, func(i int) {
				row := x.f()[i*width : (i+1)*width]
				r := rms(row, node.Scalar)
				inv.f()[i] = r
				tensor.VecScale(out.f()[i*width:(i+1)*width], row, r)
			})
		}
	}
	c.emit(in)
}

// rms is 1 / sqrt(mean(x²) + eps), with the mean in float32 as runtimes have it.
func rms(x []float32, eps float64) float32 {
	mean := tensor.VecDot(x, x) / float32(len(x))
	return float32(1 / math.Sqrt(float64(mean+float32(eps))))
}

// lines runs f on rows of width elements.
func (c *compiler) lines(n, width int, f func(i int)) {
	parallel(c.workers, n, n*width, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			f(i)
		}
	})
}

func rowwise(n *graph.Node, out, x []float32) {
	switch n.Op {
	case graph.OpSoftmax:
		copy(out, x)
		tensor.SoftmaxRow(out)
	case graph.OpSum:
		out[0] = 0
		for _, v := range x {
			out[0] += v
		}
	case graph.OpTopKMask:
		topK(out, slices.Clone(x), n.K)
	}
}

// topK marks the k largest; of equals, the first.
func topK(mark, x []float32, k int) {
	clear(mark)
	for range k {
		best := -1
		for i, v := range x {
			if mark[i] == 0 && (best < 0 || v > x[best]) {
				best = i
			}
		}
		mark[best] = 1
	}
}

// inverse keeps the reciprocal root mean squares of a norm for the way back.
func (c *compiler) inverse(id graph.ID, b *buf) {
	if c.inv == nil {
		c.inv = map[graph.ID]*buf{}
	}
	c.inv[id] = b
}

// rowsBack emits the gradients of softmax, y·(g - Σ g·y), and of RMS norm,
// (g - y·mean(g·y)) / rms.
func (c *compiler) rowsBack(id graph.ID, g *buf) {
	x := &c.nodes[id]
	dst, add := c.target(x.In[0])
	y, inv := c.val[id], c.inv[id]
	width := x.Shape[len(x.Shape)-1]
	in := instr{reads: []*buf{y, g}, writes: []*buf{dst}}
	if inv != nil {
		in.reads = append(in.reads, inv)
	}
	if add {
		in.reads = append(in.reads, dst)
	} else {
		in.inPlace = [][2]*buf{{g, dst}}
	}
	in.run = func() {
		parallel(c.workers, g.size/width, g.size, func(lo, hi int) {
			tmp := make([]float32, width)
			for i := lo; i < hi; i++ {
				u, v, d := g.f()[i*width:(i+1)*width], y.f()[i*width:(i+1)*width], dst.f()[i*width:(i+1)*width]
				to := d
				if add {
					to = tmp
				}
				dot := tensor.VecDot(u, v)
				if inv == nil {
					for j := range to {
						to[j] = v[j] * (u[j] - dot)
					}
				} else {
					if add {
						copy(to, u)
					} else if &to[0] != &u[0] {
						copy(to, u)
					}
					tensor.VecAxpy(to, v, -dot/float32(width))
					tensor.VecScale(to, to, inv.f()[i])
				}
				if add {
					tensor.VecAdd(d, d, tmp)
				}
			}
		})
	}
	c.emit(in)
}
