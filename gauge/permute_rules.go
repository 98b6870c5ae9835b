package gauge

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// permuter finds out which elements of which axes are treated alike.
type permuter struct {
	atoms
	g      *graph.Graph
	s      *solver // what slices read, and which axis of a weight is contracted
	axes   [][]sequence
	domain []sequence        // of ids: the axis whose elements they number
	branch map[graph.ID]bool // slices that are one expert's share
	stays  func(w string) bool
}

// node applies the rule of one operation: whatever treats elements of an axis
// differently keeps them where they are.
func (p *permuter) node(id graph.ID) {
	n := &p.g.Nodes[id]
	p.ids(id, n)
	in := func(i int) []sequence { return p.axes[n.In[i]] }
	last := len(n.Shape) - 1
	out := make([]sequence, len(n.Shape))
	switch n.Op {
	case graph.OpWeight:
		out = p.leaf(n.Shape, p.stays(n.Name))
	case graph.OpConst:
		out = p.leaf(n.Shape, !uniformData(n.Data))
	case graph.OpEmbedding:
		p.pinAxes(in(0)) // the residual stream
		out = append(slices.Clone(in(1)), in(0)[1])
	case graph.OpLinear:
		w := in(1)
		if n.Transposed {
			w = []sequence{w[1], w[0]}
		}
		p.align(in(0)[last], w[1])
		copy(out, in(0)[:last])
		out[last] = w[0]
	case graph.OpMatMul:
		p.align(in(0)[last], in(1)[last-1])
		for i := range last - 1 {
			out[i] = p.meet(in(0)[i], in(1)[i])
		}
		out[last-1], out[last] = in(0)[last-1], in(1)[last]
	case graph.OpConv:
		out = p.conv(n)
	case graph.OpSoftmax, graph.OpRMSNorm, graph.OpLayerNorm, graph.OpTopKMask:
		out = in(0)
	case graph.OpSum, graph.OpMax, graph.OpArgMax:
		copy(out, in(0)[:last])
	case graph.OpTopKValues, graph.OpTopKIndices:
		copy(out, in(0)[:last])
		out[last] = p.fixed(n.K)
	case graph.OpCumSum:
		p.pinAxis(in(0)[last])
		out = in(0)
	case graph.OpOneHot:
		copy(out, in(0))
		out[last] = sequence{p.fresh(n.K, false)}
		p.lookup(out[last], p.domain[n.In[0]])
	case graph.OpScatter, graph.OpScatterAdd:
		p.along(n, 1)
		for i := range in(1) {
			p.align(in(1)[i], in(2)[i])
		}
		out = in(0)
	default:
		switch {
		case elementwise(n.Op):
			for _, x := range n.In {
				off := len(n.Shape) - len(p.axes[x])
				for i, s := range p.axes[x] {
					out[off+i] = p.meet(out[off+i], s)
				}
			}
		case n.Op.Move():
			out = p.move(id, n)
		default: // inputs of the network, and operations that nobody knows
			for _, x := range n.In {
				p.pinAxes(p.axes[x])
			}
			out = p.leaf(n.Shape, true)
		}
	}
	p.axes[id] = out
}

func (p *permuter) leaf(shape []int, pinned bool) []sequence {
	out := make([]sequence, len(shape))
	for i, d := range shape {
		if d > 1 {
			out[i] = sequence{p.fresh(d, pinned)}
		}
	}
	return out
}

// fixed is an axis whose elements stay.
func (p *permuter) fixed(n int) sequence {
	if n == 1 {
		return nil
	}
	return sequence{p.fresh(n, true)}
}

func (p *permuter) pinAxes(axes []sequence) {
	for _, s := range axes {
		p.pinAxis(s)
	}
}

// meet aligns two axes, of which one may have length 1 and be repeated.
func (p *permuter) meet(s, t sequence) sequence {
	switch {
	case p.length(s) == 1:
		return t
	case p.length(t) > 1:
		p.align(s, t)
	}
	return s
}

func (p *permuter) length(s sequence) int {
	if s == nil {
		return 1
	}
	n := 0
	for _, x := range s {
		n += p.size(x)
	}
	return n
}

func uniformData(data []float32) bool {
	return !slices.ContainsFunc(data, func(x float32) bool { return x != data[0] })
}

// ids follows numbers of elements through moves. Whoever does anything with them
// but to look elements up keeps these elements in their order.
func (p *permuter) ids(id graph.ID, n *graph.Node) {
	for i, x := range n.In {
		d := p.domain[x]
		if d == nil {
			continue
		}
		lookup := (n.Op == graph.OpIndex || n.Op == graph.OpGather || n.Op == graph.OpScatter || n.Op == graph.OpScatterAdd) && i == 1
		moved := n.Op.Move() && i == 0 && n.Op != graph.OpConcat && n.Op != graph.OpPad
		if moved {
			p.domain[id] = d
		}
		if !lookup && !moved && n.Op != graph.OpOneHot {
			p.pinAxis(d)
		}
	}
	if n.Op == graph.OpArgMax || n.Op == graph.OpTopKIndices {
		s := p.axes[n.In[0]]
		p.domain[id] = s[len(s)-1]
	}
}

// along aligns the axes of a value with those of the ids that pick elements of
// one of them.
func (p *permuter) along(n *graph.Node, ids int) {
	x, y := n.In[0], n.In[ids]
	for i := range p.axes[x] {
		switch {
		case i == n.Axis:
			p.lookup(p.axes[x][i], p.domain[y])
		case p.g.Shape(x)[i] == p.g.Shape(y)[i]:
			p.align(p.axes[x][i], p.axes[y][i])
		default:
			p.pinAxis(p.axes[x][i])
			p.pinAxis(p.axes[y][i])
		}
	}
}

// lookup says that ids pick elements of an axis: those that they number.
func (p *permuter) lookup(s, domain sequence) {
	if domain != nil && p.length(s) == p.length(domain) {
		p.align(s, domain)
		return
	}
	p.pinAxis(s)
	p.pinAxis(domain)
}

func (p *permuter) conv(n *graph.Node) []sequence {
	x, w := p.axes[n.In[0]], p.axes[n.In[1]]
	shape, groups := p.g.Shape(n.In[1]), n.Conv.Groups
	p.pinAxes(x[2:])
	p.pinAxes(w[2:])
	if groups == 1 {
		p.align(x[1], w[1])
	} else {
		c := p.reshape(x[1:2], []int{groups * shape[1]}, []int{groups, shape[1]})
		o := p.reshape(w[:1], shape[:1], []int{groups, shape[0] / groups})
		p.align(c[0], o[0])
		p.align(c[1], w[1])
	}
	out := p.leaf(n.Shape, true)
	out[0], out[1] = x[0], w[0]
	return out
}

func (p *permuter) move(id graph.ID, n *graph.Node) []sequence {
	x := n.In[0]
	from := p.axes[x]
	out := slices.Clone(from)
	switch n.Op {
	case graph.OpReshape:
		return p.reshape(from, p.g.Shape(x), n.Shape)
	case graph.OpTranspose:
		for i, a := range n.Perm {
			out[i] = from[a]
		}
	case graph.OpExpand:
		for i, d := range n.Shape {
			if p.g.Shape(x)[i] != d {
				out[i] = sequence{p.fresh(d, false)} // all alike: any order is the same
			}
		}
	case graph.OpSlice:
		out[n.Axis] = p.stretch(id, n)
	case graph.OpConcat:
		var s sequence
		for _, y := range n.In {
			for i := range out {
				if i != n.Axis {
					out[i] = p.meet(out[i], p.axes[y][i])
				}
			}
			if s = append(s, p.axes[y][n.Axis]...); p.axes[y][n.Axis] == nil {
				s = append(s, nil)
			}
		}
		out[n.Axis] = s
	case graph.OpFlip, graph.OpPad:
		p.pinAxis(from[n.Axis])
		out[n.Axis] = p.fixed(n.Shape[n.Axis])
	case graph.OpIndex:
		p.lookup(from[n.Axis], p.domain[n.In[1]])
		return slices.Concat(from[:n.Axis], p.axes[n.In[1]], from[n.Axis+1:])
	case graph.OpGather:
		p.along(n, 1)
		return p.axes[n.In[1]]
	}
	return out
}

// stretch is the axis that a slice reads a part of. If no other slices read the
// rest, which part that is may depend on the input's length.
func (p *permuter) stretch(id graph.ID, n *graph.Node) sequence {
	x := n.In[0]
	s := p.axes[x][n.Axis]
	k := n.End - n.Start
	switch {
	case k == p.g.Shape(x)[n.Axis]:
		return s
	case p.branch[id]:
		return nil
	case p.s.read[axisOf{x, n.Axis}] != nil:
		p.pinAxis(s)
		return p.fixed(k)
	}
	return p.slice(s, n.Start, n.End)
}
