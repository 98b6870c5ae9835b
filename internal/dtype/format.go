package dtype

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// format describes an IEEE-like layout: sign, exponent, mantissa, from the top.
type format struct {
	size    int    // bytes
	mant    uint   // mantissa bits stored
	expMax  int    // exponent field of infinities and NaN
	bias    int    // exponent bias
	absMask uint64 // all bits but the sign
}

var formats = [...]format{
	F16:  {2, 10, 0x1f, 15, 1<<15 - 1},
	BF16: {2, 7, 0xff, 127, 1<<15 - 1},
	F32:  {4, 23, 0xff, 127, 1<<31 - 1},
	F64:  {8, 52, 0x7ff, 1023, 1<<63 - 1},
}

// layout returns the format of a scalable type. Asking for another type is a
// mistake of the program, not of its input.
func layout(d DType) *format {
	if !d.Scalable() {
		panic(fmt.Sprintf("dtype: %v has no floating-point layout here", d))
	}
	return &formats[d]
}

// count returns the number of elements in buf, which must be whole.
func (f *format) count(buf []byte) int {
	if len(buf)%f.size != 0 {
		panic(fmt.Sprintf("dtype: %d bytes are no whole number of %d-byte elements", len(buf), f.size))
	}
	return len(buf) / f.size
}

// inf returns the bit pattern of +Inf: magnitudes from here on are not finite.
func (f *format) inf() uint64 { return uint64(f.expMax) << f.mant }

func (f *format) load(buf []byte, i int) uint64 {
	switch f.size {
	case 2:
		return uint64(binary.LittleEndian.Uint16(buf[2*i:]))
	case 4:
		return uint64(binary.LittleEndian.Uint32(buf[4*i:]))
	}
	return binary.LittleEndian.Uint64(buf[8*i:])
}

func (f *format) store(buf []byte, i int, u uint64) {
	switch f.size {
	case 2:
		binary.LittleEndian.PutUint16(buf[2*i:], uint16(u))
	case 4:
		binary.LittleEndian.PutUint32(buf[4*i:], uint32(u))
	default:
		binary.LittleEndian.PutUint64(buf[8*i:], u)
	}
}

// exponent returns e with |x| in [2^e, 2^(e+1)) for a finite, non-zero
// magnitude, also of a subnormal.
func (f *format) exponent(abs uint64) int {
	if e := int(abs >> f.mant); e > 0 {
		return e - f.bias
	}
	return bits.Len64(abs) - int(f.mant) - f.bias
}

// scale multiplies the element u by 2^k. It reports false if the result is not
// exactly representable. Zeros, infinities and NaN stay as they are.
func (f *format) scale(u uint64, k int) (uint64, bool) {
	abs := u & f.absMask
	e := int(abs >> f.mant)
	if abs == 0 || e == f.expMax {
		return u, true
	}
	hidden := uint64(1) << f.mant
	m := abs&(hidden-1) | hidden
	if e == 0 { // subnormal: bring the leading bit to the hidden place
		up := int(f.mant) + 1 - bits.Len64(abs)
		m = abs << up
		e = 1 - up
	}
	e += k
	if e >= f.expMax {
		return u, false
	}
	sign := u &^ f.absMask
	if e >= 1 {
		return sign | uint64(e)<<f.mant | m&(hidden-1), true
	}
	down := 1 - e
	if down > bits.TrailingZeros64(m) {
		return u, false
	}
	return sign | m>>down, true
}
