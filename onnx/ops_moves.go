package onnx

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Operators that rearrange.
var moves = map[string]rule{
	":Reshape": reshapeOp, ":Flatten": flatten, ":Squeeze": squeeze, ":Unsqueeze": unsqueeze, ":Transpose": transposeOp,
	":Slice": sliceOp, ":Split": split, ":Concat": concatOp, ":Expand": expandOp, ":Tile": tile, ":Pad": padOp,
	":Gather": gather, ":GatherElements": gatherElements, ":GatherND": gatherND,
	":ScatterElements": scatterElements, ":ScatterND": scatterND, ":Trilu": trilu,
	":DepthToSpace": depthToSpace, ":SpaceToDepth": spaceToDepth,
	":SequenceConstruct": sequenceConstruct, ":SplitToSequence": splitToSequence, ":SequenceAt": sequenceAt,
	":SequenceEmpty": func(c *call) []*value { return one(&value{isSeq: true}) }, ":SequenceInsert": sequenceInsert,
	":SequenceLength": sequenceLength, ":ConcatFromSequence": concatFromSequence,
}

func reshapeOp(c *call) []*value {
	x := c.in(0)
	to := c.ints(c.in(1), "the shape of a reshape")
	free, n := -1, 1
	for i, d := range to {
		switch {
		case d == 0 && c.int("allowzero", 0) == 0:
			need(i < len(x.shape), "reshape of %v to %v", x.shape, to)
			to[i] = x.shape[i]
		case d == -1:
			need(free < 0, "reshape to %v", to)
			free = i
			continue
		}
		need(to[i] >= 0 && to[i] <= 1<<31, "reshape to %v", to)
		n *= to[i]
		need(n <= 1<<31, "reshape to %v", to)
	}
	if free >= 0 {
		need(n > 0 && x.size()%n == 0, "reshape of %v to %v", x.shape, to)
		to[free] = x.size() / n
	}
	return one(c.reshape(x, to...))
}

func flatten(c *call) []*value {
	x := c.in(0)
	a := c.int("axis", 1)
	if a < 0 {
		a += len(x.shape)
	}
	need(a >= 0 && a <= len(x.shape), "flatten at axis %d of %v", a, x.shape)
	rows, _ := fold.Size(x.shape[:a])
	cols, _ := fold.Size(x.shape[a:])
	return one(c.reshape(x, rows, cols))
}

func squeeze(c *call) []*value {
	x := c.in(0)
	axes := c.axes(1, len(x.shape))
	var shape []int
	for i, d := range x.shape {
		drop := slices.Contains(axes, i)
		need(!drop || d == 1, "squeeze of axis %d of %v", i, x.shape)
		if !drop && (d != 1 || len(axes) > 0) {
			shape = append(shape, d)
		}
	}
	return one(c.reshape(x, shape...))
}

func unsqueeze(c *call) []*value {
	x := c.in(0)
	n := len(c.list("axes"))
	if c.has(1) {
		n = c.in(1).size()
	}
	rank := len(x.shape) + n
	axes := c.axes(1, rank)
	shape := make([]int, 0, rank)
	at := 0
	for i := range rank {
		if slices.Contains(axes, i) {
			shape = append(shape, 1)
			continue
		}
		need(at < len(x.shape), "axes %v", axes)
		shape = append(shape, x.shape[at])
		at++
	}
	return one(c.reshape(x, shape...))
}

func transposeOp(c *call) []*value {
	x := c.in(0)
	perm := c.list("perm")
	if perm == nil {
		for i := range x.shape {
			perm = append(perm, len(x.shape)-1-i)
		}
	}
	sorted := slices.Sorted(slices.Values(perm))
	for i, p := range sorted {
		need(p == i, "permutation %v", perm)
	}
	need(len(perm) == len(x.shape), "permutation %v of rank %d", perm, len(x.shape))
	return one(c.transpose(x, perm...))
}

func sliceOp(c *call) []*value {
	x := c.in(0)
	starts, ends := c.ints(c.in(1), "the start of a slice"), c.ints(c.in(2), "the end of a slice")
	axes, steps := make([]int, len(starts)), slices.Repeat([]int{1}, len(starts))
	for i := range axes {
		axes[i] = i
	}
	if c.has(3) {
		axes = c.ints(c.in(3), "the axes of a slice")
	}
	if c.has(4) {
		steps = c.ints(c.in(4), "the steps of a slice")
	}
	need(len(ends) == len(starts) && len(axes) == len(starts) && len(steps) == len(starts), "slice with %d starts, %d ends", len(starts), len(ends))
	for i, a := range axes {
		x = c.strided(x, axis(a, len(x.shape)), starts[i], ends[i], steps[i])
	}
	return one(x)
}

// strided slices one axis by ONNX's conventions.
func (l *lowerer) strided(x *value, a, start, end, step int) *value {
	n := x.shape[a]
	if start < 0 {
		start += n
	}
	if end < 0 {
		end += n
	}
	need(step != 0, "a slice in steps of 0")
	if step > 0 {
		start, end = min(max(start, 0), n), min(max(end, 0), n)
		if step == 1 {
			return l.slice(x, a, start, max(start, end))
		}
		return l.steps(x, a, start, step, max(0, (end-start+step-1)/step))
	}
	start, end = min(max(start, -1), n-1), min(max(end, -1), n-1)
	count := max(0, (start-end-step-1)/-step)
	if step == -1 && count == n && n > 0 {
		return l.flip(x, a)
	}
	return l.steps(x, a, start, step, count)
}

func (l *lowerer) steps(x *value, a, start, step, count int) *value {
	ids := make([]int64, count)
	for i := range ids {
		ids[i] = int64(start + i*step)
	}
	return l.index(x, l.konst(fold.Ints(ids...)), a)
}

func split(c *call) []*value {
	x := c.in(0)
	a := axis(c.int("axis", 0), len(x.shape))
	sizes := c.list("split")
	if c.has(1) {
		sizes = c.ints(c.in(1), "the sizes of a split")
	}
	if sizes == nil {
		k := c.int("num_outputs", len(c.n.out))
		need(k > 0, "a split into %d", k)
		each := (x.shape[a] + k - 1) / k
		for at := 0; at < x.shape[a]; at += each {
			sizes = append(sizes, min(each, x.shape[a]-at))
		}
	}
	return c.cut(x, a, sizes)
}

func (l *lowerer) cut(x *value, a int, sizes []int) []*value {
	var out []*value
	at := 0
	for _, n := range sizes {
		need(n >= 0 && n <= x.shape[a]-at, "split of axis %d of %v into %v", a, x.shape, sizes)
		out = append(out, l.slice(x, a, at, at+n))
		at += n
	}
	return out
}

func concatOp(c *call) []*value {
	xs := make([]*value, len(c.n.in))
	for i := range xs {
		xs[i] = c.in(i)
	}
	need(len(xs) > 0, "concat of nothing")
	return one(c.concat(axis(c.int("axis", 0), len(xs[0].shape)), xs...))
}

func expandOp(c *call) []*value {
	x := c.in(0)
	shape, ok := fold.Broadcast(x.shape, c.ints(c.in(1), "the shape of an expand"))
	need(ok, "expand of %v", x.shape)
	return one(c.expand(x, shape...))
}

// tile repeats: every axis becomes two, of which the first is expanded.
func tile(c *call) []*value {
	x := c.in(0)
	times := c.ints(c.in(1), "the repeats of a tile")
	need(len(times) == len(x.shape), "tile of %v by %v", x.shape, times)
	var from, to, shape []int
	for i, d := range x.shape {
		need(times[i] >= 0 && times[i] <= 1<<31, "tile by %v", times)
		from = append(from, 1, d)
		to = append(to, times[i], d)
		shape = append(shape, times[i]*d)
	}
	return one(c.reshape(c.expand(c.reshape(x, from...), to...), shape...))
}

func padOp(c *call) []*value {
	x := c.in(0)
	mode := c.text("mode", "constant")
	need(mode == "constant", "padding by %s", mode)
	pads := c.ints(c.in(1), "the widths of a padding")
	fill := 0.0
	if c.has(2) {
		v := c.static(c.in(2), "the value of a padding")
		need(v.Len() == 1, "%d values of a padding", v.Len())
		fill = v.At(0)
	}
	axes := make([]int, len(x.shape))
	for i := range axes {
		axes[i] = i
	}
	if c.has(3) {
		axes = c.ints(c.in(3), "the axes of a padding")
	}
	need(len(pads) == 2*len(axes), "%d widths for %d axes", len(pads), len(axes))
	for i, a := range axes {
		a = axis(a, len(x.shape))
		before, after := pads[i], pads[i+len(axes)]
		x = c.slice(x, a, max(0, -before), x.shape[a]-max(0, -after))
		x = c.fill(x, a, max(0, before), max(0, after), fill)
	}
	return one(x)
}

func (l *lowerer) fill(x *value, a, before, after int, v float64) *value {
	if v == 0 || before == 0 && after == 0 {
		return l.pad(x, a, before, after)
	}
	part := func(n int) *value {
		shape := slices.Clone(x.shape)
		shape[a] = n
		return l.expand(l.scalar(x.kind, v), shape...)
	}
	return l.concat(a, part(before), x, part(after))
}

func gather(c *call) []*value {
	x := c.in(0)
	return one(c.index(x, c.in(1), axis(c.int("axis", 0), len(x.shape))))
}

func gatherElements(c *call) []*value {
	x, ids := c.in(0), c.in(1)
	a := axis(c.int("axis", 0), len(x.shape))
	if ids.c != nil {
		ids = c.konst(wrapped(ids.c, x.shape[a]), ids)
		if x.c != nil {
			return one(c.konst(must(x.c.Gather(ids.c, a)), x, ids))
		}
	}
	c.alike(x, ids, a)
	return one(c.moved(x, c.b.Gather(c.id(x), c.id(ids), a)))
}

// alike demands ids that fit x on all axes but a.
func (l *lowerer) alike(x, ids *value, a int) {
	need(len(ids.shape) == len(x.shape), "ids of shape %v for %v", ids.shape, x.shape)
	for i, d := range ids.shape {
		need(i == a || d <= x.shape[i], "ids of shape %v for %v", ids.shape, x.shape)
	}
}

// flatIDs turns the last axis of ids, which index the first axes of x behind
// the batch axes, into one index over these axes together.
func (l *lowerer) flatIDs(x, ids *value, batch int) (flat *value, axes int) {
	r := len(ids.shape)
	axes = ids.shape[r-1]
	need(batch+axes <= len(x.shape) && axes > 0, "indices of shape %v into %v", ids.shape, x.shape)
	for i := range axes {
		d := x.shape[batch+i]
		part := l.reshape(l.slice(ids, r-1, i, i+1), ids.shape[:r-1]...)
		if part.c != nil {
			part = l.konst(wrapped(part.c, d), part)
		}
		if flat == nil {
			flat = part
		} else {
			flat = l.add(l.mul(flat, l.scalar(fold.Int, float64(d))), part)
		}
	}
	return flat, axes
}

func gatherND(c *call) []*value {
	x, ids := c.in(0), c.in(1)
	batch := c.int("batch_dims", 0)
	need(len(ids.shape) > 0 && batch >= 0 && batch < len(ids.shape) && batch < len(x.shape), "gather of %v by %v", x.shape, ids.shape)
	if batch > 0 {
		// One batch is the usual one.
		n, _ := fold.Size(x.shape[:batch])
		need(n == 1 && sameShape(x.shape[:batch], ids.shape[:batch]), "gather of %d batches", n)
		y := c.pointed(c.reshape(x, x.shape[batch:]...), c.reshape(ids, ids.shape[batch:]...))
		return one(c.reshape(y, append(slices.Clone(x.shape[:batch]), y.shape...)...))
	}
	return one(c.pointed(x, ids))
}

func (l *lowerer) pointed(x, ids *value) *value {
	flat, axes := l.flatIDs(x, ids, 0)
	n, _ := fold.Size(x.shape[:axes])
	return l.index(l.reshape(x, append([]int{n}, x.shape[axes:]...)...), flat, 0)
}

// scatterOp chooses between writing and adding.
func (c *call) scatterOp() graph.Op {
	switch r := c.text("reduction", "none"); r {
	case "none":
		return graph.OpScatter
	case "add":
		return graph.OpScatterAdd
	default:
		need(false, "scatter with reduction %s", r)
	}
	return 0
}

func scatterElements(c *call) []*value {
	x, ids, src := c.in(0), c.in(1), c.in(2)
	a := axis(c.int("axis", 0), len(x.shape))
	if ids.c != nil {
		ids = c.konst(wrapped(ids.c, x.shape[a]), ids)
	}
	c.alike(x, ids, a)
	need(sameShape(ids.shape, src.shape), "scatter of %v by ids of shape %v", src.shape, ids.shape)
	if ids.size() == 0 {
		return one(x)
	}
	return one(c.scattered(c.scatterOp(), x, ids, src, a))
}

func (l *lowerer) scattered(op graph.Op, x, ids, src *value, a int) *value {
	v := l.wrap(l.b.Scatter(op, l.id(x), l.id(ids), l.id(src), a), max(x.kind, src.kind))
	v.whole = x.whole && src.whole
	return v
}

// scatterND writes slices: one index over the first axes, the rest side by side.
func scatterND(c *call) []*value {
	x, ids, src := c.in(0), c.in(1), c.in(2)
	if ids.size() == 0 {
		return one(x)
	}
	need(len(ids.shape) > 0, "indices of rank 0")
	flat, axes := c.flatIDs(x, ids, 0)
	rows, _ := fold.Size(x.shape[:axes])
	width, _ := fold.Size(x.shape[axes:])
	n := flat.size()
	need(src.size() == n*width, "scatter of %v by %v into %v", src.shape, ids.shape, x.shape)
	at := c.expand(c.reshape(flat, n, 1), n, width)
	y := c.scattered(c.scatterOp(), c.reshape(x, rows, width), at, c.reshape(src, n, width), 0)
	return one(c.reshape(y, x.shape...))
}

// trilu keeps a triangle of the last two axes.
func trilu(c *call) []*value {
	x := c.in(0)
	r := len(x.shape)
	need(r >= 2, "triangle of %v", x.shape)
	k := 0
	if c.has(1) {
		k = c.number(1, "the diagonal of a triangle")
	}
	upper := c.int("upper", 1) != 0
	rows, cols := x.shape[r-2], x.shape[r-1]
	mask := must(fold.New(fold.Bool, rows, cols))
	for i := range mask.I {
		if d := i%cols - i/cols; upper && d >= k || !upper && d <= k {
			mask.I[i] = 1
		}
	}
	return one(c.where(c.konst(mask, x), x, c.scalar(x.kind, 0)))
}

func depthToSpace(c *call) []*value {
	x := c.in(0)
	b := c.int("blocksize", 1)
	need(len(x.shape) == 4 && b > 0 && b < 1<<10 && x.shape[1]%(b*b) == 0, "depth to space of %v by %d", x.shape, b)
	n, d, h, w := x.shape[0], x.shape[1]/(b*b), x.shape[2], x.shape[3]
	if c.text("mode", "DCR") == "CRD" {
		return one(c.reshape(c.transpose(c.reshape(x, n, d, b, b, h, w), 0, 1, 4, 2, 5, 3), n, d, h*b, w*b))
	}
	return one(c.reshape(c.transpose(c.reshape(x, n, b, b, d, h, w), 0, 3, 4, 1, 5, 2), n, d, h*b, w*b))
}

func spaceToDepth(c *call) []*value {
	x := c.in(0)
	b := c.int("blocksize", 1)
	need(len(x.shape) == 4 && b > 0 && x.shape[2]%b == 0 && x.shape[3]%b == 0, "space to depth of %v by %d", x.shape, b)
	n, d, h, w := x.shape[0], x.shape[1], x.shape[2]/b, x.shape[3]/b
	return one(c.reshape(c.transpose(c.reshape(x, n, d, h, b, w, b), 0, 3, 5, 1, 2, 4), n, d*b*b, h, w))
}

func sequenceConstruct(c *call) []*value {
	v := &value{isSeq: true}
	for i := range c.n.in {
		v.seq = append(v.seq, c.in(i))
	}
	return one(v)
}

func (c *call) sequence(i int) *value {
	v := c.any(i)
	need(v.isSeq, "input %d is no sequence", i)
	return v
}

func splitToSequence(c *call) []*value {
	x := c.in(0)
	a := axis(c.int("axis", 0), len(x.shape))
	sizes := slices.Repeat([]int{1}, x.shape[a])
	drop := !c.has(1) && c.int("keepdims", 1) == 0
	if c.has(1) {
		by := c.ints(c.in(1), "the sizes of a split")
		if len(c.in(1).shape) == 0 {
			need(by[0] > 0 && x.shape[a] > 0, "a split into pieces of %d", by[0])
			by = slices.Repeat(by, (x.shape[a]+by[0]-1)/by[0])
			by[len(by)-1] = x.shape[a] - by[0]*(len(by)-1)
		}
		sizes = by
	}
	parts := c.cut(x, a, sizes)
	if drop {
		for i := range parts {
			parts[i] = c.dropAxis(parts[i], a)
		}
	}
	return one(&value{isSeq: true, seq: parts})
}

func sequenceAt(c *call) []*value {
	s := c.sequence(0)
	return one(s.seq[axis(c.number(1, "the place in a sequence"), len(s.seq))])
}

func sequenceInsert(c *call) []*value {
	s := c.sequence(0)
	at := len(s.seq)
	if c.has(2) {
		at = c.number(2, "the place in a sequence")
		if at < 0 {
			at += len(s.seq)
		}
	}
	need(at >= 0 && at <= len(s.seq), "place %d in a sequence of %d", at, len(s.seq))
	return one(&value{isSeq: true, seq: slices.Insert(slices.Clone(s.seq), at, c.in(1))})
}

func sequenceLength(c *call) []*value {
	return one(c.scalar(fold.Int, float64(len(c.sequence(0).seq))))
}

func concatFromSequence(c *call) []*value {
	s := c.sequence(0)
	need(len(s.seq) > 0, "concat of an empty sequence")
	rank := len(s.seq[0].shape)
	stack := c.int("new_axis", 0) != 0
	if stack {
		rank++
	}
	a := axis(c.int("axis", 0), rank)
	xs := slices.Clone(s.seq)
	if stack {
		for i, x := range xs {
			xs[i] = c.reshape(x, slices.Insert(slices.Clone(x.shape), a, 1)...)
		}
	}
	return one(c.concat(a, xs...))
}
