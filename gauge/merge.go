package gauge

import "slices"

// Partition divides an axis of a weight into parts whose elements must move
// alike: stretches of Block elements, the last perhaps shorter; or, where Of is
// set, the elements of the same number in it, wherever they stand.
type Partition struct {
	Axis  int
	Block int
	Of    []int32 // one number, from 0 on, for each element of the axis
}

// Merge restricts a solution to factors that are constant on blocks: block
// returns, for a matrix, the block length along its input axis (1: free).
// It is Restrict for what most matrices need.
func (s *Solution) Merge(block func(t *Tensor) int) *Solution {
	return s.Restrict(func(t *Tensor) []Partition {
		if t.Input < 0 {
			return nil
		}
		return []Partition{{Axis: t.Input, Block: block(t)}}
	})
}

// Restrict restricts a solution to factors that are constant on the parts of
// the given axes of each weight. Classes that meet in a part become one; classes
// that meet an element without a class are dropped, since that element cannot
// move with them. Groups keep their ids and places; one that is left without
// classes has Classes 0. FreeDims is kept: it describes the network, not the
// restriction.
func (s *Solution) Restrict(parts func(t *Tensor) []Partition) *Solution {
	m := newMerger(s)
	for i := range s.Tensors {
		t := &s.Tensors[i]
		for _, p := range parts(t) {
			for _, ax := range t.Terms {
				if slices.Contains(ax.Axes, p.Axis) {
					m.partition(ax, t, p)
				}
			}
		}
	}
	return m.result()
}

// Without drops the classes of the given groups: they stay where they are.
func (s *Solution) Without(drop func(group int) bool) *Solution {
	m := newMerger(s)
	for g := range s.Groups {
		for c := range s.Groups[g].Classes {
			if drop(g) {
				m.union(0, int32(m.base[g]+c))
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

// partition joins the classes of each part of an axis.
func (m *merger) partition(ax Axis, t *Tensor, p Partition) {
	switch {
	case p.Of == nil && p.Block <= 1:
	case p.Of != nil || ax.Axes[len(ax.Axes)-1] != p.Axis:
		m.scattered(ax, t, p)
	default:
		m.blocks(ax, t.Shape[p.Axis], p.Block)
	}
}

// blocks joins the classes of each block along an axis of the given width, the
// last of the term's.
func (m *merger) blocks(ax Axis, width, length int) {
	for start := 0; start < ax.Len; start += length {
		// A block never runs over the end of the axis.
		end := min(start+length, (start/width+1)*width)
		m.join(ax, start, end)
		start = end - length
	}
}

// scattered joins parts whose elements do not follow each other.
func (m *merger) scattered(ax Axis, t *Tensor, p Partition) {
	inner := 1
	for i := len(ax.Axes) - 1; ax.Axes[i] != p.Axis; i-- {
		inner *= t.Shape[ax.Axes[i]]
	}
	width := t.Shape[p.Axis]
	part := func(at int) [3]int {
		i := at / inner % width
		if p.Of != nil {
			i = int(p.Of[i])
		} else {
			i /= p.Block
		}
		return [3]int{at / (inner * width), i, at % inner}
	}
	type summand struct{ group, coef int }
	bySummand := map[summand][]Segment{}
	for _, sg := range ax.Segments {
		k := summand{sg.Group, sg.Coef}
		bySummand[k] = append(bySummand[k], sg)
	}
	for _, segments := range bySummand {
		times := make([]uint8, ax.Len)
		first := map[[3]int]int32{}
		for _, sg := range segments {
			for i := range sg.Count {
				c := int32(m.base[sg.Group] + sg.First + i/sg.Div)
				at := sg.Start + i
				k := part(at)
				if f, ok := first[k]; ok {
					m.union(f, c)
				} else {
					first[k] = c
				}
				times[at] = min(times[at]+1, 2)
			}
		}
		for at, n := range times {
			if c, ok := first[part(at)]; ok && n != 1 { // a gap, or two such classes
				m.union(c, 0)
			}
		}
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
