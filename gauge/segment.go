package gauge

import "slices"

// encode describes n elements, each with a list of classes, by segments: runs
// in which one class follows the other, or repeats a fixed number of times.
func encode(n int, refs func(i int) []ref) []Segment {
	// One layer per position in the lists; almost always there is one.
	var out []Segment
	for layer, more := 0, true; more; layer++ {
		more = false
		var run, next []ref // one entry per element: reuse of a slice avoids n allocations
		run = make([]ref, n)
		for i := range n {
			run[i] = ref{group: -1}
			if r := refs(i); layer < len(r) {
				run[i] = r[layer]
				more = more || layer+1 < len(r)
			}
		}
		next = run
		for start := 0; start < len(next); {
			if next[start].group < 0 {
				start++
				continue
			}
			s := segment(next[start:])
			s.Start = start
			out = append(out, s)
			start += s.Count
		}
	}
	return slices.Clip(out)
}

// segment returns the longest segment at the start of rs.
func segment(rs []ref) Segment {
	first := rs[0]
	same := func(i, class int) bool {
		return rs[i].group == first.group && rs[i].coef == first.coef && rs[i].class == class
	}
	div := 1
	for div < len(rs) && same(div, first.class) {
		div++
	}
	n := div
	for n < len(rs) && same(n, first.class+n/div) {
		n++
	}
	// A last step cut short is only part of the segment if what follows does
	// not continue it; n counts exactly the matching elements either way.
	return Segment{Count: n, Group: first.group, First: first.class, Div: div, Coef: first.coef}
}

// each visits every element of a segment with its class.
func (s Segment) each(visit func(i, class int)) {
	for i := range s.Count {
		visit(s.Start+i, s.First+i/s.Div)
	}
}
