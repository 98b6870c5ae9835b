package gauge

import "slices"

// part is one summand of a value's log-scale: an array over the value's axes
// in C order, with length 1 along every axis where it does not vary.
type part struct {
	dims []int
	v    vec
}

// scale is the log2-scale of a value as a sum of parts. No parts means that
// the value never moves.
type scale []part

// formLimit bounds one part that has to be enumerated. A real network stays
// far below it; past it, the solver pins what it would have to enumerate.
const formLimit = 1 << 25

func size(dims []int) int {
	n := 1
	for _, d := range dims {
		n *= d
	}
	return n
}

func ones(n int) []int {
	d := make([]int, n)
	for i := range d {
		d[i] = 1
	}
	return d
}

func uniform(rank int, ts []term) part { return part{ones(rank), repeat(ts, 1)} }

// walk visits every index of dims in C order, with its offset in an array that
// has the given strides.
func walk(dims, stride []int, visit func(off int)) {
	idx := make([]int, len(dims))
	off := 0
	for range size(dims) {
		visit(off)
		for i := len(dims) - 1; i >= 0; i-- {
			idx[i]++
			off += stride[i]
			if idx[i] < dims[i] {
				break
			}
			off -= stride[i] * dims[i]
			idx[i] = 0
		}
	}
}

func strides(dims []int) []int {
	st := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		st[i] = n
		n *= dims[i]
	}
	return st
}

// broadcast returns p's array repeated to dims (same rank).
func (p part) broadcast(dims []int) vec {
	if slices.Equal(p.dims, dims) {
		return p.v
	}
	// Trailing axes are either copied whole, or repeat one element.
	a := len(dims)
	for a > 0 && p.dims[a-1] == dims[a-1] {
		a--
	}
	inner := size(dims[a:])
	times := 1
	if inner == 1 {
		for a > 0 && p.dims[a-1] == 1 {
			a--
		}
		times = size(dims[a:])
	}
	st := strides(p.dims)
	for i := range st {
		if p.dims[i] == 1 {
			st[i] = 0
		}
	}
	var out vec
	from := reader{v: p.v}
	walk(dims[:a], st[:a], func(off int) {
		if times == 1 {
			from.copy(&out, off, off+inner)
			return
		}
		out.push(times, from.slice(off, off+1)[0].ts)
	})
	return out
}

// align adds leading axes of length 1.
func (p part) align(rank int) part {
	if len(p.dims) == rank {
		return p
	}
	return part{append(ones(rank-len(p.dims)), p.dims...), p.v}
}

func (s scale) align(rank int) scale {
	out := make(scale, len(s))
	for i, p := range s {
		out[i] = p.align(rank)
	}
	return out
}

// union returns the axes along which any of the scales varies.
func union(rank int, ss ...scale) []int {
	d := ones(rank)
	for _, s := range ss {
		for _, p := range s {
			for i, n := range p.dims {
				d[i] = max(d[i], n)
			}
		}
	}
	return d
}

// transpose permutes a part's axes.
func (p part) transpose(perm []int) part {
	dims := make([]int, len(perm))
	st := make([]int, len(perm))
	from := strides(p.dims)
	last, sorted := -1, true
	for i, a := range perm {
		dims[i], st[i] = p.dims[a], from[a]
		if p.dims[a] > 1 {
			sorted = sorted && a > last
			last = a
		}
	}
	if sorted { // only axes of length 1 have moved
		return part{dims, p.v}
	}
	var out vec
	source := reader{v: p.v}
	walk(dims, st, func(off int) { source.copy(&out, off, off+1) })
	return part{dims, out}
}

// slice keeps [start,end) of one axis.
func (p part) slice(axis, start, end int) part {
	if p.dims[axis] == 1 {
		return p
	}
	outer, inner := size(p.dims[:axis]), size(p.dims[axis+1:])
	n := p.dims[axis]
	var out vec
	from := reader{v: p.v}
	for o := range outer {
		from.copy(&out, (o*n+start)*inner, (o*n+end)*inner)
	}
	dims := slices.Clone(p.dims)
	dims[axis] = end - start
	return part{dims, out}
}

// take keeps the elements of one axis with the given places, in that order.
func (p part) take(axis int, at []int) part {
	if p.dims[axis] == 1 {
		return p
	}
	outer, inner, n := size(p.dims[:axis]), size(p.dims[axis+1:]), p.dims[axis]
	var out vec
	from := reader{v: p.v}
	for o := range outer {
		for i := 0; i < len(at); {
			j := i + 1
			for j < len(at) && at[j] == at[j-1]+1 {
				j++
			}
			from.copy(&out, (o*n+at[i])*inner, (o*n+at[j-1]+1)*inner)
			i = j
		}
	}
	dims := slices.Clone(p.dims)
	dims[axis] = len(at)
	return part{dims, out}
}

// reshape moves a part of a value of shape from to shape to. Runs of axes with
// equal products are matched; inside a run the part is enumerated only when it
// varies there.
func (p part) reshape(from, to []int) part {
	full := slices.Clone(p.dims)
	dims := make([]int, 0, len(to))
	i, j := 0, 0
	for i < len(from) || j < len(to) {
		i0, j0 := i, j
		a, b := 1, 1
		for {
			if a == b && (i > i0 || j > j0) {
				// Axes of length 1 join the run before them.
				for i < len(from) && from[i] == 1 {
					i++
				}
				for j < len(to) && to[j] == 1 {
					j++
				}
				break
			}
			if a <= b && i < len(from) {
				a *= from[i]
				i++
			} else {
				b *= to[j]
				j++
			}
		}
		varies := false
		for k := i0; k < i; k++ {
			varies = varies || p.dims[k] > 1
		}
		if varies {
			copy(full[i0:i], from[i0:i])
			dims = append(dims, to[j0:j]...)
		} else {
			dims = append(dims, ones(j-j0)...)
		}
	}
	return part{dims, p.broadcast(full)}
}
