package train

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// fuse replaces patterns by single operations. What they leave unused is swept
// away afterwards; what is used elsewhere too stays.
func (n *net) fuse() {
	for i := range n.nodes {
		x := &n.nodes[i]
		switch x.Op {
		case graph.OpMul:
			n.fuseSwiGLU(x)
			n.fuseGain(x)
		case graph.OpAdd:
			n.fuseRotary(x)
			n.fuseBias(x)
		case graph.OpConcat:
			n.fuseScan(x)
		case graph.OpMatMul:
			if !n.fuseAttention(x) {
				n.fuseTranspose(x)
			}
		}
	}
}

// is reports whether a value is made by an operation, and returns its node.
func (n *net) is(id graph.ID, op graph.Op) (*node, bool) {
	x := &n.nodes[id]
	return x, x.Op == op
}

// fuseSwiGLU finds SiLU(gate)·up.
func (n *net) fuseSwiGLU(x *node) {
	for i := range 2 {
		act, ok := n.is(x.In[i], graph.OpSiLU)
		other := x.In[1-i]
		if ok && slices.Equal(act.Shape, x.Shape) && slices.Equal(n.shape(other), x.Shape) {
			x.Op, x.In = opSwiGLU, []graph.ID{act.In[0], other}
			return
		}
	}
}

// fuseRotary finds x·cos + cat(-x₂, x₁)·sin along the last axis.
func (n *net) fuseRotary(x *node) {
	left, ok1 := n.is(x.In[0], graph.OpMul)
	right, ok2 := n.is(x.In[1], graph.OpMul)
	if !ok1 || !ok2 || len(x.Shape) != 3 {
		return
	}
	src, axis := left.In[0], len(x.Shape)-1
	width := x.Shape[axis]
	cat, ok := n.is(right.In[0], graph.OpConcat)
	if !ok || len(cat.In) != 2 || cat.Axis != axis || width%2 != 0 {
		return
	}
	neg, ok := n.is(cat.In[0], graph.OpNeg)
	if !ok {
		return
	}
	hi, ok1 := n.is(neg.In[0], graph.OpSlice)
	lo, ok2 := n.is(cat.In[1], graph.OpSlice)
	if !ok1 || !ok2 || hi.In[0] != src || lo.In[0] != src || hi.Axis != axis || lo.Axis != axis ||
		hi.Start != width/2 || hi.End != width || lo.Start != 0 || lo.End != width/2 {
		return
	}
	table := []int{x.Shape[1], width}
	for _, t := range []graph.ID{left.In[1], right.In[1]} {
		if c, ok := n.is(t, graph.OpConst); !ok || !slices.Equal(c.Shape, table) {
			return
		}
	}
	x.Op, x.In = opRotary, []graph.ID{src, left.In[1], right.In[1]}
}

// fuseTranspose reads a transposed second operand where it lies.
func (n *net) fuseTranspose(x *node) {
	t, ok := n.is(x.In[1], graph.OpTranspose)
	r := len(x.Shape)
	if !ok || t.Perm[r-1] != r-2 || t.Perm[r-2] != r-1 {
		return
	}
	for i, p := range t.Perm[:r-2] {
		if p != i {
			return
		}
	}
	x.In, x.transB = []graph.ID{x.In[0], t.In[0]}, true
}

// fuseAttention finds softmax(scale·q·kᵀ + mask)·v with a mask that leaves each
// row one run of columns.
func (n *net) fuseAttention(x *node) bool {
	p, ok := n.is(x.In[0], graph.OpSoftmax)
	if !ok || len(x.Shape) != 3 {
		return false
	}
	masked, ok := n.is(p.In[0], graph.OpAdd)
	if !ok {
		return false
	}
	scores, ok1 := n.is(masked.In[0], graph.OpMulScalar)
	mask, ok2 := n.is(masked.In[1], graph.OpConst)
	if !ok1 || !ok2 || len(mask.Shape) != 2 || mask.Shape[0] != mask.Shape[1] || mask.Shape[0] != x.Shape[1] {
		return false
	}
	product, ok := n.is(scores.In[0], graph.OpMatMul)
	if !ok || !product.transB {
		return false
	}
	extents := extentsOf(mask.Data, mask.Shape[0])
	q, k, v := product.In[0], n.unrepeated(product.In[1]), n.unrepeated(x.In[1])
	if extents == nil || !slices.Equal(n.shape(k), n.shape(v)) || n.shape(q)[0]%n.shape(k)[0] != 0 ||
		!slices.Equal(n.shape(q)[1:], n.shape(k)[1:]) || q == k || q == v || k == v {
		return false
	}
	x.Op, x.In, x.Scalar, x.extents = opAttention, []graph.ID{q, k, v}, scores.Scalar, extents
	return true
}

// unrepeated returns the heads before they were repeated for grouped queries.
func (n *net) unrepeated(id graph.ID) graph.ID {
	outer, ok := n.is(id, graph.OpReshape)
	if !ok {
		return id
	}
	e, ok := n.is(outer.In[0], graph.OpExpand)
	if !ok {
		return id
	}
	inner, ok := n.is(e.In[0], graph.OpReshape)
	if !ok || len(e.Shape) != 4 || len(outer.Shape) != 3 {
		return id
	}
	from := n.shape(inner.In[0])
	if len(from) != 3 || !slices.Equal(inner.Shape, []int{from[0], 1, from[1], from[2]}) ||
		!slices.Equal(outer.Shape, []int{e.Shape[0] * e.Shape[1], from[1], from[2]}) {
		return id
	}
	return inner.In[0]
}

// extentsOf returns the run of columns that every row of a mask lets through, or
// nil if the mask is of another kind.
func extentsOf(mask []float32, n int) [][2]int {
	out := make([][2]int, n)
	for i := range out {
		row := mask[i*n : (i+1)*n]
		lo := 0
		for lo < n && row[lo] < -1e30 {
			lo++
		}
		hi := lo
		for hi < n && row[hi] == 0 {
			hi++
		}
		for _, v := range row[hi:] {
			if v >= -1e30 {
				return nil
			}
		}
		if lo == hi {
			return nil
		}
		out[i] = [2]int{lo, hi}
	}
	return out
}
