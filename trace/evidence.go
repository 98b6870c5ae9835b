package trace

import (
	"cmp"
	"math"
	"slices"
)

// A likelihood ratio for one class: the density of what is seen, given the
// exponent that a candidate's key says, over that for an unknown key, whose
// exponent is any of n with equal probability:
//
//	f(d) = (1-miss)·n·bump(d) + miss,  d = seen - shift - exponent
//
// bump sums to at most one over any numbers that lie one apart. So the mean of f
// over an unknown key's exponent is at most one, whatever was seen, whatever the
// shift, and for every choice of width and miss. The same then holds for products
// over classes, whose exponents are drawn independently, and for averages over
// shifts, widths, misses and ways of looking, with weights that do not depend on
// the key.

// resolution is how many steps of differences make a bit.
const resolution = 4

// reach is the largest difference, in steps, at which bump is not zero.
const reach = 4 * resolution

// setting is one assumption about how clear a pattern is.
type setting struct {
	bump [2*reach + 1]float64 // by d + reach, in steps
	miss float64              // share of classes that tell nothing
}

// settings are averaged over, with equal weights.
var settings = makeSettings(
	[]float64{0.1, 0.25, 0.5, 1},
	[]float64{0.01, 0.1, 0.3, 0.6, 0.85, 0.95},
)

func makeSettings(widths, misses []float64) (out []setting) {
	for _, w := range widths {
		var s setting
		var sum [resolution]float64 // over numbers one apart
		for i := range s.bump {
			d := float64(i-reach) / resolution / w
			s.bump[i] = math.Exp(-d * d / 2)
			sum[i%resolution] += s.bump[i]
		}
		most := 0.0
		for _, x := range sum {
			most = max(most, x)
		}
		for i := range s.bump {
			s.bump[i] /= most
		}
		for _, s.miss = range misses {
			out = append(out, s)
		}
	}
	return out
}

// logRatio is log2 f(d), d in steps, for n equally likely exponents.
func (s *setting) logRatio(d, n int) float64 {
	b := 0.0
	if d >= -reach && d <= reach {
		b = s.bump[d+reach]
	}
	return math.Log2((1-s.miss)*float64(n)*b + s.miss)
}

// logRatios tabulates logRatio for one n: by d + reach, and last for what is
// farther.
func (s *setting) logRatios(n int) *[2*reach + 2]float64 {
	var t [2*reach + 2]float64
	for i := range t {
		t[i] = s.logRatio(i-reach, n)
	}
	return &t
}

// tables holds the ratios of all settings, by n.
type tables map[int][]*[2*reach + 2]float64

func (t tables) of(n int) []*[2*reach + 2]float64 {
	if t[n] == nil {
		for i := range settings {
			t[n] = append(t[n], settings[i].logRatios(n))
		}
	}
	return t[n]
}

// shiftWeight is the probability given to a shift, in steps, before anything is
// seen: it sums to at most one over all of them. exact puts half of it on zero.
func shiftWeight(steps int, exact bool) float64 {
	const scale = 2 * resolution
	x := 1 + math.Abs(float64(steps))/scale
	// The sum of 1/x² over all steps is below 1 + 2·scale.
	w := 1 / (x * x) / (1 + 2*scale)
	if exact {
		w /= 2
		if steps == 0 {
			w += 0.5
		}
	}
	return w
}

// bin counts classes with the same difference, in steps, and the same number of
// equally likely exponents.
type bin struct{ n, d, k int }

// tally is the bins of some classes, in order of n and d.
type tally []bin

// countBins counts pairs of n and d; it reorders them.
func countBins(list [][2]int) tally {
	slices.SortFunc(list, func(a, b [2]int) int { return cmp.Or(a[0]-b[0], a[1]-b[1]) })
	var t tally
	for _, x := range list {
		if k := len(t) - 1; k >= 0 && t[k].n == x[0] && t[k].d == x[1] {
			t[k].k++
		} else {
			t = append(t, bin{x[0], x[1], 1})
		}
	}
	return t
}

// shiftsTried bounds the shifts that are summed over: what is left out makes
// the evidence smaller, which is safe.
const shiftsTried = 8

// shifts returns the likeliest ones: zero, and where most differences lie.
func (t tally) shifts() []int {
	out := []int{0}
	if len(t) == 0 {
		return out
	}
	lo, hi := t[0].d, t[0].d
	for _, b := range t {
		lo, hi = min(lo, b.d), max(hi, b.d)
	}
	if hi-lo > maxSpan {
		return out // no seal is as wide
	}
	count := make([]int, hi-lo+3) // with a margin of one
	for _, b := range t {
		count[b.d-lo+1] += b.k
	}
	near := make([]int, hi-lo+1)
	for i := range near {
		near[i] = 2*count[i+1] + count[i] + count[i+2]
		if count[i+1] == 0 || lo+i == 0 {
			near[i] = 0
		}
	}
	for len(out) < shiftsTried {
		best := 0
		for i, k := range near {
			if k > near[best] {
				best = i
			}
		}
		if near[best] == 0 {
			break
		}
		out = append(out, lo+best)
		near[best] = 0
	}
	return out
}

// maxSpan bounds differences between a group's classes, in steps.
const maxSpan = 1 << 16

// evidence returns, for every setting, log2 of the ratio averaged over shifts.
func (t tally) evidence(tb tables, exact bool) []float64 {
	tabled := make([][]*[2*reach + 2]float64, len(t))
	for i, b := range t {
		tabled[i] = tb.of(b.n)
	}
	out := make([]float64, len(settings))
	for i := range out {
		out[i] = math.Inf(-1)
	}
	at := make([]int, len(t))
	for _, s := range t.shifts() {
		w := math.Log2(shiftWeight(s, exact))
		for k, b := range t {
			if at[k] = b.d - s + reach; at[k] < 0 || at[k] > 2*reach {
				at[k] = 2*reach + 1
			}
		}
		for i := range settings {
			sum := w
			for k, b := range t {
				sum += float64(b.k) * tabled[k][i][at[k]]
			}
			out[i] = addLog2(out[i], sum)
		}
	}
	return out
}

// addLog2 is log2(2^a + 2^b).
func addLog2(a, b float64) float64 {
	if a < b {
		a, b = b, a
	}
	if math.IsInf(b, -1) {
		return a
	}
	return a + math.Log2(1+math.Exp2(b-a))
}

// meanLog2 is log2 of the mean of 2^x.
func meanLog2(xs []float64) float64 {
	sum := math.Inf(-1)
	for _, x := range xs {
		sum = addLog2(sum, x)
	}
	return sum - math.Log2(float64(len(xs)))
}

// halfLog2 is log2 of the mean of 1 and 2^x: evidence that may be nothing, but
// costs no more than a bit.
func halfLog2(x float64) float64 { return addLog2(0, x) - 1 }
