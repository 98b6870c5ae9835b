package onnx

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Operators that work element by element.
var pointwise = map[string]rule{
	":Neg": apply(graph.OpNeg), ":Abs": apply(graph.OpAbs), ":Relu": apply(graph.OpReLU), ":Sigmoid": apply(graph.OpSigmoid),
	":Tanh": apply(graph.OpTanh), ":Erf": apply(graph.OpErf), ":Exp": apply(graph.OpExp), ":Log": apply(graph.OpLog),
	":Sin": apply(graph.OpSin), ":Cos": apply(graph.OpCos), ":Floor": rounding(graph.OpFloor), ":Round": rounding(graph.OpRound),
	":Softplus": apply(graph.OpSoftplus), ":Not": apply(graph.OpNot),
	":Sqrt": power(0.5), ":Reciprocal": power(-1),
	":Identity": same, ":Dropout": same, "com.microsoft:QuickGelu": quickGelu,
	":Add": two(graph.OpAdd), ":Sub": two(graph.OpSub), ":Mul": two(graph.OpMul), ":Div": two(graph.OpDiv),
	":Equal": two(graph.OpEqual), ":Less": two(graph.OpLess), ":And": two(graph.OpAnd), ":Or": two(graph.OpOr),
	":Max": many(graph.OpMaximum), ":Min": many(graph.OpMinimum), ":Sum": many(graph.OpAdd),
	":Greater":        func(c *call) []*value { return one(c.binary(graph.OpLess, c.in(1), c.in(0))) },
	":LessOrEqual":    func(c *call) []*value { return one(c.not(c.binary(graph.OpLess, c.in(1), c.in(0)))) },
	":GreaterOrEqual": func(c *call) []*value { return one(c.not(c.binary(graph.OpLess, c.in(0), c.in(1)))) },
	":Xor":            func(c *call) []*value { return one(c.not(c.binary(graph.OpEqual, c.in(0), c.in(1)))) },
	":Where":          func(c *call) []*value { return one(c.where(c.in(0), c.in(1), c.in(2))) },
	":Pow":            powOp, ":Mod": mod, ":Clip": clip, ":Gelu": gelu, "com.microsoft:Gelu": exactGelu,
	"com.microsoft:FastGelu": fastGelu, "com.microsoft:BiasGelu": biasGelu,
	":Cast": castOp, ":CastLike": castLike, ":Ceil": ceil, ":Sign": sign, ":IsNaN": isNaN, ":IsInf": isInf,
	":LeakyRelu": func(c *call) []*value {
		return one(c.wrap(c.b.LeakyReLU(c.id(c.in(0)), c.float("alpha", 0.01)), c.in(0).kind))
	},
	":Elu":         func(c *call) []*value { return one(c.wrap(c.b.ELU(c.id(c.in(0)), c.float("alpha", 1)), c.in(0).kind)) },
	":PRelu":       prelu,
	":HardSigmoid": func(c *call) []*value { return one(c.hardSigmoid(c.float("alpha", 0.2), c.float("beta", 0.5))) },
	":HardSwish":   func(c *call) []*value { return one(c.mul(c.in(0), c.hardSigmoid(1.0/6, 0.5))) },
	":Swish":       swish,
	":Mish": func(c *call) []*value {
		return one(c.mul(c.in(0), c.unary(graph.OpTanh, c.unary(graph.OpSoftplus, c.in(0)))))
	},
	":Softsign": func(c *call) []*value {
		return one(c.div(c.in(0), c.add(c.unary(graph.OpAbs, c.in(0)), c.scalar(fold.Float, 1))))
	},
}

func apply(op graph.Op) rule {
	return func(c *call) []*value { return one(c.unary(op, c.in(0))) }
}

// rounding leaves integers as they are.
func rounding(op graph.Op) rule {
	return func(c *call) []*value {
		x := c.in(0)
		if x.whole {
			return one(x)
		}
		return one(c.unary(op, x))
	}
}

func power(p float64) rule { return func(c *call) []*value { return one(c.pow(c.in(0), p)) } }

func two(op graph.Op) rule {
	return func(c *call) []*value { return one(c.binary(op, c.in(0), c.in(1))) }
}

// many folds an operator over all inputs.
func many(op graph.Op) rule {
	return func(c *call) []*value {
		out := c.in(0)
		for i := 1; i < len(c.n.in); i++ {
			out = c.binary(op, out, c.in(i))
		}
		return one(out)
	}
}

// same passes its input; Dropout's mask is not computed.
func same(c *call) []*value {
	need(!c.wants(1), "the mask of a dropout is read")
	return one(c.any(0))
}

func (l *lowerer) not(x *value) *value { return l.unary(graph.OpNot, x) }

func powOp(c *call) []*value {
	x, p := c.in(0), c.in(1)
	if x.c != nil && p.c != nil {
		return one(c.konst(must(fold.Binary(graph.OpPow, x.c, p.c.Convert(x.kind))), x, p))
	}
	if x.c != nil && x.c.Len() == 1 && x.c.At(0) > 0 { // base to the power of x
		return one(c.unary(graph.OpExp, c.times(c.cast(p, max(p.kind, fold.Float)), math.Log(x.c.At(0)))))
	}
	k := c.static(p, "the exponent")
	need(k.Len() > 0, "no exponent")
	for i := range k.Len() {
		need(k.At(i) == k.At(0), "exponents that differ")
	}
	shape, ok := fold.Broadcast(x.shape, k.Shape)
	need(ok && sameShape(shape, x.shape), "power of shapes %v and %v", x.shape, k.Shape)
	return one(c.pow(x, k.At(0)))
}

// mod is the remainder; with fmod its sign is that of the dividend.
func mod(c *call) []*value {
	x, y := c.in(0), c.in(1)
	q := c.div(x, y)
	if c.int("fmod", 0) != 0 {
		q = c.cast(c.cast(q, fold.Int), q.kind)
	} else if q.kind.Real() {
		q = c.unary(graph.OpFloor, q)
	} else {
		q = c.cast(c.unary(graph.OpFloor, c.div(c.cast(x, fold.Double), c.cast(y, fold.Double))), q.kind)
	}
	return one(c.sub(x, c.mul(q, y)))
}

func clip(c *call) []*value {
	lo, hi := math.Inf(-1), math.Inf(1)
	for i, to := range []*float64{&lo, &hi} {
		if c.has(i + 1) {
			b := c.static(c.in(i+1), "the bound of a clip")
			need(b.Len() == 1, "bounds of shape %v", b.Shape)
			*to = b.At(0)
		}
	}
	return one(c.clamp(c.in(0), lo, hi))
}

func gelu(c *call) []*value {
	if c.text("approximate", "none") == "tanh" {
		return one(c.unary(graph.OpGELUTanh, c.in(0)))
	}
	return exactGelu(c)
}

func exactGelu(c *call) []*value { return one(c.unary(graph.OpGELU, c.in(0))) }

func fastGelu(c *call) []*value {
	x := c.in(0)
	if b := c.maybe(1); b != nil {
		x = c.add(x, b)
	}
	return one(c.unary(graph.OpGELUTanh, x))
}

func biasGelu(c *call) []*value { return one(c.unary(graph.OpGELU, c.add(c.in(0), c.in(1)))) }

func quickGelu(c *call) []*value {
	x := c.in(0)
	return one(c.mul(x, c.unary(graph.OpSigmoid, c.times(x, c.float("alpha", 1.702)))))
}

func swish(c *call) []*value {
	x := c.in(0)
	return one(c.mul(x, c.unary(graph.OpSigmoid, c.times(x, c.float("alpha", 1)))))
}

func (c *call) hardSigmoid(a, b float64) *value {
	x := c.in(0)
	return c.clamp(c.add(c.times(x, a), c.scalar(x.kind, b)), 0, 1)
}

func prelu(c *call) []*value {
	x := c.in(0)
	return one(c.where(c.binary(graph.OpLess, x, c.scalar(x.kind, 0)), c.mul(x, c.in(1)), x))
}

func castOp(c *call) []*value { return one(c.lowerer.cast(c.in(0), c.kindAttr("to", 0))) }

func castLike(c *call) []*value {
	return one(c.lowerer.cast(c.in(0), c.any(1).kind))
}

func ceil(c *call) []*value {
	x := c.in(0)
	if x.whole {
		return one(x)
	}
	return one(c.unary(graph.OpNeg, c.unary(graph.OpFloor, c.unary(graph.OpNeg, x))))
}

func sign(c *call) []*value {
	x := c.in(0)
	zero := c.scalar(x.kind, 0)
	up := c.lowerer.cast(c.binary(graph.OpLess, zero, x), fold.Int)
	down := c.lowerer.cast(c.binary(graph.OpLess, x, zero), fold.Int)
	return one(c.lowerer.cast(c.sub(up, down), x.kind))
}

// isNaN: what is not a number is not equal to itself.
func isNaN(c *call) []*value {
	x := c.in(0)
	return one(c.not(c.binary(graph.OpEqual, x, x)))
}

func isInf(c *call) []*value {
	x := c.in(0)
	out := c.scalar(fold.Bool, 0)
	for name, s := range map[string]float64{"detect_positive": math.Inf(1), "detect_negative": math.Inf(-1)} {
		if c.int(name, 1) != 0 {
			out = c.binary(graph.OpOr, out, c.binary(graph.OpEqual, x, c.scalar(max(x.kind, fold.Float), s)))
		}
	}
	return one(out)
}
