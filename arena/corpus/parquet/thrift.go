package parquet

import (
	"errors"
	"io"
)

// thrift reads the compact protocol, in which footers and page headers are
// written, from a source that ends after left bytes. It skips what it is not
// asked for.
type thrift struct {
	r    io.ByteReader
	left int64
	err  error
}

// The types of the compact protocol.
const (
	typeTrue   = 1
	typeFalse  = 2
	typeByte   = 3
	typeI16    = 4
	typeI32    = 5
	typeI64    = 6
	typeDouble = 7
	typeBinary = 8
	typeList   = 9
	typeSet    = 10
	typeMap    = 11
	typeStruct = 12
	typeUUID   = 13
)

const maxNesting = 32

var (
	errShort = errors.New("it ends in the middle")
	errForm  = errors.New("it is not in the form of the compact protocol")
	errDeep  = errors.New("it is nested too deeply")
	errMany  = errors.New("it lists more columns or row groups than are read")
)

func (t *thrift) fail(err error) {
	if t.err == nil {
		t.err = err
	}
	t.left = 0
}

func (t *thrift) byte() byte {
	if t.left <= 0 {
		t.fail(errShort)
		return 0
	}
	t.left--
	b, err := t.r.ReadByte()
	if err != nil {
		if err == io.EOF {
			err = errShort
		}
		t.fail(err)
	}
	return b
}

func (t *thrift) uvarint() uint64 {
	var v uint64
	for shift := 0; ; shift += 7 {
		b := t.byte()
		if shift > 63 {
			t.fail(errForm)
		}
		if t.err != nil {
			return 0
		}
		v |= uint64(b&0x7F) << shift
		if b < 0x80 {
			return v
		}
	}
}

func (t *thrift) int() int64 {
	u := t.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// length is a count of what takes at least one byte each.
func (t *thrift) length() int {
	n := t.uvarint()
	if n > uint64(max(t.left, 0)) {
		t.fail(errShort)
		return 0
	}
	return int(n)
}

func (t *thrift) string() string {
	n := t.length()
	out := make([]byte, 0, min(n, 1<<10))
	for range n {
		out = append(out, t.byte())
		if t.err != nil {
			return ""
		}
	}
	return string(out)
}

// list reads a list's header.
func (t *thrift) list() (n int, elem byte) {
	b := t.byte()
	if n = int(b >> 4); n == 15 {
		n = t.length()
	}
	if int64(n) > t.left {
		t.fail(errShort)
		return 0, 0
	}
	return n, b & 15
}

// each calls f for the elements of a list of structs.
func (t *thrift) each(f func()) {
	n, elem := t.list()
	if n > 0 && elem != typeStruct {
		t.fail(errForm)
	}
	for range n {
		if t.err != nil {
			return
		}
		f()
	}
}

// fields calls f for each member of a struct. f reads the member and returns
// true, or returns false to have it skipped.
func (t *thrift) fields(depth int, f func(id int, typ byte) bool) {
	if depth > maxNesting {
		t.fail(errDeep)
	}
	id := 0
	for t.err == nil {
		b := t.byte()
		typ := b & 15
		if b == 0 || t.err != nil {
			return
		}
		if delta := int(b >> 4); delta != 0 {
			id += delta
		} else {
			id = int(int16(t.int()))
		}
		if !f(id, typ) {
			t.skip(typ, depth+1)
		}
	}
}

func (t *thrift) skip(typ byte, depth int) {
	switch typ {
	case typeTrue, typeFalse:
	case typeByte:
		t.byte()
	case typeI16, typeI32, typeI64:
		t.uvarint()
	case typeDouble:
		t.discard(8)
	case typeUUID:
		t.discard(16)
	case typeBinary:
		t.discard(t.length())
	case typeList, typeSet:
		n, elem := t.list()
		t.skipMany(n, depth, elem)
	case typeMap:
		if n := t.length(); n > 0 {
			b := t.byte()
			t.skipMany(n, depth, b>>4, b&15)
		}
	case typeStruct:
		t.fields(depth, func(int, byte) bool { return false })
	default:
		t.fail(errForm)
	}
}

// skipMany skips n elements; a boolean among them takes a byte.
func (t *thrift) skipMany(n, depth int, types ...byte) {
	if depth > maxNesting {
		t.fail(errDeep)
	}
	for range n {
		for _, typ := range types {
			if t.err != nil {
				return
			}
			if typ == typeTrue || typ == typeFalse {
				t.byte()
				continue
			}
			t.skip(typ, depth+1)
		}
	}
}

func (t *thrift) discard(n int) {
	for range n {
		if t.byte(); t.err != nil {
			return
		}
	}
}
