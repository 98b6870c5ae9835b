package dtype

import (
	"encoding/binary"
	"math"
)

// MulRow multiplies the elements of buf, of type d, by f as PyTorch's w *= f
// does: BF16 and F16 in float32 with f rounded to float32, then rounded to
// nearest even; F32 in float32; F64 in float64. It is inexact, for the
// compatible methods only. A NaN becomes quiet and keeps its payload, which
// PyTorch does not promise.
func MulRow(d DType, buf []byte, f float64) { mulDiv(d, buf, f, false) }

// DivRow divides the elements of buf, of type d, by f as PyTorch's w /= f does;
// see MulRow.
func DivRow(d DType, buf []byte, f float64) { mulDiv(d, buf, f, true) }

// mulDiv multiplies or divides by a real factor.
func mulDiv(d DType, buf []byte, f float64, divide bool) {
	layout(d).count(buf)
	if d == F64 {
		mulDiv64(buf, f, divide)
		return
	}
	size, g := layout(d).size, float32(f)
	var x [chunk]float32
	for len(buf) > 0 {
		part := buf[:min(chunk*size, len(buf))]
		y := x[:len(part)/size]
		ToFloat32(d, y, part)
		apply(y, g, divide)
		FromFloat32(d, part, y)
		buf = buf[len(part):]
	}
}

// apply multiplies or divides in float32.
func apply(y []float32, g float32, divide bool) {
	i := 0
	if fast := len(y) &^ 15; haveAsm && fast > 0 {
		if divide {
			divF32(&y[0], fast, g)
		} else {
			mulF32(&y[0], fast, g)
		}
		i = fast
	}
	if divide {
		for ; i < len(y); i++ {
			y[i] /= g
		}
		return
	}
	for ; i < len(y); i++ {
		y[i] *= g
	}
}

func mulDiv64(buf []byte, f float64, divide bool) {
	for ; len(buf) > 0; buf = buf[8:] {
		x := math.Float64frombits(binary.LittleEndian.Uint64(buf))
		if divide {
			x /= f
		} else {
			x *= f
		}
		binary.LittleEndian.PutUint64(buf, math.Float64bits(x))
	}
}
