package seal

import (
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Scaler multiplies one tensor's elements by 2^(row + column exponent). It
// implements the editor of a streaming rewrite: chunks must come in any order,
// each a run of whole elements.
type Scaler struct {
	name  string
	d     dtype.DType
	shape []int
	width int
	rows  []int32   // per row of the last axis; nil when zero
	cols  [][]int16 // per value of the axes that colAt counts; nil when zero
	colAt func(row int) int
}

// NewScaler evaluates a tensor's terms for the given class exponents; sign -1
// takes them back. It returns nil when nothing moves.
func NewScaler(t *gauge.Tensor, d dtype.DType, e [][]int16, sign int) *Scaler {
	s := &Scaler{name: t.Name, d: d, shape: t.Shape, width: 1, colAt: func(int) int { return 0 }}
	rank := len(t.Shape)
	rows := 1
	if rank > 0 {
		s.width = t.Shape[rank-1]
		for _, n := range t.Shape[:rank-1] {
			rows *= n
		}
	}
	for _, ax := range t.Terms {
		ex := ax.Exponents(e)
		for i := range ex {
			ex[i] *= sign
		}
		if !slices.ContainsFunc(ex, func(x int) bool { return x != 0 }) {
			continue
		}
		if rank > 0 && slices.Contains(ax.Axes, rank-1) {
			s.addColumns(ax.Axes[:len(ax.Axes)-1], ex)
		} else {
			s.addRows(ax.Axes, ex, rows)
		}
	}
	if s.rows == nil && s.cols == nil {
		return nil
	}
	return s
}

// RowIndex returns a function that turns the number of a row of a tensor's last
// axis into its position along the given leading axes, flattened in C order.
func RowIndex(shape, axes []int) func(row int) int {
	type step struct{ div, mod, mul int }
	var steps []step
	div := 1
	inner := map[int]int{}
	for a := len(shape) - 2; a >= 0; a-- {
		inner[a] = div
		div *= shape[a]
	}
	mul := 1
	for i := len(axes) - 1; i >= 0; i-- {
		steps = append(steps, step{inner[axes[i]], shape[axes[i]], mul})
		mul *= shape[axes[i]]
	}
	return func(row int) int {
		n := 0
		for _, st := range steps {
			n += row / st.div % st.mod * st.mul
		}
		return n
	}
}

func (s *Scaler) addRows(axes []int, ex []int, rows int) {
	if s.rows == nil {
		s.rows = make([]int32, rows)
	}
	at := RowIndex(s.shape, axes)
	for r := range s.rows {
		s.rows[r] += int32(ex[at(r)])
	}
}

func (s *Scaler) addColumns(axes []int, ex []int) {
	if s.cols != nil {
		panic("seal: two column terms in " + s.name) // no graph yields this
	}
	if len(axes) > 0 {
		s.colAt = RowIndex(s.shape, axes)
	}
	for len(ex) > 0 {
		c := make([]int16, s.width)
		for i := range c {
			c[i] = int16(ex[i])
		}
		s.cols = append(s.cols, c)
		ex = ex[s.width:]
	}
}

// Edit scales the elements in buf, the first of which has index start in the
// tensor. An element that would lose a bit is an error that names it.
func (s *Scaler) Edit(start int64, buf []byte) error {
	size := s.d.Bits() / 8
	for len(buf) > 0 {
		row, at := int(start/int64(s.width)), int(start%int64(s.width))
		n := min(s.width-at, len(buf)/size)
		var cols []int16
		if s.cols != nil {
			cols = s.cols[s.colAt(row)][at : at+n]
		}
		e := 0
		if s.rows != nil {
			e = int(s.rows[row])
		}
		if e != 0 || cols != nil {
			if bad := dtype.ScaleRow(s.d, buf[:n*size], e, cols); bad >= 0 {
				if cols != nil {
					e += int(cols[bad])
				}
				return fault.New(fault.Mismatch, "tensor %s: element %d times 2^%d is not representable in %v", s.name, start+int64(bad), e, s.d)
			}
		}
		buf = buf[n*size:]
		start += int64(n)
	}
	return nil
}
