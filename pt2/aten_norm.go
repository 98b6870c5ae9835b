package pt2

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fold"
)

func rootInverse(n int) float64 { return 1 / math.Sqrt(float64(n)) }

var normRules = map[string]rule{
	"layer_norm native_layer_norm": func(c *call) []*value {
		x := c.t("input")
		v := c.l.layerNorm(x, len(c.ints("normalized_shape")), c.f("eps", 1e-5))
		out := one(c.affine(v, nil))
		return c.unread(out, 2)
	},
	"rms_norm _fused_rms_norm": func(c *call) []*value {
		x := c.t("input")
		if x.kind == fold.Double {
			return nil
		}
		eps := c.f("eps", 1.1920928955078125e-07)
		v := c.l.lastAxes(x, len(c.ints("normalized_shape")), func(v *value) *value {
			return c.l.node(c.l.b.RMSNorm(c.l.id(v), eps, ""), v.kind)
		})
		return c.unread(one(c.affine(v, nil)), 1)
	},
	"group_norm native_group_norm": func(c *call) []*value {
		x := c.t("input")
		groups := c.i("num_groups", c.i("group", 1))
		if x.rank() < 2 || groups < 1 || x.shape[1]%groups != 0 {
			return nil
		}
		rows := x.shape[0] * groups
		v := c.l.reshape(c.l.layerNorm(c.l.reshape(x, []int{rows, x.size() / max(rows, 1)}), 1, c.f("eps", 1e-5)), x.shape)
		return c.unread(one(c.affine(v, channels(x))), 2)
	},
	"instance_norm": func(c *call) []*value {
		x := c.t("input")
		if x.rank() < 3 || !c.flag("use_input_stats", true) {
			return nil
		}
		rows := x.shape[0] * x.shape[1]
		v := c.l.reshape(c.l.layerNorm(c.l.reshape(x, []int{rows, x.size() / max(rows, 1)}), 1, c.f("eps", 1e-5)), x.shape)
		return one(c.affine(v, channels(x)))
	},
	"batch_norm _native_batch_norm_legit_no_training native_batch_norm": func(c *call) []*value {
		l, x := c.l, c.t("input")
		if c.flag("training", false) || !c.has("running_mean") || x.rank() < 2 {
			return nil
		}
		s := channels(x)
		v := l.sub(x, l.reshape(c.t("running_mean"), s))
		v = l.mul(v, l.pow(l.add(l.reshape(c.t("running_var"), s), scalar(fold.Float, c.f("eps", 1e-5))), -0.5))
		return c.unread(one(c.affine(v, s)), 2)
	},
	"_weight_norm": func(c *call) []*value {
		l, v, g := c.l, c.t("v"), c.t("g")
		axis := c.axis("dim", 0, v.rank())
		rest := slices.DeleteFunc(order(v.rank()), func(a int) bool { return a == axis })
		n := l.over(c, l.pow(v, 2), rest, true, func(v *value) *value { return l.sum(v) })
		return one(l.mul(v, l.div(g, l.pow(n, 0.5))))
	},
	"_weight_norm_interface": func(*call) []*value { return nil },
}

// channels is the shape in which one number per channel meets x [N,C,...].
func channels(x *value) []int { return append([]int{x.shape[1]}, ones(x.rank()-2)...) }

// affine applies gain and bias.
func (c *call) affine(v *value, shape []int) *value {
	for _, k := range []string{"weight", "bias"} {
		if !c.has(k) {
			continue
		}
		w := c.t(k)
		if shape != nil {
			w = c.l.reshape(w, shape)
		}
		if k == "weight" {
			v = c.l.mul(v, w)
		} else {
			v = c.l.add(v, w)
		}
	}
	return v
}

// unread adds the further results of a native norm, which only training reads:
// they are opaque.
func (c *call) unread(out []*value, n int) []*value {
	for i := 1; i <= n && i < len(c.out); i++ {
		m := c.out[i]
		if m.name == "" || !m.known {
			out = append(out, scalar(fold.Float, 0))
			continue
		}
		out = append(out, c.l.node(c.l.b.Opaque(c.target+"#saved", false, m.shape, c.l.id(c.t("input"))), m.kind))
	}
	return out
}

func (l *lowering) layerNorm(x *value, axes int, eps float64) *value {
	return l.lastAxes(x, axes, func(v *value) *value { return l.node(l.b.LayerNorm(l.id(v), eps, ""), real1(v.kind)) })
}

// lastAxes joins the last axes for an operation that works along one.
func (l *lowering) lastAxes(x *value, axes int, f func(*value) *value) *value {
	if axes == 1 {
		return f(x)
	}
	if axes < 1 || axes > x.rank() {
		l.stop("norm over %d axes of shape %v", axes, x.shape)
	}
	n := 1
	for _, d := range x.shape[x.rank()-axes:] {
		n *= d
	}
	v := l.reshape(x, append(slices.Clone(x.shape[:x.rank()-axes]), n))
	return l.reshape(f(v), x.shape)
}
