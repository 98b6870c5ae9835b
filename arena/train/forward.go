package train

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/elementwise"
	"github.com/neuroseal/neuroseal/tensor"
)

// forward emits the computation of a node.
func (c *compiler) forward(id graph.ID) {
	x := &c.nodes[id]
	var in []*buf
	for _, i := range x.In {
		in = append(in, c.val[i])
	}
	switch x.Op {
	case graph.OpWeight:
		p := x.param
		c.leaf[p] = fixed(p.size())
		c.val[id] = c.leaf[p]
		if p.Trained {
			c.leafG[p] = fixed(p.size())
		}
	case graph.OpConst:
		c.val[id] = fixed(len(x.Data))
		c.val[id].data = x.Data
	case graph.OpTokens:
		c.val[id] = c.tokens
	case graph.OpInput:
		c.val[id] = fixed(c.size(id))
		c.inputs[x.Name] = c.val[id]
	case graph.OpReshape:
		c.val[id] = in[0]
	case graph.OpEmbedding:
		c.embedding(id, in[0], in[1])
	case graph.OpLinear:
		if !c.splitHead(id) {
			c.linear(id, in[0], in[1])
		}
	case graph.OpMatMul:
		c.matmul(id, in[0], in[1])
	case graph.OpConv:
		c.conv(id, in[0], in[1])
	case graph.OpAdd, graph.OpSub, graph.OpMul, graph.OpDiv, graph.OpMaximum, graph.OpMinimum,
		graph.OpEqual, graph.OpLess, graph.OpAnd, graph.OpOr:
		c.binary(id, in[0], in[1])
	case graph.OpWhere:
		c.where(id, in[0], in[1], in[2])
	case graph.OpTranspose, graph.OpSlice, graph.OpExpand:
		out := c.result(id)
		n, from := c.move(id), c.skip(id)
		c.emit(instr{reads: in, writes: []*buf{out}, run: func() { c.copyNest(n, out.f(), in[0].f()[from:], false) }})
	case graph.OpConcat:
		c.concat(id, in)
	case graph.OpPad:
		c.pad(id, in[0])
	case graph.OpFlip, graph.OpIndex, graph.OpGather:
		c.fetch(id, in)
	case graph.OpScatter, graph.OpScatterAdd:
		c.scatter(id, in)
	case graph.OpSoftmax, graph.OpRMSNorm, graph.OpLayerNorm, graph.OpSum, graph.OpMax, graph.OpArgMax, graph.OpCumSum,
		graph.OpTopKMask, graph.OpTopKValues, graph.OpTopKIndices, graph.OpOneHot:
		c.alongLast(id, in[0])
	case opLayerNorm:
		c.layerNorm(id, in)
	case opSwiGLU:
		out := c.result(id)
		c.emit(instr{reads: in, writes: []*buf{out}, inPlace: [][2]*buf{{in[0], out}, {in[1], out}}, run: func() {
			c.flat(out.size, func(lo, hi int) { tensor.SwiGLU(out.f()[lo:hi], in[0].f()[lo:hi], in[1].f()[lo:hi]) })
		}})
	case opRotary:
		c.rotary(id, in, c.result(id), false, false)
	case opAttention:
		c.attention(id, in)
	case opScan:
		c.scan(id, in[0], in[1])
	case opDoRAScale:
		c.doraScale(id, in)
	default:
		c.unary(id, in[0])
	}
}

// boxes returns the box of a node's value, and the strides in it of the value and
// of two inputs.
func (c *compiler) boxes(id graph.ID) (dims, out, a, b []int) {
	x := &c.nodes[id]
	r := len(x.Shape)
	dims = c.box(id, r)
	return dims, dense(dims), stretched(c.box(x.In[0], r)), stretched(c.box(x.In[1], r))
}

func (c *compiler) binary(id graph.ID, x, y *buf) {
	out, op := c.result(id), c.nodes[id].Op
	dims, so, sx, sy := c.boxes(id)
	n := newNest(dims, so, sx, sy)
	in := instr{reads: []*buf{x, y}, writes: []*buf{out}, inPlace: [][2]*buf{{x, out}, {y, out}}}
	in.run = func() {
		d, a, b := out.f(), x.f(), y.f()
		ix, iy := n.inner(1), n.inner(2)
		n.run(c.workers, func(o [3]int, w int) { binaryRow(op, d[o[0]:o[0]+w], a[o[1]:], ix, b[o[2]:], iy) })
	}
	c.emit(in)
}

func binaryRow(op graph.Op, d, a []float32, sa int, b []float32, sb int) {
	w := len(d)
	if op == graph.OpMul {
		mulRow(d, 1, a, sa, b, sb, w, false)
		return
	}
	if op == graph.OpAdd && sa == 1 && sb == 1 {
		tensor.VecAdd(d, a[:w], b[:w])
		return
	}
	f := elementwise.Binary(op)
	if f == nil {
		panic(fmt.Sprintf("train: no rule to compute %v", op))
	}
	for i := range d {
		d[i] = f(a[i*sa], b[i*sb])
	}
}
