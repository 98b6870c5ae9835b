package pt2

import (
	"math"

	"github.com/neuroseal/neuroseal/internal/fold"
)

var inf = math.Inf(1)

// createRules make constants.
var createRules = map[string]rule{
	"arange.default": func(c *call) []*value { return arange(c, scalar(fold.Int, 0), c.t("end"), scalar(fold.Int, 1)) },
	"arange.start":   func(c *call) []*value { return arange(c, c.t("start"), c.t("end"), scalar(fold.Int, 1)) },
	"arange.start_step": func(c *call) []*value {
		step := scalar(fold.Int, 1)
		if c.has("step") {
			step = c.t("step")
		}
		return arange(c, c.t("start"), c.t("end"), step)
	},
	"linspace": func(c *call) []*value {
		n, a, b := c.i("steps", 0), c.f("start", 0), c.f("end", 0)
		t, err := fold.New(c.resultKind(fold.Float), n)
		if err != nil || !t.Kind.Real() {
			return nil
		}
		for i := range t.F {
			t.F[i] = a + (b-a)*float64(i)/math.Max(1, float64(n-1))
		}
		return one(c.l.folded(t, nil))
	},
	"zeros new_zeros empty new_empty empty_strided empty_permuted new_empty_strided": fill("size", 0),
	"ones new_ones":         fill("size", 1),
	"zeros_like empty_like": like(0),
	"ones_like":             like(1),
	"full new_full":         func(c *call) []*value { return filled(c, c.ints("size"), c.f("fill_value", 0)) },
	"full_like":             func(c *call) []*value { return filled(c, c.t("self").shape, c.f("fill_value", 0)) },
	"fill.Scalar":           func(c *call) []*value { return filled(c, c.t("self").shape, c.f("value", 0)) },
	"fill.Tensor":           func(c *call) []*value { return one(c.l.expand(c.t("value"), c.t("self").shape)) },
	"zero":                  func(c *call) []*value { return filled(c, c.t("self").shape, 0) },
	"copy":                  func(c *call) []*value { return one(c.l.expand(c.t("src"), c.t("self").shape)) },
	"scalar_tensor":         func(c *call) []*value { return filled(c, nil, c.f("s", 0)) },
	"eye": func(c *call) []*value {
		n := c.i("n", 0)
		m := c.i("m", n)
		t, err := fold.New(fold.Float, n, m)
		if err != nil {
			c.stop("%v", err)
		}
		for i := range min(n, m) {
			t.F[i*m+i] = 1
		}
		return one(c.l.folded(t, nil).as(c.resultKind(fold.Float)))
	},
	"tril": triangle(func(row, col, d int) bool { return col-row <= d }),
	"triu": triangle(func(row, col, d int) bool { return col-row >= d }),
	"meshgrid": func(c *call) []*value {
		ts := c.ts("tensors")
		shape := make([]int, len(ts))
		for i, t := range ts {
			shape[i] = t.size()
		}
		swap := c.str("indexing", "ij") == "xy" && len(ts) >= 2
		if swap {
			shape[0], shape[1] = shape[1], shape[0]
		}
		out := make([]*value, len(ts))
		for i, t := range ts {
			at := i
			if swap && i < 2 {
				at = 1 - i
			}
			s := ones(len(ts))
			s[at] = t.size()
			out[i] = c.l.expand(c.l.reshape(t, s), shape)
		}
		return out
	},
	"diff": func(c *call) []*value {
		l, x := c.l, c.t("self")
		axis := c.axis("dim", -1, x.rank())
		var parts []*value
		for _, k := range []string{"prepend", "", "append"} {
			switch {
			case k == "":
				parts = append(parts, x)
			case c.has(k):
				parts = append(parts, c.t(k))
			}
		}
		x = l.concat(axis, parts...)
		for range c.i("n", 1) {
			n := x.shape[axis]
			if n == 0 {
				break
			}
			a, b := l.slice(x, axis, 1, n), l.slice(x, axis, 0, n-1)
			if x.kind == fold.Bool {
				return nil
			}
			x = l.sub(a, b)
		}
		return one(x)
	},
}

// resultKind is the recorded type of the only result.
func (c *call) resultKind(def fold.Kind) fold.Kind {
	if len(c.out) == 1 && c.out[0].known {
		return c.out[0].kind
	}
	return c.kind("dtype", def)
}

func arange(c *call, start, end, step *value) []*value {
	kind := max(start.kind, end.kind, step.kind, fold.Int)
	return one(c.l.folded(fold.Range(c.resultKind(kind), c.number(start), c.number(end), c.number(step))))
}

func (c *call) number(v *value) float64 {
	if v.c == nil || v.c.Len() != 1 {
		c.stop("a number that depends on the input's values")
	}
	return v.c.At(0)
}

func fill(arg string, v float64) rule {
	return func(c *call) []*value { return filled(c, c.ints(arg), v) }
}

func like(v float64) rule {
	return func(c *call) []*value { return filled(c, c.t("self").shape, v) }
}

func filled(c *call, shape []int, v float64) []*value {
	kind := fold.Float
	if x, ok := c.args["self"].(*cell); ok {
		kind = c.l.get(x).kind
	}
	k := c.resultKind(kind)
	if n, ok := fold.Size(shape); !ok || n > fold.MaxElements {
		return one(c.l.expand(constant(mustReshape(c, fold.Scalar(k, v), len(shape))), shape))
	}
	return one(c.l.folded(fold.Scalar(k, v).Expand(shape...)))
}

func mustReshape(c *call, t *fold.Tensor, rank int) *fold.Tensor {
	return c.l.folded(t.Reshape(ones(rank)...)).c
}

func triangle(keep func(row, col, d int) bool) rule {
	return func(c *call) []*value {
		x := c.t("self")
		if x.rank() < 2 {
			return nil
		}
		rows, cols := x.shape[x.rank()-2], x.shape[x.rank()-1]
		t, err := fold.New(fold.Bool, rows, cols)
		if err != nil {
			c.stop("%v", err)
		}
		d := c.i("diagonal", 0)
		for i := range t.I {
			if keep(i/cols, i%cols, d) {
				t.I[i] = 1
			}
		}
		return one(c.l.where(c.l.folded(t, nil), x, c.l.empty(x.kind, []int{1})))
	}
}
