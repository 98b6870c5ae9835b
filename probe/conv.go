package probe

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// columnFloats is how many numbers one goroutine unfolds at a time.
const columnFloats = 1 << 18

// geometry is a convolution with its spatial axes extended to three.
type geometry struct {
	in, out, kernel             [3]int
	stride, before, dilation    [3]int
	channels, filters, groups   int
	taps, positions, batch, row int // row: channels/groups · taps, a filter's length
}

func geometryOf(x, w []int, n *graph.Node) geometry {
	g := geometry{groups: n.Conv.Groups, batch: x[0], channels: x[1], filters: w[0], taps: 1, positions: 1}
	pad := 3 - (len(x) - 2)
	for i := range 3 {
		g.in[i], g.out[i], g.kernel[i], g.stride[i], g.dilation[i] = 1, 1, 1, 1, 1
		if j := i - pad; j >= 0 {
			g.in[i], g.out[i], g.kernel[i] = x[2+j], n.Shape[2+j], w[2+j]
			g.stride[i], g.before[i], g.dilation[i] = n.Conv.Stride[j], n.Conv.Before[j], n.Conv.Dilation[j]
		}
		g.taps *= g.kernel[i]
		g.positions *= g.out[i]
	}
	g.row = g.channels / g.groups * g.taps
	return g
}

// conv unfolds the input into one row per position and multiplies it with the
// filters, group by group and some positions at a time.
func (r *runner) conv(n *graph.Node) ([]float32, error) {
	xs := r.g.Shape(n.In[0])
	in, err := r.operands(n)
	if err != nil {
		return nil, err
	}
	x, w := in[0], in[1]
	g := geometryOf(xs, r.g.Shape(n.In[1]), n)
	out := make([]float32, count(n.Shape))
	if len(out) == 0 || g.row == 0 {
		return out, nil
	}
	step := min(max(columnFloats/g.row, 1), g.positions)
	cuts := (g.positions + step - 1) / step
	size := g.channels * g.in[0] * g.in[1] * g.in[2]
	err = r.parallel(g.batch*g.groups*cuts, func() func(int) error {
		cols := make([]float32, step*g.row)
		return func(job int) error {
			b, group, first := job/cuts/g.groups, job/cuts%g.groups, job%cuts*step
			k := min(step, g.positions-first)
			g.unfold(cols, x[b*size:(b+1)*size], group, first, k)
			m := g.filters / g.groups
			dst := out[(b*g.filters+group*m)*g.positions+first:]
			tensor.Gemm(false, true, m, k, g.row, 1, w[group*m*g.row:], g.row, cols, g.row, 0, dst, g.positions)
			return nil
		}
	})
	return r.round(n, out), err
}

// unfold writes the inputs of positions [first,first+k) of one group, one row
// each, in the order of a filter's elements.
func (g *geometry) unfold(cols, x []float32, group, first, k int) {
	channels := g.channels / g.groups
	plane := g.in[0] * g.in[1] * g.in[2]
	x = x[group*channels*plane:]
	for p := range k {
		at := first + p
		var origin [3]int
		for i := 2; i >= 0; i-- {
			origin[i] = at%g.out[i]*g.stride[i] - g.before[i]
			at /= g.out[i]
		}
		row := cols[p*g.row : (p+1)*g.row]
		for c := range channels {
			g.patch(row[c*g.taps:(c+1)*g.taps], x[c*plane:(c+1)*plane], origin)
		}
	}
}

// patch copies what a filter sees of one channel; zeros outside of it.
func (g *geometry) patch(dst, x []float32, origin [3]int) {
	i := 0
	for a := range g.kernel[0] {
		z := origin[0] + a*g.dilation[0]
		for b := range g.kernel[1] {
			y := origin[1] + b*g.dilation[1]
			inside := z >= 0 && z < g.in[0] && y >= 0 && y < g.in[1]
			for c := range g.kernel[2] {
				v := float32(0)
				if t := origin[2] + c*g.dilation[2]; inside && t >= 0 && t < g.in[2] {
					v = x[(z*g.in[1]+y)*g.in[2]+t]
				}
				dst[i] = v
				i++
			}
		}
	}
}
