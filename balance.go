package neuroseal

import (
	"context"
	"math"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// level is the mean square of the elements that carry a class with one sign,
// and with which coefficient they do.
type level struct {
	sum   float64
	count float64
	coef  float64 // size; 0 before any element
}

// even moves the classes that mine names, of the chosen groups, to where both
// of their sides have the same size; a class with one side only, to size one.
// Elements are seen with the exponents found so far.
func (u *undoer) even(ctx context.Context, choose func(group int) bool, mine func(group, class int) bool, ranks func(rank int) bool) error {
	levels := make([][][2]level, len(u.e))
	vectors := make([]bool, len(u.e)) // groups without a matrix: gains against gains
	for g := range u.e {
		levels[g] = make([][2]level, len(u.e[g]))
		vectors[g] = true
	}
	tensors := map[string]*gauge.Tensor{}
	for i := range u.sol.Tensors {
		t := &u.sol.Tensors[i]
		for g := range groupsOf(t) {
			if choose(g) {
				tensors[t.Name] = t
				vectors[g] = vectors[g] && len(t.Shape) < 2
			}
		}
	}
	counts := func(t *gauge.Tensor, g int) bool {
		return choose(g) && (ranks(len(t.Shape)) || vectors[g])
	}
	var total int64
	want := func(t checkpoint.Tensor) bool {
		g := tensors[t.Name]
		if g == nil || !t.DType.Scalable() {
			return false
		}
		for k := range groupsOf(g) {
			if counts(g, k) {
				return true
			}
		}
		return false
	}
	for _, t := range u.m.ck.Tensors() {
		if want(t) {
			total += t.Size
		}
	}
	u.p.Stage("measuring pairs", total)
	u.read.n += total
	var mu sync.Mutex
	err := u.m.ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		g := tensors[t.Name]
		s := u.squares(g, t, start, buf)
		mu.Lock()
		defer mu.Unlock()
		for i, ax := range g.Terms {
			for _, sg := range ax.Segments {
				if !counts(g, sg.Group) {
					continue
				}
				side, coef := 0, float64(sg.Coef)
				if sg.Coef < 0 {
					side, coef = 1, -coef
				}
				for k := range sg.Count {
					l := &levels[sg.Group][sg.First+k/sg.Div][side]
					l.sum += s.sum[i][sg.Start+k]
					l.count += s.count[i][sg.Start+k]
					l.coef = max(l.coef, coef)
				}
			}
		}
		u.p.Add(int64(len(buf)))
		return nil
	})
	if err != nil {
		return err
	}
	for g := range levels {
		for c, l := range levels[g] {
			if choose(g) && mine(g, c) {
				u.e[g][c] += correction(l)
			}
		}
	}
	return nil
}

// correction is the exponent that evens two sides out, or brings one to size 1.
func correction(l [2]level) int16 {
	size := func(l level) (float64, bool) {
		return math.Log2(l.sum/l.count) / 2, l.sum > 0 && !math.IsInf(l.sum, 0)
	}
	up, hasUp := size(l[0])
	down, hasDown := size(l[1])
	switch {
	case hasUp && hasDown:
		return int16(math.Round((down - up) / (l[0].coef + l[1].coef)))
	case hasUp:
		return int16(math.Round(-up / l[0].coef))
	case hasDown:
		return int16(math.Round(down / l[1].coef))
	}
	return 0
}

// squareSums are, per term of a tensor and element of the term, the sum of
// squares of a chunk's elements and their number.
type squareSums struct{ sum, count [][]float64 }

// squares sums a chunk's squares up, row by row of the last axis.
func (u *undoer) squares(g *gauge.Tensor, t checkpoint.Tensor, start int64, buf []byte) squareSums {
	s := squareSums{make([][]float64, len(g.Terms)), make([][]float64, len(g.Terms))}
	factor := make([][]float64, len(g.Terms)) // 4^exponent
	for i, ax := range g.Terms {
		s.sum[i], s.count[i], factor[i] = make([]float64, ax.Len), make([]float64, ax.Len), make([]float64, ax.Len)
		for k, e := range ax.Exponents(u.e) {
			factor[i][k] = math.Ldexp(1, 2*e)
		}
	}
	x := make([]float32, len(buf)*8/t.DType.Bits())
	dtype.ToFloat32(t.DType, x, buf)
	width := 1
	if k := len(g.Shape); k > 0 {
		width = g.Shape[k-1]
	}
	none := make([]float64, width) // stands in where no term runs along the last axis
	ones := slices.Repeat([]float64{1}, width)
	for len(x) > 0 {
		row, at := int(start/int64(width)), int(start%int64(width))
		n := min(width-at, len(x))
		scale := 1.0
		cols, sums, counts := ones[at:at+n], none[at:at+n], none[at:at+n]
		for i, ax := range g.Terms {
			k, along := place(g, ax, row)
			if along {
				cols, sums, counts = factor[i][k+at:k+at+n], s.sum[i][k+at:k+at+n], s.count[i][k+at:k+at+n]
			} else {
				scale *= factor[i][k]
			}
		}
		total, number := 0.0, 0.0
		for j, v := range x[:n] {
			if v == 0 || v-v != 0 { // zero, infinite, or not a number
				continue
			}
			q := float64(v) * float64(v) * cols[j]
			total += q
			number++
			sums[j] += q * scale
			counts[j]++
		}
		for i, ax := range g.Terms {
			if k, along := place(g, ax, row); !along {
				s.sum[i][k] += total * scale
				s.count[i][k] += number
			}
		}
		x, start = x[n:], start+int64(n)
	}
	return s
}

// place returns where a row of the last axis stands in a term: the position of
// its first element if the term runs along that axis, else that of the row.
func place(g *gauge.Tensor, ax gauge.Axis, row int) (k int, along bool) {
	last := len(g.Shape) - 1
	inner := 1
	for a := last - 1; a >= 0; a-- {
		inner *= g.Shape[a]
	}
	for a := 0; a < last; a++ {
		inner /= g.Shape[a]
		if slices.Contains(ax.Axes, a) {
			k = k*g.Shape[a] + row/inner%g.Shape[a]
		}
	}
	if along = slices.Contains(ax.Axes, last); along {
		k *= g.Shape[last]
	}
	return k, along
}
