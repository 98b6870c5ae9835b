package arch

import (
	"math"
	"slices"
	"testing"
)

// TestSlopes: ALiBi's paper gives 1/2 … 1/256 for eight heads; numbers between
// powers of two take every other slope of the next one.
func TestSlopes(t *testing.T) {
	for _, c := range []struct {
		heads int
		want  []float64 // exponents of 1/2
	}{
		{1, []float64{8}},
		{2, []float64{4, 8}},
		{6, []float64{2, 4, 6, 8, 1, 3}},
		{8, []float64{1, 2, 3, 4, 5, 6, 7, 8}},
		{11, []float64{1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5}},
	} {
		got := slopes(c.heads)
		for i := range got {
			got[i] = -math.Log2(got[i])
		}
		if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) < 1e-12 }) {
			t.Errorf("%d heads: %v, want %v", c.heads, got, c.want)
		}
	}
}

// TestBfloat: halves go to the even neighbour, as hardware rounds.
func TestBfloat(t *testing.T) {
	ulp := math.Exp2(-7) // of bfloat16 between 1 and 2
	for _, c := range [][2]float64{
		{0, 0}, {1, 1}, {-3, -3}, {1 + ulp/2, 1}, {1 + 3*ulp/2, 1 + 2*ulp}, {1 + 0.51*ulp, 1 + ulp}, {2 - ulp/4, 2},
	} {
		if got := bfloat(c[0]); got != c[1] {
			t.Errorf("bfloat(%v) = %v, want %v", c[0], got, c[1])
		}
	}
}
