package onnx

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Operators that work along axes.
var reductions = map[string]rule{
	":ReduceSum": reducing(func(c *call, x *value, axes []int, keep bool) *value { return c.reduce(graph.OpSum, x, axes, keep) }),
	":ReduceMean": reducing(func(c *call, x *value, axes []int, keep bool) *value {
		return c.mean(x, axes, keep)
	}),
	":ReduceMax": reducing(func(c *call, x *value, axes []int, keep bool) *value { return c.reduce(graph.OpMax, x, axes, keep) }),
	":ReduceMin": reducing(func(c *call, x *value, axes []int, keep bool) *value {
		return c.unary(graph.OpNeg, c.reduce(graph.OpMax, c.unary(graph.OpNeg, x), axes, keep))
	}),
	":ReduceSumSquare": reducing(func(c *call, x *value, axes []int, keep bool) *value {
		return c.reduce(graph.OpSum, c.mul(x, x), axes, keep)
	}),
	":ReduceL2": reducing(func(c *call, x *value, axes []int, keep bool) *value {
		return c.pow(c.reduce(graph.OpSum, c.mul(x, x), axes, keep), 0.5)
	}),
	":ReduceL1": reducing(func(c *call, x *value, axes []int, keep bool) *value {
		return c.reduce(graph.OpSum, c.unary(graph.OpAbs, x), axes, keep)
	}),
	":ReduceLogSumExp": reducing(logSumExp),
	":ArgMax":          argMax(false), ":ArgMin": argMax(true),
	":Softmax": softmaxOp, ":LogSoftmax": logSoftmax, ":CumSum": cumsumOp, ":TopK": topK, ":OneHot": oneHot,
	":LayerNormalization": layerNorm, ":RMSNormalization": rmsNorm, ":SimplifiedLayerNormalization": rmsNorm,
	"com.microsoft:SimplifiedLayerNormalization": rmsNorm,
	":GroupNormalization":                        groupNorm, ":InstanceNormalization": instanceNorm, ":BatchNormalization": batchNorm,
	":LpNormalization": lpNorm, ":GlobalAveragePool": globalAverage,
}

func reducing(f func(*call, *value, []int, bool) *value) rule {
	return func(c *call) []*value {
		x := c.in(0)
		axes := c.axes(1, len(x.shape))
		if len(axes) == 0 {
			if c.int("noop_with_empty_axes", 0) != 0 {
				return one(x)
			}
			for i := range x.shape {
				axes = append(axes, i)
			}
		}
		slices.Sort(axes)
		need(len(slices.Compact(slices.Clone(axes))) == len(axes), "axes %v", axes)
		return one(f(c, x, axes, c.int("keepdims", 1) != 0))
	}
}

// logSumExp subtracts the largest first, so that nothing overflows.
func logSumExp(c *call, x *value, axes []int, keep bool) *value {
	top := c.reduce(graph.OpMax, x, axes, true)
	sum := c.reduce(graph.OpSum, c.unary(graph.OpExp, c.sub(x, top)), axes, true)
	return c.reduce(graph.OpMax, c.add(top, c.unary(graph.OpLog, sum)), axes, keep) // of length 1: only the shape changes
}

func argMax(least bool) rule {
	return func(c *call) []*value {
		x := c.in(0)
		a := axis(c.int("axis", 0), len(x.shape))
		if least {
			x = c.unary(graph.OpNeg, x)
		}
		lastOne := c.int("select_last_index", 0) != 0
		if lastOne {
			x = c.flip(x, a)
		}
		v := c.reduce(graph.OpArgMax, x, []int{a}, c.int("keepdims", 1) != 0)
		if lastOne {
			v = c.add(c.unary(graph.OpNeg, v), c.scalar(fold.Int, float64(x.shape[a]-1)))
		}
		return one(v)
	}
}

func softmaxOp(c *call) []*value {
	x := c.in(0)
	return one(c.softmax(x, axis(c.int("axis", -1), len(x.shape))))
}

func logSoftmax(c *call) []*value {
	x := c.in(0)
	a := []int{axis(c.int("axis", -1), len(x.shape))}
	return one(c.sub(x, logSumExp(c, x, a, true)))
}

func cumsumOp(c *call) []*value {
	x := c.in(0)
	a := axis(c.number(1, "the axis of a cumulative sum"), len(x.shape))
	return one(c.cumsum(x, a, c.int("reverse", 0) != 0, c.int("exclusive", 0) != 0))
}

func topK(c *call) []*value {
	x := c.in(0)
	k := c.number(1, "the k of a top-k")
	a := axis(c.int("axis", -1), len(x.shape))
	need(k >= 1 && k <= x.shape[a], "top-%d of %v", k, x.shape)
	least := c.int("largest", 1) == 0
	if least {
		x = c.unary(graph.OpNeg, x)
	}
	var indices *value
	values := c.last(x, a, func(y *value) *value {
		v, i := c.b.TopK(c.id(y), k)
		indices = c.wrap(i, fold.Int)
		return c.moved(y, v)
	})
	// The indices take the same way back.
	perm := make([]int, 0, len(x.shape))
	for i := range x.shape {
		switch {
		case i < a:
			perm = append(perm, i)
		case i == a:
			perm = append(perm, len(x.shape)-1)
		default:
			perm = append(perm, i-1)
		}
	}
	indices = c.transpose(indices, perm...)
	if least {
		values = c.unary(graph.OpNeg, values)
	}
	return []*value{values, indices}
}

func oneHot(c *call) []*value {
	ids := c.lowerer.cast(c.in(0), fold.Int)
	k := c.number(1, "the depth of a one-hot")
	pair := c.static(c.in(2), "the values of a one-hot")
	need(pair.Len() == 2 && k >= 1 && k <= fold.MaxElements, "one-hot of length %d", k)
	a := axis(c.int("axis", -1), len(ids.shape)+1)
	v := c.wrap(c.b.OneHot(c.id(ids), k), fold.Int)
	kind := c.in(2).kind
	off, on := pair.At(0), pair.At(1)
	v = c.lowerer.cast(v, kind)
	v = c.times(v, on-off)
	if off != 0 {
		v = c.add(v, c.scalar(kind, off))
	}
	perm := make([]int, len(v.shape))
	for i := range perm {
		switch {
		case i < a:
			perm[i] = i
		case i == a:
			perm[i] = len(perm) - 1
		default:
			perm[i] = i - 1
		}
	}
	return one(c.transpose(v, perm...))
}

func layerNorm(c *call) []*value {
	need(!c.wants(1) && !c.wants(2), "mean and deviation of a norm are read")
	x := c.in(0)
	a := axis(c.int("axis", -1), len(x.shape))
	y := c.mul(c.norm(x, a, c.float("epsilon", 1e-5), false), c.in(1))
	if b := c.maybe(2); b != nil {
		y = c.add(y, b)
	}
	return one(y)
}

func rmsNorm(c *call) []*value {
	need(!c.wants(1), "the deviation of a norm is read")
	x := c.in(0)
	a := axis(c.int("axis", -1), len(x.shape))
	return one(c.mul(c.norm(x, a, c.float("epsilon", 1e-5), true), c.in(1)))
}

// groups norms channels in groups, and gives every channel its gain and bias.
func (c *call) groups(x *value, n int, scale, bias *value) *value {
	need(len(x.shape) >= 2 && n > 0 && x.shape[1]%n == 0, "%d groups of %v", n, x.shape)
	y := c.reshape(x, x.shape[0], n, x.size()/max(x.shape[0]*n, 1))
	y = c.reshape(c.norm(y, 2, c.float("epsilon", 1e-5), false), x.shape...)
	return c.add(c.mul(y, c.channel(scale, len(x.shape))), c.channel(bias, len(x.shape)))
}

// channel gives a vector the rank of a value whose axis 1 it belongs to.
func (c *call) channel(v *value, rank int) *value {
	need(len(v.shape) == 1 && rank >= 2, "a channel vector of shape %v", v.shape)
	return c.reshape(v, append([]int{v.shape[0]}, slices.Repeat([]int{1}, rank-2)...)...)
}

func groupNorm(c *call) []*value {
	need(c.version >= 21, "group norm before operator set 21")
	return one(c.groups(c.in(0), c.int("num_groups", 1), c.in(1), c.in(2)))
}

func instanceNorm(c *call) []*value {
	x := c.in(0)
	need(len(x.shape) >= 2, "instance norm of %v", x.shape)
	return one(c.groups(x, x.shape[1], c.in(1), c.in(2)))
}

// batchNorm uses the stored statistics.
func batchNorm(c *call) []*value {
	need(c.int("training_mode", 0) == 0, "batch norm in training")
	x := c.in(0)
	r := len(x.shape)
	deviation := c.pow(c.add(c.in(4), c.scalar(fold.Float, c.float("epsilon", 1e-5))), -0.5)
	y := c.mul(c.sub(x, c.channel(c.in(3), r)), c.channel(deviation, r))
	return one(c.add(c.mul(y, c.channel(c.in(1), r)), c.channel(c.in(2), r)))
}

func lpNorm(c *call) []*value {
	x := c.in(0)
	a := []int{axis(c.int("axis", -1), len(x.shape))}
	if c.int("p", 2) == 1 {
		return one(c.div(x, c.reduce(graph.OpSum, c.unary(graph.OpAbs, x), a, true)))
	}
	return one(c.div(x, c.pow(c.reduce(graph.OpSum, c.mul(x, x), a, true), 0.5)))
}

func globalAverage(c *call) []*value {
	x := c.in(0)
	var axes []int
	for i := 2; i < len(x.shape); i++ {
		axes = append(axes, i)
	}
	return one(c.mean(x, axes, true))
}

// lowest is what masks add: the smallest float32.
const lowest = -math.MaxFloat32
