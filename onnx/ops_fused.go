package onnx

import "github.com/neuroseal/neuroseal/graph"

// Norms that onnxruntime fuses with the addition before them.
var fused = map[string]rule{
	"com.microsoft:SkipLayerNormalization":           skipNorm(false),
	"com.microsoft:SkipSimplifiedLayerNormalization": skipNorm(true),
	"com.microsoft:BiasAdd": func(c *call) []*value {
		return one(c.add(c.add(c.in(0), c.in(1)), c.in(2)))
	},
	"com.microsoft:BiasSplitGelu": func(c *call) []*value {
		x := c.add(c.in(0), c.in(1))
		r := len(x.shape) - 1
		need(r >= 0 && x.shape[r]%2 == 0, "a split of %v", x.shape)
		h := x.shape[r] / 2
		return one(c.mul(c.slice(x, r, 0, h), c.unary(graph.OpGELU, c.slice(x, r, h, 2*h))))
	},
}

// skipNorm: input, skip, gamma, beta, bias; with rms gamma, bias. The fourth
// result is the sum before the norm.
func skipNorm(rms bool) rule {
	return func(c *call) []*value {
		need(!c.wants(1) && !c.wants(2), "mean and deviation of a norm are read")
		sum := c.add(c.in(0), c.in(1))
		bias := 4
		if rms {
			bias = 3
		}
		if b := c.maybe(bias); b != nil {
			sum = c.add(sum, b)
		}
		otherwise := 1e-12
		if rms {
			otherwise = 1e-5
		}
		y := c.mul(c.norm(sum, len(sum.shape)-1, c.float("epsilon", otherwise), rms), c.in(2))
		if !rms && c.has(3) {
			y = c.add(y, c.in(3))
		}
		return []*value{y, nil, nil, sum}
	}
}
