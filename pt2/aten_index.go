package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

var indexRules = map[string]rule{
	"embedding": func(c *call) []*value {
		w, ids := c.t("weight"), c.t("indices")
		if w.c != nil || w.rank() != 2 {
			return one(c.l.index(w, ids, 0))
		}
		return one(c.l.node(c.l.b.Embedding(c.l.id(w), c.l.id(c.l.wrap(ids, w.shape[0]))), w.kind))
	},
	"index_select": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.index(x, c.l.vector(c.t("index")), c.axis("dim", 0, x.rank())))
	},
	"gather": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.gather(x, c.t("index"), c.axis("dim", 0, x.rank())))
	},
	"take_along_dim": func(c *call) []*value {
		x, ids := c.t("self"), c.t("indices")
		if !c.has("dim") || x.rank() != ids.rank() {
			return nil
		}
		axis := c.axis("dim", 0, x.rank())
		sx, si := slices.Clone(x.shape), slices.Clone(ids.shape)
		for i := range sx {
			if i != axis {
				n := max(sx[i], si[i])
				sx[i], si[i] = n, n
			}
		}
		return one(c.l.gather(c.l.expand(x, sx), c.l.expand(ids, si), axis))
	},
	"index _unsafe_index":                         indexRule,
	"index_put _unsafe_index_put _index_put_impl": indexPut,
	"index_copy":  func(c *call) []*value { return c.alongAxis(graph.OpScatter, "source") },
	"index_add":   func(c *call) []*value { return c.alongAxis(graph.OpScatterAdd, "source") },
	"index_fill":  func(c *call) []*value { return c.alongAxis(graph.OpScatter, "value") },
	"scatter":     func(c *call) []*value { return scatterRule(c, graph.OpScatter) },
	"scatter_add": func(c *call) []*value { return scatterRule(c, graph.OpScatterAdd) },
	"masked_scatter": func(c *call) []*value {
		if m, ok := c.t("mask").uniform(); ok && m == 0 {
			return one(c.t("self"))
		}
		return nil
	},
	"one_hot": func(c *call) []*value {
		ids, n := c.t("self"), c.i("num_classes", -1)
		if n < 1 {
			if len(c.out) != 1 || len(c.out[0].shape) == 0 {
				return nil
			}
			n = c.out[0].shape[len(c.out[0].shape)-1]
		}
		if ids.c != nil {
			return one(c.l.compare(graph.OpEqual, c.l.unsqueeze(ids, ids.rank()), c.l.folded(fold.Range(fold.Int, 0, float64(n), 1))).as(fold.Int))
		}
		return one(c.l.node(c.l.b.OneHot(c.l.id(ids), n), fold.Int))
	},
	"nonzero": func(c *call) []*value {
		x := c.t("self")
		if x.c == nil || c.has("as_tuple") {
			return nil
		}
		t := fold.NonZero(x.c)
		return one(c.l.transpose(c.l.folded(t, nil), []int{1, 0}))
	},
	"nonzero_numpy": func(c *call) []*value {
		x := c.t("self")
		if x.c == nil {
			return nil
		}
		t := c.l.folded(fold.NonZero(x.c), nil)
		out := make([]*value, x.rank())
		for i := range out {
			out[i] = c.l.reshape(c.l.slice(t, 0, i, i+1), []int{t.shape[1]})
		}
		return out
	},
}

func (l *lowering) vector(ids *value) *value { return l.reshape(ids, []int{ids.size()}) }

// indexed lists the axes for which ids are given.
func indexed(ids []*value) []int {
	var axes []int
	for i, t := range ids {
		if t != nil {
			axes = append(axes, i)
		}
	}
	return axes
}

// indexRule is x[i, :, j]: ids of several axes are joined into one axis.
func indexRule(c *call) []*value {
	l, x := c.l, c.t("self")
	ids := c.ts("indices")
	ids, ok := l.masks(x, ids)
	if !ok {
		return nil
	}
	axes := indexed(ids)
	switch {
	case len(axes) == 0:
		return one(x)
	case len(axes) == 1:
		return one(l.index(x, ids[axes[0]], axes[0]))
	}
	x, joined, first := l.join(x, ids, axes)
	return one(l.index(x, joined, first))
}

// masks turns constant truth values into indices; ok is false where a mask
// depends on the input.
func (l *lowering) masks(x *value, ids []*value) ([]*value, bool) {
	var out []*value
	for _, t := range ids {
		switch {
		case t == nil || t.kind != fold.Bool:
			out = append(out, t)
		case t.c == nil:
			return nil, false
		default:
			nz := l.folded(fold.NonZero(t.c), nil)
			for a := range t.rank() {
				out = append(out, l.reshape(l.slice(nz, 0, a, a+1), []int{nz.shape[1]}))
			}
		}
	}
	return out, len(out) <= x.rank()
}

// join merges the indexed axes of x into one and their ids into one tensor.
// Axes that lie apart come to the front, as in numpy.
func (l *lowering) join(x *value, ids []*value, axes []int) (*value, *value, int) {
	first, k := axes[0], len(axes)
	if axes[k-1]-first != k-1 {
		rest := slices.DeleteFunc(order(x.rank()), func(i int) bool { return slices.Contains(axes, i) })
		x, first = l.transpose(x, append(slices.Clone(axes), rest...)), 0
	}
	var shape []int
	for _, a := range axes {
		s, ok := fold.Broadcast(shape, ids[a].shape)
		if !ok {
			l.stop("indices of shapes %v and %v", shape, ids[a].shape)
		}
		shape = s
	}
	var joined *value
	width := 1
	for i := k - 1; i >= 0; i-- {
		n := x.shape[first+i]
		if t := l.wrap(ids[axes[i]], n); n > 1 {
			t = l.mul(t, scalar(fold.Int, float64(width)))
			if joined == nil {
				joined = t
			} else {
				joined = l.add(joined, t)
			}
		}
		width *= n
	}
	if joined == nil {
		joined = l.empty(fold.Int, shape)
	}
	joined = l.expand(joined, shape)
	return l.reshape(x, slices.Concat(x.shape[:first], []int{width}, x.shape[first+k:])), joined, first
}

// indexPut writes values where indexRule would read.
func indexPut(c *call) []*value {
	l, x := c.l, c.t("self")
	op := graph.OpScatter
	if c.flag("accumulate", false) {
		op = graph.OpScatterAdd
	}
	list := c.ts("indices")
	if len(list) == 1 && list[0] != nil && list[0].kind == fold.Bool && list[0].c == nil && c.t("values").size() == 1 && op == graph.OpScatter {
		m := list[0]
		return one(l.where(l.reshape(m, slices.Concat(m.shape, ones(x.rank()-m.rank()))), c.t("values").as(x.kind), x))
	}
	ids, ok := l.masks(x, list)
	if !ok {
		return nil
	}
	axes := indexed(ids)
	if len(axes) == 0 || axes[len(axes)-1]-axes[0] != len(axes)-1 {
		return nil
	}
	flat, joined, first := l.join(x, ids, axes)
	values := l.expand(c.t("values"), slices.Concat(flat.shape[:first], joined.shape, flat.shape[first+1:]))
	n := joined.size()
	values = l.reshape(values, slices.Concat(flat.shape[:first], []int{n}, flat.shape[first+1:]))
	return one(l.reshape(l.write(op, flat, l.vector(joined), values, first), x.shape))
}

// write is a scatter whose ids are the same along all other axes.
func (l *lowering) write(op graph.Op, x, ids, src *value, axis int) *value {
	if ids.c != nil && op == graph.OpScatter {
		if v := l.run(x, ids, src, axis); v != nil {
			return v
		}
	}
	s := ones(x.rank())
	s[axis] = ids.size()
	return l.scatter(op, x, l.expand(l.reshape(ids, s), src.shape), src, axis)
}

// run recognises ids that count up: then writing is a concatenation.
func (l *lowering) run(x, ids, src *value, axis int) *value {
	ids = l.wrap(ids, x.shape[axis])
	n := ids.c.Len()
	if n == 0 {
		return x
	}
	step := 1
	if n > 1 {
		step = int(ids.c.Int(1) - ids.c.Int(0))
	}
	if step < 1 {
		return nil
	}
	for i := 1; i < n; i++ {
		if ids.c.Int(i)-ids.c.Int(i-1) != int64(step) {
			return nil
		}
	}
	return l.overwrite(x, src, axis, int(ids.c.Int(0)), step)
}

// alongAxis is index_copy, index_add and index_fill.
func (c *call) alongAxis(op graph.Op, source string) []*value {
	x, ids := c.t("self"), c.l.vector(c.t("index"))
	axis := c.axis("dim", 0, x.rank())
	s := slices.Clone(x.shape)
	s[axis] = ids.size()
	src := c.l.expand(c.l.times(c.t(source), c.f("alpha", 1)), s)
	return one(c.l.write(op, x, ids, src, axis))
}

func scatterRule(c *call, op graph.Op) []*value {
	x, ids := c.t("self"), c.t("index")
	switch c.str("reduce", "") {
	case "":
	case "add", "sum":
		op = graph.OpScatterAdd
	default:
		return nil
	}
	axis := c.axis("dim", 0, x.rank())
	var src *value
	if c.has("src") {
		src = c.t("src")
		for a, n := range ids.shape {
			src = c.l.slice(src, a, 0, n)
		}
	} else {
		src = c.l.expand(c.t("value"), ids.shape)
	}
	return one(c.l.scatter(op, x, ids, src, axis))
}
