package gauge

import "slices"

// part is one summand of a value's log-scale: an array over the value's axes
// in C order, with length 1 along every axis where it does not vary.
type part struct {
	dims []int
	ids  []form
}

// scale is the log2-scale of a value as a sum of parts. No parts means that
// the value never moves.
type scale []part

// formLimit bounds one part. A real network stays far below it; past it, the
// solver pins what it would have to enumerate.
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

func uniform(rank int, f form) part { return part{ones(rank), []form{f}} }

// at calls visit with the source index of every element of dims, when p is
// broadcast to dims (same rank).
func (p part) broadcast(dims []int) []form {
	if slices.Equal(p.dims, dims) {
		return p.ids
	}
	out := make([]form, size(dims))
	if len(p.ids) == 1 {
		for i := range out {
			out[i] = p.ids[0]
		}
		return out
	}
	stride := make([]int, len(dims))
	n := 1
	for i := len(dims) - 1; i >= 0; i-- {
		if p.dims[i] > 1 {
			stride[i] = n
		}
		n *= p.dims[i]
	}
	idx := make([]int, len(dims))
	src := 0
	for o := range out {
		out[o] = p.ids[src]
		for i := len(dims) - 1; i >= 0; i-- {
			idx[i]++
			src += stride[i]
			if idx[i] < dims[i] {
				break
			}
			src -= stride[i] * dims[i]
			idx[i] = 0
		}
	}
	return out
}

// align adds leading axes of length 1.
func (p part) align(rank int) part {
	if len(p.dims) == rank {
		return p
	}
	return part{append(ones(rank-len(p.dims)), p.dims...), p.ids}
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
	for i, a := range perm {
		dims[i] = p.dims[a]
	}
	if len(p.ids) == 1 {
		return part{dims, p.ids}
	}
	stride := make([]int, len(p.dims))
	n := 1
	for i := len(p.dims) - 1; i >= 0; i-- {
		stride[i] = n
		n *= p.dims[i]
	}
	out := make([]form, len(p.ids))
	idx := make([]int, len(dims))
	for o := range out {
		src := 0
		for i, a := range perm {
			src += idx[i] * stride[a]
		}
		out[o] = p.ids[src]
		for i := len(dims) - 1; i >= 0; i-- {
			if idx[i]++; idx[i] < dims[i] {
				break
			}
			idx[i] = 0
		}
	}
	return part{dims, out}
}

// slice keeps [start,end) of one axis.
func (p part) slice(axis, start, end int) part {
	if p.dims[axis] == 1 {
		return p
	}
	outer, inner := size(p.dims[:axis]), size(p.dims[axis+1:])
	n := p.dims[axis]
	out := make([]form, 0, outer*inner*(end-start))
	for o := range outer {
		out = append(out, p.ids[(o*n+start)*inner:(o*n+end)*inner]...)
	}
	dims := slices.Clone(p.dims)
	dims[axis] = end - start
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
