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
	runs4K()
	Generate()
}

// runs4K writes the numbers of codes of four bits: of each run of 32 bytes, 32
// numbers for the lower halves, then 32 for the upper ones. A number is a code
// times a scale, rounded, less a least value; both stand in coef, twice two for
// each run.
func runs4K() {
	TEXT("runs4K", NOSPLIT, "func(dst *float32, src *byte, coef *float32, n int)")
	Pragma("noescape")
	dst, src, coef, n := Load(Param("dst"), GP64()), Load(Param("src"), GP64()), Load(Param("coef"), GP64()), Load(Param("n"), GP64())
	mask := YMM()
	VPCMPEQD(mask, mask, mask)
	VPSRLD(U8(28), mask, mask)
	var c [4]reg.VecVirtual
	for i := range c {
		c[i] = YMM()
	}
	Label("run")
	for i := range c {
		VBROADCASTSS(Mem{Base: coef, Disp: 4 * i}, c[i])
	}
	for j := range 4 {
		low, high := YMM(), YMM()
		VPMOVZXBD(Mem{Base: src, Disp: 8 * j}, low)
		VPSRLD(U8(4), low, high)
		VPAND(mask, low, low)
		for k, x := range []reg.VecVirtual{low, high} {
			VCVTDQ2PS(x, x)
			VMULPS(c[2*k], x, x) // the product is rounded before the difference: no fused operation
			VSUBPS(c[2*k+1], x, x)
			VMOVUPS(x, Mem{Base: dst, Disp: 128*k + 32*j})
		}
	}
	ADDQ(Imm(32), src)
	ADDQ(U32(256), dst)
	ADDQ(Imm(16), coef)
	DECQ(n)
	JNZ(LabelRef("run"))
	VZEROUPPER()
	RET()
}
