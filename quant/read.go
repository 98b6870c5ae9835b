package quant

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// floats reads n elements of a stored tensor of floats, from number first on.
func floats(src Source, t checkpoint.Tensor, first, n int) ([]float32, error) {
	size := 1
	if t.Format == nil {
		size = t.DType.Bits() / 8
	}
	p := make([]byte, n*size)
	if err := src.ReadWeight(t.Name, p, int64(first)*int64(size)); err != nil {
		return nil, err
	}
	x := make([]float32, n)
	switch {
	case t.Format != nil:
		t.Format.Dequantise(x, p)
	case t.DType == dtype.F8E4M3:
		e4m3.Dequantise(x, p)
	case t.DType.Scalable():
		dtype.ToFloat32(t.DType, x, p)
	default:
		return nil, fmt.Errorf("tensor %s of %v is not read as numbers", t.Name, t.DType)
	}
	return x, nil
}

// bytesOf reads a run of bytes of a stored tensor.
func bytesOf(src Source, name string, off, n int) ([]byte, error) {
	p := make([]byte, n)
	return p, src.ReadWeight(name, p, int64(off))
}

// code reads the i-th code of the given width from a stream of bits that
// begins with the lowest of the first byte.
func code(p []byte, i, width int) int {
	at := i * width
	v := uint(p[at/8]) >> (at % 8)
	if at%8+width > 8 {
		v |= uint(p[at/8+1]) << (8 - at%8)
	}
	return int(v & (1<<width - 1))
}

// word reads a 32-bit integer.
func word(p []byte, i int) uint32 { return binary.LittleEndian.Uint32(p[4*i:]) }

// magnitude is the smallest n with |code| ≤ 2^n for integers of that many values.
func magnitude(largest int) int { return bits.Len(uint(largest - 1)) }

// perRow is the loop that formats share whose scales stand row by row, as
// [rows, parts]: it calls each for every row, with the row's numbers to fill in
// and its scales.
func perRow(src Source, scale checkpoint.Tensor, parts, width, first, n int, dst []float32, each func(row int, dst, scale []float32) error) error {
	s, err := floats(src, scale, first*parts, n*parts)
	if err != nil {
		return err
	}
	for i := range n {
		if err := each(first+i, dst[i*width:(i+1)*width], s[i*parts:(i+1)*parts]); err != nil {
			return err
		}
	}
	return nil
}
