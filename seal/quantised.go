package seal

import (
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Unit is how far apart the elements of a quantised weight can move: those that
// share a stored scale have one exponent. Rows and Columns are the block's
// extent along the last two axes of the weight's logical shape; 1: every row,
// every column by itself.
type Unit struct {
	Rows, Columns int
	Order         []int32     // group of every column where groups are scattered; nil: blocks
	Scale         dtype.DType // type of the stored scales
}

// UnitOf returns the unit of a tensor that is stored in blocks; ok is false for
// one of single elements.
func UnitOf(t checkpoint.Tensor) (u Unit, ok bool) {
	if t.Format == nil {
		return Unit{}, false
	}
	elems, _ := t.Format.Block()
	return Unit{Rows: 1, Columns: elems, Scale: t.Format.ScaleType()}, true
}

// Room is by which exponents all stored scales of a quantised weight may move
// without losing a bit: Lo <= 0 <= Hi.
type Room struct{ Lo, Hi int }

// Meet narrows the room to what also fits the other.
func (r Room) Meet(o Room) Room { return Room{max(r.Lo, o.Lo), min(r.Hi, o.Hi)} }

// kept holds in place what a runtime rounds to a type of its user's choice: a
// power of two commutes with rounding to fp16 only where neither side is
// subnormal there, and not at all with rounding in blocks.
func (f Facts) kept() []constraint {
	var cs []constraint
	for _, id := range f.Kept {
		if s := f.Solution.Values[id]; len(s) > 0 {
			cs = append(cs, constraint{what: "the runtime's cache of " + f.Graph.Nodes[id].Scope + ", which is in a type of the user's choice", shift: s})
		}
	}
	return cs
}

// BlockScaler multiplies the blocks of one tensor by 2^(row + block exponent).
// It implements the editor of a streaming rewrite: chunks may come in any
// order, each a run of whole blocks.
type BlockScaler struct {
	f      checkpoint.Format
	blocks int // per row of the last axis
	s      *Scaler
}

// NewBlockScaler is NewScaler for a tensor that is stored in blocks. Exponents
// that differ within a block are an error of kind Mismatch: no plan for this
// tensor has them.
func NewBlockScaler(t *gauge.Tensor, f checkpoint.Format, e [][]int16, sign int) (*BlockScaler, error) {
	s := NewScaler(t, dtype.Invalid, e, sign)
	if s == nil {
		return nil, nil
	}
	elems, _ := f.Block()
	if s.width%elems != 0 {
		return nil, fault.New(fault.Mismatch, "tensor %s: rows of %d elements in blocks of %d", t.Name, s.width, elems)
	}
	b := &BlockScaler{f: f, blocks: s.width / elems, s: s}
	for i, cols := range s.cols {
		each := make([]int16, b.blocks)
		for k := range each {
			block := cols[k*elems : (k+1)*elems]
			if slices.ContainsFunc(block, func(x int16) bool { return x != block[0] }) {
				return nil, fault.New(fault.Mismatch, "tensor %s: columns %d to %d share a scale of %v and would move apart", t.Name, k*elems, (k+1)*elems-1, f)
			}
			each[k] = block[0]
		}
		s.cols[i] = each
	}
	return b, nil
}

// Edit scales the blocks in buf, the first of which begins with element start
// of the tensor. A scale that would lose a bit is an error that names its block.
func (b *BlockScaler) Edit(start int64, buf []byte) error {
	elems, size := b.f.Block()
	at := start / int64(elems)
	for len(buf) > 0 {
		row, k := int(at/int64(b.blocks)), int(at%int64(b.blocks))
		n := min(b.blocks-k, len(buf)/size)
		e := 0
		if b.s.rows != nil {
			e = int(b.s.rows[row])
		}
		if err := b.row(row, k, e, buf[:n*size], at); err != nil {
			return err
		}
		buf, at = buf[n*size:], at+int64(n)
	}
	return nil
}

// row scales blocks from k on of one row, in runs of equal exponents.
func (b *BlockScaler) row(row, k, e int, buf []byte, at int64) error {
	_, size := b.f.Block()
	n := len(buf) / size
	var cols []int16
	if b.s.cols != nil {
		cols = b.s.cols[b.s.colAt(row)][k : k+n]
	}
	for i := 0; i < n; {
		j, x := n, e
		if cols != nil {
			for j = i + 1; j < n && cols[j] == cols[i]; j++ {
			}
			x += int(cols[i])
		}
		if bad := b.f.Scale(buf[i*size:j*size], x); bad >= 0 {
			return fault.New(fault.Mismatch, "tensor %s: a scale of block %d times 2^%d is not representable in %v", b.s.name, at+int64(i+bad), x, b.f)
		}
		i = j
	}
	return nil
}
