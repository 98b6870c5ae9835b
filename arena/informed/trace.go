package informed

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// source says where the elements of a value come from: element i holds element
// idx[i] of the value of a leaf.
type source struct {
	leaf graph.ID
	idx  []int32
}

// tracer follows values back through what only moves elements or works on them
// one by one. It reads a graph of one token, so that the elements of a
// projection's result are its rows.
type tracer struct {
	g       *graph.Graph
	through func(graph.Op) bool   // further operations to pass
	seen    map[graph.ID]bool     // nodes passed and leaves met by the last pull
	memo    map[graph.ID][]source // of the last pull
	readers map[graph.ID][]graph.ID
}

func newTracer(g *graph.Graph) *tracer {
	t := &tracer{g: g, readers: map[graph.ID][]graph.ID{}}
	for i := range g.Nodes {
		for _, in := range g.Nodes[i].In {
			t.readers[in] = append(t.readers[in], graph.ID(i))
		}
	}
	return t
}

// pull returns the sources of a value's elements. Where several feed an element
// (gate and up) all are listed; constants, and sums along an axis, are not.
func (t *tracer) pull(id graph.ID, through ...graph.Op) []source {
	t.through = func(o graph.Op) bool { return slices.Contains(through, o) }
	t.seen, t.memo = map[graph.ID]bool{}, map[graph.ID][]source{}
	return t.visit(id)
}

func (t *tracer) visit(id graph.ID) []source {
	if s, ok := t.memo[id]; ok {
		return s
	}
	s := t.step(id)
	t.memo[id] = s
	return s
}

func (t *tracer) step(id graph.ID) []source {
	n := &t.g.Nodes[id]
	switch n.Op {
	case graph.OpConst, graph.OpSum, graph.OpMax, graph.OpTopKMask:
		return nil
	case graph.OpAdd, graph.OpSub, graph.OpMul, graph.OpDiv, graph.OpMaximum, graph.OpMinimum:
		t.seen[id] = true
		var out []source
		for _, in := range n.In {
			index := broadcastIndex(t.g.Shape(in), n.Shape)
			out = append(out, moved(t.visit(in), index)...)
		}
		return out
	case graph.OpAddScalar, graph.OpMulScalar, graph.OpNeg, graph.OpAbs, graph.OpReLU, graph.OpLeakyReLU, graph.OpSiLU, graph.OpGELU,
		graph.OpGELUTanh, graph.OpTanh, graph.OpSigmoid, graph.OpSoftplus, graph.OpELU, graph.OpPow, graph.OpClamp, graph.OpReshape:
		t.seen[id] = true
		return t.visit(n.In[0])
	case graph.OpTranspose, graph.OpSlice, graph.OpExpand:
		t.seen[id] = true
		return moved(t.visit(n.In[0]), moveIndex(t.g.Shape(n.In[0]), n))
	case graph.OpConcat:
		t.seen[id] = true
		return t.concat(n)
	}
	t.seen[id] = true
	if t.through(n.Op) {
		return t.visit(n.In[0])
	}
	idx := make([]int32, elements(n.Shape))
	for i := range idx {
		idx[i] = int32(i)
	}
	return []source{{id, idx}}
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// moved returns sources as a move sees them: its element i is element index[i];
// elements without a source (-1) keep none.
func moved(in []source, index []int32) []source {
	out := make([]source, len(in))
	for k, s := range in {
		idx := make([]int32, len(index))
		for i, j := range index {
			idx[i] = s.idx[j]
		}
		out[k] = source{s.leaf, idx}
	}
	return out
}

// concat joins its inputs' sources; the k-th source of a leaf in one input is
// joined with the k-th of the same leaf in the others.
func (t *tracer) concat(n *graph.Node) []source {
	type key struct {
		leaf graph.ID
		k    int
	}
	var out []source
	at := map[key]int{}
	start := 0
	for _, in := range n.In {
		shape := t.g.Shape(in)
		index := sliceOf(n.Shape, n.Axis, start, shape[n.Axis])
		start += shape[n.Axis]
		count := map[graph.ID]int{}
		for _, s := range t.visit(in) {
			k := key{s.leaf, count[s.leaf]}
			count[s.leaf]++
			if _, ok := at[k]; !ok {
				at[k] = len(out)
				out = append(out, source{s.leaf, slices.Repeat([]int32{-1}, elements(n.Shape))})
			}
			for i, j := range index {
				out[at[k]].idx[j] = s.idx[i]
			}
		}
	}
	return out
}

func strides(shape []int) []int {
	st := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		st[i] = n
		n *= shape[i]
	}
	return st
}

// visitAll counts through a shape in C order, with the offset that the strides
// give.
func visitAll(shape, stride []int, start int) []int32 {
	out := make([]int32, 0, elements(shape))
	idx := make([]int, len(shape))
	off := start
	for range elements(shape) {
		out = append(out, int32(off))
		for a := len(shape) - 1; a >= 0; a-- {
			idx[a]++
			off += stride[a]
			if idx[a] < shape[a] {
				break
			}
			off -= stride[a] * shape[a]
			idx[a] = 0
		}
	}
	return out
}

// broadcastIndex gives, per element of shape, the operand's element.
func broadcastIndex(operand, shape []int) []int32 {
	st := make([]int, len(shape))
	full := strides(operand)
	for i, d := range operand {
		if d > 1 {
			st[len(shape)-len(operand)+i] = full[i]
		}
	}
	return visitAll(shape, st, 0)
}

// moveIndex gives, per element of a move's result, the element that it takes.
func moveIndex(from []int, n *graph.Node) []int32 {
	st := strides(from)
	switch n.Op {
	case graph.OpTranspose:
		p := make([]int, len(st))
		for i, a := range n.Perm {
			p[i] = st[a]
		}
		return visitAll(n.Shape, p, 0)
	case graph.OpSlice:
		return visitAll(n.Shape, st, n.Start*st[n.Axis])
	}
	return broadcastIndex(from, n.Shape)
}

// sliceOf gives the elements of a part of one axis.
func sliceOf(shape []int, axis, start, length int) []int32 {
	st := strides(shape)
	part := slices.Clone(shape)
	part[axis] = length
	return visitAll(part, st, start*st[axis])
}

// private reports whether all that the last pull passed is read by what it
// passed, or by the node that it started for: nothing else sees the order.
func (t *tracer) private(root graph.ID) bool {
	for id := range t.seen {
		if t.g.Nodes[id].Op == graph.OpWeight && len(t.readers[id]) > 1 {
			return false
		}
		for _, r := range t.readers[id] {
			if r != root && !t.seen[r] {
				return false
			}
		}
	}
	return true
}
