package train

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/elementwise"
	"github.com/neuroseal/neuroseal/tensor"
)

// alongLast emits softmax and what else works along the last axis.
func (c *compiler) alongLast(id graph.ID, x *buf) {
	out, node := c.result(id), &c.nodes[id]
	width := c.lastAxis(id)
	n := x.size / width
	ow := out.size / n
	in := instr{reads: []*buf{x}, writes: []*buf{out}}
	if ow == width && node.Op != graph.OpOneHot {
		in.inPlace = [][2]*buf{{x, out}}
	}
	in.run = func() {
		c.lines(n, width, func(i int) {
			rowwise(&node.Node, out.f()[i*ow:(i+1)*ow], x.f()[i*width:(i+1)*width])
		})
	}
	if node.Op == graph.OpRMSNorm || node.Op == graph.OpLayerNorm {
		inv := c.newBuf(n)
		c.inverse(id, inv)
		in.writes = append(in.writes, inv)
		in.run = func() {
			c.lines(n, width, func(i int) {
				inv.f()[i] = normalise(node.Op, out.f()[i*width:(i+1)*width], x.f()[i*width:(i+1)*width], node.Scalar)
			})
		}
	}
	c.emit(in)
}

// lastAxis is the length of the rows that an operation reads.
func (c *compiler) lastAxis(id graph.ID) int {
	s := c.shape(c.nodes[id].In[0])
	if len(s) == 0 || c.nodes[id].Op == graph.OpOneHot {
		return 1
	}
	return s[len(s)-1]
}

// normalise is a norm of one row; it returns the factor.
func normalise(op graph.Op, y, x []float32, eps float64) float32 {
	if op == graph.OpLayerNorm {
		centre(y, x)
		x = y
	}
	r := rms(x, eps)
	tensor.VecScale(y, x, r)
	return r
}

// centre subtracts the mean.
func centre(y, x []float32) {
	mean := sum(x) / float32(len(x))
	for i, v := range x {
		y[i] = v - mean
	}
}

// sum adds up in four interleaved sums.
func sum(x []float32) float32 {
	var s [4]float32
	for ; len(x) >= 4; x = x[4:] {
		s[0] += x[0]
		s[1] += x[1]
		s[2] += x[2]
		s[3] += x[3]
	}
	for _, v := range x {
		s[0] += v
	}
	return s[0] + s[1] + (s[2] + s[3])
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
		var sum float32 // out may be x
		for _, v := range x {
			sum += v
		}
		out[0] = sum
	case graph.OpMax:
		out[0] = x[largestAt(x)]
	case graph.OpArgMax:
		out[0] = float32(largestAt(x))
	case graph.OpCumSum:
		var sum float32
		for i, v := range x {
			sum += v
			out[i] = sum
		}
	case graph.OpTopKMask:
		best := topK(x, n.K)
		clear(out)
		for _, i := range best {
			out[i] = 1
		}
	case graph.OpTopKValues:
		x = slices.Clone(x) // out may be x
		for j, i := range topK(x, n.K) {
			out[j] = x[i]
		}
	case graph.OpTopKIndices:
		for j, i := range topK(x, n.K) {
			out[j] = float32(i)
		}
	case graph.OpOneHot:
		for i := range out {
			out[i] = elementwise.Truth(float32(i) == x[0])
		}
	}
}

// largestAt is the first place of the largest; of what is no number, the first.
func largestAt(x []float32) int {
	best := 0
	for i, v := range x {
		if v > x[best] || v != v && x[best] == x[best] {
			best = i
		}
	}
	return best
}

// topK returns the places of the k largest in falling order; of equals the first
// comes first.
func topK(x []float32, k int) []int {
	out, taken := make([]int, k), make([]bool, len(x))
	for j := range out {
		best := -1
		for i, v := range x {
			if !taken[i] && (best < 0 || v > x[best]) {
				best = i
			}
		}
		out[j], taken[best] = best, true
	}
	return out
}

// inverse keeps the reciprocal root mean squares of a norm for the way back.
func (c *compiler) inverse(id graph.ID, b *buf) {
	if c.inv == nil {
		c.inv = map[graph.ID]*buf{}
	}
	c.inv[id] = b
}

// rowsBack emits the gradients of softmax, y·(g - Σ g·y), of RMS norm,
// (g - y·mean(g·y)) / rms, and of layer norm, the same with g - mean(g) for g.
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
					if x.Op == graph.OpLayerNorm {
						centre(to, u)
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

// alongLastBack emits the gradients of what takes or adds up elements of rows.
func (c *compiler) alongLastBack(id graph.ID, g *buf) {
	node := &c.nodes[id]
	dst, add := c.target(node.In[0])
	x, width := c.val[node.In[0]], c.lastAxis(id)
	n := dst.size / width
	gw := g.size / n
	in := instr{reads: []*buf{x, g}, writes: []*buf{dst}}
	if add {
		in.reads = append(in.reads, dst)
	}
	in.run = func() {
		if !add {
			clear(dst.f())
		}
		c.lines(n, width, func(i int) {
			rowBack(&node.Node, dst.f()[i*width:(i+1)*width], g.f()[i*gw:(i+1)*gw], x.f()[i*width:(i+1)*width])
		})
	}
	c.emit(in)
}

// rowBack adds the gradient of one row to d; equals share that of their maximum.
func rowBack(n *graph.Node, d, g, x []float32) {
	switch n.Op {
	case graph.OpCumSum:
		var sum float32
		for i := len(g) - 1; i >= 0; i-- {
			sum += g[i]
			d[i] += sum
		}
	case graph.OpTopKValues:
		for j, i := range topK(x, n.K) {
			d[i] += g[j]
		}
	case graph.OpMax:
		top, equals := x[largestAt(x)], float32(0)
		for _, v := range x {
			equals += elementwise.Truth(v == top)
		}
		for i, v := range x {
			if v == top {
				d[i] += g[0] / equals
			}
		}
	}
}
