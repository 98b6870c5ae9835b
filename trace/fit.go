package trace

import (
	"math"
	"slices"
)

// missing marks a value that the weights do not tell.
var missing = math.NaN()

// fitted is a matrix of logarithms as level + row + column: how large its rows
// and columns are, in bits. Rows and columns are NaN where too little is known;
// both have the (lower) median 0.
type fitted struct {
	level    float64
	row, col []float64
}

// Limits of fit.
const (
	fewest   = 3    // numbers that a row or column is judged by, if it has as many
	fewShare = 0.04 // of a row's places that hold one, at least
	within   = 0.5  // bits around its row's and column's size that an element agrees with them
	rounds   = 3    // of refining
	agreeing = 0.25 // share of a row's elements that must, where there is an original
)

// fit splits a matrix of logarithms, row by row, width to a row, into sizes of
// rows and columns. Not a number is left out; minus infinity, a zero, counts as
// the smallest. An element's size is that of the given quantile of its row: it
// may be any, as long as it is the same for all. strict leaves out rows and
// columns whose elements do not agree.
//
// It is Tukey's median polish with quantiles: what a row's factor adds to all of
// its elements is added to its size, whatever the columns' factors are.
func fit(x []float32, width int, quantile float64, strict bool) fitted {
	rows := len(x) / width
	f := fitted{row: make([]float64, rows), col: make([]float64, width)}
	if rows == 1 {
		for j := range f.col {
			f.col[j] = finite(float64(x[j]))
		}
		f.centre()
		f.row[0] = known(f.row[0])
		if medianKnown(f.col) != 0 {
			f.row[0] = missing
		}
		return f
	}
	scratch := make([]float64, max(rows, width))
	for range rounds {
		for i := range rows {
			f.row[i] = sizeOf(scratch[:0], quantile, width, func(j int) float64 { return float64(x[i*width+j]) - known(f.col[j]) })
		}
		for j := range width {
			f.col[j] = sizeOf(scratch[:0], quantile, rows, func(i int) float64 { return float64(x[i*width+j]) - known(f.row[i]) })
		}
	}
	if strict {
		f.agree(x)
	}
	f.centre()
	return f
}

// known is 0 for what is missing.
func known(v float64) float64 {
	if v != v {
		return 0
	}
	return v
}

// finite turns infinities into what is missing.
func finite(v float64) float64 {
	if math.IsInf(v, 0) {
		return missing
	}
	return v
}

// sizeOf is the quantile of n numbers; NaN where it is not finite, or few are
// known.
func sizeOf(scratch []float64, quantile float64, n int, at func(int) float64) float64 {
	for i := range n {
		if v := at(i); v == v {
			scratch = append(scratch, v)
		}
	}
	if len(scratch) < min(fewest, n) || float64(len(scratch)) < fewShare*float64(n) {
		return missing
	}
	return finite(nth(scratch, int(quantile*float64(len(scratch)-1))))
}

// agree drops rows and columns of which few elements have the size that row and
// column say: what training has put in place of them tells nothing.
func (f *fitted) agree(x []float32) {
	width := len(f.col)
	rows, cols := make([][2]int, len(f.row)), make([][2]int, width)
	for i, r := range f.row {
		for j, c := range f.col {
			v := float64(x[i*width+j]) - r - c
			if v != v {
				continue
			}
			rows[i][1]++
			cols[j][1]++
			if math.Abs(v) <= within {
				rows[i][0]++
				cols[j][0]++
			}
		}
	}
	drop := func(size []float64, counts [][2]int) {
		for i, n := range counts {
			if float64(n[0]) < agreeing*float64(n[1]) || n[1] == 0 {
				size[i] = missing
			}
		}
	}
	drop(f.row, rows)
	drop(f.col, cols)
}

// centre moves the medians into the level.
func (f *fitted) centre() {
	for _, side := range [][]float64{f.row, f.col} {
		m := medianKnown(side)
		if m != m {
			continue
		}
		for i := range side {
			side[i] -= m
		}
		f.level += m
	}
}

// medianKnown is the lower median of the numbers in x; NaN if there are none.
func medianKnown(x []float64) float64 {
	var y []float64
	for _, v := range x {
		if v == v {
			y = append(y, v)
		}
	}
	if len(y) == 0 {
		return missing
	}
	return nth(y, (len(y)-1)/2)
}

// nth returns the n-th smallest number, and reorders x, which holds no NaN.
func nth(x []float64, n int) float64 {
	for lo, hi := 0, len(x)-1; lo < hi; {
		if hi-lo < 12 {
			slices.Sort(x[lo : hi+1])
			break
		}
		p := middle(x[lo], x[(lo+hi)/2], x[hi])
		i, j := lo, hi
		for i <= j {
			for x[i] < p {
				i++
			}
			for x[j] > p {
				j--
			}
			if i <= j {
				x[i], x[j] = x[j], x[i]
				i++
				j--
			}
		}
		switch {
		case n <= j:
			hi = j
		case n >= i:
			lo = i
		default:
			return x[n]
		}
	}
	return x[n]
}

// middle is the median of three.
func middle(a, b, c float64) float64 {
	return max(min(a, b), min(max(a, b), c))
}
