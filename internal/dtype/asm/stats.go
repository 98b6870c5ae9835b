package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Offsets in the Go type statAcc.
const (
	accMax   = 0
	accMin   = 32
	accSum   = 64
	accZeros = 192
)

// stats emits the range statistics of one type. Squares of these types are
// exact in float64, so the fused multiply-add rounds as the fallback does.
func stats(typ string) {
	name := "stats" + typ
	TEXT(name, NOSPLIT, "func(p *byte, n int, acc *byte)")
	Pragma("noescape")
	Doc(name+" adds n elements, a multiple of 16, to the statAcc at acc: largest",
		"magnitude, smallest magnitude less one (unsigned, so zero comes last), sums of",
		"squares by index mod 16, and zeros.")
	p, acc, n := Load(Param("p"), GP64()), Load(Param("acc"), GP64()), Load(Param("n"), GP64())
	wide := typ == "F32"
	mask := imm32(0x7fff7fff)
	if wide {
		mask = imm32(0x7fffffff)
	}
	none, all, max, min := zero(), ones(), YMM(), YMM()
	VMOVDQU(at(acc, accMax), max)
	VMOVDQU(at(acc, accMin), min)
	var sum [4]reg.VecVirtual
	for j := range sum {
		sum[j] = YMM()
		VMOVUPD(at(acc, accSum+32*j), sum[j])
	}
	zeros := GP64()
	MOVQ(at(acc, accZeros), zeros)
	loop16Then(name, n, func() {
		if wide {
			extremes32(p, mask, none, all, max, min, zeros)
		} else {
			extremes16(p, mask, none, all, max, min, zeros)
		}
		for j := range sum {
			y := toFloat64(typ, p, j)
			VFMADD231PD(y, y, sum[j])
		}
		if wide {
			ADDQ(Imm(64), p)
		} else {
			ADDQ(Imm(32), p)
		}
	}, func() {
		VMOVDQU(max, at(acc, accMax))
		VMOVDQU(min, at(acc, accMin))
		for j := range sum {
			VMOVUPD(sum[j], at(acc, accSum+32*j))
		}
		MOVQ(zeros, at(acc, accZeros))
	})
}

func extremes16(p reg.Register, mask, none, all, max, min Op, zeros Op) {
	a, b, z := YMM(), YMM(), YMM()
	VPAND(at(p, 0), mask, a)
	VPMAXUW(a, max, max)
	VPADDW(all, a, b)
	VPMINUW(b, min, min)
	VPCMPEQW(a, none, z)
	count(z, 1, zeros)
}

func extremes32(p reg.Register, mask, none, all, max, min Op, zeros Op) {
	for j := range 2 {
		a, b, z := YMM(), YMM(), YMM()
		VPAND(at(p, 32*j), mask, a)
		VPMAXUD(a, max, max)
		VPADDD(all, a, b)
		VPMINUD(b, min, min)
		VPCMPEQD(a, none, z)
		count(z, 2, zeros)
	}
}

// count adds the number of lanes set in z; a lane has 1 << shift bytes.
func count(z Op, shift uint64, zeros Op) {
	m := GP32()
	VPMOVMSKB(z, m)
	POPCNTL(m, m)
	SHRL(Imm(shift), m)
	ADDQ(m.As64(), zeros)
}

// toFloat64 loads elements 4j to 4j+3 as float64.
func toFloat64(typ string, p reg.Register, j int) reg.VecVirtual {
	x, y := XMM(), YMM()
	switch typ {
	case "BF16":
		VPMOVZXWD(at(p, 8*j), x)
		VPSLLD(Imm(16), x, x)
		VCVTPS2PD(x, y)
	case "F16":
		VCVTPH2PS(at(p, 8*j), x)
		VCVTPS2PD(x, y)
	default:
		VCVTPS2PD(at(p, 16*j), y)
	}
	return y
}

func loop16Then(name string, n reg.Register, body, then func()) {
	SHRQ(Imm(4), n)
	JZ(LabelRef(name + "End"))
	Label(name + "Loop")
	body()
	DECQ(n)
	JNZ(LabelRef(name + "Loop"))
	Label(name + "End")
	then()
	VZEROUPPER()
	RET()
}
