package seal

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/keys"
)

// RealFactor is the factor of a group in the original tool's methods; 0 leaves
// the group alone.
type RealFactor float64

// RealFactors returns the factors of the original tool's methods for each
// group: one for all (static) or one per layer, uniform in [0.1·scale, scale)
// (dynamic). Only value/output and up/down move, as in the original.
func RealFactors(groups []gauge.Group, m Method, scale float64, key keys.SealKey) []RealFactor {
	out := make([]RealFactor, len(groups))
	layer := map[int]float64{}
	for i, g := range groups {
		if g.Kind != gauge.VO && g.Kind != gauge.FFN {
			continue
		}
		f := scale
		if m == Dynamic {
			var ok bool
			if f, ok = layer[g.Layer]; !ok {
				f = scale * (0.1 + 0.9*key.Stream(dynamicStream(g.Layer)).Float64())
				layer[g.Layer] = f
			}
		}
		out[i] = RealFactor(f)
	}
	return out
}

// RealScaler multiplies or divides the elements of one tensor by its groups'
// real factors. It rounds: not exact.
type RealScaler struct {
	d     dtype.DType
	width int
	rows  []float64 // per row of the last axis: > 0 multiply, < 0 divide, 0 leave
	cols  []float64 // likewise along the axes of the column term, a run of width per colAt
	colAt func(row int) int
}

// NewRealScaler evaluates a tensor's terms; inverse takes the factors back. It
// returns nil when nothing moves.
func NewRealScaler(t *gauge.Tensor, d dtype.DType, f []RealFactor, inverse bool) *RealScaler {
	rank := len(t.Shape)
	if !d.Scalable() || rank == 0 {
		return nil
	}
	s := &RealScaler{d: d, width: t.Shape[rank-1], colAt: func(int) int { return 0 }}
	rows := 1
	for _, n := range t.Shape[:rank-1] {
		rows *= n
	}
	for _, ax := range t.Terms {
		v := realFactors(ax, f, inverse)
		if !slices.ContainsFunc(v, func(x float64) bool { return x != 0 }) {
			continue
		}
		if slices.Contains(ax.Axes, rank-1) {
			s.cols = v
			s.colAt = RowIndex(t.Shape, ax.Axes[:len(ax.Axes)-1])
			continue
		}
		if s.rows == nil {
			s.rows = make([]float64, rows)
		}
		at := RowIndex(t.Shape, ax.Axes)
		for r := range s.rows {
			s.rows[r] = both(s.rows[r], v[at(r)])
		}
	}
	if s.rows == nil && s.cols == nil {
		return nil
	}
	return s
}

// realFactors multiplies out the factors of every element of a term: one number
// to multiply with or, negative, to divide by; 0 for none.
func realFactors(ax gauge.Axis, f []RealFactor, inverse bool) []float64 {
	v := make([]float64, ax.Len)
	for _, sg := range ax.Segments {
		k := float64(f[sg.Group])
		if k == 0 || sg.Coef == 0 {
			continue
		}
		k = math.Pow(k, math.Abs(float64(sg.Coef)))
		if (sg.Coef < 0) != inverse {
			k = -k
		}
		for i := range sg.Count {
			v[sg.Start+i] = both(v[sg.Start+i], k)
		}
	}
	return v
}

// both joins two factors in realFactors' notation.
func both(a, b float64) float64 {
	switch {
	case a == 0:
		return b
	case b == 0:
		return a
	case (a > 0) == (b > 0):
		return math.Copysign(a*b, a)
	case a > 0:
		a, b = b, a
	}
	return b / -a // one multiplies, the other divides
}

// Edit applies the factors to the elements in buf, the first of which has
// index start in the tensor.
func (s *RealScaler) Edit(start int64, buf []byte) error {
	size := s.d.Bits() / 8
	for len(buf) > 0 {
		row, at := int(start/int64(s.width)), int(start%int64(s.width))
		n := min(s.width-at, len(buf)/size)
		if s.rows != nil {
			s.apply(buf[:n*size], s.rows[row])
		}
		if s.cols != nil {
			cols := s.cols[s.colAt(row)*s.width:][at : at+n]
			// Runs of equal factors: almost always the whole row.
			for i := 0; i < n; {
				j := i + 1
				for j < n && cols[j] == cols[i] {
					j++
				}
				s.apply(buf[i*size:j*size], cols[i])
				i = j
			}
		}
		buf = buf[n*size:]
		start += int64(n)
	}
	return nil
}

func (s *RealScaler) apply(buf []byte, f float64) {
	switch {
	case f > 0:
		dtype.MulRow(s.d, buf, f)
	case f < 0:
		dtype.DivRow(s.d, buf, -f)
	}
}

// dynamicStream names the key stream of a layer's factor.
func dynamicStream(layer int) string { return fmt.Sprintf("dynamic:%d", layer) }
