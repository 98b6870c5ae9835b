package seal

import (
	"fmt"
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
	rows  []float64 // per row: > 0 multiply, < 0 divide, 0 leave
	cols  []float64 // per column, likewise
}

// NewRealScaler evaluates a tensor's terms; inverse takes the factors back. It
// returns nil when nothing moves.
func NewRealScaler(t *gauge.Tensor, d dtype.DType, f []RealFactor, inverse bool) *RealScaler {
	if !d.Scalable() || len(t.Shape) == 0 {
		return nil
	}
	s := &RealScaler{d: d, width: t.Shape[len(t.Shape)-1]}
	rows := 1
	for _, n := range t.Shape[:len(t.Shape)-1] {
		rows *= n
	}
	for _, ax := range t.Terms {
		v := make([]float64, ax.Len)
		for _, sg := range ax.Segments {
			k := float64(f[sg.Group])
			if (sg.Coef < 0) != inverse {
				k = -k
			}
			for i := range sg.Count {
				v[sg.Start+i] += k // one group per element
			}
		}
		if !slices.ContainsFunc(v, func(x float64) bool { return x != 0 }) {
			continue
		}
		switch {
		case slices.Equal(ax.Axes, []int{len(t.Shape) - 1}):
			s.cols = v
		case ax.Len == 1: // one factor for the whole tensor: an axis of length 1
			s.rows = slices.Repeat(v, rows)
		case len(v) == rows:
			s.rows = v
		}
	}
	if s.rows == nil && s.cols == nil {
		return nil
	}
	return s
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
			// Runs of equal factors: almost always the whole row.
			for i := 0; i < n; {
				j := i + 1
				for j < n && s.cols[at+j] == s.cols[at+i] {
					j++
				}
				s.apply(buf[i*size:j*size], s.cols[at+i])
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
