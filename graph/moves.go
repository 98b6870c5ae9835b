package graph

import "slices"

// Reshape keeps the elements and their order.
func (b *Builder) Reshape(x ID, shape ...int) ID {
	if size(shape) != size(b.shape(x)) {
		return b.fail("reshape of %v to %v", b.shape(x), shape)
	}
	return b.add(Node{Op: OpReshape, In: []ID{x}, Int: b.ints(x), Shape: slices.Clone(shape)})
}

// Transpose permutes the axes: axis i of the result is axis perm[i] of x.
func (b *Builder) Transpose(x ID, perm ...int) ID {
	s := b.shape(x)
	if len(perm) != len(s) {
		return b.fail("transpose of %v by %v", s, perm)
	}
	out, seen := make([]int, len(s)), make([]bool, len(s))
	for i, p := range perm {
		if p < 0 || p >= len(s) || seen[p] {
			return b.fail("transpose of %v by %v", s, perm)
		}
		out[i], seen[p] = s[p], true
	}
	return b.add(Node{Op: OpTranspose, In: []ID{x}, Int: b.ints(x), Shape: out, Perm: slices.Clone(perm)})
}

// Slice takes elements [start,end) of one axis.
func (b *Builder) Slice(x ID, axis, start, end int) ID {
	s := slices.Clone(b.shape(x))
	if axis < 0 || axis >= len(s) || start < 0 || end > s[axis] || start >= end {
		return b.fail("slice [%d:%d] of axis %d of %v", start, end, axis, s)
	}
	s[axis] = end - start
	return b.add(Node{Op: OpSlice, In: []ID{x}, Int: b.ints(x), Shape: s, Axis: axis, Start: start, End: end})
}

// Concat joins values along one axis.
func (b *Builder) Concat(axis int, xs ...ID) ID {
	if len(xs) == 0 {
		return b.fail("concat of nothing")
	}
	s := slices.Clone(b.shape(xs[0]))
	if axis < 0 || axis >= len(s) {
		return b.fail("concat of %v along axis %d", s, axis)
	}
	s[axis] = 0
	for _, x := range xs {
		t := b.shape(x)
		if len(t) != len(s) {
			return b.fail("concat of %v and %v", b.shape(xs[0]), t)
		}
		for i := range t {
			if i != axis && t[i] != s[i] {
				return b.fail("concat of %v and %v along axis %d", b.shape(xs[0]), t, axis)
			}
		}
		s[axis] += t[axis]
	}
	return b.add(Node{Op: OpConcat, In: slices.Clone(xs), Int: b.ints(xs...), Shape: s, Axis: axis})
}

// Expand repeats axes of length 1; the rank stays the same.
func (b *Builder) Expand(x ID, shape ...int) ID {
	s := b.shape(x)
	if len(s) != len(shape) {
		return b.fail("expand of %v to %v", s, shape)
	}
	for i := range s {
		if s[i] != shape[i] && s[i] != 1 {
			return b.fail("expand of %v to %v", s, shape)
		}
	}
	return b.add(Node{Op: OpExpand, In: []ID{x}, Int: b.ints(x), Shape: slices.Clone(shape)})
}

// Pad puts zeros before and after one axis.
func (b *Builder) Pad(x ID, axis, before, after int) ID {
	s := slices.Clone(b.shape(x))
	if axis < 0 || axis >= len(s) || before < 0 || after < 0 {
		return b.fail("pad (%d,%d) of axis %d of %v", before, after, axis, s)
	}
	s[axis] += before + after
	return b.add(Node{Op: OpPad, In: []ID{x}, Int: b.ints(x), Shape: s, Axis: axis, Start: before, End: after})
}

// Flip reverses one axis.
func (b *Builder) Flip(x ID, axis int) ID {
	s := b.shape(x)
	if axis < 0 || axis >= len(s) {
		return b.fail("flip of axis %d of %v", axis, s)
	}
	return b.add(Node{Op: OpFlip, In: []ID{x}, Int: b.ints(x), Shape: slices.Clone(s), Axis: axis})
}

// Index takes elements of one axis by ids; the ids' axes take that axis's place.
func (b *Builder) Index(x, ids ID, axis int) ID {
	s := b.shape(x)
	if axis < 0 || axis >= len(s) || !b.ints(ids) {
		return b.fail("index of axis %d of %v by %v", axis, s, b.shape(ids))
	}
	out := slices.Concat(s[:axis], b.shape(ids), s[axis+1:])
	return b.add(Node{Op: OpIndex, In: []ID{x, ids}, Int: b.ints(x), Shape: out, Axis: axis})
}

// Gather takes result[i…] = x[i… with ids[i…] in place of i at axis], as
// torch.gather does; other axes of ids may be shorter than those of x.
func (b *Builder) Gather(x, ids ID, axis int) ID {
	if !b.fits(x, ids, axis) {
		return b.fail("gather along axis %d of %v by %v", axis, b.shape(x), b.shape(ids))
	}
	return b.add(Node{Op: OpGather, In: []ID{x, ids}, Int: b.ints(x), Shape: slices.Clone(b.shape(ids)), Axis: axis})
}

// Scatter is x with src written where Gather by ids would read; OpScatterAdd
// adds instead. src has the shape of ids.
func (b *Builder) Scatter(op Op, x, ids, src ID, axis int) ID {
	if op != OpScatter && op != OpScatterAdd || !b.fits(x, ids, axis) || !slices.Equal(b.shape(ids), b.shape(src)) {
		return b.fail("%v along axis %d of %v by %v of %v", op, axis, b.shape(x), b.shape(ids), b.shape(src))
	}
	return b.add(Node{Op: op, In: []ID{x, ids, src}, Int: b.ints(x, src), Shape: slices.Clone(b.shape(x)), Axis: axis})
}

func (b *Builder) fits(x, ids ID, axis int) bool {
	s, t := b.shape(x), b.shape(ids)
	if axis < 0 || axis >= len(s) || len(t) != len(s) || !b.ints(ids) {
		return false
	}
	for i := range s {
		if i != axis && t[i] > s[i] {
			return false
		}
	}
	return true
}
