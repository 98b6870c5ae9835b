package gauge

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// axisOf names one axis of a value.
type axisOf struct {
	id   graph.ID
	axis int
}

// reach walks back from the outputs: what nothing reads is not live.
func reach(g *graph.Graph) []bool {
	live := make([]bool, len(g.Nodes))
	for _, o := range g.Outputs {
		live[o] = true
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		if live[i] || g.Nodes[i].Op == graph.OpOpaque {
			for _, in := range g.Nodes[i].In {
				live[in] = true
			}
		}
	}
	return live
}

// readParts finds the axes that slices and constant indices read only in
// parts, with what they read.
func (s *solver) readParts() {
	s.read = map[axisOf][]bool{}
	uses := make([]int, len(s.g.Nodes))
	partial := map[axisOf]int{}
	for _, o := range s.g.Outputs {
		uses[o]++
	}
	for i := range s.g.Nodes {
		n := &s.g.Nodes[i]
		if !s.live[i] {
			continue
		}
		for _, in := range n.In {
			uses[in]++
		}
		if (n.Op == graph.OpSlice || n.Op == graph.OpIndex) && !n.Int {
			if mask := s.touched(n); mask != nil {
				key := axisOf{n.In[0], n.Axis}
				partial[key]++
				s.note(key, mask)
			}
		}
	}
	for key, mask := range s.read {
		// A table of positions is torn whoever else reads all of it: at another
		// length the slice would have read other rows.
		others := partial[key] < uses[key.id]
		if !slices.Contains(mask, false) || others && !s.param[key.id] {
			delete(s.read, key)
		}
	}
}

func (s *solver) note(key axisOf, mask []bool) {
	old := s.read[key]
	if old == nil {
		s.read[key] = mask
		return
	}
	for i, b := range mask {
		old[i] = old[i] || b
	}
}

// touched returns what a slice or a constant index reads of its axis.
func (s *solver) touched(n *graph.Node) []bool {
	k := s.g.Shape(n.In[0])[n.Axis]
	mask := make([]bool, k)
	if n.Op == graph.OpSlice {
		for i := n.Start; i < n.End; i++ {
			mask[i] = true
		}
		return mask
	}
	ids := s.ints(n.In[1], k)
	if ids == nil {
		return nil
	}
	for _, i := range ids {
		mask[i] = true
	}
	return mask
}

// source is the scale of a value of whose axis a part is read. Which part that
// is of something computed from weights alone may depend on the input's length
// (a table of positions): unless other parts make up the rest, the axis is all
// alike. What nothing reads of any other value stays as it is.
func (s *solver) source(x graph.ID, axis int) scale {
	key := axisOf{x, axis}
	if s.among > 0 {
		key.axis--
	}
	mask := s.read[key]
	if mask == nil {
		return slices.Clone(s.val(x))
	}
	if s.param[x] {
		return slices.Clone(s.anyOf(x, axis))
	}
	v := s.val(x)
	for i := 0; i < len(mask); {
		j := i + 1
		for j < len(mask) && mask[j] == mask[i] {
			j++
		}
		if !mask[i] {
			s.pinStretch(v, axis, i, j)
		}
		i = j
	}
	delete(s.read, key)
	return slices.Clone(v)
}

// pinStretch fixes elements [lo,hi) of an axis along which a scale varies.
func (s *solver) pinStretch(v scale, axis, lo, hi int) {
	varies := false
	out := make(scale, len(v))
	for i, p := range v {
		varies = varies || p.dims[axis] > 1
		out[i] = p.slice(axis, lo, hi)
	}
	if varies {
		s.pinAll(out)
	}
}

// matrices finds the weights that are contracted, through moves and whatever
// else is computed from weights alone, and along which axis: those have a
// factor per row and one per column, all others one per element.
func (s *solver) matrices() {
	s.matrix = map[graph.ID]bool{}
	s.input = map[graph.ID]int{}
	mark := func(id graph.ID, axis int) {
		if axis >= 0 {
			s.input[id] = axis // the first reader's, which comes last here
		}
		s.matrix[id] = true
	}
	for i := len(s.g.Nodes) - 1; i >= 0; i-- {
		n := &s.g.Nodes[i]
		switch n.Op {
		case graph.OpEmbedding:
			mark(n.In[0], -1)
		case graph.OpConv:
			mark(n.In[1], 1)
		case graph.OpLinear:
			axis := 1
			if n.Transposed {
				axis = 0
			}
			mark(n.In[1], axis)
		case graph.OpMatMul:
			mark(n.In[0], len(n.Shape)-1)
			mark(n.In[1], len(n.Shape)-2)
		default:
			id := graph.ID(i)
			if !s.param[i] || !s.matrix[id] {
				continue
			}
			axis, ok := s.input[id]
			for _, in := range n.In {
				if ok {
					mark(in, s.before(n, in, axis))
				} else {
					mark(in, -1)
				}
			}
		}
	}
}

// before returns the axis of an operation's input that an axis of its result
// was, or -1.
func (s *solver) before(n *graph.Node, in graph.ID, axis int) int {
	from := s.g.Shape(in)
	switch n.Op {
	case graph.OpTranspose:
		return n.Perm[axis]
	case graph.OpReshape:
		for i := range from {
			if size(from[:i]) == size(n.Shape[:axis]) && from[i] == n.Shape[axis] {
				return i
			}
		}
		return -1
	case graph.OpIndex:
		if k := len(n.Shape) - len(from); axis > n.Axis+k {
			return axis - k
		} else if axis >= n.Axis {
			return -1
		}
		return axis
	}
	if len(from) != len(n.Shape) {
		return -1
	}
	return axis
}
