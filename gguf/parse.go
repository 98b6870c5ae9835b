package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	maxName   = 64 << 10 // ggml allows 64 bytes; keys may be longer
	maxString = 16 << 20 // bytes of one string that is kept in memory
	maxNested = 4        // arrays in arrays
	maxDims   = 4        // GGML_MAX_DIMS
	window    = 64 << 10
)

// scanner reads the header from front to back. Its first error stays.
type scanner struct {
	r    io.ReaderAt
	size int64
	at   int64
	buf  []byte // bytes of the file from off on
	off  int64
}

// failure is how the scanner's methods give up; parse turns it into a result.
type failure struct{ err error }

func (s *scanner) fail(k fault.Kind, at int64, format string, args ...any) {
	panic(failure{fault.New(k, "byte %d: %s", at, fmt.Sprintf(format, args...)).
		WithHint("the file is truncated, corrupt, or not GGUF; fetch it again")})
}

// need fails unless n more bytes follow.
func (s *scanner) need(n uint64, what string) {
	if n > uint64(s.size-s.at) {
		s.fail(fault.Mismatch, s.at, "%s of %d bytes does not fit into a file of %d", what, n, s.size)
	}
}

// bytes returns the next n bytes, which stay valid until the next call.
func (s *scanner) bytes(n int64, what string) []byte {
	s.need(uint64(n), what)
	if s.at < s.off || s.at+n > s.off+int64(len(s.buf)) {
		s.off = s.at
		k := min(max(n, window), s.size-s.at)
		if int64(cap(s.buf)) < k {
			s.buf = make([]byte, k)
		}
		s.buf = s.buf[:k]
		if got, err := s.r.ReadAt(s.buf, s.off); int64(got) < k {
			if errors.Is(err, io.EOF) {
				s.fail(fault.Mismatch, s.off+int64(got), "the file ends here, it was longer when it was opened")
			}
			panic(failure{fault.Wrap(fault.General, err, "reading byte %d", s.off+int64(got))})
		}
	}
	b := s.buf[s.at-s.off:][:n]
	s.at += n
	return b
}

func (s *scanner) u32(what string) uint32 { return binary.LittleEndian.Uint32(s.bytes(4, what)) }
func (s *scanner) u64(what string) uint64 { return binary.LittleEndian.Uint64(s.bytes(8, what)) }

// length reads the length of a string.
func (s *scanner) length(limit uint64, what string) int64 {
	at := s.at
	n := s.u64(what)
	s.need(n, what)
	if n > limit {
		s.fail(fault.Mismatch, at, "%s of %d bytes; at most %d are read", what, n, limit)
	}
	return int64(n)
}

func (s *scanner) text(limit uint64, what string) string {
	n := s.length(limit, what)
	return string(s.bytes(n, what))
}

// Parse reads and checks the header of a file of size bytes; tensor data is not
// read. A file that breaks the format gives fault.Mismatch, a version, byte
// order or element type that is not known fault.Unsupported. r must stay open
// as long as the File is in use.
func Parse(r io.ReaderAt, size int64) (f *File, err error) {
	defer func() {
		if p := recover(); p != nil {
			x, ok := p.(failure)
			if !ok {
				panic(p)
			}
			f, err = nil, x.err
		}
	}()
	s := &scanner{r: r, size: size}
	f = &File{r: r, size: size, Alignment: DefaultAlignment}
	f.read(s)
	return f, nil
}

func (f *File) read(s *scanner) {
	if s.u32("magic") != Magic {
		s.fail(fault.Mismatch, 0, "the file does not begin with GGUF")
	}
	f.Version = s.u32("version")
	switch {
	case f.Version == 2 || f.Version == 3:
	case f.Version&0xffff == 0 && f.Version != 0:
		panic(failure{fault.New(fault.Unsupported, "byte 4: the file is big-endian").
			WithHint("convert it with gguf_convert_endian.py of llama.cpp")})
	default:
		panic(failure{fault.New(fault.Unsupported, "byte 4: GGUF version %d; 2 and 3 are supported", f.Version).
			WithHint("convert the file with a current llama.cpp")})
	}
	tensors := s.u64("tensor count")
	keys := s.u64("key count")
	// The smallest entries: an empty key with a byte; an empty name without
	// dimensions.
	const minKV, minTensor = 8 + 4 + 1, 8 + 4 + 4 + 8
	left := uint64(s.size - s.at)
	if keys > left/minKV || tensors > left/minTensor {
		s.fail(fault.Mismatch, 8, "%d tensors and %d keys do not fit into a file of %d bytes", tensors, keys, s.size)
	}
	seen := map[string]bool{}
	for range keys {
		f.Metadata = append(f.Metadata, s.kv(seen))
	}
	f.kvEnd = s.at
	f.alignment(s)
	f.table(s, tensors)
}

// kv reads one entry of the metadata.
func (s *scanner) kv(seen map[string]bool) KV {
	kv := KV{begin: s.at}
	kv.Key = s.text(maxName, "key")
	if !utf8.ValidString(kv.Key) {
		s.fail(fault.Mismatch, kv.begin, "a key that is not UTF-8")
	}
	if seen[kv.Key] {
		s.fail(fault.Mismatch, kv.begin, "key %q occurs twice", kv.Key)
	}
	seen[kv.Key] = true
	at := s.at
	kv.Type = ValueType(s.u32("value type"))
	switch {
	case kv.Type == Array:
		kv.Elem = ValueType(s.u32("element type"))
		kv.Len = s.u64("array length")
		kv.data = s.at
		s.skip(kv.Elem, kv.Len, 1)
	case kv.Type == String:
		kv.Value = s.text(maxString, "string")
	case kv.Type.size() > 0:
		kv.Value = kv.Type.decode(s.bytes(kv.Type.size(), "value"))
	default:
		s.fail(fault.Mismatch, at, "key %q: value type %d is unknown", kv.Key, kv.Type)
	}
	kv.end = s.at
	return kv
}

// skip passes over the elements of an array.
func (s *scanner) skip(elem ValueType, n uint64, depth int) {
	switch size := elem.size(); {
	case size > 0:
		if n > uint64(s.size-s.at)/uint64(size) {
			s.fail(fault.Mismatch, s.at, "array of %d elements of %d bytes does not fit into a file of %d", n, size, s.size)
		}
		s.at += int64(n) * size
	case elem == String:
		for range n { // every element takes eight bytes at least: bounded by the file
			s.at += s.length(math.MaxInt64, "string")
		}
	case elem == Array && depth < maxNested:
		for range n {
			inner := ValueType(s.u32("element type"))
			s.skip(inner, s.u64("array length"), depth+1)
		}
	case elem == Array:
		s.fail(fault.Mismatch, s.at, "arrays nested more than %d deep", maxNested)
	default:
		s.fail(fault.Mismatch, s.at, "element type %d is unknown", elem)
	}
}

func (t ValueType) decode(b []byte) any {
	switch t {
	case Uint8:
		return b[0]
	case Int8:
		return int8(b[0])
	case Bool:
		return b[0] != 0
	case Uint16:
		return binary.LittleEndian.Uint16(b)
	case Int16:
		return int16(binary.LittleEndian.Uint16(b))
	case Uint32:
		return binary.LittleEndian.Uint32(b)
	case Int32:
		return int32(binary.LittleEndian.Uint32(b))
	case Float32:
		return math.Float32frombits(binary.LittleEndian.Uint32(b))
	case Uint64:
		return binary.LittleEndian.Uint64(b)
	case Int64:
		return int64(binary.LittleEndian.Uint64(b))
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b))
}

func (f *File) alignment(s *scanner) {
	kv, ok := f.Get(AlignmentKey)
	if !ok {
		return
	}
	v, isU32 := kv.Value.(uint32)
	if !isU32 || v == 0 || v&(v-1) != 0 || v > 1<<20 {
		s.fail(fault.Mismatch, kv.begin, "%s is %v, not a power of two up to 2^20", AlignmentKey, kv.Value)
	}
	f.Alignment = int64(v)
}

// table reads the tensor table and checks where the data lies.
func (f *File) table(s *scanner, count uint64) {
	seen := map[string]bool{}
	places := make([]int64, 0, min(count, 1<<16))
	for range count {
		at := s.at
		t := s.tensor()
		if seen[t.Name] {
			s.fail(fault.Mismatch, at, "tensor %q occurs twice", t.Name)
		}
		seen[t.Name] = true
		f.Tensors = append(f.Tensors, t)
		places = append(places, at)
	}
	f.tableEnd = s.at
	f.DataStart = (s.at + f.Alignment - 1) / f.Alignment * f.Alignment
	if f.DataStart > s.size {
		if count > 0 {
			s.fail(fault.Mismatch, s.at, "the file ends before its tensor data")
		}
		f.DataStart = s.size
	}
	f.zeroPadding = true
	for _, b := range s.bytes(f.DataStart-s.at, "padding") {
		f.zeroPadding = f.zeroPadding && b == 0
	}
	for i := range f.Tensors {
		f.locate(s, &f.Tensors[i], places[i])
	}
	order := make([]int, len(f.Tensors))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return int(min(max(f.Tensors[a].Offset-f.Tensors[b].Offset, -1), 1))
	})
	for k := 1; k < len(order); k++ {
		a, b := &f.Tensors[order[k-1]], &f.Tensors[order[k]]
		if a.Offset+a.Size > b.Offset {
			s.fail(fault.Mismatch, places[order[k]], "tensors %q and %q overlap", a.Name, b.Name)
		}
	}
}

func (s *scanner) tensor() Tensor {
	t := Tensor{}
	at := s.at
	t.Name = s.text(maxName, "tensor name")
	if !utf8.ValidString(t.Name) {
		s.fail(fault.Mismatch, at, "a tensor name that is not UTF-8")
	}
	n := s.u32("dimension count")
	if n > maxDims {
		s.fail(fault.Mismatch, at, "tensor %q has %d dimensions, the format allows %d", t.Name, n, maxDims)
	}
	t.Dims = make([]uint64, n)
	for i := range t.Dims {
		t.Dims[i] = s.u64("dimension")
		if t.Dims[i] > maxSize {
			s.fail(fault.Mismatch, at, "tensor %q: dimension %d", t.Name, t.Dims[i])
		}
	}
	t.Type = Type(s.u32("tensor type"))
	if !t.Type.Known() {
		panic(failure{fault.New(fault.Unsupported, "byte %d: tensor %q is of %v, which this version does not know", at, t.Name, t.Type).
			WithHint("quantise the model with a type that llama.cpp documents")})
	}
	size, ok := t.Type.Size(t.Dims)
	if !ok {
		s.fail(fault.Mismatch, at, "tensor %q of %v: dimensions %v are not whole blocks, or too large", t.Name, t.Type, t.Dims)
	}
	t.Size = size
	off := s.u64("tensor offset")
	if off > maxSize {
		s.fail(fault.Mismatch, at, "tensor %q begins at %d", t.Name, off)
	}
	t.Offset = int64(off)
	return t
}

// locate turns a tensor's offset into a place in the file.
func (f *File) locate(s *scanner, t *Tensor, at int64) {
	if t.Offset%f.Alignment != 0 {
		s.fail(fault.Mismatch, at, "tensor %q begins at %d of the data, which is not aligned to %d", t.Name, t.Offset, f.Alignment)
	}
	if t.Offset > s.size-f.DataStart || t.Size > s.size-f.DataStart-t.Offset {
		s.fail(fault.Mismatch, at, "tensor %q needs %d bytes from %d on, the file has %d", t.Name, t.Size, f.DataStart+t.Offset, s.size)
	}
	t.Offset += f.DataStart
}
