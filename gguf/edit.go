package gguf

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Header returns the header of a file with the same tensors and other metadata:
// without the keys that drop accepts, and with add after those that stay. The
// data that follows it is the original's from DataStart on. It is a reader,
// since a tokenizer's arrays may be large: they are copied from the file.
func (f *File) Header(drop func(key string) bool, add []KV) (io.Reader, int64, error) {
	var parts []io.Reader
	var size int64
	put := func(r io.Reader, n int64) {
		parts = append(parts, r)
		size += n
	}
	kept := 0
	var body []io.Reader
	var bodySize int64
	for i := 0; i < len(f.Metadata); i++ {
		if drop(f.Metadata[i].Key) {
			continue
		}
		first := i // neighbours are copied at one go
		for i+1 < len(f.Metadata) && !drop(f.Metadata[i+1].Key) {
			i++
		}
		kept += i - first + 1
		n := f.Metadata[i].end - f.Metadata[first].begin
		body = append(body, io.NewSectionReader(f.r, f.Metadata[first].begin, n))
		bodySize += n
	}
	var more []byte
	for _, kv := range add {
		if kv.Key == AlignmentKey || slices.ContainsFunc(f.Metadata, func(o KV) bool { return o.Key == kv.Key && !drop(o.Key) }) {
			return nil, 0, fault.New(fault.General, "metadata key %q is there already", kv.Key)
		}
		var err error
		if more, err = kv.encode(more); err != nil {
			return nil, 0, err
		}
	}
	if drop(AlignmentKey) && f.Alignment != DefaultAlignment {
		return nil, 0, fault.New(fault.General, "metadata key %q cannot be dropped", AlignmentKey)
	}
	head := binary.LittleEndian.AppendUint32(nil, Magic)
	head = binary.LittleEndian.AppendUint32(head, f.Version)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(f.Tensors)))
	head = binary.LittleEndian.AppendUint64(head, uint64(kept+len(add)))
	put(bytes.NewReader(head), int64(len(head)))
	put(io.MultiReader(body...), bodySize)
	put(bytes.NewReader(more), int64(len(more)))
	put(io.NewSectionReader(f.r, f.kvEnd, f.tableEnd-f.kvEnd), f.tableEnd-f.kvEnd)
	if pad := (f.Alignment - size%f.Alignment) % f.Alignment; pad > 0 && (len(f.Tensors) > 0 || f.DataStart > f.tableEnd) {
		put(bytes.NewReader(make([]byte, pad)), pad)
	}
	return io.MultiReader(parts...), size, nil
}

// Raw returns the header as it stands in the file, up to DataStart.
func (f *File) Raw() io.Reader { return io.NewSectionReader(f.r, 0, f.DataStart) }

// Place returns where the entry begins and ends in the file; the value of a
// scalar ends it.
func (kv KV) Place() (begin, end int64) { return kv.begin, kv.end }

// Canonical reports whether Header, with nothing dropped and nothing added,
// gives the header's own bytes: only then can an edit be taken back.
func (f *File) Canonical() bool {
	return f.zeroPadding && (f.DataStart%f.Alignment == 0 || f.DataStart == f.tableEnd)
}

// Elements calls visit for every element of an array of scalars or strings, in
// order.
func (f *File) Elements(kv KV, visit func(i uint64, v any) error) (err error) {
	if kv.Type != Array || kv.Elem == Array || kv.Elem != String && kv.Elem.size() == 0 {
		return fault.New(fault.Unsupported, "metadata key %q is not an array of scalars or strings", kv.Key)
	}
	defer func() {
		if p := recover(); p != nil {
			x, ok := p.(failure)
			if !ok {
				panic(p)
			}
			err = x.err
		}
	}()
	s := &scanner{r: f.r, size: f.size, at: kv.data}
	for i := range kv.Len {
		var v any
		if kv.Elem == String {
			v = s.text(maxString, "string")
		} else {
			v = kv.Elem.decode(s.bytes(kv.Elem.size(), "element"))
		}
		if err := visit(i, v); err != nil {
			return err
		}
	}
	return nil
}

// encode appends an entry of a scalar or a string.
func (kv KV) encode(b []byte) ([]byte, error) {
	text := func(s string) {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	text(kv.Key)
	typed := func(t ValueType) { b = binary.LittleEndian.AppendUint32(b, uint32(t)) }
	switch v := kv.Value.(type) {
	case string:
		typed(String)
		text(v)
	case bool:
		typed(Bool)
		if v {
			b = append(b, 1)
		} else {
			b = append(b, 0)
		}
	case uint32:
		typed(Uint32)
		b = binary.LittleEndian.AppendUint32(b, v)
	case int32:
		typed(Int32)
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	case uint64:
		typed(Uint64)
		b = binary.LittleEndian.AppendUint64(b, v)
	case float32:
		typed(Float32)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	default:
		return nil, fmt.Errorf("metadata key %q: a value of type %T cannot be written", kv.Key, v)
	}
	return b, nil
}
