package gguf

import (
	"fmt"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// Type is how a tensor's elements are stored: ggml_type.
type Type uint32

// The types that files hold, by their number in ggml. Numbers that are missing
// here were withdrawn, or are only used in memory.
const (
	F32    Type = 0
	F16    Type = 1
	Q4_0   Type = 2
	Q4_1   Type = 3
	Q5_0   Type = 6
	Q5_1   Type = 7
	Q8_0   Type = 8
	Q2_K   Type = 10
	Q3_K   Type = 11
	Q4_K   Type = 12
	Q5_K   Type = 13
	Q6_K   Type = 14
	IQ2XXS Type = 16
	IQ2XS  Type = 17
	IQ3XXS Type = 18
	IQ1S   Type = 19
	IQ4NL  Type = 20
	IQ3S   Type = 21
	IQ2S   Type = 22
	IQ4XS  Type = 23
	I8     Type = 24
	I16    Type = 25
	I32    Type = 26
	I64    Type = 27
	F64    Type = 28
	IQ1M   Type = 29
	BF16   Type = 30
	TQ1_0  Type = 34
	TQ2_0  Type = 35
	MXFP4  Type = 39
	NVFP4  Type = 40
)

// layout is the size of a type's blocks. Of a number that is no type it is zero.
type layout struct {
	name         string
	elems, bytes int
}

var layouts = [...]layout{
	F32: {"F32", 1, 4}, F16: {"F16", 1, 2}, BF16: {"BF16", 1, 2}, F64: {"F64", 1, 8},
	I8: {"I8", 1, 1}, I16: {"I16", 1, 2}, I32: {"I32", 1, 4}, I64: {"I64", 1, 8},
	Q4_0: {"Q4_0", 32, 18}, Q4_1: {"Q4_1", 32, 20}, Q5_0: {"Q5_0", 32, 22}, Q5_1: {"Q5_1", 32, 24}, Q8_0: {"Q8_0", 32, 34},
	Q2_K: {"Q2_K", 256, 84}, Q3_K: {"Q3_K", 256, 110}, Q4_K: {"Q4_K", 256, 144}, Q5_K: {"Q5_K", 256, 176}, Q6_K: {"Q6_K", 256, 210},
	IQ1S: {"IQ1_S", 256, 50}, IQ1M: {"IQ1_M", 256, 56}, IQ2XXS: {"IQ2_XXS", 256, 66}, IQ2XS: {"IQ2_XS", 256, 74},
	IQ2S: {"IQ2_S", 256, 82}, IQ3XXS: {"IQ3_XXS", 256, 98}, IQ3S: {"IQ3_S", 256, 110}, IQ4NL: {"IQ4_NL", 32, 18}, IQ4XS: {"IQ4_XS", 256, 136},
	TQ1_0: {"TQ1_0", 256, 54}, TQ2_0: {"TQ2_0", 256, 66}, MXFP4: {"MXFP4", 32, 17}, NVFP4: {"NVFP4", 64, 36},
}

// Known reports whether the type is one of those above.
func (t Type) Known() bool { return t.layout().elems > 0 }

func (t Type) layout() layout {
	if int64(t) < int64(len(layouts)) {
		return layouts[t]
	}
	return layout{}
}

// String returns the type's name as in ggml.
func (t Type) String() string {
	if l := t.layout(); l.name != "" {
		return l.name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Block returns how many elements share one block, and its length in bytes.
func (t Type) Block() (elems, bytes int) {
	l := t.layout()
	return l.elems, l.bytes
}

// Size returns the bytes that a tensor of the given dimensions takes, fastest
// first as in the file; ok is false when its rows are not whole blocks, or the
// size overflows.
func (t Type) Size(dims []uint64) (n int64, ok bool) {
	l := t.layout()
	if l.elems == 0 {
		return 0, false
	}
	row := uint64(1)
	if len(dims) > 0 {
		row = dims[0]
	}
	if row%uint64(l.elems) != 0 {
		return 0, false
	}
	size := row / uint64(l.elems)
	for _, f := range append([]uint64{uint64(l.bytes)}, dims[min(1, len(dims)):]...) {
		if f != 0 && size > maxSize/f {
			return 0, false
		}
		size *= f
	}
	return int64(size), true
}

// maxSize bounds what a tensor may take: half of what an int64 offset can name,
// so that sums stay in range.
const maxSize = 1 << 62

// Narrow says why profiles that need fp32's range of exponents do not hold for a
// matrix of this type in llama.cpp and its like; "" where they do. It concerns
// how the runtime computes, besides what the type itself can store.
func (t Type) Narrow() string {
	switch s := t.scaling(); {
	case t == F32 || t == BF16 || t == F64:
		return ""
	case t == F16:
		return "which runtimes multiply by activations in fp16"
	case s.kind == dtype.F16:
		return "whose scales are fp16"
	case s.kind != dtype.Invalid:
		return fmt.Sprintf("whose scales are %v and which runtimes multiply by activations in blocks with fp16 scales", s.kind)
	}
	return "which holds no weights"
}
