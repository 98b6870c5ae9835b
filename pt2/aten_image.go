package pt2

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// imageRules pool and resize the last axes.
var imageRules = map[string]rule{
	"max_pool1d max_pool2d max_pool3d": func(c *call) []*value { return pool(c, false) },
	"max_pool2d_with_indices":          func(c *call) []*value { return c.unread(pool(c, false), 0) },
	"avg_pool1d avg_pool2d avg_pool3d": func(c *call) []*value { return pool(c, true) },
	"adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d": func(c *call) []*value {
		x, size := c.t("self"), c.ints("output_size")
		for i, n := range size {
			a := x.rank() - len(size) + i
			if a < 0 || n < 1 {
				return nil
			}
			x = c.l.resample(x, a, n, areaWeights(x.shape[a], n))
		}
		return one(x)
	},
	"upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d": func(c *call) []*value { return resize(c, nearest(0)) },
	"upsample_linear1d upsample_bilinear2d": func(c *call) []*value { return resize(c, linearWeights) },
	"upsample_bicubic2d":                    func(c *call) []*value { return resize(c, cubicWeights) },
	"upsample_trilinear3d":                  func(c *call) []*value { return resize(c, linearWeights) },
}

// pool is a largest or a mean of windows over the last axes.
func pool(c *call, mean bool) []*value {
	x := c.t("self")
	size := c.ints("kernel_size")
	n := len(size)
	for _, p := range []string{"stride", "padding", "dilation"} {
		n = max(n, len(c.ints(p)))
	}
	if d := c.target; n == 1 {
		n = map[byte]int{'1': 1, '2': 2, '3': 3}[d[slices.Index([]byte(d), 'd')-1]]
	}
	size = c.spatial("kernel_size", n, 1)
	stride, pad, dilation := c.spatial("stride", n, 0), c.spatial("padding", n, 0), c.spatial("dilation", n, 1)
	if c.flag("ceil_mode", false) || c.has("divisor_override") || n > x.rank() {
		return nil
	}
	for i := range n {
		if stride[i] == 0 {
			stride[i] = size[i]
		}
		if pad[i] != 0 && (dilation[i] != 1 || mean && !c.flag("count_include_pad", true)) {
			return nil
		}
		a := x.rank() - n + i
		if pad[i] != 0 && mean {
			x = c.l.pad(x, a, pad[i], pad[i])
		}
		if pad[i] != 0 && !mean {
			x = c.mirror(x, around(x.rank()-1-a, pad[i]), false)
		}
		// The border repeated is within every window that reaches over it: the largest stays.
		v := c.l.windows(x, a, size[i], stride[i], dilation[i])
		x = c.l.reshape(c.l.along(v, a+1, func(v *value) *value {
			if mean {
				return c.l.mean(v)
			}
			return c.l.largest(v)
		}), slices.Delete(slices.Clone(v.shape), a+1, a+2))
	}
	return one(x)
}

// around is a padding list that pads one axis, counted from the last.
func around(fromLast, n int) []int {
	out := make([]int, 2*fromLast+2)
	out[2*fromLast], out[2*fromLast+1] = n, n
	return out
}

// weights is a resampling of one axis: from n elements, row by row.
type weights func(i int) (at []int, w []float64)

// kernel makes the weights of a resize; scale is input over output length.
type kernel func(n, m int, align bool, scale float64) weights

func resize(c *call, k kernel) []*value {
	x := c.t(c.named[0]) // self, or input where sizes are optional
	size := c.ints("output_size")
	factors := []string{"scales", "scales_h", "scales_w"}
	lengths := size
	if lengths == nil {
		if f, ok := c.args["scale_factors"].([]float64); ok {
			for i, s := range f {
				lengths = append(lengths, int(math.Floor(float64(x.shape[x.rank()-len(f)+i])*s)))
			}
		}
	}
	if len(lengths) == 0 || len(lengths) > x.rank() {
		return nil
	}
	exact := 0.0
	if len(c.target) > 6 && slices.Contains([]string{"aten._upsample_nearest_exact1d", "aten._upsample_nearest_exact2d"}, trimOverload(c.target)) {
		exact = 0.5
	}
	for i, m := range lengths {
		a := x.rank() - len(lengths) + i
		n := x.shape[a]
		if m < 1 || n < 1 {
			return nil
		}
		scale := float64(n) / float64(m)
		name := factors[0]
		if len(lengths) == 2 {
			name = factors[1+i]
		}
		if f, ok := c.args["scale_factors"].([]float64); ok && len(f) == len(lengths) && size == nil {
			scale = 1 / f[i]
		} else if c.has(name) && c.f(name, 0) > 0 {
			scale = 1 / c.f(name, 0)
		}
		kern := k
		if exact != 0 {
			kern = nearest(exact)
		}
		if n != m {
			x = c.l.resample(x, a, m, kern(n, m, c.flag("align_corners", false), scale))
		}
	}
	return one(x)
}

func trimOverload(target string) string {
	i, dots := 0, 0
	for i = range target {
		if target[i] == '.' {
			if dots++; dots == 2 {
				return target[:i]
			}
		}
	}
	return target
}

// resample multiplies one axis by a constant matrix.
func (l *lowering) resample(x *value, axis, m int, w weights) *value {
	n := x.shape[axis]
	t, err := fold.New(fold.Float, m, n)
	if err != nil {
		l.stop("%v", err)
	}
	picks := &fold.Tensor{Kind: fold.Int, Shape: []int{m}, I: make([]int64, m)}
	single := true
	for i := range m {
		at, ws := w(i)
		for j, a := range at {
			a = max(0, min(n-1, a))
			t.F[i*n+a] += ws[j]
			picks.I[i] = int64(a)
		}
		single = single && len(at) == 1
	}
	if single {
		return l.index(x, l.folded(picks, nil), axis)
	}
	mat := l.folded(t, nil)
	return l.along(x, axis, func(v *value) *value { return l.linear(v, mat) })
}

func nearest(offset float64) kernel {
	return func(n, _ int, _ bool, scale float64) weights {
		return func(i int) ([]int, []float64) {
			return []int{min(n-1, int(math.Floor((float64(i)+offset)*scale)))}, []float64{1}
		}
	}
}

// source is where an element of the result lies between those of the input.
func source(i, n, m int, align bool, scale float64) float64 {
	if align {
		if m < 2 {
			return 0
		}
		return float64(i) * float64(n-1) / float64(m-1)
	}
	return (float64(i)+0.5)*scale - 0.5
}

func linearWeights(n, m int, align bool, scale float64) weights {
	return func(i int) ([]int, []float64) {
		s := math.Max(0, source(i, n, m, align, scale))
		a := int(s)
		f := s - float64(a)
		return []int{a, a + 1}, []float64{1 - f, f}
	}
}

func cubicWeights(n, m int, align bool, scale float64) weights {
	near := func(x float64) float64 { return (1.25*x-2.25)*x*x + 1 }
	far := func(x float64) float64 { return ((-0.75*x+3.75)*x-6)*x + 3 }
	return func(i int) ([]int, []float64) {
		s := source(i, n, m, align, scale)
		a := int(math.Floor(s))
		f := s - float64(a)
		return []int{a - 1, a, a + 1, a + 2}, []float64{far(f + 1), near(f), near(1 - f), far(2 - f)}
	}
}

func areaWeights(n, m int) weights {
	return func(i int) ([]int, []float64) {
		lo, hi := i*n/m, ((i+1)*n+m-1)/m
		var at []int
		var w []float64
		for a := lo; a < hi; a++ {
			at, w = append(at, a), append(w, 1/float64(hi-lo))
		}
		return at, w
	}
}

func (l *lowering) sum(v *value) *value { return l.reduce(graph.OpSum, v) }
