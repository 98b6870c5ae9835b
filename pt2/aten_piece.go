package pt2

import (
	"slices"
)

// pieceRules: parts of a tensor, and tensors put together from parts.
var pieceRules = map[string]rule{
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
