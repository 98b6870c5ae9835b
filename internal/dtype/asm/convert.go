package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// convert emits the conversions between 16-bit types and float32. All do
// multiples of 16 elements.
func convert() {
	widen("bf16ToF32", func(src reg.Register, i int, y reg.VecVirtual) {
		VPMOVZXWD(at(src, 16*i), y)
		VPSLLD(Imm(16), y, y)
	})
	widen("f16ToF32", func(src reg.Register, i int, y reg.VecVirtual) {
		VCVTPH2PS(at(src, 16*i), y)
	})
	narrowBF16()
	narrowF16()
	byFactor("mulF32", VMULPS)
	byFactor("divF32", VDIVPS)
}

func widen(name string, load func(src reg.Register, i int, y reg.VecVirtual)) {
	TEXT(name, NOSPLIT, "func(dst *float32, src *byte, n int)")
	Pragma("noescape")
	Doc(name + " converts n elements, a multiple of 16.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	loop16(name, n, func() {
		for i := range 2 {
			y := YMM()
			load(src, i, y)
			VMOVUPS(y, at(dst, 32*i))
		}
		ADDQ(Imm(32), src)
		ADDQ(Imm(64), dst)
	})
}

func narrowBF16() {
	const name = "f32ToBF16"
	TEXT(name, NOSPLIT, "func(dst *byte, src *float32, n int)")
	Pragma("noescape")
	Doc(name + " rounds n elements, a multiple of 16, to nearest even. NaN becomes quiet.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	half, one, quiet := imm32(0x7fff), imm32(1), imm32(0x40)
	loop16(name, n, func() {
		var out [2]reg.VecVirtual
		for i := range out {
			u, r, nan := YMM(), YMM(), YMM()
			VMOVUPS(at(src, 32*i), u)
			VPSRLD(Imm(16), u, r)
			out[i] = YMM()
			VPOR(r, quiet, out[i]) // what a NaN becomes
			VPAND(r, one, r)
			VPADDD(r, half, r)
			VPADDD(r, u, r)
			VPSRLD(Imm(16), r, r)
			VCMPPS(Imm(3), u, u, nan)
			VPBLENDVB(nan, out[i], r, out[i])
		}
		VPACKUSDW(out[1], out[0], out[0])
		VPERMQ(Imm(0xd8), out[0], out[0])
		VMOVDQU(out[0], at(dst, 0))
		ADDQ(Imm(64), src)
		ADDQ(Imm(32), dst)
	})
}

func narrowF16() {
	const name = "f32ToF16"
	TEXT(name, NOSPLIT, "func(dst *byte, src *float32, n int)")
	Pragma("noescape")
	Doc(name + " rounds n elements, a multiple of 16, to nearest even. NaN becomes quiet.")
	dst, src, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("n"), GP64())
	loop16(name, n, func() {
		for i := range 2 {
			y := YMM()
			VMOVUPS(at(src, 32*i), y)
			VCVTPS2PH(Imm(0), y, at(dst, 16*i))
		}
		ADDQ(Imm(64), src)
		ADDQ(Imm(32), dst)
	})
}

// byFactor emits x = x op f; op takes its operands in Go order.
func byFactor(name string, op func(...Op)) {
	TEXT(name, NOSPLIT, "func(x *float32, n int, f float32)")
	Pragma("noescape")
	Doc(name + " applies the factor to n elements, a multiple of 16.")
	x, n, f := Load(Param("x"), GP64()), Load(Param("n"), GP64()), Load(Param("f"), XMM())
	factor := YMM()
	VBROADCASTSS(f, factor)
	loop16(name, n, func() {
		for i := range 2 {
			y := YMM()
			VMOVUPS(at(x, 32*i), y)
			op(factor, y, y)
			VMOVUPS(y, at(x, 32*i))
		}
		ADDQ(Imm(64), x)
	})
}

// loop16 runs body n/16 times and returns.
func loop16(name string, n reg.Register, body func()) {
	loop16Then(name, n, body, func() {})
}
