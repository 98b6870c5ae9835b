package trace

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// TestRatioIsFair: the mean of a class's ratio over the exponents of an unknown
// key is at most one, whatever was seen: all of the bound rests on this.
func TestRatioIsFair(t *testing.T) {
	for i := range settings {
		s := &settings[i]
		for _, n := range []int{2, 3, 5, 9, 17} {
			for seen := -6 * resolution; seen <= (n+6)*resolution; seen++ {
				for _, coef := range []int{1, -1, 2, -3} {
					sum := 0.0
					for e := range n {
						sum += math.Exp2(s.logRatio(seen-coef*e*resolution, n))
					}
					if sum > float64(n)*(1+1e-9) {
						t.Fatalf("setting %d, %d exponents of coefficient %d, seen %d: mean %v", i, n, coef, seen, sum/float64(n))
					}
				}
			}
		}
	}
}

func TestShiftWeights(t *testing.T) {
	for _, exact := range []bool{false, true} {
		sum := 0.0
		for s := -1_000_000; s <= 1_000_000; s++ {
			sum += shiftWeight(s, exact)
		}
		if sum > 1 || sum < 0.9 {
			t.Errorf("exact %v: weights sum to %v", exact, sum)
		}
	}
}

// world is a plan of two layers with a matrix on either side of a pair, and
// whatever its weights look like.
func world(classes, n int, outliers bool, random *rand.Rand) (*plan, observations) {
	p := &plan{tensors: map[string]*gauge.Tensor{}}
	obs := observations{}
	add := func(kind gauge.Kind, id string) int {
		g := seal.Group{ID: id, Kind: kind, Classes: classes, Offsets: []int{3}, Lo: 0, Hi: n - 1}
		if outliers {
			g.Outliers = seal.Outliers{Count: 1, Low: -20, High: 30}
		}
		p.Groups = append(p.Groups, g)
		return len(p.Groups) - 1
	}
	axis := func(g, at, coef int) gauge.Axis {
		return gauge.Axis{Axes: []int{at}, Len: classes, Segments: []gauge.Segment{{Count: classes, Group: g, Div: 1, Coef: coef}}}
	}
	for l := range 2 {
		norm, ffn := add(gauge.Norm, fmt.Sprint("norm", l)), add(gauge.FFN, fmt.Sprint("ffn", l))
		square := []int{classes, classes}
		p.Tensors = append(p.Tensors,
			gauge.Tensor{Name: fmt.Sprint("gain", l), Shape: []int{classes}, Terms: []gauge.Axis{axis(norm, 0, 1)}},
			gauge.Tensor{Name: fmt.Sprint("up", l), Shape: square, Terms: []gauge.Axis{axis(ffn, 0, 1), axis(norm, 1, -1)}},
			gauge.Tensor{Name: fmt.Sprint("down", l), Shape: square, Terms: []gauge.Axis{axis(ffn, 1, -1)}})
	}
	for _, q := range p.pieces() {
		o := &observation{piece: q}
		o.rows, o.cols = q.places()
		look := func() *fitted {
			f := &fitted{level: 8 * random.NormFloat64()}
			for range o.rows {
				f.row = append(f.row, math.Round(6*random.NormFloat64())/2)
			}
			for range o.cols {
				f.col = append(f.col, math.Round(3*random.NormFloat64()))
			}
			return f
		}
		o.plain, o.ratio = look(), look()
		obs[q.key()] = o
	}
	return p, obs
}

// TestBoundHolds draws many keys that have nothing to do with the weights: by
// Markov's inequality, no more than one in c may have evidence of c.
func TestBoundHolds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		classes, n int
		outliers   bool
	}{{1, 7, false}, {2, 3, false}, {4, 13, false}, {12, 9, true}, {40, 3, false}} {
		const draws = 300
		counts := [6]int{}
		mean := 0.0
		p, obs := world(c.classes, c.n, c.outliers, random)
		layouts := p.layouts(obs, nil)
		for i := range draws {
			key := keys.SealKey{byte(i), byte(i >> 8), byte(c.classes)}
			bits := (&candidate{p: p, e: p.Exponents(key), layouts: layouts}).evidence()
			mean += math.Exp2(bits) / draws
			for k := range counts {
				if bits >= float64(k) {
					counts[k]++
				}
			}
		}
		for k, n := range counts {
			most := draws * math.Exp2(-float64(k))
			if float64(n) > most+5*math.Sqrt(most) {
				t.Errorf("%+v: %d of %d unknown keys have %d bits of evidence", c, n, draws, k)
			}
		}
		t.Logf("%+v: mean ratio %.3f, at least 0, 1, 2 … bits: %v of %d", c, mean, counts, draws)
	}
}

// TestFit: sizes of rows and columns come back up to a constant that moves
// between them, when elements are missing or wrong. Medians do not always get
// there: then evidence is lost, and no name is given.
func TestFit(t *testing.T) {
	const draws = 400
	lost := 0
	for seed := range uint64(draws) {
		random := rand.New(rand.NewPCG(seed, 0))
		rows, cols := 24+random.IntN(17), 24+random.IntN(17)
		a, b := make([]int, rows), make([]int, cols)
		for i := range a {
			a[i] = random.IntN(20)
		}
		for i := range b {
			b[i] = random.IntN(9)
		}
		x := make([]float32, rows*cols)
		for i := range x {
			x[i] = float32(a[i/cols] + b[i%cols])
			switch random.IntN(12) {
			case 0:
				x[i] = float32(missing)
			case 1:
				x[i] = float32(100 * random.NormFloat64())
			}
		}
		f := fit(x, cols, 0.5, true)
		if !mostlyShifted(f.row, a) || !mostlyShifted(f.col, b) {
			lost++
		}
	}
	t.Logf("%d of %d matrices lost", lost, draws)
	if lost > draws/50 {
		t.Errorf("%d of %d matrices are not taken apart", lost, draws)
	}
}

// mostlyShifted reports whether nine tenths of got are want plus one integer.
func mostlyShifted(got []float64, want []int) bool {
	right := map[int]int{0: 0}
	for i := range got {
		if d := got[i] - float64(want[i]); math.Abs(d-math.Round(d)) < 1e-3 {
			right[int(math.Round(d))]++
		}
	}
	return slices.Max(slices.Collect(maps.Values(right)))*10 >= 9*len(got)
}

// TestFitIsShifted: adding to a row adds to its size, for any matrix.
func TestFitIsShifted(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	const rows, cols = 30, 50
	x := make([]float32, rows*cols)
	for i := range x {
		x[i] = float32(math.Round(8*random.NormFloat64()) / 8)
	}
	before := fit(x, cols, 0.75, false)
	for j := range cols {
		x[7*cols+j] += 5
	}
	after := fit(x, cols, 0.75, false)
	d := (after.row[7] + after.level) - (before.row[7] + before.level)
	if math.Abs(d-5) > 0.5 {
		t.Errorf("a row that grew by 5 bits grew by %v", d)
	}
}

func TestNth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.SliceOfN(rapid.Float64Range(-3, 3), 1, 200).Draw(t, "x")
		if rapid.Bool().Draw(t, "ties") {
			for i := range x {
				x[i] = math.Round(x[i])
			}
		}
		n := rapid.IntRange(0, len(x)-1).Draw(t, "n")
		sorted := slices.Sorted(slices.Values(x))
		if got := nth(slices.Clone(x), n); got != sorted[n] {
			t.Fatalf("%v, not %v", got, sorted[n])
		}
	})
}

// TestPlaces: samples are places of the piece, in order and without repetition,
// and small pieces are seen whole.
func TestPlaces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shape := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 3).Draw(t, "shape")
		if rapid.Bool().Draw(t, "large") {
			shape[0] *= rapid.IntRange(1, 900).Draw(t, "times")
		}
		p := piece{shape: shape}
		if len(shape) == 3 {
			p.stack, p.index = 1, rapid.IntRange(0, shape[0]-1).Draw(t, "index")
		}
		first, n, width := p.extent()
		rows, cols := p.places()
		for what, x := range map[string][]int{"rows": rows, "columns": cols} {
			lo, hi, all := first, first+n, sampleRows
			if what == "columns" {
				lo, hi, all = 0, width, sampleCols
			}
			if !slices.IsSorted(x) || len(slices.Compact(slices.Clone(x))) != len(x) || x[0] < lo || x[len(x)-1] >= hi {
				t.Fatalf("%s of %v: %v", what, shape, x)
			}
			if hi-lo <= all && len(x) != hi-lo {
				t.Fatalf("%d %s of %d", len(x), what, hi-lo)
			}
		}
	})
}
