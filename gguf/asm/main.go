// Command asm writes the amd64 assembly of package gguf. It is a module of its
// own, so that the generator is no dependency of the product. Run it through
// go generate in the parent folder.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	blocks4()
	blocks8()
	blocks45K("blocks4K", 144, false)
	blocks45K("blocks5K", 176, true)
	blocks6K()
	Generate()
}

// blocks opens a function that turns n blocks at src into numbers.
func blocks(name string) (dst, src, n reg.Register) {
	TEXT(name, NOSPLIT, "func(dst *float32, src *byte, n int)")
	Pragma("noescape")
	return Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
}

// next closes it: a block is size bytes, and elems numbers.
func next(dst, src, n reg.Register, size, elems int) {
	ADDQ(U32(uint32(size)), src)
	ADDQ(U32(uint32(4*elems)), dst)
	DECQ(n)
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// constant fills the lanes of a register with a number.
func constant(v uint32) reg.VecVirtual {
	r, x := GP32(), YMM()
	MOVL(U32(v), r)
	VMOVD(r, x.AsX())
	VPBROADCASTD(x.AsX(), x)
	return x
}

// halves converts numbers of fp16, one in each lane, to fp32. A subnormal one
// becomes normal by the multiplication, which is exact; infinities and NaN keep
// an exponent of all ones. No instruction of F16C is used, which the processor
// need not have.
type halves struct{ magnitude, sign, largest, up, infinity reg.VecVirtual }

func newHalves() halves {
	return halves{
		magnitude: constant(0x7fff), sign: constant(0x8000), largest: constant(0x7bff),
		up: constant((112 + 127) << 23), infinity: constant(0xff << 23),
	}
}

func (h halves) convert(x reg.VecVirtual) {
	sign, special := YMM(), YMM()
	VPAND(h.sign, x, sign)
	VPSLLD(U8(16), sign, sign)
	VPAND(h.magnitude, x, x)
	VPCMPGTD(h.largest, x, special)
	VPAND(h.infinity, special, special)
	VPSLLD(U8(13), x, x)
	VMULPS(h.up, x, x)
	VPOR(special, x, x)
	VPOR(sign, x, x)
}

// scale fills a register with the fp16 at a place, as fp32.
func (h halves) scale(at Mem) reg.VecVirtual {
	x, r := YMM(), GP32()
	MOVWLZX(at, r)
	VMOVD(r, x.AsX())
	h.convert(x)
	VBROADCASTSS(x.AsX(), x)
	return x
}

// blocks4 writes the numbers of Q4_0: codes of four bits less 8, those of 16
// bytes' lower halves first, times a scale.
func blocks4() {
	dst, src, n := blocks("blocks4")
	nibble, bias, h := constant(15), constant(8), newHalves()
	Label("block")
	d := h.scale(Mem{Base: src})
	for j := range 2 {
		low, high := YMM(), YMM()
		VPMOVZXBD(Mem{Base: src, Disp: 2 + 8*j}, low)
		VPSRLD(U8(4), low, high)
		VPAND(nibble, low, low)
		for k, v := range []reg.VecVirtual{low, high} {
			VPSUBD(bias, v, v)
			VCVTDQ2PS(v, v)
			VMULPS(d, v, v)
			VMOVUPS(v, Mem{Base: dst, Disp: 64*k + 32*j})
		}
	}
	next(dst, src, n, 18, 32)
}

// blocks8 writes the numbers of Q8_0: codes of eight bits times a scale.
func blocks8() {
	dst, src, n := blocks("blocks8")
	h := newHalves()
	Label("block")
	d := h.scale(Mem{Base: src})
	for j := range 4 {
		v := YMM()
		VPMOVSXBD(Mem{Base: src, Disp: 2 + 8*j}, v)
		VCVTDQ2PS(v, v)
		VMULPS(d, v, v)
		VMOVUPS(v, Mem{Base: dst, Disp: 32 * j})
	}
	next(dst, src, n, 34, 32)
}

// sixBits unpacks the eight scales of six bits, or the eight least values, in
// two registers of four bytes each into one of eight: the lower six bits of low's
// bytes; and four bits of high's, below the upper two of low's.
func sixBits(low, high reg.GPVirtual) {
	t := GP32()
	MOVL(low, t)
	ANDL(U32(0x3f3f3f3f), low)
	SHRL(U8(2), t)
	ANDL(U32(0x30303030), t)
	ANDL(U32(0x0f0f0f0f), high)
	ORL(t, high)
	SHLQ(U8(32), high.As64())
	ORQ(high.As64(), low.As64())
}

// blocks45K writes the numbers of Q4_K, or with fifth those of Q5_K. A number is
// a code times a scale, rounded, less a least value; both are the block's own
// times one of six bits for each run of 32 elements.
func blocks45K(name string, size int, fifth bool) {
	dst, src, n := blocks(name)
	coef := AllocLocal(64) // eight scales, eight least values
	nibble, h := constant(15), newHalves()
	bit := reg.VecVirtual(nil)
	codes := 16
	if fifth {
		codes, bit = 48, constant(16)
	}
	Label("block")
	{
		x, d := YMM(), YMM()
		VPMOVZXWD(Mem{Base: src}, x) // the scales of the block, and what follows
		h.convert(x)
		a, b, c := GP32(), GP32(), GP32()
		MOVL(Mem{Base: src, Disp: 4}, a)
		MOVL(Mem{Base: src, Disp: 8}, b)
		MOVL(Mem{Base: src, Disp: 12}, c)
		c2 := GP32()
		MOVL(c, c2)
		SHRL(U8(4), c2)
		sixBits(a, c)
		sixBits(b, c2)
		for i, v := range []reg.GPVirtual{a, b} {
			y := YMM()
			VMOVQ(v.As64(), y.AsX())
			VPMOVZXBD(y.AsX(), y)
			VCVTDQ2PS(y, y)
			if i == 1 {
				VPSRLQ(U8(32), x, x)
			}
			VBROADCASTSS(x.AsX(), d)
			VMULPS(d, y, y)
			VMOVUPS(y, coef.Offset(32*i))
		}
	}
	for run := range 4 {
		var c [4]reg.VecVirtual // scale and least value of the lower halves, then of the upper ones
		for i := range c {
			c[i] = YMM()
			VBROADCASTSS(coef.Offset(8*run+4*(i/2)+32*(i%2)), c[i])
		}
		for j := range 4 {
			low, high := YMM(), YMM()
			VPMOVZXBD(Mem{Base: src, Disp: codes + 32*run + 8*j}, low)
			VPSRLD(U8(4), low, high)
			VPAND(nibble, low, low)
			if fifth {
				bits, t := YMM(), YMM()
				VPMOVZXBD(Mem{Base: src, Disp: 16 + 8*j}, bits)
				for k, v := range []reg.VecVirtual{low, high} {
					if up := 4 - (2*run + k); up >= 0 {
						VPSLLD(U8(up), bits, t)
					} else {
						VPSRLD(U8(-up), bits, t)
					}
					VPAND(bit, t, t)
					VPOR(t, v, v)
				}
			}
			for k, v := range []reg.VecVirtual{low, high} {
				VCVTDQ2PS(v, v)
				VMULPS(c[2*k], v, v) // the product is rounded before the difference: no fused operation
				VSUBPS(c[2*k+1], v, v)
				VMOVUPS(v, Mem{Base: dst, Disp: 256*run + 128*k + 32*j})
			}
		}
	}
	next(dst, src, n, size, 256)
}

// blocks6K writes the numbers of Q6_K: a code of six bits less 32, times a scale,
// which is the block's own times one of eight bits for each run of 16 elements.
func blocks6K() {
	const size = 210
	dst, src, n := blocks("blocks6K")
	scales := AllocLocal(64)
	nibble, upper, bias, h := constant(15), constant(0x30), constant(32), newHalves()
	Label("block")
	{
		x := h.scale(Mem{Base: src, Disp: 208})
		for i := range 2 {
			y := YMM()
			VPMOVSXBD(Mem{Base: src, Disp: 192 + 8*i}, y)
			VCVTDQ2PS(y, y)
			VMULPS(x, y, y)
			VMOVUPS(y, scales.Offset(32*i))
		}
	}
	for half := range 2 {
		for j := range 4 {
			high := YMM()
			VPMOVZXBD(Mem{Base: src, Disp: 128 + 32*half + 8*j}, high)
			var codes [4]reg.VecVirtual
			for i := range 2 {
				codes[i], codes[2+i] = YMM(), YMM()
				VPMOVZXBD(Mem{Base: src, Disp: 64*half + 32*i + 8*j}, codes[i])
				VPSRLD(U8(4), codes[i], codes[2+i])
				VPAND(nibble, codes[i], codes[i])
			}
			for k, v := range codes {
				t := YMM()
				if up := 4 - 2*k; up > 0 {
					VPSLLD(U8(up), high, t)
				} else if up < 0 {
					VPSRLD(U8(-up), high, t)
				} else {
					t = high
				}
				u, s := YMM(), YMM()
				VPAND(upper, t, u)
				VPOR(u, v, v)
				VPSUBD(bias, v, v)
				VCVTDQ2PS(v, v)
				VBROADCASTSS(scales.Offset(4*(8*half+2*k+j/2)), s)
				VMULPS(s, v, v)
				VMOVUPS(v, Mem{Base: dst, Disp: 512*half + 128*k + 32*j})
			}
		}
	}
	next(dst, src, n, size, 256)
}
