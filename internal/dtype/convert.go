package dtype

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// ToFloat32 converts the elements of src, of type d, into dst, which must have
// room for all of them. F64 is rounded to nearest even; the other types convert
// exactly. A signalling NaN may become quiet.
func ToFloat32(d DType, dst []float32, src []byte) {
	n := layout(d).count(src)
	dst = dst[:n]
	i := 0
	if fast := n &^ 15; haveAsm && fast > 0 && (d == BF16 || d == F16) {
		if d == BF16 {
			bf16ToF32(&dst[0], &src[0], fast)
		} else {
			f16ToF32(&dst[0], &src[0], fast)
		}
		i = fast
	}
	switch d {
	case BF16:
		for ; i < n; i++ {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16)
		}
	case F16:
		for ; i < n; i++ {
			dst[i] = fromF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case F32:
		for ; i < n; i++ {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F64:
		for ; i < n; i++ {
			dst[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(src[8*i:])))
		}
	}
}

// FromFloat32 converts src to elements of type d in dst, which must have room
// for all of them, rounding to nearest even; overflow gives an infinity, and NaN
// a quiet NaN.
func FromFloat32(d DType, dst []byte, src []float32) {
	n := len(src)
	dst = dst[:n*layout(d).size]
	i := 0
	if fast := n &^ 15; haveAsm && fast > 0 && (d == BF16 || d == F16) {
		if d == BF16 {
			f32ToBF16(&dst[0], &src[0], fast)
		} else {
			f32ToF16(&dst[0], &src[0], fast)
		}
		i = fast
	}
	switch d {
	case BF16:
		for ; i < n; i++ {
			binary.LittleEndian.PutUint16(dst[2*i:], toBF16(src[i]))
		}
	case F16:
		for ; i < n; i++ {
			binary.LittleEndian.PutUint16(dst[2*i:], toF16(src[i]))
		}
	case F32:
		for ; i < n; i++ {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(src[i]))
		}
	case F64:
		for ; i < n; i++ {
			binary.LittleEndian.PutUint64(dst[8*i:], math.Float64bits(float64(src[i])))
		}
	}
}

// RoundBF16 rounds every element of x to the nearest bf16 value, ties to even.
func RoundBF16(x []float32) { round(BF16, x) }

// RoundF16 rounds every element of x to the nearest fp16 value, ties to even;
// what is too large becomes an infinity.
func RoundF16(x []float32) { round(F16, x) }

// chunk is how many elements pass through a buffer that stays in the first
// level cache.
const chunk = 1024

func round(d DType, x []float32) {
	var buf [2 * chunk]byte
	for len(x) > 0 {
		part := x[:min(chunk, len(x))]
		FromFloat32(d, buf[:], part)
		ToFloat32(d, part, buf[:2*len(part)])
		x = x[len(part):]
	}
}

func toBF16(x float32) uint16 {
	u := math.Float32bits(x)
	if x != x {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

func fromF16(h uint16) float32 {
	sign, abs := uint32(h&0x8000)<<16, uint32(h&0x7fff)
	switch {
	case abs > 0x7c00: // NaN: quiet, payload kept
		return math.Float32frombits(sign | 0x7fc00000 | abs<<13)
	case abs == 0x7c00:
		return math.Float32frombits(sign | 0x7f800000)
	case abs >= 0x400:
		return math.Float32frombits(sign | (abs<<13 + (127-15)<<23))
	case abs == 0:
		return math.Float32frombits(sign)
	}
	up := 11 - bits.Len32(abs) // brings the leading bit to the hidden place
	return math.Float32frombits(sign | uint32(113-up)<<23 | abs<<(13+up)&(1<<23-1))
}

func toF16(x float32) uint16 {
	u := math.Float32bits(x)
	sign, abs := uint16(u>>16&0x8000), u&0x7fffffff
	switch {
	case abs > 0x7f800000:
		return sign | 0x7e00 | uint16(abs>>13&0x3ff)
	case abs >= 0x47800000: // 65536 and more
		return sign | 0x7c00
	case abs >= 0x38800000: // normal; a carry may reach infinity, rightly
		abs -= (127 - 15) << 23
		return sign | uint16((abs+0xfff+abs>>13&1)>>13)
	case abs < 0x33000000: // below half of the smallest subnormal
		return sign
	}
	down := 126 - abs>>23 // 14 … 24
	m := abs&(1<<23-1) | 1<<23
	return sign | uint16((m+1<<(down-1)-1+m>>down&1)>>down)
}
