package seal

import (
	"crypto/subtle"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/keys"
)

// Signs draws which classes of every group are negative, nil for groups
// without signs. They come from streams of their own, so that exponents are the
// same with and without signs. Specified in spec/derivation.md.
func (p *Plan) Signs(key keys.SealKey) [][]bool {
	out := make([][]bool, len(p.Groups))
	for i, g := range p.Groups {
		if g.Signs {
			out[i] = g.signs(key)
		}
	}
	return out
}

func (g Group) signs(key keys.SealKey) []bool {
	s := key.Stream("signs\x00" + g.stream())
	neg := make([]bool, g.Classes)
	for c := range neg {
		neg[c] = s.Intn(2) == 1
	}
	return neg
}

// Flipper negates elements of one tensor: it flips sign bits, which is exact in
// every type of floats, and its own inverse. It implements the editor of a
// streaming rewrite: chunks may come in any order, each a run of whole elements.
type Flipper struct {
	size  int // bytes of an element
	width int // bytes of a row of the last axis
	rows  []bool
	// masks hold, per value of the axes that maskAt counts, what a row is
	// combined with, and what one whose rows are negated.
	masks  [][2][]byte
	maskAt func(row int) int
}

// NewFlipper evaluates a tensor's terms for the given signs of classes. It
// returns nil when nothing is negated.
func NewFlipper(t *gauge.Tensor, d dtype.DType, neg [][]bool) *Flipper {
	if !d.Scalable() {
		return nil
	}
	rank, width, rows := len(t.Shape), 1, 1
	if rank > 0 {
		width = t.Shape[rank-1]
		for _, n := range t.Shape[:rank-1] {
			rows *= n
		}
	}
	f := &Flipper{size: d.Bits() / 8, width: width * d.Bits() / 8, maskAt: func(int) int { return 0 }}
	f.rows = make([]bool, rows)
	columns := make([]bool, width)
	moved := false
	for _, ax := range t.Terms {
		flip := ax.Negative(neg)
		if !slices.Contains(flip, true) {
			continue
		}
		moved = true
		if rank > 0 && slices.Contains(ax.Axes, rank-1) {
			columns = flip
			f.maskAt = RowIndex(t.Shape, ax.Axes[:len(ax.Axes)-1])
			continue
		}
		at := RowIndex(t.Shape, ax.Axes)
		for r := range f.rows {
			f.rows[r] = f.rows[r] != flip[at(r)]
		}
	}
	if !moved {
		return nil
	}
	for len(columns) > 0 {
		f.masks = append(f.masks, [2][]byte{f.mask(columns[:width], false), f.mask(columns[:width], true)})
		columns = columns[width:]
	}
	return f
}

// mask has the sign bit of every element that is negated.
func (f *Flipper) mask(flip []bool, negated bool) []byte {
	m := make([]byte, len(flip)*f.size)
	for i, x := range flip {
		if x != negated {
			m[(i+1)*f.size-1] = 0x80
		}
	}
	return m
}

// Edit negates elements in buf, the first of which has index start in the tensor.
func (f *Flipper) Edit(start int64, buf []byte) error {
	off := start * int64(f.size)
	for len(buf) > 0 {
		row, at := int(off/int64(f.width)), int(off%int64(f.width))
		n := min(f.width-at, len(buf))
		m := f.masks[f.maskAt(row)][0]
		if f.rows[row] {
			m = f.masks[f.maskAt(row)][1]
		}
		subtle.XORBytes(buf[:n], buf[:n], m[at:at+n])
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}
