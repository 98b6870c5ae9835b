package gauge

import "slices"

// Merge restricts a solution to factors that are constant on blocks: block
// returns, for a matrix, the block length along its input axis (1: free).
// Classes that meet in a block become one; classes that meet an element
// without a class are dropped, since that element cannot move with them.
// Groups keep their ids and places; one that is left without classes has
// Classes 0. FreeDims is kept: it describes the network, not the restriction.
func (s *Solution) Merge(block func(t *Tensor) int) *Solution {
	m := newMerger(s)
	for i := range s.Tensors {
		t := &s.Tensors[i]
		if t.Input < 0 {
			continue
		}
		length := block(t)
		for _, ax := range t.Terms {
			if length > 1 && slices.Contains(ax.Axes, t.Input) {
				m.blocks(ax, t, length)
			}
		}
	}
	return m.result()
}

// merger is a union-find over all classes; element 0 stands for "cannot move".
type merger struct {
	s      *Solution
	base   []int // first element of each group
	parent []int32
}

func newMerger(s *Solution) *merger {
	m := &merger{s: s}
	n := 1
	for _, g := range s.Groups {
		m.base = append(m.base, n)
		n += g.Classes
	}
	m.parent = make([]int32, n)
	for i := range m.parent {
		m.parent[i] = int32(i)
	}
	return m
}

func (m *merger) find(x int32) int32 {
	for m.parent[x] != x {
		m.parent[x] = m.parent[m.parent[x]]
		x = m.parent[x]
	}
	return x
}

// union keeps the smaller element as root, so that "cannot move" wins and
// merged classes are numbered in their old order.
func (m *merger) union(a, b int32) {
	a, b = m.find(a), m.find(b)
	if a > b {
		a, b = b, a
	}
	m.parent[b] = a
}

// blocks joins the classes of each block along the input axis, which is the
// last of the term's axes or, for a transposed weight, stands alone.
func (m *merger) blocks(ax Axis, t *Tensor, length int) {
	width := t.Shape[t.Input]
	for start := 0; start < ax.Len; start += length {
		// A block never runs over the end of the input axis.
		end := min(start+length, (start/width+1)*width)
		m.join(ax, start, end)
	}
}

// join makes elements [lo,hi) of a term move alike, one class per summand.
func (m *merger) join(ax Axis, lo, hi int) {
	type summand struct{ group, coef int }
	first := map[summand]int32{}
	next := map[summand]int{} // where the summand has to go on
	var order []summand
	for _, sg := range ax.Segments {
		k := summand{sg.Group, sg.Coef}
		from, to := max(lo, sg.Start), min(hi, sg.Start+sg.Count)
		if from >= to {
			continue
		}
		if _, ok := first[k]; !ok {
			first[k], next[k] = int32(m.base[sg.Group]+sg.First+(from-sg.Start)/sg.Div), lo
			order = append(order, k)
		}
		for i := from; i < to; i++ {
			m.union(first[k], int32(m.base[sg.Group]+sg.First+(i-sg.Start)/sg.Div))
		}
		if next[k] == from {
			next[k] = to
		} else {
			next[k] = -1 // a gap, or an element with two such classes
		}
	}
	for _, k := range order {
		if next[k] != hi {
			m.union(first[k], 0)
		}
	}
}

func (m *merger) result() *Solution {
	s := m.s
	out := *s
	out.Groups = slices.Clone(s.Groups)
	number := make([][]int32, len(s.Groups)) // new class of each old one, -1 dropped
	for g := range s.Groups {
		number[g] = make([]int32, s.Groups[g].Classes)
		n := int32(0)
		for c := range number[g] {
			number[g][c] = -1
			if int(m.find(int32(m.base[g]+c))) == m.base[g]+c {
				number[g][c] = n
				n++
			}
		}
		out.Groups[g].Classes = int(n)
	}
	// Classes only ever join within their group.
	resolve := func(g, c int) (int, bool) {
		r := int(m.find(int32(m.base[g] + c)))
		if r == 0 {
			return 0, false
		}
		return int(number[g][r-m.base[g]]), true
	}
	out.Tensors = make([]Tensor, len(s.Tensors))
	out.Holes = nil
	for i, t := range s.Tensors {
		had := len(t.Terms) > 0
		var terms []Axis
		for _, ax := range t.Terms {
			if n := renumber(ax, resolve); len(n.Segments) > 0 {
				terms = append(terms, n)
			}
		}
		t.Terms = terms
		out.Tensors[i] = t
		if len(terms) == 0 {
			why := "its factors would have to change inside a quantisation block"
			if !had {
				why = s.hole(t.Name)
			}
			out.Holes = append(out.Holes, Hole{t.Name, why})
		}
	}
	return &out
}

func (s *Solution) hole(name string) string {
	for _, h := range s.Holes {
		if h.Tensor == name {
			return h.Why
		}
	}
	return ""
}

// renumber rewrites an axis to merged classes.
func renumber(ax Axis, class func(g, c int) (int, bool)) Axis {
	out := Axis{Axes: ax.Axes, Len: ax.Len}
	for _, sg := range ax.Segments {
		for i := 0; i < sg.Count; {
			// Elements of one old class have one new class.
			n := min(sg.Div-i%sg.Div, sg.Count-i)
			if c, ok := class(sg.Group, sg.First+i/sg.Div); ok {
				out.Segments = extend(out.Segments, Segment{sg.Start + i, n, sg.Group, c, n, sg.Coef})
			}
			i += n
		}
	}
	out.Segments = slices.Clip(out.Segments)
	return compress(out)
}

// Exponents evaluates a term: the exponent of each of its elements, given the
// exponents of the classes of every group.
func (ax Axis) Exponents(e [][]int16) []int {
	out := make([]int, ax.Len)
	for _, sg := range ax.Segments {
		for i := range sg.Count {
			out[sg.Start+i] += sg.Coef * int(e[sg.Group][sg.First+i/sg.Div])
		}
	}
	return out
}
