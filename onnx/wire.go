package onnx

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// span is a range of bytes of the model file.
type span struct{ off, end int64 }

func (s span) size() int64 { return s.end - s.off }

// field is one field of a message: a number, or the range of its bytes.
type field struct {
	num  protowire.Number
	wire protowire.Type
	val  uint64 // varint, fixed32, fixed64
	span span   // length-delimited: the content
}

// Limits on what a model file may make a reader hold in memory. Weights are
// located, not loaded, and do not count.
const (
	maxMemory = 256 << 20 // bytes, estimated
	maxDepth  = 24        // messages within messages: graphs within attributes within nodes
	maxString = 1 << 20
	windowLen = 1 << 16
)

// wireReader reads protobuf messages from a file through one window.
type wireReader struct {
	r      io.ReaderAt
	size   int64
	window []byte
	start  int64 // of the window
	spent  int64 // estimated memory of what was built so far
	depth  int
}

// spend counts memory that a parsed object will hold.
func (w *wireReader) spend(n int64) error {
	w.spent += n
	if w.spent > maxMemory {
		return fault.New(fault.Unsupported, "the graph takes more than %d MiB of memory without its weights", maxMemory>>20).
			WithHint("this is no usual model; export it with its weights as raw data")
	}
	return nil
}

// peek returns up to n bytes at off, fewer at the end of the file.
func (w *wireReader) peek(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), w.size-off))
	if n <= 0 {
		return nil, nil
	}
	if off < w.start || off+int64(n) > w.start+int64(len(w.window)) {
		if cap(w.window) < windowLen {
			w.window = make([]byte, windowLen)
		}
		w.window = w.window[:min(windowLen, w.size-off)]
		if k, err := w.r.ReadAt(w.window, off); k < len(w.window) {
			w.window = w.window[:0]
			if errors.Is(err, io.EOF) {
				return nil, fault.New(fault.Mismatch, "file ends at byte %d", off+int64(k))
			}
			return nil, fault.Wrap(fault.General, err, "reading byte %d", off+int64(k))
		}
		w.start = off
	}
	return w.window[off-w.start : off-w.start+int64(n)], nil
}

// fields calls visit for every field of the message in s.
func (w *wireReader) fields(s span, visit func(field) error) error {
	if w.depth++; w.depth > maxDepth {
		return fault.New(fault.Unsupported, "byte %d: messages within each other deeper than %d", s.off, maxDepth)
	}
	defer func() { w.depth-- }()
	for s.off < s.end {
		f, next, err := w.field(s)
		if err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
		s.off = next
	}
	return nil
}

// field reads the field at the start of s and returns where the next begins.
func (w *wireReader) field(s span) (f field, next int64, err error) {
	tag, at, err := w.varint(s)
	if err != nil {
		return f, 0, err
	}
	f.num, f.wire = protowire.DecodeTag(tag)
	if f.num < 1 || tag > 1<<32-1 {
		return f, 0, malformed(s.off, "field number %d", f.num)
	}
	rest := span{at, s.end}
	switch f.wire {
	case protowire.VarintType:
		f.val, next, err = w.varint(rest)
	case protowire.Fixed32Type, protowire.Fixed64Type:
		f.val, next, err = w.fixed(rest, f.wire)
	case protowire.BytesType:
		var n uint64
		if n, at, err = w.varint(rest); err != nil {
			return f, 0, err
		}
		if n > uint64(s.end-at) {
			return f, 0, malformed(s.off, "field %d has %d bytes, %d are left", f.num, n, s.end-at)
		}
		f.span = span{at, at + int64(n)}
		next = f.span.end
	default:
		return f, 0, malformed(s.off, "wire type %d of field %d", f.wire, f.num)
	}
	return f, next, err
}

func (w *wireReader) varint(s span) (uint64, int64, error) {
	b, err := w.peek(s.off, int(min(10, s.size())))
	if err != nil {
		return 0, 0, err
	}
	v, n := protowire.ConsumeVarint(b)
	if n < 0 {
		return 0, 0, malformed(s.off, "%v", protowire.ParseError(n))
	}
	return v, s.off + int64(n), nil
}

func (w *wireReader) fixed(s span, t protowire.Type) (uint64, int64, error) {
	b, err := w.peek(s.off, int(min(8, s.size())))
	if err != nil {
		return 0, 0, err
	}
	var v uint64
	var n int
	if t == protowire.Fixed32Type {
		var v32 uint32
		v32, n = protowire.ConsumeFixed32(b)
		v = uint64(v32)
	} else {
		v, n = protowire.ConsumeFixed64(b)
	}
	if n < 0 {
		return 0, 0, malformed(s.off, "%v", protowire.ParseError(n))
	}
	return v, s.off + int64(n), nil
}

// text reads a short string.
func (w *wireReader) text(f field) (string, error) {
	if f.wire != protowire.BytesType {
		return "", malformed(f.span.off, "field %d is no string", f.num)
	}
	n := f.span.size()
	if n > maxString {
		return "", fault.New(fault.Unsupported, "byte %d: a name or text of %d bytes", f.span.off, n)
	}
	if err := w.spend(16 + n); err != nil {
		return "", err
	}
	out := make([]byte, n)
	if _, err := w.r.ReadAt(out, f.span.off); err != nil && !errors.Is(err, io.EOF) {
		return "", fault.Wrap(fault.General, err, "reading byte %d", f.span.off)
	}
	return string(out), nil
}

// varints appends the integers of a field that may be packed.
func (w *wireReader) varints(f field, out *[]int64) error {
	if f.wire == protowire.VarintType {
		*out = append(*out, int64(f.val))
		return w.spend(8)
	}
	if f.wire != protowire.BytesType {
		return malformed(f.span.off, "field %d is no list of integers", f.num)
	}
	for s := f.span; s.off < s.end; {
		v, next, err := w.varint(s)
		if err != nil {
			return err
		}
		if err := w.spend(8); err != nil {
			return err
		}
		*out = append(*out, int64(v))
		s.off = next
	}
	return nil
}

func malformed(at int64, format string, args ...any) error {
	return fault.New(fault.Mismatch, "malformed protobuf at byte %d: %s", at, fmt.Sprintf(format, args...)).
		WithHint("the file is damaged or no ONNX model; download or export it again")
}
