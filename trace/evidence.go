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

// tally counts differences, in steps, by the number of exponents that were
// equally likely.
type tally map[int]map[int]int

func (t tally) add(n, d int) {
	if t[n] == nil {
		t[n] = map[int]int{}
	}
	t[n][d]++
}

// shiftsTried bounds the shifts that are summed over: what is left out makes
// the evidence smaller, which is safe.
const shiftsTried = 12

// shifts returns the likeliest ones: where most differences lie, and zero.
func (t tally) shifts() []int {
	all := map[int]int{}
	for _, ds := range t {
		for d, k := range ds {
			all[d] += k
		}
	}
	near := func(d int) int { return 2*all[d] + all[d-1] + all[d+1] }
	out := []int{0}
	for len(out) < shiftsTried {
		best, most := 0, 0
		for d := range all {
			if k := near(d); !slices.Contains(out, d) && (k > most || k == most && d < best) {
				best, most = d, k
			}
		}
		if most == 0 {
			break
		}
		out = append(out, best)
	}
	return out
}

// evidence returns, for every setting, log2 of the ratio averaged over shifts.
func (t tally) evidence(tb tables, exact bool) []float64 {
	type bin struct {
		table []*[2*reach + 2]float64
		d     int
		k     float64
	}
	var bins []bin
	for n, ds := range t {
		for d, k := range ds {
			bins = append(bins, bin{tb.of(n), d, float64(k)})
		}
	}
	slices.SortFunc(bins, func(a, b bin) int { return cmp.Or(cmp.Compare(a.d, b.d), cmp.Compare(a.table[0][0], b.table[0][0])) })
	out := make([]float64, len(settings))
	for i := range out {
		out[i] = math.Inf(-1)
	}
	for _, s := range t.shifts() {
		w := math.Log2(shiftWeight(s, exact))
		for i := range settings {
			sum := w
			for _, b := range bins {
				at := b.d - s + reach
				if at < 0 || at > 2*reach {
					at = 2*reach + 1
				}
				sum += b.k * b.table[i][at]
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
