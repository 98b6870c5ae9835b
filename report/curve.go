package report

import (
	"math"

	"github.com/neuroseal/neuroseal/arena"
)

// dot is a point of a curve; its value may be no number.
type dot struct {
	step int
	loss float64
}

// training are the losses of a trial's steps.
func training(r *arena.Result) []dot {
	out := make([]dot, len(r.Losses))
	for i, x := range r.Losses {
		out[i] = dot{i + 1, float64(x)}
	}
	return out
}

// heldOut are its looks at the held-out target text.
func heldOut(r *arena.Result) []dot {
	out := make([]dot, len(r.Evals))
	for i, e := range r.Evals {
		out[i] = dot{e.Step, float64(e.Target)}
	}
	return out
}

// thin returns at most n points of a curve that look like all of them: the
// largest-triangle method (S. Steinarsson, Downsampling Time Series for Visual
// Representation, 2013), which keeps measured points and averages none. Of each
// gap, where losses are not finite, its first point stays.
func thin(all []dot, n int) []dot {
	var good []dot
	gap := map[int]dot{} // number of finite points before it → its first point
	for _, d := range all {
		if finite(d.loss) {
			good = append(good, d)
		} else if _, ok := gap[len(good)]; !ok {
			gap[len(good)] = d
		}
	}
	keep := triangles(good, n)
	out := make([]dot, 0, len(keep)+len(gap))
	next := 0
	for _, i := range keep {
		for ; next <= i; next++ {
			if d, ok := gap[next]; ok {
				out = append(out, d)
			}
		}
		out = append(out, good[i])
	}
	if d, ok := gap[len(good)]; ok {
		out = append(out, d)
	}
	return out
}

// triangles returns the indices of at most n points, first and last included.
func triangles(p []dot, n int) []int {
	n = max(n, 3)
	if len(p) <= n {
		out := make([]int, len(p))
		for i := range out {
			out[i] = i
		}
		return out
	}
	out := make([]int, 1, n)
	width := float64(len(p)-2) / float64(n-2)
	edge := func(i int) int { return min(len(p)-1, 1+int(float64(i)*width)) }
	for i := range n - 2 {
		from, to, end := edge(i), edge(i+1), edge(i+2)
		if i == n-3 {
			to, end = len(p)-1, len(p)
		}
		x, y := centre(p[to:max(end, to+1)])
		a := p[out[len(out)-1]]
		best, most := from, -1.0
		for j := from; j < to; j++ {
			area := math.Abs(float64(p[j].step-a.step)*(y-a.loss) - (x-float64(a.step))*(p[j].loss-a.loss))
			if area > most {
				best, most = j, area
			}
		}
		out = append(out, best)
	}
	return append(out, len(p)-1)
}

func centre(p []dot) (x, y float64) {
	for _, d := range p {
		x += float64(d.step)
		y += d.loss
	}
	return x / float64(len(p)), y / float64(len(p))
}
