package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/internal/fold"
)

// moveRules: the same elements in the same order in other axes, and axes in
// another order.
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
