package probe

import "github.com/neuroseal/neuroseal/tensor"

// layout walks the elements of a shape in C order together with the places
// that they come from in one or more operands.
type layout struct {
	shape   []int
	strides [][]int // per operand, per axis; 0 where it is broadcast
	base    []int   // per operand: the place of the first element
}

// broadcast is the layout of an element-wise operation.
func broadcast(shape []int, from ...[]int) layout {
	l := layout{shape: shape, base: make([]int, len(from))}
	for _, f := range from {
		st := make([]int, len(shape))
		pad := len(shape) - len(f)
		for i, s := range strides(f) {
			if f[i] > 1 {
				st[pad+i] = s
			}
		}
		l.strides = append(l.strides, st)
	}
	return l
}

// strides returns the distance of neighbours along each axis.
func strides(shape []int) []int {
	out := make([]int, len(shape))
	s := 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = s
		s *= shape[i]
	}
	return out
}

// each calls f on runs of elements that lie a constant step apart in every
// operand: k of them, the first at place at in the result and at from[i] in
// operand i. Runs are shared among goroutines.
func (l layout) each(f func(at, k int, from, step []int)) {
	l = l.merged()
	total := count(l.shape)
	if total == 0 {
		return
	}
	last := len(l.shape) - 1
	k := l.shape[last]
	step := make([]int, len(l.strides))
	for i, st := range l.strides {
		step[i] = st[last]
	}
	if total == k { // one run: cut it
		tensor.Parallel(k, grain, func(lo, hi int) {
			from := make([]int, len(step))
			for i := range from {
				from[i] = l.base[i] + lo*step[i]
			}
			f(lo, hi-lo, from, step)
		})
		return
	}
	tensor.Parallel(total/k, max(grain/k, 1), func(lo, hi int) {
		index, from := l.seek(lo)
		for run := lo; run < hi; run++ {
			f(run*k, k, from, step)
			for a := last - 1; a >= 0; a-- {
				index[a]++
				for i, st := range l.strides {
					from[i] += st[a]
				}
				if index[a] < l.shape[a] {
					break
				}
				for i, st := range l.strides {
					from[i] -= st[a] * l.shape[a]
				}
				index[a] = 0
			}
		}
	})
}

// seek returns the index of a run and where its first element comes from.
func (l layout) seek(run int) (index, from []int) {
	index, from = make([]int, len(l.shape)), make([]int, len(l.base))
	copy(from, l.base)
	for a := len(l.shape) - 2; a >= 0; a-- {
		index[a] = run % l.shape[a]
		run /= l.shape[a]
		for i, st := range l.strides {
			from[i] += index[a] * st[a]
		}
	}
	return index, from
}

// merged joins neighbouring axes that every operand walks as one.
func (l layout) merged() layout {
	out := layout{base: l.base, strides: make([][]int, len(l.strides))}
	for a, d := range l.shape {
		if d == 1 {
			continue
		}
		n := len(out.shape) - 1
		joins := n >= 0
		for i, st := range l.strides {
			joins = joins && out.strides[i][n] == st[a]*d
		}
		if joins {
			out.shape[n] *= d
			for i, st := range l.strides {
				out.strides[i][n] = st[a]
			}
			continue
		}
		out.shape = append(out.shape, d)
		for i, st := range l.strides {
			out.strides[i] = append(out.strides[i], st[a])
		}
	}
	if len(out.shape) == 0 {
		out.shape = []int{1}
		for i := range out.strides {
			out.strides[i] = []int{0}
		}
	}
	return out
}
