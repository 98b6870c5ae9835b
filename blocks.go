package neuroseal

import (
	"math"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/seal"
)

// Tensors whose elements share scales in blocks, as numbers.

// sampled is of how many rows one is dequantised for statistics, where scales
// alone tell the largest number: dequantising is most of the work of a scan.
const sampled = 8

// reaching are formats whose scales bound their numbers.
type reaching interface {
	Reach(blocks []byte) (most float32, ok bool)
}

// direct are formats that write their numbers as bytes.
type direct interface{ DequantiseBytes(dst, src []byte) }

// blockRows dequantises a chunk of whole blocks, row by row of the last axis: one
// row in so many.
func blockRows(t checkpoint.Tensor, buf []byte, every int, visit func(row []byte)) {
	elements, size := t.Format.Block()
	width := max(t.Shape[len(t.Shape)-1]/elements*size, size)
	row := make([]byte, 4*min(width, len(buf))/size*elements)
	for i := 0; len(buf) > 0; i++ {
		part := buf[:min(width, len(buf))]
		if i%every == 0 {
			k := 4 * len(part) / size * elements
			dequantise(t.Format, row[:k], part)
			visit(row[:k])
		}
		buf = buf[len(part):]
	}
}

// dequantise writes the numbers of whole blocks as little-endian fp32.
func dequantise(f checkpoint.Format, dst, blocks []byte) {
	if d, ok := f.(direct); ok {
		d.DequantiseBytes(dst, blocks)
		return
	}
	numbers := make([]float32, len(dst)/4)
	f.Dequantise(numbers, blocks)
	dtype.FromFloat32(dtype.F32, dst, numbers)
}

// blockStats are the statistics of a chunk of blocks. Of large tensors whose
// scales tell the largest number, the others come from a sample of the rows.
func blockStats(t checkpoint.Tensor, buf []byte) (s dtype.Stats) {
	every := 1
	most, ok := float32(0), false
	if r, may := t.Format.(reaching); may && t.Size > sampledFrom {
		if most, ok = r.Reach(buf); ok {
			every = sampled
		}
	}
	blockRows(t, buf, every, func(row []byte) { s.Row(dtype.F32, row) })
	if ok && s.Finite() {
		s.Max = max(s.Max, math.Ilogb(float64(most)))
	}
	return s
}

// sampledFrom is the size of a tensor, in bytes, from which rows are sampled.
const sampledFrom = 4 << 20

// meetRoom narrows what a tensor's scales allow by a chunk of its blocks. The
// caller holds gather's lock.
func (m *model) meetRoom(t checkpoint.Tensor, buf []byte) {
	if t.Format == nil {
		return
	}
	if m.room == nil {
		m.room = map[string]seal.Room{}
	}
	lo, hi := t.Format.Room(buf)
	room := seal.Room{Lo: lo, Hi: hi}
	if old, ok := m.room[t.Name]; ok {
		room = room.Meet(old)
	}
	m.room[t.Name] = room
}

// readNumbers reads a tensor in blocks as the fp32 numbers it stands for, from
// byte off of them on, as the model's editors leave it.
func (m *model) readNumbers(t checkpoint.Tensor, p []byte, off int64) error {
	elements, size := t.Format.Block()
	whole := 4 * int64(elements)
	first, last := off/whole, (off+int64(len(p))+whole-1)/whole
	blocks := buffers.get(int(last-first) * size)
	defer buffers.put(blocks)
	if err := m.readStored(t.Name, blocks, first*int64(size)); err != nil {
		return err
	}
	if off%whole == 0 && int64(len(p))%whole == 0 {
		dequantise(t.Format, p, blocks)
		return nil
	}
	all := make([]byte, (last-first)*whole)
	dequantise(t.Format, all, blocks)
	copy(p, all[off-first*whole:])
	return nil
}

// scratch keeps buffers for the next reader.
type scratch struct{ pool sync.Pool }

var buffers scratch

func (s *scratch) get(n int) []byte {
	if b, ok := s.pool.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return make([]byte, n)
}

func (s *scratch) put(b []byte) { s.pool.Put(&b) }
