package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// alongRules work along axes.
var alongRules = map[string]rule{
	"softmax _softmax _safe_softmax": func(c *call) []*value {
		x := c.t("self")
		if x.rank() == 0 {
			return nil
		}
		return one(c.l.along(x, c.axis("dim", -1, x.rank()), func(v *value) *value {
			return c.l.node(c.l.b.Apply(graph.OpSoftmax, c.l.id(v)), real1(v.kind))
		}))
	},
	"log_softmax _log_softmax": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.along(x, c.axis("dim", -1, x.rank()), func(v *value) *value {
			return c.l.sub(v, c.l.logSumExp(v))
		}))
	},
	"logsumexp": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.over(c, x, c.ints("dim"), c.flag("keepdim", false), c.l.logSumExp))
	},
	"sum": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.over(c, x.as(max(x.kind, fold.Int)), c.dims(), c.flag("keepdim", false), func(v *value) *value { return c.l.reduce(graph.OpSum, v) }))
	},
	"mean": func(c *call) []*value {
		return one(c.l.over(c, c.t("self"), c.dims(), c.flag("keepdim", false), c.l.mean))
	},
	"amax": func(c *call) []*value {
		return one(c.l.over(c, c.t("self"), c.dims(), c.flag("keepdim", false), c.l.largest))
	},
	"amin": func(c *call) []*value {
		return one(c.l.over(c, c.t("self"), c.dims(), c.flag("keepdim", false), c.l.smallest))
	},
	"max.default": func(c *call) []*value { return one(c.l.over(c, c.t("self"), nil, false, c.l.largest)) },
	"min.default": func(c *call) []*value { return one(c.l.over(c, c.t("self"), nil, false, c.l.smallest)) },
	"max.dim": func(c *call) []*value {
		return []*value{
			c.l.over(c, c.t("self"), c.ints("dim"), c.flag("keepdim", false), c.l.largest),
			c.l.over(c, c.t("self"), c.ints("dim"), c.flag("keepdim", false), c.l.which),
		}
	},
	"min.dim": func(c *call) []*value {
		x := c.t("self")
		return []*value{
			c.l.over(c, x, c.ints("dim"), c.flag("keepdim", false), c.l.smallest),
			c.l.over(c, c.l.unary(graph.OpNeg, x), c.ints("dim"), c.flag("keepdim", false), c.l.which),
		}
	},
	"argmax": func(c *call) []*value {
		return one(c.l.over(c, c.t("self"), c.dims(), c.flag("keepdim", false), c.l.which))
	},
	"argmin": func(c *call) []*value {
		return one(c.l.over(c, c.l.unary(graph.OpNeg, c.t("self")), c.dims(), c.flag("keepdim", false), c.l.which))
	},
	"any": func(c *call) []*value {
		x := c.l.unary(graph.OpNot, c.l.unary(graph.OpNot, c.t("self")))
		return one(c.l.unary(graph.OpNot, c.l.unary(graph.OpNot, c.l.over(c, x.as(fold.Int), c.dims(), c.flag("keepdim", false), func(v *value) *value { return c.l.reduce(graph.OpSum, v) }))))
	},
	"all": func(c *call) []*value {
		x := c.l.unary(graph.OpNot, c.t("self"))
		return one(c.l.unary(graph.OpNot, c.l.over(c, x.as(fold.Int), c.dims(), c.flag("keepdim", false), func(v *value) *value { return c.l.reduce(graph.OpSum, v) })))
	},
	"cumsum": func(c *call) []*value {
		x := c.t("self")
		if x.rank() == 0 {
			return one(x)
		}
		return one(c.l.along(x.as(max(x.kind, fold.Int)), c.axis("dim", 0, x.rank()), c.l.cumsum))
	},
	"var":      func(c *call) []*value { return variance(c, false)[:1] },
	"std":      func(c *call) []*value { return one(c.l.pow(variance(c, false)[0], 0.5)) },
	"var_mean": func(c *call) []*value { return variance(c, true) },
	"norm linalg_vector_norm": func(c *call) []*value {
		x := c.t("self")
		p := c.f("p", c.f("ord", 2))
		dims := c.dims()
		keep := c.flag("keepdim", false)
		sum := func(v *value) *value { return c.l.reduce(graph.OpSum, v) }
		switch p {
		case 2:
			return one(c.l.pow(c.l.over(c, c.l.pow(x, 2), dims, keep, sum), 0.5))
		case 1:
			return one(c.l.over(c, c.l.unary(graph.OpAbs, x), dims, keep, sum))
		case inf:
			return one(c.l.over(c, c.l.unary(graph.OpAbs, x), dims, keep, c.l.largest))
		}
		return nil
	},
	"topk": func(c *call) []*value {
		x := c.t("self")
		if x.rank() == 0 {
			return nil
		}
		return c.l.topk(x, c.axis("dim", -1, x.rank()), c.i("k", 1), c.flag("largest", true))
	},
	"sort": func(c *call) []*value {
		x := c.t("self")
		if x.rank() == 0 {
			return nil
		}
		axis := c.axis("dim", -1, x.rank())
		return c.l.topk(x, axis, x.shape[axis], c.flag("descending", false))
	},
	"argsort": func(c *call) []*value {
		x := c.t("self")
		if x.rank() == 0 {
			return nil
		}
		axis := c.axis("dim", -1, x.rank())
		return c.l.topk(x, axis, x.shape[axis], c.flag("descending", false))[1:]
	},
}

// dims are the axes of a reduction; none means all.
func (c *call) dims() []int { return c.ints("dim") }

func (l *lowering) mean(v *value) *value {
	s := l.times(l.reduce(graph.OpSum, v.as(real1(v.kind))), 1/float64(v.shape[v.rank()-1]))
	l.norms.average(s, v)
	return s
}

func (l *lowering) largest(v *value) *value { return l.reduce(graph.OpMax, v) }

func (l *lowering) which(v *value) *value { return l.reduce(graph.OpArgMax, v) }

func (l *lowering) smallest(v *value) *value {
	return l.unary(graph.OpNeg, l.reduce(graph.OpMax, l.unary(graph.OpNeg, v)))
}

func (l *lowering) logSumExp(v *value) *value {
	top := l.largest(v)
	return l.add(l.unary(graph.OpLog, l.reduce(graph.OpSum, l.unary(graph.OpExp, l.sub(v, top)))), top)
}

// over applies a reduction of the last axis to the given axes together.
func (l *lowering) over(c *call, x *value, axes []int, keep bool, f func(*value) *value) *value {
	if len(axes) == 0 {
		axes = order(x.rank())
	}
	drop := make([]bool, x.rank())
	for _, a := range axes {
		if x.rank() > 0 {
			drop[c.from(a, x.rank())] = true
		}
	}
	var perm, tail, outer, kept []int
	n := 1
	for a, d := range x.shape {
		if drop[a] {
			tail, n, kept = append(tail, a), n*d, append(kept, 1)
		} else {
			perm, outer, kept = append(perm, a), append(outer, d), append(kept, d)
		}
	}
	v := l.reshape(l.transpose(x, append(perm, tail...)), append(slices.Clone(outer), n))
	if len(tail) == 1 && tail[0] == x.rank()-1 {
		v = x
	}
	v = f(v)
	if keep {
		return l.reshape(v, kept)
	}
	return l.reshape(v, outer)
}

// variance returns the variance and the mean.
func variance(c *call, both bool) []*value {
	x := c.t("self")
	correction := 1.0
	if c.has("correction") {
		correction = c.f("correction", 1)
	} else if c.has("unbiased") {
		correction = float64(btoi(c.flag("unbiased", true)))
	}
	keep := c.flag("keepdim", false)
	v := c.l.over(c, x, c.dims(), keep, func(v *value) *value {
		d := c.l.sub(v, c.l.mean(v))
		n := float64(v.shape[v.rank()-1])
		return c.l.times(c.l.mean(c.l.pow(d, 2)), n/max(n-correction, 1e-30))
	})
	if !both {
		return one(v)
	}
	return []*value{v, c.l.over(c, x, c.dims(), keep, c.l.mean)}
}

func (l *lowering) topk(x *value, axis, k int, largest bool) []*value {
	if !largest {
		x = l.unary(graph.OpNeg, x)
	}
	var ids *value
	v := l.along(x, axis, func(v *value) *value {
		a, b := l.b.TopK(l.id(v), k)
		ids = l.node(b, fold.Int)
		return l.node(a, v.kind)
	})
	ids = l.along(x, axis, func(*value) *value { return ids })
	if !largest {
		v = l.unary(graph.OpNeg, v)
	}
	return []*value{v, ids}
}
