package neuroseal

import (
	"math"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
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

// blockRows dequantises a chunk of whole blocks that begins with the given row
// of the last axis, row by row: those whose number is a multiple of every.
func blockRows(t checkpoint.Tensor, first, every int64, buf []byte, visit func(row []byte)) {
	elements, size := t.Format.Block()
	width := max(t.Shape[len(t.Shape)-1]/elements*size, size)
	row := make([]byte, 4*min(width, len(buf))/size*elements)
	for i := first; len(buf) > 0; i++ {
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

// blockStats are the statistics of a chunk of blocks, the first of which begins
// with element start. Of large tensors whose scales tell the largest number, the
// others come from a sample of the rows. numbers is what the blocks stand for, as
// fp32; nil: they are dequantised here.
func blockStats(t checkpoint.Tensor, start int64, buf, numbers []byte) (s dtype.Stats) {
	every := int64(1)
	most, ok := float32(0), false
	if r, may := t.Format.(reaching); may && t.Size > sampledFrom {
		if most, ok = r.Reach(buf); ok {
			every = sampled
		}
	}
	width := int64(max(t.Shape[len(t.Shape)-1], 1))
	first := start / width
	if numbers == nil {
		blockRows(t, first, every, buf, func(row []byte) { s.Row(dtype.F32, row) })
	}
	for i := first; len(numbers) > 0; i++ {
		row := numbers[:min(4*width, int64(len(numbers)))]
		if i%every == 0 {
			s.Row(dtype.F32, row)
		}
		numbers = numbers[len(row):]
	}
	if ok && s.Finite() {
		s.Max = max(s.Max, math.Ilogb(float64(most)))
	}
	return s
}

// sampledFrom is the size of a tensor, in bytes, from which rows are sampled.
const sampledFrom = 4 << 20

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
		m.tap.take(t, first*int64(size), blocks, p)
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
