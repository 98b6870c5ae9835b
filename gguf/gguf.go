// Package gguf reads GGUF files, the format of llama.cpp, and rewrites their
// metadata without touching the tensors. Versions 2 and 3, little-endian.
//
// Nothing that a file claims is trusted: counts, lengths and offsets are
// checked against the file's size before they are used. Arrays, of which a
// tokenizer has some with hundreds of thousands of strings, stay on disk, so
// that memory is bounded by the number of keys and tensors.
//
// Source: docs/gguf.md in the ggml repository.
package gguf

import (
	"io"
	"slices"
)

// Magic begins every file: "GGUF".
const Magic = 0x46554747

// DefaultAlignment is the alignment of tensor data where general.alignment does
// not set another.
const DefaultAlignment = 32

// AlignmentKey is the metadata key that sets the alignment.
const AlignmentKey = "general.alignment"

// ValueType is the type of a metadata value: gguf_metadata_value_type.
type ValueType uint32

// The value types.
const (
	Uint8 ValueType = iota
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Float32
	Bool
	String
	Array
	Uint64
	Int64
	Float64
)

// size returns the length of a scalar in bytes; 0 for strings and arrays.
func (t ValueType) size() int64 {
	switch t {
	case Uint8, Int8, Bool:
		return 1
	case Uint16, Int16:
		return 2
	case Uint32, Int32, Float32:
		return 4
	case Uint64, Int64, Float64:
		return 8
	}
	return 0
}

// KV is one entry of the metadata. Scalars and strings are in memory; an array
// is a place in the file.
type KV struct {
	Key  string
	Type ValueType
	// Value is a uint8 … float64, bool or string as Type says; nil for an array.
	Value any
	// Elem and Len are the element type and length of an array.
	Elem ValueType
	Len  uint64

	begin, end int64 // the whole entry in the file
	data       int64 // first element of an array
}

// Tensor is one entry of the tensor table.
type Tensor struct {
	Name string
	// Dims are the dimensions, fastest first as in the file: [in, out] for the
	// weight of a linear map.
	Dims []uint64
	Type Type
	// Offset is where the data begins, from the begin of the file; Size is its
	// length. Both in bytes.
	Offset, Size int64
}

// Shape returns the dimensions slowest first, as PyTorch has them.
func (t Tensor) Shape() []int {
	s := make([]int, len(t.Dims))
	for i, d := range t.Dims {
		s[len(s)-1-i] = int(d)
	}
	return s
}

// File is the parsed header of a file. It is immutable.
type File struct {
	Version   uint32
	Metadata  []KV // in the order of the file
	Tensors   []Tensor
	Alignment int64
	// DataStart is where tensor data begins; everything before it is header.
	DataStart int64

	r           io.ReaderAt
	size        int64
	kvEnd       int64 // end of the metadata, begin of the tensor table
	tableEnd    int64 // end of the tensor table; then zeros up to DataStart
	zeroPadding bool
}

// Get returns the entry of a key.
func (f *File) Get(key string) (KV, bool) {
	i := slices.IndexFunc(f.Metadata, func(kv KV) bool { return kv.Key == key })
	if i < 0 {
		return KV{}, false
	}
	return f.Metadata[i], true
}

// Text returns the string under a key, or "".
func (f *File) Text(key string) string {
	kv, _ := f.Get(key)
	s, _ := kv.Value.(string)
	return s
}

// Number returns the number under a key, whatever its width; ok is false when
// there is none.
func (f *File) Number(key string) (v float64, ok bool) {
	kv, _ := f.Get(key)
	switch x := kv.Value.(type) {
	case uint8:
		return float64(x), true
	case int8:
		return float64(x), true
	case uint16:
		return float64(x), true
	case int16:
		return float64(x), true
	case uint32:
		return float64(x), true
	case int32:
		return float64(x), true
	case uint64:
		return float64(x), true
	case int64:
		return float64(x), true
	case float32:
		return float64(x), true
	case float64:
		return x, true
	case bool:
		if x {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}
