// Package safetensors reads and writes the headers of safetensors files, and
// reads the index of a checkpoint that is split into several of them.
//
// A file is an unsigned 64-bit little-endian length N, N bytes of JSON padded
// with spaces, and the tensors' bytes. The reader is stricter than the format's
// reference implementation: whatever two readers could understand differently
// (duplicate keys, unknown fields, holes, overlaps, bytes after the last
// tensor) is refused. Every file that the reference writer makes is accepted.
package safetensors

import "github.com/neuroseal/neuroseal/internal/dtype"

// MaxHeader is the largest JSON header accepted, in bytes, as in the reference
// implementation.
const MaxHeader = 100_000_000

// metadataKey is the one key of the header that is no tensor.
const metadataKey = "__metadata__"

// lengthBytes is the size of the length field in front of the JSON.
const lengthBytes = 8

// TensorInfo describes one tensor of a file.
type TensorInfo struct {
	Name  string
	DType dtype.DType
	// Shape holds the dimensions, slowest first. It is empty for a scalar.
	Shape []int
	// Begin and End are byte offsets of the tensor's data, relative to
	// Header.DataStart.
	Begin, End int64
}

// Size returns the length of the tensor's data in bytes.
func (t TensorInfo) Size() int64 { return t.End - t.Begin }

// Elements returns the number of elements: the product of the shape.
func (t TensorInfo) Elements() int64 {
	n := int64(1)
	for _, d := range t.Shape {
		n *= int64(d)
	}
	return n
}

// Header is the checked header of one file.
type Header struct {
	// Metadata is the __metadata__ map, nil when the file has none.
	Metadata map[string]string
	// Tensors stand in the order of the JSON text.
	Tensors []TensorInfo
	// Order lists the indices of Tensors by the position of their data.
	Order []int
	// Raw is the file's first DataStart bytes: length field, JSON, padding.
	Raw []byte
	// DataStart is the offset of the first tensor's data in the file.
	DataStart int64
}

// DataEnd returns the size of the file that the header describes, in bytes.
func (h *Header) DataEnd() int64 {
	if len(h.Order) == 0 {
		return h.DataStart
	}
	return h.DataStart + h.Tensors[h.Order[len(h.Order)-1]].End
}
