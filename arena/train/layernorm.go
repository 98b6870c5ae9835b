package train

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// fuseGain finds LayerNorm(x)·gain along the last axis.
func (n *net) fuseGain(x *node) {
	for i := range 2 {
		norm, ok := n.is(x.In[i], graph.OpLayerNorm)
		if ok && x.Op == graph.OpMul && n.perChannel(x.In[1-i], norm.Shape) && slices.Equal(norm.Shape, x.Shape) {
			x.Op, x.In, x.Scalar = opLayerNorm, []graph.ID{norm.In[0], x.In[1-i]}, norm.Scalar
			return
		}
	}
}

// fuseBias adds the bias to it.
func (n *net) fuseBias(x *node) {
	for i := range 2 {
		norm, ok := n.is(x.In[i], opLayerNorm)
		if ok && x.Op == graph.OpAdd && len(norm.In) == 2 && n.perChannel(x.In[1-i], norm.Shape) && slices.Equal(norm.Shape, x.Shape) {
			x.Op, x.In, x.Scalar = opLayerNorm, append(slices.Clone(norm.In), x.In[1-i]), norm.Scalar
			return
		}
	}
}

// perChannel reports whether a value is a weight with an element for each of the
// last axis.
func (n *net) perChannel(id graph.ID, shape []int) bool {
	w, ok := n.is(id, graph.OpWeight)
	return ok && len(w.Shape) == 1 && w.Shape[0] == shape[len(shape)-1]
}

// layerNorm emits a norm with its gain and bias. Of each row it keeps the mean and
// the reciprocal deviation.
func (c *compiler) layerNorm(id graph.ID, in []*buf) {
	out, node := c.result(id), &c.nodes[id]
	width := c.lastAxis(id)
	n := out.size / width
	kept := c.newBuf(2 * n)
	kept.exact = true
	c.inverse(id, kept)
	c.emit(instr{reads: in, writes: []*buf{out, kept}, inPlace: [][2]*buf{{in[0], out}}, run: func() {
		c.lines(n, width, func(i int) {
			x, y, k := in[0].f()[i*width:(i+1)*width], out.f()[i*width:(i+1)*width], kept.f()[2*i:2*i+2]
			k[0] = sum(x) / float32(width)
			for j, v := range x {
				y[j] = v - k[0]
			}
			k[1] = rms(y, node.Scalar)
			tensor.VecScale(y, y, k[1])
			tensor.VecMul(y, y, in[1].f())
			if len(in) == 3 {
				tensor.VecAdd(y, y, in[2].f())
			}
		})
	}})
}

// layerNormBack computes the normalised rows anew from what is kept.
func (c *compiler) layerNormBack(id graph.ID, g *buf) {
	node, kept := &c.nodes[id], c.inv[id]
	x, gain := c.val[node.In[0]], c.val[node.In[1]]
	width := c.lastAxis(id)
	n := g.size / width
	unit := func(y []float32, i, lo, hi int) {
		mean, inv := kept.f()[2*i], kept.f()[2*i+1]
		for j, v := range x.f()[i*width+lo : i*width+hi] {
			y[j] = (v - mean) * inv
		}
	}
	for k, in := range node.In[1:] {
		if !c.needs(in) {
			continue
		}
		dst, add := c.target(in)
		c.emit(instr{reads: []*buf{x, kept, g, dst}, writes: []*buf{dst}, run: func() {
			if !add {
				clear(dst.f())
			}
			parallel(c.workers, width, n*width, func(lo, hi int) {
				tmp, d := make([]float32, hi-lo), dst.f()[lo:hi]
				for i := range n {
					if u := g.f()[i*width+lo : i*width+hi]; k == 1 {
						tensor.VecAdd(d, d, u)
					} else {
						unit(tmp, i, lo, hi)
						tensor.VecMulAdd(d, tmp, u)
					}
				}
			})
		}})
	}
	if !c.needs(node.In[0]) {
		return
	}
	dst, add := c.target(node.In[0])
	ins := instr{reads: []*buf{x, gain, kept, g}, writes: []*buf{dst}}
	if add {
		ins.reads = append(ins.reads, dst)
	} else {
		ins.inPlace = [][2]*buf{{g, dst}, {x, dst}}
	}
	ins.run = func() {
		parallel(c.workers, n, n*width, func(lo, hi int) {
			y, u := make([]float32, width), make([]float32, width)
			for i := lo; i < hi; i++ {
				unit(y, i, 0, width)
				tensor.VecMul(u, g.f()[i*width:(i+1)*width], gain.f())
				centre(u, u)
				tensor.VecAxpy(u, y, -tensor.VecDot(u, y)/float32(width))
				if d := dst.f()[i*width : (i+1)*width]; add {
					tensor.VecAxpy(d, u, kept.f()[2*i+1])
				} else {
					tensor.VecScale(d, u, kept.f()[2*i+1])
				}
			}
		})
	}
	c.emit(ins)
}
