package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/internal/fold"
)

// view says how writing into the result of an operation changes what it is a
// view of. Where torch may have copied instead, maybe is set.
type view struct {
	back  func(c *call, i int, base, new *value) *value
	maybe bool
}

func reshapeBack(c *call, _ int, base, new *value) *value { return c.l.reshape(new, base.shape) }

var views = map[string]view{
	"alias":      {back: func(_ *call, _ int, _, new *value) *value { return new }},
	"detach":     {back: func(_ *call, _ int, _, new *value) *value { return new }},
	"to":         {back: func(_ *call, _ int, b, new *value) *value { return new.as(b.kind) }, maybe: true},
	"contiguous": {back: func(_ *call, _ int, _, new *value) *value { return new }, maybe: true},
	"type_as":    {back: func(_ *call, _ int, b, new *value) *value { return new.as(b.kind) }, maybe: true},
	"dropout":    {back: func(_ *call, _ int, _, new *value) *value { return new }, maybe: true},
	"view":       {back: reshapeBack}, "unsqueeze": {back: reshapeBack}, "squeeze": {back: reshapeBack},
	"reshape": {back: reshapeBack, maybe: true}, "flatten": {back: reshapeBack, maybe: true}, "unflatten": {back: reshapeBack, maybe: true},
	"view_as":   {back: reshapeBack},
	"transpose": {back: permuteBack}, "permute": {back: permuteBack}, "t": {back: permuteBack}, "numpy_T": {back: permuteBack},
	"movedim": {back: permuteBack}, "swapaxes": {back: permuteBack},
	"slice": {back: func(c *call, _ int, base, new *value) *value {
		axis, start, _, step := sliceArgs(c, base)
		return c.l.overwrite(base, new, axis, start, step)
	}},
	"narrow": {back: func(c *call, _ int, base, new *value) *value {
		return c.l.overwrite(base, new, c.axis("dim", 0, base.rank()), c.i("start", 0), 1)
	}},
	"select": {back: func(c *call, _ int, base, new *value) *value {
		axis := c.axis("dim", 0, base.rank())
		return c.l.overwrite(base, c.l.unsqueeze(new, axis), axis, at(c, base.shape[axis]), 1)
	}},
	"split": {back: splitBack}, "split_with_sizes": {back: splitBack}, "chunk": {back: splitBack},
	"unbind": {back: func(c *call, i int, base, new *value) *value {
		axis := c.axis("dim", 0, base.rank())
		return c.l.overwrite(base, c.l.unsqueeze(new, axis), axis, i, 1)
	}},
	"expand": {}, "expand_as": {maybe: true}, "broadcast_to": {}, "view_as_complex": {}, "view_as_real": {}, "unfold": {}, "diagonal": {}, "as_strided": {},
	"real": {}, "imag": {},
}

func splitBack(c *call, i int, base, new *value) *value {
	axis := c.axis("dim", 0, base.rank())
	start := 0
	for _, s := range splitSizes(c, base.shape[axis])[:i] {
		start += s
	}
	return c.l.overwrite(base, new, axis, start, 1)
}

func permuteBack(c *call, _ int, _, new *value) *value {
	perm := permutation(c, new.rank())
	inv := make([]int, len(perm))
	for i, p := range perm {
		inv[p] = i
	}
	return c.l.transpose(new, inv)
}

var moveRules = map[string]rule{
	"view.default reshape _unsafe_view _reshape_alias view_copy reshape_as view_as": reshapeRule,
	"flatten": func(c *call) []*value {
		x := c.t("self")
		if x.rank() == 0 {
			return one(c.l.reshape(x, []int{1}))
		}
		a, b := c.axis("start_dim", 0, x.rank()), c.axis("end_dim", -1, x.rank())
		n := 1
		for _, d := range x.shape[a : b+1] {
			n *= d
		}
		return one(c.l.reshape(x, slices.Concat(x.shape[:a], []int{n}, x.shape[b+1:])))
	},
	"unflatten": func(c *call) []*value {
		x := c.t("self")
		a := c.axis("dim", 0, x.rank())
		return one(c.l.reshape(x, slices.Concat(x.shape[:a], infer(c, x.shape[a], c.ints("sizes")), x.shape[a+1:])))
	},
	"unsqueeze unsqueeze_copy": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.unsqueeze(x, c.from(c.i("dim", 0), x.rank()+1)))
	},
	"squeeze squeeze_copy": func(c *call) []*value {
		x := c.t("self")
		axes := c.ints("dim")
		for i, a := range axes {
			axes = slices.Clone(axes)
			axes[i] = c.from(a, x.rank())
		}
		var s []int
		for i, d := range x.shape {
			if d != 1 || c.has("dim") && !slices.Contains(axes, i) {
				s = append(s, d)
			}
		}
		return one(c.l.reshape(x, s))
	},
	"transpose transpose_copy permute permute_copy t t_copy numpy_T movedim swapaxes swapdims adjoint mT": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.transpose(x, permutation(c, x.rank())))
	},
	"expand expand_copy broadcast_to": func(c *call) []*value {
		x, size := c.t("self"), slices.Clone(c.ints("size"))
		for i, d := range size {
			if d == -1 {
				j := i - (len(size) - x.rank())
				if j < 0 {
					c.stop("expanding to %v", size)
				}
				size[i] = x.shape[j]
			}
		}
		return one(c.l.expand(x, size))
	},
	"expand_as": func(c *call) []*value { return one(c.l.expand(c.t("self"), c.t("other").shape)) },
	"broadcast_tensors": func(c *call) []*value {
		ts := c.ts("tensors")
		var s []int
		for _, t := range ts {
			s, _ = fold.Broadcast(s, t.shape)
		}
		for i, t := range ts {
			ts[i] = c.l.expand(t, s)
		}
		return ts
	},
	"slice slice_copy": func(c *call) []*value {
		x := c.t("self")
		axis, start, end, step := sliceArgs(c, x)
		return one(c.l.stride(x, axis, start, end, step))
	},
	"narrow": func(c *call) []*value {
		x := c.t("self")
		axis, s := c.axis("dim", 0, x.rank()), c.i("start", 0)
		return one(c.l.slice(x, axis, s, s+c.i("length", 0)))
	},
	"select select_copy": func(c *call) []*value {
		x := c.t("self")
		axis := c.axis("dim", 0, x.rank())
		i := at(c, x.shape[axis])
		return one(c.l.reshape(c.l.slice(x, axis, i, i+1), slices.Delete(slices.Clone(x.shape), axis, axis+1)))
	},
	"slice_scatter": func(c *call) []*value {
		x := c.t("self")
		axis, start, _, step := sliceArgs(c, x)
		return one(c.l.overwrite(x, c.t("src"), axis, start, step))
	},
	"select_scatter": func(c *call) []*value {
		x := c.t("self")
		axis := c.axis("dim", 0, x.rank())
		return one(c.l.overwrite(x, c.l.unsqueeze(c.t("src"), axis), axis, at(c, x.shape[axis]), 1))
	},
	"split split_with_sizes split_copy split_with_sizes_copy chunk unsafe_chunk unsafe_split tensor_split": func(c *call) []*value {
		x := c.t("self")
		axis := c.axis("dim", 0, x.rank())
		var out []*value
		start := 0
		for _, n := range splitSizes(c, x.shape[axis]) {
			out = append(out, c.l.slice(x, axis, start, start+n))
			start += n
		}
		return out
	},
	"unbind unbind_copy": func(c *call) []*value {
		x := c.t("self")
		axis := c.axis("dim", 0, x.rank())
		if x.shape[axis] != len(c.out) {
			c.stop("%d results of shape %v", len(c.out), x.shape)
		}
		s := slices.Delete(slices.Clone(x.shape), axis, axis+1)
		out := make([]*value, x.shape[axis])
		for i := range out {
			out[i] = c.l.reshape(c.l.slice(x, axis, i, i+1), s)
		}
		return out
	},
	"cat concat concatenate": func(c *call) []*value {
		ts := c.ts("tensors")
		rank := 0
		for _, t := range ts {
			rank = max(rank, t.rank())
		}
		return one(c.l.concat(c.axis("dim", 0, rank), ts...))
	},
	"stack": func(c *call) []*value {
		ts := c.ts("tensors")
		axis := c.from(c.i("dim", 0), ts[0].rank()+1)
		for i, t := range ts {
			ts[i] = c.l.unsqueeze(t, axis)
		}
		return one(c.l.concat(axis, ts...))
	},
	"repeat": func(c *call) []*value {
		times := c.ints("repeats")
		return one(c.l.tile(c.t("self"), times))
	},
	"repeat_interleave.self_int": func(c *call) []*value {
		x := c.t("self")
		if !c.has("dim") {
			x = c.l.reshape(x, []int{x.size()})
		}
		axis, n := c.axis("dim", 0, x.rank()), c.i("repeats", 1)
		wide := slices.Concat(x.shape[:axis+1], []int{n}, x.shape[axis+1:])
		out := slices.Clone(x.shape)
		out[axis] *= n
		return one(c.l.reshape(c.l.expand(c.l.unsqueeze(x, axis+1), wide), out))
	},
	"flip": func(c *call) []*value {
		x := c.t("self")
		for _, a := range c.ints("dims") {
			x = c.l.flip(x, c.from(a, x.rank()))
		}
		return one(x)
	},
	"roll": func(c *call) []*value {
		x := c.t("self")
		axes, shifts := c.ints("dims"), c.ints("shifts")
		whole := x.shape
		if len(axes) == 0 {
			x, axes = c.l.reshape(x, []int{x.size()}), []int{0}
		}
		if len(axes) != len(shifts) {
			c.stop("%d shifts of %d axes", len(shifts), len(axes))
		}
		for i, a := range axes {
			a = c.from(a, x.rank())
			n := x.shape[a]
			k := ((n-shifts[i])%n + n) % n
			x = c.l.concat(a, c.l.slice(x, a, k, n), c.l.slice(x, a, 0, k))
		}
		return one(c.l.reshape(x, whole))
	},
	"pad constant_pad_nd":                                   padRule,
	"reflection_pad1d reflection_pad2d":                     func(c *call) []*value { return one(c.mirror(c.t("self"), c.ints("padding"), true)) },
	"replication_pad1d replication_pad2d replication_pad3d": func(c *call) []*value { return one(c.mirror(c.t("self"), c.ints("padding"), false)) },
	"unfold": func(c *call) []*value {
		x := c.t("self")
		axis, size, step := c.axis("dimension", 0, x.rank()), c.i("size", 1), c.i("step", 1)
		v := c.l.windows(x, axis, size, step, 1)
		perm := slices.Delete(order(v.rank()), axis+1, axis+2)
		return one(c.l.transpose(v, append(perm, axis+1)))
	},
	"pixel_shuffle": func(c *call) []*value {
		x, r := c.t("self"), c.i("upscale_factor", 1)
		n := x.rank() - 3
		lead, ch, h, w := x.shape[:n], x.shape[n], x.shape[n+1], x.shape[n+2]
		v := c.l.reshape(x, slices.Concat(lead, []int{ch / (r * r), r, r, h, w}))
		v = c.l.transpose(v, append(order(n), n, n+3, n+1, n+4, n+2))
		return one(c.l.reshape(v, slices.Concat(lead, []int{ch / (r * r), h * r, w * r})))
	},
	"pixel_unshuffle": func(c *call) []*value {
		x, r := c.t("self"), c.i("downscale_factor", 1)
		n := x.rank() - 3
		lead, ch, h, w := x.shape[:n], x.shape[n], x.shape[n+1], x.shape[n+2]
		v := c.l.reshape(x, slices.Concat(lead, []int{ch, h / r, r, w / r, r}))
		v = c.l.transpose(v, append(order(n), n, n+2, n+4, n+1, n+3))
		return one(c.l.reshape(v, slices.Concat(lead, []int{ch * r * r, h / r, w / r})))
	},
	"diagonal": func(c *call) []*value {
		x := c.t("self")
		a, b := c.axis("dim1", 0, x.rank()), c.axis("dim2", 1, x.rank())
		if c.i("offset", 0) != 0 || x.shape[a] != x.shape[b] || a == b {
			return nil
		}
		n := x.shape[a]
		perm := append(slices.DeleteFunc(order(x.rank()), func(i int) bool { return i == a || i == b }), a, b)
		v := c.l.transpose(x, perm)
		s := append(slices.Clone(v.shape[:x.rank()-2]), n*n)
		return one(c.l.stride(c.l.reshape(v, s), len(s)-1, 0, n*n, n+1))
	},
}

func (l *lowering) unsqueeze(x *value, axis int) *value {
	return l.reshape(x, slices.Concat(x.shape[:axis], []int{1}, x.shape[axis:]))
}

func order(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// at returns the index that select takes.
func at(c *call, n int) int {
	i := c.i("index", 0)
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		c.stop("index %d of an axis of length %d", c.i("index", 0), n)
	}
	return i
}

func sliceArgs(c *call, x *value) (axis, start, end, step int) {
	axis = c.axis("dim", 0, x.rank())
	n := x.shape[axis]
	start, end, step = c.i("start", 0), c.i("end", n), c.i("step", 1)
	for _, p := range []*int{&start, &end} {
		if *p < 0 {
			*p += n
		}
		*p = max(0, min(n, *p))
	}
	if step < 1 {
		c.stop("a step of %d", step)
	}
	return axis, start, max(start, end), step
}

// infer fills in the one length that may be -1.
func infer(c *call, n int, shape []int) []int {
	out := slices.Clone(shape)
	hole, rest := -1, 1
	for i, d := range out {
		if d == -1 {
			hole = i
		} else {
			rest *= d
		}
	}
	if hole >= 0 && rest > 0 {
		out[hole] = n / rest
	}
	return out
}

func reshapeRule(c *call) []*value {
	x := c.t("self")
	switch {
	case c.has("other"):
		return one(c.l.reshape(x, c.t("other").shape))
	case c.has("size"):
		return one(c.l.reshape(x, infer(c, x.size(), c.ints("size"))))
	case c.has("shape"):
		return one(c.l.reshape(x, infer(c, x.size(), c.ints("shape"))))
	}
	return one(c.l.reshape(x, nil))
}

func permutation(c *call, rank int) []int {
	perm := order(rank)
	swap := func(a, b int) {
		if rank > 0 {
			a, b = c.from(a, rank), c.from(b, rank)
			perm[a], perm[b] = perm[b], perm[a]
		}
	}
	switch {
	case c.has("dims"):
		for i, a := range c.ints("dims") {
			if i < rank {
				perm[i] = c.from(a, rank)
			}
		}
	case c.has("dim0") || c.has("axis0"):
		swap(c.i("dim0", c.i("axis0", 0)), c.i("dim1", c.i("axis1", 0)))
	case c.has("source"):
		from, to := c.ints("source"), c.ints("destination")
		if len(from) != len(to) {
			c.stop("%d axes to %d places", len(from), len(to))
		}
		return moved(c, from, to, rank)
	case c.has("dim"):
		swap(c.i("dim", 0), c.i("dim", 0))
	default: // t, numpy_T, mT
		if rank > 2 {
			if c.target == "aten.numpy_T.default" {
				slices.Reverse(perm)
				return perm
			}
		}
		if rank >= 2 {
			swap(-1, -2)
		}
	}
	return perm
}

func moved(c *call, from, to []int, rank int) []int {
	perm := slices.Repeat([]int{-1}, rank)
	var taken []int
	for i := range from {
		f := c.from(from[i], rank)
		perm[c.from(to[i], rank)] = f
		taken = append(taken, f)
	}
	next := 0
	for i := range perm {
		if perm[i] >= 0 {
			continue
		}
		for slices.Contains(taken, next) {
			next++
		}
		perm[i] = next
		next++
	}
	return perm
}

// splitSizes returns how long the pieces are into which an axis is cut.
func splitSizes(c *call, n int) []int {
	var sizes []int
	step := 0
	switch {
	case c.has("split_sizes"):
		sizes = c.ints("split_sizes")
	case c.has("chunks"):
		step = (n + max(1, c.i("chunks", 1)) - 1) / max(1, c.i("chunks", 1))
	case c.has("split_size"):
		if _, list := c.args["split_size"].([]int); list {
			sizes = c.ints("split_size")
		} else {
			step = c.i("split_size", 1)
		}
	case c.has("sections"):
		s := max(1, c.i("sections", 1))
		for i := range len(c.out) {
			sizes = append(sizes, n/s+btoi(i < n%s))
		}
	}
	if sizes == nil {
		if step < 1 || (n+step-1)/step != max(len(c.out), btoi(n > 0)) && n > 0 {
			c.stop("%d pieces of %d elements", len(c.out), n)
		}
		for at := 0; at < n; at += step {
			sizes = append(sizes, min(step, n-at))
		}
	}
	sum := 0
	for _, s := range sizes {
		if s < 0 {
			c.stop("a piece of %d elements", s)
		}
		sum += s
	}
	if sum != n || len(sizes) != len(c.out) {
		c.stop("pieces %v of %d elements", sizes, n)
	}
	return sizes
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// tile repeats the whole along every axis.
func (l *lowering) tile(x *value, times []int) *value {
	x = l.reshape(x, slices.Concat(ones(len(times)-min(len(times), x.rank())), x.shape))
	if len(times) != x.rank() {
		l.stop("repeating shape %v %v times", x.shape, times)
	}
	for a := len(times) - 1; a >= 0; a-- {
		if times[a] == 1 {
			continue
		}
		out := slices.Clone(x.shape)
		out[a] *= times[a]
		if x.shape[a] == 1 {
			x = l.expand(x, out)
			continue
		}
		wide := slices.Concat(x.shape[:a], []int{times[a]}, x.shape[a:])
		x = l.reshape(l.expand(l.unsqueeze(x, a), wide), out)
	}
	return x
}

func padRule(c *call) []*value {
	x, pads := c.t("self"), c.ints("pad")
	if len(pads)%2 != 0 || len(pads)/2 > x.rank() {
		c.stop("padding %v of shape %v", pads, x.shape)
	}
	switch c.str("mode", "constant") {
	case "reflect":
		return one(c.mirror(x, pads, true))
	case "replicate":
		return one(c.mirror(x, pads, false))
	case "circular":
		return nil
	}
	v := c.f("value", 0)
	for i := 0; i < len(pads); i += 2 {
		axis := x.rank() - 1 - i/2
		x = c.l.padWith(x, axis, pads[i], pads[i+1], v)
	}
	return one(x)
}

func (l *lowering) padWith(x *value, axis, before, after int, v float64) *value {
	if v == 0 || before <= 0 && after <= 0 {
		return l.pad(x, axis, before, after)
	}
	var parts []*value
	for _, n := range []int{before, 0, after} {
		if n == 0 && len(parts) == btoi(before > 0) {
			parts = append(parts, l.pad(x, axis, min(0, before), min(0, after)))
		} else if n > 0 {
			s := slices.Clone(x.shape)
			s[axis] = n
			parts = append(parts, l.expand(scalar(x.kind, v), s))
		}
	}
	return l.concat(axis, parts...)
}

// mirror pads with the elements next to the border, or with the border itself.
func (c *call) mirror(x *value, pads []int, reflect bool) *value {
	for i := 0; i+1 < len(pads); i += 2 {
		axis := x.rank() - 1 - i/2
		n := x.shape[axis]
		ids, err := fold.New(fold.Int, max(0, n+pads[i]+pads[i+1]))
		if err != nil {
			c.stop("%v", err)
		}
		for j := range ids.I {
			k := j - pads[i]
			if reflect {
				if k < 0 {
					k = -k
				}
				if k >= n {
					k = 2*(n-1) - k
				}
			}
			ids.I[j] = int64(max(0, min(n-1, k)))
		}
		x = c.l.index(x, c.l.folded(ids, nil), axis)
	}
	return x
}

// windows replaces an axis by [positions, size]: the elements under a window
// that slides along it.
func (l *lowering) windows(x *value, axis, size, step, dilation int) *value {
	n := x.shape[axis]
	room := n - dilation*(size-1) - 1
	if room < 0 || size < 1 || step < 1 || dilation < 1 {
		l.stop("windows of %d elements on an axis of %d", size, n)
	}
	if size == step && dilation == 1 {
		count := room/step + 1
		s := slices.Concat(x.shape[:axis], []int{count, size}, x.shape[axis+1:])
		return l.reshape(l.slice(x, axis, 0, count*size), s)
	}
	ids, err := fold.New(fold.Int, room/step+1, size)
	if err != nil {
		l.stop("%v", err)
	}
	for i := range ids.I {
		ids.I[i] = int64(i/size*step + i%size*dilation)
	}
	return l.index(x, l.folded(ids, nil), axis)
}
