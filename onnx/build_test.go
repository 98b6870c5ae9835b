package onnx

import (
	"encoding/binary"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// Builders of the messages that the tests need.

type pb []byte

func (b pb) str(n protowire.Number, s string) pb {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func (b pb) msg(n protowire.Number, m pb) pb { return b.str(n, string(m)) }

func (b pb) int(n protowire.Number, v int64) pb {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), uint64(v))
}

func f32(v ...float32) string {
	var out []byte
	for _, x := range v {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
	}
	return string(out)
}

func tensorMsg(name string, elem int64, dims ...int64) pb {
	var b pb
	for _, d := range dims {
		b = b.int(1, d)
	}
	return b.int(2, elem).str(8, name)
}

func floats(name string, v []float32, dims ...int64) pb {
	return tensorMsg(name, elemFloat, dims...).str(9, f32(v...))
}

func int64s(name string, v ...int64) pb {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return tensorMsg(name, elemInt64, int64(len(v))).str(9, string(raw))
}

func outside(name, location string, off, size int64, dims ...int64) pb {
	entry := func(k, v string) pb { return pb{}.str(1, k).str(2, v) }
	return tensorMsg(name, elemFloat, dims...).msg(13, entry("location", location)).
		msg(13, entry("offset", itoa(off))).msg(13, entry("length", itoa(size))).int(14, 1)
}

func valueMsg(name string, elem int64, dims ...any) pb {
	var shape pb
	for _, d := range dims {
		switch d := d.(type) {
		case int:
			shape = shape.msg(1, pb{}.int(1, int64(d)))
		case string:
			shape = shape.msg(1, pb{}.str(2, d))
		}
	}
	return pb{}.str(1, name).msg(2, pb{}.msg(1, pb{}.int(1, elem).msg(2, shape)))
}

func nodeMsg(op string, in []string, out []string, attrs ...pb) pb {
	var b pb
	for _, s := range in {
		b = b.str(1, s)
	}
	for _, s := range out {
		b = b.str(2, s)
	}
	b = b.str(4, op)
	for _, a := range attrs {
		b = b.msg(5, a)
	}
	return b
}

func intAttr(name string, v int64) pb { return pb{}.str(1, name).int(3, v).int(20, 2) }
func graphAttr(name string, g pb) pb  { return pb{}.str(1, name).msg(6, g).int(20, 5) }

// graphParts are the fields of a graph by what they are.
type graphParts struct{ nodes, tensors, inputs, outputs, values []pb }

func (g graphParts) msg() pb {
	var b pb
	for n, list := range map[protowire.Number][]pb{1: g.nodes, 5: g.tensors, 11: g.inputs, 12: g.outputs, 13: g.values} {
		for _, m := range list {
			b = b.msg(n, m)
		}
	}
	return b
}

func modelMsg(g graphParts) pb {
	return pb{}.int(1, 10).msg(8, pb{}.str(1, "").int(2, 20)).msg(7, g.msg())
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
