package gguf

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// scaling is how a type stores the scales of its blocks.
type scaling struct {
	kind   dtype.DType // F16, F8E8M0 or F8E4M3 (unsigned)
	places []int       // of each scale in the block, in bytes
}

// scalings is the table of all quantised types. Every number of a block is a
// product of one of its scales, or a sum of such products, so that scales times
// 2^e are numbers times 2^e.
var scalings = [...]scaling{
	Q4_0: {dtype.F16, []int{0}}, Q4_1: {dtype.F16, []int{0, 2}}, Q5_0: {dtype.F16, []int{0}}, Q5_1: {dtype.F16, []int{0, 2}},
	Q8_0: {dtype.F16, []int{0}}, Q2_K: {dtype.F16, []int{80, 82}}, Q3_K: {dtype.F16, []int{108}}, Q4_K: {dtype.F16, []int{0, 2}},
	Q5_K: {dtype.F16, []int{0, 2}}, Q6_K: {dtype.F16, []int{208}},
	IQ2XXS: {dtype.F16, []int{0}}, IQ2XS: {dtype.F16, []int{0}}, IQ2S: {dtype.F16, []int{0}}, IQ3XXS: {dtype.F16, []int{0}},
	IQ3S: {dtype.F16, []int{0}}, IQ1S: {dtype.F16, []int{0}}, IQ4NL: {dtype.F16, []int{0}}, IQ4XS: {dtype.F16, []int{0}},
	IQ1M:  {dtype.F16, nil}, // in the top nibbles of four words
	TQ1_0: {dtype.F16, []int{52}}, TQ2_0: {dtype.F16, []int{64}},
	MXFP4: {dtype.F8E8M0, []int{0}}, NVFP4: {dtype.F8E4M3, []int{0, 1, 2, 3}},
}

func (t Type) scaling() scaling {
	if int64(t) < int64(len(scalings)) {
		return scalings[t]
	}
	return scaling{}
}

// ScaleType is the type of a quantised type's scales: dtype.F16, F8E8M0 or
// F8E4M3; dtype.Invalid for the other types.
func (t Type) ScaleType() dtype.DType { return t.scaling().kind }

// Scale multiplies whole blocks of a quantised type by 2^e, through their
// scales. It is exact or fails: if a scale would overflow or lose a bit, it
// returns the number of that block, and the content of buf is then unspecified;
// otherwise it returns -1. Codes, and scales of zero, infinity and NaN, keep
// their bits.
func (t Type) Scale(buf []byte, e int) (bad int) {
	if e == 0 {
		return -1
	}
	s := t.scaling()
	_, size := t.Block()
	if s.places != nil && s.kind == dtype.F16 {
		return s.scaleHalves(buf, size, e)
	}
	for i := 0; len(buf) > 0; i++ {
		if !s.scale(t, buf[:size], e) {
			return i
		}
		buf = buf[size:]
	}
	return -1
}

// scaleHalves is Scale for scales of fp16. Nearly all are normal and stay so.
func (s scaling) scaleHalves(buf []byte, size, e int) (bad int) {
	step := uint16(e << 10)
	for at := range len(buf) / size {
		b := buf[at*size:][:size]
		for _, place := range s.places {
			p := b[place : place+2]
			h := binary.LittleEndian.Uint16(p)
			if exp := int(h >> 10 & 31); exp != 0 && exp != 31 && exp+e >= 1 && exp+e <= 30 {
				binary.LittleEndian.PutUint16(p, h+step)
				continue
			}
			x, ok := scaleHalf(h, e)
			if !ok {
				return at
			}
			binary.LittleEndian.PutUint16(p, x)
		}
	}
	return -1
}

func (s scaling) scale(t Type, b []byte, e int) bool {
	switch {
	case t == IQ1M:
		h, ok := scaleHalf(scaleI1M(b), e)
		for i := range 4 {
			w := b[48+2*i:]
			binary.LittleEndian.PutUint16(w, half(w, 0)&0xfff|h>>(4*i)<<12)
		}
		return ok
	case s.kind == dtype.F8E8M0:
		return scaleMX(b, e)
	}
	for _, at := range s.places {
		x, ok := scaleUE4M3(b[at], e)
		if !ok {
			return false
		}
		b[at] = x
	}
	return true
}

// scaleHalf multiplies an fp16 by 2^e; ok is false where that is no fp16.
func scaleHalf(h uint16, e int) (uint16, bool) {
	exp := int(h >> 10 & 31)
	if exp == 31 || h&0x7fff == 0 {
		return h, true
	}
	if exp != 0 && exp+e >= 1 && exp+e <= 30 {
		return h + uint16(e<<10), true
	}
	x, ok := scaleSmall(uint32(h&0x7fff), e, 10, 31)
	return h&0x8000 | uint16(x), ok
}

// scaleSmall multiplies a float without sign by 2^e: mant bits of mantissa, and
// exponent fields below limit. It is not zero.
func scaleSmall(x uint32, e, mant, limit int) (uint32, bool) {
	exp, man := int(x>>mant), x&(1<<mant-1)
	if exp > 0 {
		man |= 1 << mant
		exp--
	}
	// The value is man · 2^exp in units of the smallest subnormal.
	lowest := bits.TrailingZeros32(man)
	man, exp = man>>lowest, exp+lowest+e
	top := bits.Len32(man) - 1 + exp // exponent of the leading bit
	switch {
	case exp < 0 || top > mant+limit:
		return 0, false
	case top < mant:
		return man << exp, true
	}
	field := top - mant + 1
	if field >= limit {
		return 0, false
	}
	return uint32(field)<<mant | man<<(exp-(top-mant))&(1<<mant-1), true
}

// Bounds of MXFP4's scale byte: at least so much that the numbers are normal
// fp32, at most so much that the largest code does not overflow.
const leastMX, mostMX = 2, 252

func scaleMX(b []byte, e int) bool {
	if zeroCodes(b[1:17]) {
		return true // the quantiser's scale of such a block is 0
	}
	x := int(b[0])
	if x < leastMX || x > mostMX || x+e < leastMX || x+e > mostMX {
		return false
	}
	b[0] = byte(x + e)
	return true
}

// zeroCodes reports whether all e2m1 codes are zeros of either sign.
func zeroCodes(qs []byte) bool {
	for _, q := range qs {
		if q&0x77 != 0 {
			return false
		}
	}
	return true
}

// scaleUE4M3 multiplies an unsigned e4m3 by 2^e. 0x7f stands for zero.
func scaleUE4M3(x byte, e int) (byte, bool) {
	switch {
	case x == 0 || x == 0x7f:
		return x, true
	case x&0x80 != 0:
		return x, false
	}
	y, ok := scaleSmall(uint32(x), e, 3, 16)
	return byte(y), ok && y != 0x7f
}

// Room tells how far all blocks of buf may be moved together: by any 2^e with
// lo <= e <= hi, where lo <= 0 <= hi. It leaves out what is exact but not safe:
// fp16 scales that become subnormal, and whatever makes a subnormal one smaller.
// Without scales that can move, the room is unbounded: ±math.MaxInt32.
func (t Type) Room(buf []byte) (lo, hi int) {
	s := t.scaling()
	_, size := t.Block()
	if s.places != nil && s.kind == dtype.F16 {
		return s.roomHalves(buf, size)
	}
	lo, hi = -math.MaxInt32, math.MaxInt32
	for ; len(buf) > 0; buf = buf[size:] {
		a, b := s.room(t, buf[:size])
		lo, hi = max(lo, a), min(hi, b)
	}
	return min(lo, 0), max(hi, 0)
}

// roomHalves is Room for scales of fp16: the smallest and the largest decide.
func (s scaling) roomHalves(buf []byte, size int) (lo, hi int) {
	const none = 31 << 10 // infinity, and above it what is no number
	least, most := uint16(none), uint16(0)
	for at := range len(buf) / size {
		b := buf[at*size:][:size]
		for _, place := range s.places {
			if h := binary.LittleEndian.Uint16(b[place:place+2]) & 0x7fff; h != 0 && h < none {
				least, most = min(least, h), max(most, h)
			}
		}
	}
	lo, _ = roomHalf(least)
	_, hi = roomHalf(most)
	return min(lo, 0), max(hi, 0)
}

func (s scaling) room(t Type, b []byte) (lo, hi int) {
	lo, hi = -math.MaxInt32, math.MaxInt32
	meet := func(a, b int) { lo, hi = max(lo, a), min(hi, b) }
	switch {
	case t == IQ1M:
		meet(roomHalf(scaleI1M(b)))
	case s.kind == dtype.F8E8M0:
		if x := int(b[0]); !zeroCodes(b[1:17]) {
			if x < leastMX || x > mostMX {
				return 0, 0
			}
			meet(leastMX-x, mostMX-x)
		}
	case s.kind == dtype.F8E4M3:
		for _, at := range s.places {
			meet(roomUE4M3(b[at]))
		}
	}
	return lo, hi
}

func roomHalf(h uint16) (lo, hi int) {
	exp := int(h >> 10 & 31)
	switch {
	case exp == 31 || h&0x7fff == 0:
		return -math.MaxInt32, math.MaxInt32
	case exp == 0:
		return 0, 30 - (bits.Len16(h&1023) - 10)
	}
	return 1 - exp, 30 - exp
}

func roomUE4M3(x byte) (lo, hi int) {
	exp := int(x >> 3)
	switch {
	case x == 0 || x == 0x7f:
		return -math.MaxInt32, math.MaxInt32
	case x&0x80 != 0:
		return 0, 0
	case exp == 0:
		return 0, 14 - (bits.Len8(x) - 3)
	}
	return 1 - exp, max(14-exp, 0) // the top binade ends below 1.875: stay out of it
}

// reaches is, for types whose numbers are a scale times a code, or the sum of
// two such products, by how much the largest product exceeds its scale. In the
// order of scaling.places.
var reaches = map[Type][]float32{
	Q4_0: {8}, Q4_1: {15, 1}, Q5_0: {16}, Q5_1: {31, 1}, Q8_0: {128},
	Q2_K: {15 * 3, 15}, Q3_K: {32 * 4}, Q4_K: {63 * 15, 63}, Q5_K: {63 * 31, 63}, Q6_K: {128 * 32},
}

// Reach bounds the magnitude of the numbers of whole blocks by their scales
// alone; ok is false for types of which it takes the numbers themselves to tell,
// and where a scale is infinite or not a number.
func (t Type) Reach(buf []byte) (most float32, ok bool) {
	factors, ok := reaches[t]
	if !ok {
		return 0, false
	}
	places := t.scaling().places
	_, size := t.Block()
	if len(places) == 1 { // the largest scale decides
		var largest uint16
		for at := places[0]; at < len(buf); at += size {
			largest = max(largest, binary.LittleEndian.Uint16(buf[at:at+2])&0x7fff)
		}
		return factors[0] * halfValue(largest), largest < 31<<10
	}
	for at := range len(buf) / size {
		b := buf[at*size:][:size]
		scale, least := half(b, places[0])&0x7fff, half(b, places[1])&0x7fff
		if max(scale, least) >= 31<<10 {
			return 0, false
		}
		most = max(most, float32(factors[0]*halfValue(scale))+float32(factors[1]*halfValue(least)))
	}
	return most, true
}
