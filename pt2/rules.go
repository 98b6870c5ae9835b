package pt2

import (
	"strings"
	"sync"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// rule lowers one ATen operation.
type rule func(c *call) []*value

// lookup finds the rule of an operation by its full name, then without the
// overload.
func lookup(target string) rule {
	if f, ok := aten()[target]; ok {
		return f
	}
	parts := strings.SplitN(target, ".", 3)
	if len(parts) < 2 {
		return nil
	}
	return aten()[parts[0]+"."+parts[1]]
}

// aten holds the rules, by name with or without overload.
var aten = sync.OnceValue(func() map[string]rule {
	all := map[string]rule{}
	for _, table := range []map[string]rule{elementRules, moveRules, pieceRules, padRules, indexRules, alongRules, contractionRules, createRules, normRules, imageRules} {
		for names, f := range table {
			for _, name := range strings.Fields(names) {
				all["aten."+name] = f
			}
		}
	}
	return all
})

func one(v *value) []*value { return []*value{v} }

// apply makes a rule of a function of self.
func apply(op graph.Op) rule {
	return func(c *call) []*value { return one(c.l.unary(op, c.t("self"))) }
}

func math2(f func(l *lowering, x, y *value) *value) rule {
	return func(c *call) []*value { return one(f(c.l, c.t("self"), c.t("other"))) }
}

var elementRules = map[string]rule{
	"neg negative": apply(graph.OpNeg), "abs absolute": apply(graph.OpAbs), "relu": apply(graph.OpReLU), "silu": apply(graph.OpSiLU),
	"tanh": apply(graph.OpTanh), "sigmoid special_expit": apply(graph.OpSigmoid), "exp": apply(graph.OpExp), "log": apply(graph.OpLog),
	"sin": apply(graph.OpSin), "cos": apply(graph.OpCos), "erf special_erf": apply(graph.OpErf), "floor": apply(graph.OpFloor),
	"round.default": apply(graph.OpRound),

	"gelu": func(c *call) []*value {
		if c.str("approximate", "none") == "tanh" {
			return one(c.l.unary(graph.OpGELUTanh, c.t("self")))
		}
		return one(c.l.unary(graph.OpGELU, c.t("self")))
	},
	"softplus": func(c *call) []*value {
		// Above the threshold torch returns x itself: less than float32 can tell.
		beta, x := c.f("beta", 1), c.t("self")
		return one(c.l.times(c.l.unary(graph.OpSoftplus, c.l.times(x, beta)), 1/beta))
	},
	"leaky_relu": func(c *call) []*value {
		return one(c.l.node(c.l.b.LeakyReLU(c.l.id(c.t("self")), c.f("negative_slope", 0.01)), fold.Float))
	},
	"elu": func(c *call) []*value {
		if c.f("scale", 1) != 1 || c.f("input_scale", 1) != 1 {
			return nil
		}
		return one(c.l.node(c.l.b.ELU(c.l.id(c.t("self")), c.f("alpha", 1)), fold.Float))
	},
	"hardtanh": func(c *call) []*value { return one(c.l.clamp(c.t("self"), c.f("min_val", -1), c.f("max_val", 1))) },
	"relu6":    func(c *call) []*value { return one(c.l.clamp(c.t("self"), 0, 6)) },
	"hardsigmoid": func(c *call) []*value {
		return one(c.l.times(c.l.clamp(c.l.add(c.t("self"), scalar(fold.Float, 3)), 0, 6), 1.0/6))
	},
	"hardswish": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.times(c.l.mul(x, c.l.clamp(c.l.add(x, scalar(fold.Float, 3)), 0, 6)), 1.0/6))
	},
	"mish": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.mul(x, c.l.unary(graph.OpTanh, c.l.unary(graph.OpSoftplus, x))))
	},
	"log_sigmoid": func(c *call) []*value {
		return one(c.l.unary(graph.OpNeg, c.l.unary(graph.OpSoftplus, c.l.unary(graph.OpNeg, c.t("self")))))
	},
	"prelu": func(c *call) []*value {
		l, x, w := c.l, c.t("self"), c.t("weight")
		shape := ones(x.rank())
		if w.size() > 1 && x.rank() > 1 {
			shape[1] = w.size()
		}
		return one(l.sub(l.unary(graph.OpReLU, x), l.mul(l.reshape(w, shape), l.unary(graph.OpReLU, l.unary(graph.OpNeg, x)))))
	},
	"ceil": func(c *call) []*value {
		return one(c.l.unary(graph.OpNeg, c.l.unary(graph.OpFloor, c.l.unary(graph.OpNeg, c.t("self")))))
	},
	"sign sgn": func(c *call) []*value {
		x, zero := c.t("self"), scalar(fold.Float, 0)
		up, down := c.l.compare(graph.OpLess, zero, x), c.l.compare(graph.OpLess, x, zero)
		return one(c.l.sub(up.as(fold.Int), down.as(fold.Int)).as(x.kind))
	},
	"trunc fix": func(c *call) []*value { return one(c.l.truncate(c.t("self"))) },
	"exp2":      func(c *call) []*value { return one(c.l.unary(graph.OpExp, c.l.times(c.t("self"), 0.6931471805599453))) },
	"log2":      func(c *call) []*value { return one(c.l.times(c.l.unary(graph.OpLog, c.t("self")), 1.4426950408889634)) },
	"log1p": func(c *call) []*value {
		return one(c.l.unary(graph.OpLog, c.l.add(c.t("self"), scalar(fold.Float, 1))))
	},
	"expm1": func(c *call) []*value {
		return one(c.l.sub(c.l.unary(graph.OpExp, c.t("self")), scalar(fold.Float, 1)))
	},
	"square":     func(c *call) []*value { return one(c.l.pow(c.t("self"), 2)) },
	"sqrt":       func(c *call) []*value { return one(c.l.pow(c.t("self"), 0.5)) },
	"rsqrt":      func(c *call) []*value { return one(c.l.pow(c.t("self"), -0.5)) },
	"reciprocal": func(c *call) []*value { return one(c.l.pow(c.t("self"), -1)) },

	"add":          scaled(graph.OpAdd),
	"sub":          scaled(graph.OpSub),
	"rsub":         func(c *call) []*value { return one(c.l.sub(c.t("other"), c.l.times(c.t("self"), c.f("alpha", 1)))) },
	"mul multiply": math2((*lowering).mul),
	"div divide true_divide": func(c *call) []*value {
		switch c.str("rounding_mode", "") {
		case "floor":
			return one(c.l.floorDiv(c.t("self"), c.t("other")))
		case "trunc":
			return one(c.l.truncate(c.l.div(c.t("self"), c.t("other"))).as(max(c.t("self").kind, c.t("other").kind)))
		}
		return one(c.l.div(c.t("self"), c.t("other")))
	},
	"floor_divide": math2((*lowering).floorDiv),
	"remainder":    math2((*lowering).remainder),
	"fmod": math2(func(l *lowering, x, y *value) *value {
		q := l.truncate(l.div(x.as(max(x.kind, fold.Double)), y.as(max(y.kind, fold.Double))))
		return l.sub(x, l.mul(q.as(max(x.kind, y.kind)), y)).as(max(x.kind, y.kind, fold.Int))
	}),
	"maximum":   math2(func(l *lowering, x, y *value) *value { return l.binary(graph.OpMaximum, x, y) }),
	"minimum":   math2(func(l *lowering, x, y *value) *value { return l.binary(graph.OpMinimum, x, y) }),
	"max.other": math2(func(l *lowering, x, y *value) *value { return l.binary(graph.OpMaximum, x, y) }),
	"min.other": math2(func(l *lowering, x, y *value) *value { return l.binary(graph.OpMinimum, x, y) }),
	"pow":       power, "float_power": power,
	"clamp clip clamp_min clamp_max": clampRule,
	"lerp": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.add(x, c.l.mul(c.t("weight"), c.l.sub(c.t("end"), x))))
	},
	"addcmul": func(c *call) []*value {
		return one(c.l.add(c.t("self"), c.l.times(c.l.mul(c.t("tensor1"), c.t("tensor2")), c.f("value", 1))))
	},
	"addcdiv": func(c *call) []*value {
		return one(c.l.add(c.t("self"), c.l.times(c.l.div(c.t("tensor1"), c.t("tensor2")), c.f("value", 1))))
	},

	"eq equal":         math2(func(l *lowering, x, y *value) *value { return l.compare(graph.OpEqual, x, y) }),
	"ne not_equal":     math2(func(l *lowering, x, y *value) *value { return l.unary(graph.OpNot, l.compare(graph.OpEqual, x, y)) }),
	"lt less":          math2(func(l *lowering, x, y *value) *value { return l.compare(graph.OpLess, x, y) }),
	"gt greater":       math2(func(l *lowering, x, y *value) *value { return l.compare(graph.OpLess, y, x) }),
	"le less_equal":    math2(func(l *lowering, x, y *value) *value { return l.unary(graph.OpNot, l.compare(graph.OpLess, y, x)) }),
	"ge greater_equal": math2(func(l *lowering, x, y *value) *value { return l.unary(graph.OpNot, l.compare(graph.OpLess, x, y)) }),
	"logical_not":      apply(graph.OpNot),
	"bitwise_not": func(c *call) []*value {
		if x := c.t("self"); x.kind == fold.Bool {
			return one(c.l.unary(graph.OpNot, x))
		}
		return nil
	},
	"logical_and":         math2(func(l *lowering, x, y *value) *value { return l.logical(graph.OpAnd, x, y) }),
	"logical_or":          math2(func(l *lowering, x, y *value) *value { return l.logical(graph.OpOr, x, y) }),
	"__and__ bitwise_and": bits(graph.OpAnd),
	"__or__ bitwise_or":   bits(graph.OpOr),
	"logical_xor __xor__ bitwise_xor": func(c *call) []*value {
		x, y := c.t("self"), c.t("other")
		if x.kind != fold.Bool || y.kind != fold.Bool {
			return nil
		}
		return one(c.l.unary(graph.OpNot, c.l.compare(graph.OpEqual, x, y)))
	},

	"where": func(c *call) []*value {
		if !c.has("self") || !c.has("other") {
			return nil
		}
		return one(c.l.where(c.t("condition"), c.t("self"), c.t("other")))
	},
	"masked_fill": func(c *call) []*value {
		x := c.t("self")
		return one(c.l.where(c.t("mask"), c.t("value").as(x.kind), x))
	},

	// Casts change no number but where something is cut off.
	"to _to_copy type_as": castRule,
	"alias detach clone contiguous dropout lift lift_fresh lift_fresh_copy positive _conj_physical resolve_conj resolve_neg " +
		"alpha_dropout feature_dropout native_dropout detach_copy alias_copy": func(c *call) []*value {
		return one(c.t(c.named[0]))
	},
}

func scaled(op graph.Op) rule {
	return func(c *call) []*value {
		return one(c.l.binary(op, c.t("self"), c.l.times(c.t("other"), c.f("alpha", 1))))
	}
}

func bits(op graph.Op) rule {
	return func(c *call) []*value {
		x, y := c.t("self"), c.t("other")
		if x.kind != fold.Bool || y.kind != fold.Bool {
			return nil
		}
		return one(c.l.logical(op, x, y))
	}
}

// truncate rounds towards zero.
func (l *lowering) truncate(x *value) *value {
	if !x.kind.Real() {
		return x
	}
	if x.c != nil {
		return constant(x.c.Convert(fold.Int)).as(x.kind)
	}
	// sign is not needed: floor of what is positive, minus floor of what is negative.
	up := l.unary(graph.OpFloor, l.unary(graph.OpReLU, x))
	down := l.unary(graph.OpFloor, l.unary(graph.OpReLU, l.unary(graph.OpNeg, x)))
	return l.sub(up, down)
}

func (l *lowering) remainder(x, y *value) *value {
	return l.sub(x, l.mul(l.floorDiv(x, y), y)).as(max(x.kind, y.kind, fold.Int))
}

func power(c *call) []*value {
	x, e := c.t("self"), c.t("exponent")
	if p, ok := e.uniform(); ok && (e.size() == 1 && e.rank() <= x.rank()) {
		return one(c.l.pow(x, p).as(max(x.kind, e.kind)))
	}
	if constants(x, e) {
		return one(c.l.folded(fold.Binary(graph.OpPow, x.c, e.c)))
	}
	if b, ok := x.uniform(); ok && b > 0 {
		return one(c.l.unary(graph.OpExp, c.l.mul(e, c.l.unary(graph.OpLog, x.as(fold.Float)))))
	}
	return nil
}

func clampRule(c *call) []*value {
	x := c.t("self")
	for _, k := range []struct {
		name string
		op   graph.Op
	}{{"min", graph.OpMaximum}, {"max", graph.OpMinimum}} {
		if !c.has(k.name) {
			continue
		}
		bound := c.t(k.name)
		b, ok := bound.uniform()
		switch {
		case x.c != nil || !ok || bound.size() != 1:
			x = c.l.binary(k.op, x, bound)
		case k.op == graph.OpMaximum:
			x = c.l.clamp(x, b, inf)
		default:
			x = c.l.clamp(x, -inf, b)
		}
	}
	return one(x)
}

func castRule(c *call) []*value {
	x := c.t("self")
	k := x.kind
	if len(c.out) == 1 && c.out[0].known {
		k = c.out[0].kind
	} else if len(c.out) == 1 {
		return nil
	}
	switch {
	case x.c != nil || k == x.kind || k > x.kind && k >= fold.Int:
		return one(x.as(k))
	case k == fold.Bool:
		return one(c.l.unary(graph.OpNot, c.l.unary(graph.OpNot, x)))
	case k.Real():
		return one(x.as(k))
	}
	return one(c.l.truncate(x).as(k))
}
