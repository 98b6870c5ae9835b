package gguf

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// Quantised reports whether the type stores codes in blocks that share scales.
func (t Type) Quantised() bool { return dequantisers[t] != nil }

// Dequantise writes the numbers of src, whole blocks of a quantised type, to
// dst, in fp32 and with the roundings of ggml's and gguf-py's reference code.
// dst holds as many numbers as the blocks have elements.
//
// Source: ggml-quants.c; gguf/quants.py of gguf-py, with which the tests
// compare every bit.
func (t Type) Dequantise(dst []float32, src []byte) {
	if t.vectorised(dst, src) {
		return
	}
	block := dequantisers[t]
	elems, size := t.Block()
	for len(src) > 0 {
		block(dst[:elems], src[:size])
		dst, src = dst[elems:], src[size:]
	}
}

// DequantiseBytes is Dequantise with little-endian fp32 for numbers: four bytes
// of dst for each.
func (t Type) DequantiseBytes(dst, src []byte) {
	elems, size := t.Block()
	if x := inPlace(dst, len(src)/size*elems); x != nil {
		t.Dequantise(x, src)
		return
	}
	number := make([]float32, elems)
	for len(src) > 0 {
		t.Dequantise(number, src[:size])
		for i, x := range number {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
		}
		dst, src = dst[4*elems:], src[size:]
	}
}

// vectorised is Dequantise by the assembly kernels; false where there is none.
func (t Type) vectorised(dst []float32, src []byte) bool {
	elems, size := t.Block()
	n := len(src) / size
	if !haveAsm || n == 0 || len(dst) < n*elems {
		return false
	}
	to, from := &dst[0], &src[0]
	switch t {
	case Q4_0:
		blocks4(to, from, n)
	case Q8_0:
		blocks8(to, from, n)
	case Q4_K:
		blocks4K(to, from, n)
	case Q5_K:
		blocks5K(to, from, n)
	case Q6_K:
		blocks6K(to, from, n)
	default:
		return false
	}
	return true
}

// inPlace returns the first n numbers of bytes that hold fp32; nil where the
// processor has another order of bytes, or wants them aligned otherwise.
func inPlace(b []byte, n int) []float32 {
	if b = b[:4*n]; n == 0 {
		return nil
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if uintptr(p)%unsafe.Alignof(float32(0)) != 0 || binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil
	}
	return unsafe.Slice((*float32)(p), n)
}

// dequantisers turn one block into numbers. Products are converted to float32
// wherever a sum follows, so that no processor fuses the two.
var dequantisers = map[Type]func(dst []float32, b []byte){
	Q4_0: dequantise4_0, Q4_1: dequantise4_1, Q5_0: dequantise5_0, Q5_1: dequantise5_1, Q8_0: dequantise8_0,
	Q2_K: dequantise2K, Q3_K: dequantise3K, Q4_K: dequantise4K, Q5_K: dequantise5K, Q6_K: dequantise6K,
	TQ1_0: dequantiseT1, TQ2_0: dequantiseT2, MXFP4: dequantiseMX, NVFP4: dequantiseNV,
	IQ2XXS: dequantiseI2XXS, IQ2XS: dequantiseI2XS, IQ2S: dequantiseI2S, IQ3XXS: dequantiseI3XXS, IQ3S: dequantiseI3S,
	IQ1S: dequantiseI1S, IQ1M: dequantiseI1M, IQ4NL: dequantiseI4NL, IQ4XS: dequantiseI4XS,
}

func word(b []byte, at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
func half(b []byte, at int) uint16 { return binary.LittleEndian.Uint16(b[at:]) }
func f16(b []byte, at int) float32 { return halfValue(half(b, at)) }

// halfValue converts fp16 to fp32.
func halfValue(h uint16) float32 {
	sign, exp, man := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exp {
	case 0:
		x := float32(man) * 0x1p-24
		return math.Float32frombits(sign | math.Float32bits(x))
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | man<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

func dequantise4_0(dst []float32, b []byte) {
	d := f16(b, 0)
	for j, q := range b[2:18] {
		dst[j], dst[16+j] = d*float32(int(q&15)-8), d*float32(int(q>>4)-8)
	}
}

func dequantise4_1(dst []float32, b []byte) {
	d, m := f16(b, 0), f16(b, 2)
	for j, q := range b[4:20] {
		dst[j], dst[16+j] = float32(d*float32(q&15))+m, float32(d*float32(q>>4))+m
	}
}

func dequantise5_0(dst []float32, b []byte) {
	d, high := f16(b, 0), word(b, 2)
	for j, q := range b[6:22] {
		lo, hi := int(q&15)|int(high>>j&1)<<4, int(q>>4)|int(high>>(16+j)&1)<<4
		dst[j], dst[16+j] = d*float32(lo-16), d*float32(hi-16)
	}
}

func dequantise5_1(dst []float32, b []byte) {
	d, m, high := f16(b, 0), f16(b, 2), word(b, 4)
	for j, q := range b[8:24] {
		lo, hi := int(q&15)|int(high>>j&1)<<4, int(q>>4)|int(high>>(16+j)&1)<<4
		dst[j], dst[16+j] = float32(d*float32(lo))+m, float32(d*float32(hi))+m
	}
}

func dequantise8_0(dst []float32, b []byte) {
	d := f16(b, 0)
	for j, q := range b[2:34] {
		dst[j] = float32(int8(q)) * d
	}
}

// crumbs returns element i of codes of two bits: runs of 128 elements stand in
// 32 bytes, 32 elements for each two bits.
func crumbs(qs []byte, i int) int { return int(qs[i/128*32+i%32] >> (i / 32 % 4 * 2) & 3) }

func dequantise2K(dst []float32, b []byte) {
	scales, qs := b[:16], b[16:80]
	d, dmin := f16(b, 80), f16(b, 82)
	for i := range dst {
		s := scales[i/16]
		dl, ml := d*float32(s&15), float32(dmin*float32(s>>4))
		dst[i] = float32(dl*float32(crumbs(qs, i))) - ml
	}
}

func dequantise3K(dst []float32, b []byte) {
	high, qs, packed := b[:32], b[32:96], b[96:108]
	d := f16(b, 108)
	var scales [16]float32
	for i := range scales {
		low := packed[i%8] >> (i / 8 * 4) & 15
		s := low | packed[8+i%4]>>(i/4*2)&3<<4
		scales[i] = d * float32(int(s)-32)
	}
	for i := range dst {
		q := crumbs(qs, i)
		if high[i%32]>>(i/32)&1 == 0 {
			q -= 4
		}
		dst[i] = scales[i/16] * float32(q)
	}
}

// sixBits unpacks the eight scales and minima of Q4_K and Q5_K.
func sixBits(p []byte) (scale, least [8]float32) {
	for i := range 4 {
		scale[i], least[i] = float32(p[i]&63), float32(p[4+i]&63)
		scale[4+i] = float32(p[8+i]&15 | p[i]>>2&0x30)
		least[4+i] = float32(p[8+i]>>4 | p[4+i]>>2&0x30)
	}
	return scale, least
}

func dequantise4K(dst []float32, b []byte) {
	d, dmin := f16(b, 0), f16(b, 2)
	scale, least := sixBits(b[4:16])
	var coef [16]float32 // scale and least number of each run of 32 elements
	for i := range scale {
		coef[2*i], coef[2*i+1] = d*scale[i], dmin*least[i]
	}
	var low, high [16]float32 // the numbers that codes stand for
	for c := range 4 {
		for q, x := range digits {
			low[q], high[q] = float32(coef[4*c]*x)-coef[4*c+1], float32(coef[4*c+2]*x)-coef[4*c+3]
		}
		first, second := (*[32]float32)(dst[64*c:]), (*[32]float32)(dst[64*c+32:])
		for j, q := range (*[32]byte)(b[16+32*c:]) {
			first[j], second[j] = low[q&15], high[q>>4]
		}
	}
}

// digits are the numbers of four bits, and centred those of six bits less 32.
var (
	digits  = [16]float32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	centred = func() (t [64]float32) {
		for i := range t {
			t[i] = float32(i - 32)
		}
		return t
	}()
)

func dequantise5K(dst []float32, b []byte) {
	d, dmin := f16(b, 0), f16(b, 2)
	scale, least := sixBits(b[4:16])
	high, qs := b[16:48], b[48:]
	for g := range 8 {
		dl, ml := d*scale[g], dmin*least[g]
		for j := range 32 {
			q := qs[g/2*32+j]>>(g%2*4)&15 | high[j]>>g&1<<4
			dst[32*g+j] = float32(dl*float32(q)) - ml
		}
	}
}

func dequantise6K(dst []float32, b []byte) {
	d := f16(b, 208)
	for c := range 2 { // halves of the block; codes of four runs of 32 share bytes
		var scale [8]float32
		for i := range scale {
			scale[i] = d * float32(int8(b[192+8*c+i]))
		}
		out := (*[128]float32)(dst[128*c:])
		low, high := (*[64]byte)(b[64*c:]), (*[32]byte)(b[128+32*c:])
		for i, h := range high {
			l, m, at := low[i], low[32+i], i/16
			out[i] = scale[at] * centred[l&15|h&3<<4]
			out[32+i] = scale[2+at] * centred[m&15|h>>2&3<<4]
			out[64+i] = scale[4+at] * centred[l>>4|h>>4&3<<4]
			out[96+i] = scale[6+at] * centred[m>>4|h>>6<<4]
		}
	}
}

// trit is the code of TQ1_0 in a byte that has been multiplied by a power of three.
func trit(x byte) float32 { return float32(int(uint16(x)*3>>8) - 1) }

func dequantiseT1(dst []float32, b []byte) {
	d := f16(b, 52)
	at := 0
	for _, part := range []struct{ from, to, powers int }{{0, 32, 5}, {32, 48, 5}, {48, 52, 4}} {
		power := byte(1)
		for range part.powers {
			for _, q := range b[part.from:part.to] {
				dst[at] = d * trit(q*power)
				at++
			}
			power *= 3
		}
	}
}

func dequantiseT2(dst []float32, b []byte) {
	d := f16(b, 64)
	for i := range dst {
		dst[i] = d * float32(crumbs(b, i)-1)
	}
}

// e8m0 is half of 2^(x-127), MXFP4's scale for doubled codes.
func e8m0(x byte) float32 {
	if x < 2 {
		return math.Float32frombits(0x00200000 << x)
	}
	return math.Float32frombits(uint32(x-1) << 23)
}

func dequantiseMX(dst []float32, b []byte) {
	d := e8m0(b[0])
	for j, q := range b[1:17] {
		dst[j], dst[16+j] = d*fourBits[q&15], d*fourBits[q>>4]
	}
}

// ue4m3 is half of an unsigned e4m3, NVFP4's scale for doubled codes.
func ue4m3(x byte) float32 {
	exp, man := int(x>>3&15), float32(x&7)
	switch {
	case x == 0x7f:
		return 0
	case exp == 0:
		return man * 0x1p-10
	}
	return float32(math.Ldexp(float64(1+man/8), exp-8))
}

func dequantiseNV(dst []float32, b []byte) {
	for g := range 4 {
		d := ue4m3(b[g])
		for j, q := range b[4+8*g : 12+8*g] {
			dst[16*g+j], dst[16*g+8+j] = d*fourBits[q&15], d*fourBits[q>>4]
		}
	}
}
