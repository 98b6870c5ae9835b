package onnx

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"math"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// sums hashes tensors by value: SHA-256 of their elements as float32, so that
// an export in another type is recognised where it is exact.
type sums struct {
	ck    *checkpoint.Checkpoint
	known map[sumKey][]byte
}

type sumKey struct {
	tensor string
	file   bool // of the model
	turned bool
}

// equal reports whether weight and tensor hold the same values; with turned,
// the tensor's are taken column by column.
func (f *matcher) equal(w Weight, t checkpoint.Tensor, turned bool) (bool, error) {
	a, err := f.sums.of(sumKey{w.Name, true, false}, func(h hash.Hash) error {
		return stream(h, w.DType, w.Size, func(p []byte, off int64) error { return f.m.readAt(w, p, off) })
	})
	if err != nil {
		return false, err
	}
	b, err := f.sums.of(sumKey{t.Name, false, turned}, func(h hash.Hash) error {
		read := func(p []byte, off int64) error { return f.ck.ReadAt(t, p, off) }
		if turned {
			return columns(h, t, read)
		}
		return stream(h, t.DType, t.Size, read)
	})
	return bytes.Equal(a, b), err
}

func (s *sums) of(k sumKey, fill func(hash.Hash) error) ([]byte, error) {
	if v, ok := s.known[k]; ok {
		return v, nil
	}
	h := sha256.New()
	if err := fill(h); err != nil {
		return nil, err
	}
	if s.known == nil {
		s.known = map[sumKey][]byte{}
	}
	s.known[k] = h.Sum(nil)
	return s.known[k], nil
}

// chunk is how much is read at a time, in bytes: a multiple of every element.
const chunk = 1 << 20

func stream(h hash.Hash, d dtype.DType, size int64, read func([]byte, int64) error) error {
	buf := make([]byte, min(chunk, size))
	for off := int64(0); off < size; off += int64(len(buf)) {
		buf = buf[:min(int64(len(buf)), size-off)]
		if err := read(buf, off); err != nil {
			return err
		}
		h.Write(canonical(d, buf))
	}
	return nil
}

// columns hashes a matrix column by column, as many columns at a time as fit
// into a few chunks.
func columns(h hash.Hash, t checkpoint.Tensor, read func([]byte, int64) error) error {
	rows, cols, width := t.Shape[0], t.Shape[1], t.DType.Bits()/8
	step := min(cols, max(1, 32*chunk/(rows*width)))
	block := make([]byte, rows*step*width)
	turned := make([]byte, rows*step*width)
	for at := 0; at < cols; at += step {
		n := min(step, cols-at)
		for r := range rows {
			if err := read(block[r*n*width:(r+1)*n*width], int64(r*cols+at)*int64(width)); err != nil {
				return err
			}
		}
		for r := range rows {
			for c := range n {
				copy(turned[(c*rows+r)*width:(c*rows+r+1)*width], block[(r*n+c)*width:])
			}
		}
		h.Write(canonical(t.DType, turned[:rows*n*width]))
	}
	return nil
}

// canonical turns elements into float32; of float64 it keeps all bits.
func canonical(d dtype.DType, b []byte) []byte {
	if d == dtype.F32 || d == dtype.F64 {
		return b
	}
	x := make([]float32, len(b)*8/d.Bits())
	dtype.ToFloat32(d, x, b)
	out := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(v))
	}
	return out
}

// readAt fills p from a weight's data.
func (m *Model) readAt(w Weight, p []byte, off int64) error {
	if n, err := m.files[w.File].r.ReadAt(p, w.Offset+off); n < len(p) {
		return fault.Wrap(fault.General, err, "reading weight %q", w.Name)
	}
	return nil
}

// floats loads a small weight.
func (m *Model) floats(w Weight) ([]float32, error) {
	buf := make([]byte, w.Size)
	if err := m.readAt(w, buf, 0); err != nil {
		return nil, err
	}
	out := make([]float32, w.Size*8/int64(w.DType.Bits()))
	dtype.ToFloat32(w.DType, out, buf)
	return out, nil
}
