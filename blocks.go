package neuroseal

import (
	"encoding/binary"
	"math"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/seal"
)

// Tensors whose elements share scales in blocks, as numbers.

// blockRows dequantises a chunk of whole blocks, row by row of the last axis.
func blockRows(t checkpoint.Tensor, buf []byte, visit func(row []byte)) {
	elements, size := t.Format.Block()
	width := max(t.Shape[len(t.Shape)-1]/elements*size, size)
	n := min(width, len(buf)) / size * elements
	numbers, row := make([]float32, n), make([]byte, 4*n)
	for len(buf) > 0 {
		part := buf[:min(width, len(buf))]
		k := len(part) / size * elements
		t.Format.Dequantise(numbers[:k], part)
		dtype.FromFloat32(dtype.F32, row[:4*k], numbers[:k])
		visit(row[:4*k])
		buf = buf[len(part):]
	}
}

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
	first, last := off/4/int64(elements), (off+int64(len(p))+4*int64(elements)-1)/4/int64(elements)
	blocks := make([]byte, (last-first)*int64(size))
	if err := m.readStored(t.Name, blocks, first*int64(size)); err != nil {
		return err
	}
	numbers := make([]float32, (last-first)*int64(elements))
	t.Format.Dequantise(numbers, blocks)
	for i, x := range numbers[off/4-first*int64(elements):][:len(p)/4] {
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(x))
	}
	return nil
}
