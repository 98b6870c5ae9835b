package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// lane is the width of one element in bits; its methods emit the instruction of
// that width. Operands are in Go order: the destination stands last.
type lane struct{ bits int }

func (l lane) pick(f16, f32, f64 func(...Op), ops ...Op) {
	switch l.bits {
	case 16:
		f16(ops...)
	case 32:
		f32(ops...)
	default:
		f64(ops...)
	}
}

func (l lane) broadcast(x, y Op) {
	l.pick(VPBROADCASTW, VPBROADCASTD, VPBROADCASTQ, x, y)
}

// greater sets dst to all ones where a > b.
func (l lane) greater(a, b, dst Op) {
	l.pick(VPCMPGTW, VPCMPGTD, VPCMPGTQ, b, a, dst)
}

func (l lane) equal(a, b, dst Op) {
	l.pick(VPCMPEQW, VPCMPEQD, VPCMPEQQ, b, a, dst)
}

func (l lane) add(a, b, dst Op) {
	l.pick(VPADDW, VPADDD, VPADDQ, b, a, dst)
}

func (l lane) shiftRight(count, a, dst Op) {
	l.pick(VPSRLW, VPSRLD, VPSRLQ, count, a, dst)
}

func (l lane) shiftLeft(count, a, dst Op) {
	l.pick(VPSLLW, VPSLLD, VPSLLQ, count, a, dst)
}

// step is how many bytes of elements one iteration handles.
const step = 64

// scaleConst adds delta to every element whose magnitude lies in [lo, hi],
// passes zeros, and stops before the first step that holds anything else.
func scaleConst(l lane) {
	name := fmt.Sprintf("scaleConst%d", l.bits)
	TEXT(name, NOSPLIT, "func(p *byte, n int, absMask, lo, hi, delta uint64) int")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds delta to the %d-bit elements whose magnitude is in [lo, hi],", name, l.bits),
		"passes zeros, and returns how many elements it did: it stops before the first",
		"64 bytes that hold another element, or that are incomplete.")
	p := Load(Param("p"), GP64())
	n := Load(Param("n"), GP64())
	mask, lo, hi, delta := l.word("absMask"), l.word("lo"), l.word("hi"), l.word("delta")
	none := zero()
	walk(name, l, n, func() (bad reg.VecVirtual, store func()) {
		var r, b [2]reg.VecVirtual
		for j := range r {
			u, a, t, z := YMM(), YMM(), YMM(), YMM()
			VMOVDQU(at(p, 32*j), u)
			VPAND(u, mask, a)
			l.greater(lo, a, t)
			l.equal(a, none, z)
			l.greater(a, hi, a)
			VPOR(a, t, t)
			r[j], b[j] = YMM(), YMM()
			VPANDN(t, z, b[j])
			VPANDN(delta, t, r[j])
			l.add(u, r[j], r[j])
		}
		VPOR(b[0], b[1], b[0])
		return b[0], func() {
			VMOVDQU(r[0], at(p, 0))
			VMOVDQU(r[1], at(p, 32))
			ADDQ(Imm(step), p)
		}
	})
}

// scaleCols is scaleConst with one exponent per element: row plus col[i].
func scaleCols(l lane) {
	name := fmt.Sprintf("scaleCols%d", l.bits)
	TEXT(name, NOSPLIT, "func(p *byte, col *int16, n int, row, absMask, mant, expMax uint64) int")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds (row + col[i]) << mant to the %d-bit elements that are normal", name, l.bits),
		"and stay so (exponents in [1, expMax)), passes zeros, and returns how many",
		"elements it did: it stops before the first 64 bytes that hold another element,",
		"or that are incomplete. |row| is at most 8192.")
	p := Load(Param("p"), GP64())
	col := Load(Param("col"), GP64())
	n := Load(Param("n"), GP64())
	row, mask, max := l.word("row"), l.word("absMask"), l.word("expMax")
	g := Load(Param("mant"), GP64())
	mant := XMM()
	VMOVQ(g, mant)
	none, all := zero(), ones()
	walk(name, l, n, func() (bad reg.VecVirtual, store func()) {
		var r, b [2]reg.VecVirtual
		for j := range r {
			k, u, a, e, e2, ok := YMM(), YMM(), YMM(), YMM(), YMM(), YMM()
			l.columns(at(col, 32*j*16/l.bits), row, k)
			VMOVDQU(at(p, 32*j), u)
			VPAND(u, mask, a)
			l.shiftRight(mant, a, e)
			l.newExponent(e, k, e2)
			l.inside(e, e2, none, max, ok)
			l.equal(a, none, a)
			VPOR(a, ok, a)
			b[j], r[j] = YMM(), YMM()
			VPANDN(all, a, b[j])
			l.shiftLeft(mant, k, k)
			VPAND(k, ok, k)
			l.add(u, k, r[j])
		}
		VPOR(b[0], b[1], b[0])
		return b[0], func() {
			VMOVDQU(r[0], at(p, 0))
			VMOVDQU(r[1], at(p, 32))
			ADDQ(Imm(step), p)
			ADDQ(Imm(uint64(step*16/l.bits)), col)
		}
	})
}

// columns loads the exponents of one vector of elements and adds row.
func (l lane) columns(m Mem, row, k Op) {
	switch l.bits {
	case 16: // saturating: an exponent far out must not come back as a small one
		VPADDSW(m, row, k)
	case 32:
		VPMOVSXWD(m, k)
		VPADDD(k, row, k)
	default:
		VPMOVSXWQ(m, k)
		VPADDQ(k, row, k)
	}
}

func (l lane) newExponent(e, k, e2 Op) {
	if l.bits == 16 {
		VPADDSW(e, k, e2)
		return
	}
	l.add(e, k, e2)
}

// inside sets ok where both exponents are in [1, max).
func (l lane) inside(e, e2, none, max, ok Op) {
	t := YMM()
	switch l.bits {
	case 16:
		VPMINSW(e, e2, ok)
		VPMAXSW(e, e2, t)
	case 32:
		VPMINSD(e, e2, ok)
		VPMAXSD(e, e2, t)
	default: // AVX2 has no 64-bit minimum
		m := YMM()
		VPCMPGTQ(none, e, ok)
		VPCMPGTQ(none, e2, t)
		VPAND(ok, t, ok)
		VPCMPGTQ(e, max, t)
		VPCMPGTQ(e2, max, m)
		VPAND(ok, t, ok)
		VPAND(ok, m, ok)
		return
	}
	l.greater(ok, none, ok)
	l.greater(max, t, t)
	VPAND(ok, t, ok)
}

// walk emits the loop over full steps and the return of the count. body emits
// one step and gives the vector of troubled lanes and the stores.
func walk(name string, l lane, n reg.Register, body func() (reg.VecVirtual, func())) {
	per := step * 8 / l.bits
	done := GP64()
	XORQ(done, done)
	SUBQ(Imm(uint64(per)), n)
	JL(LabelRef(name + "End"))
	Label(name + "Loop")
	bad, store := body()
	VPTEST(bad, bad)
	JNZ(LabelRef(name + "End"))
	store()
	ADDQ(Imm(uint64(per)), done)
	CMPQ(done, n)
	JLE(LabelRef(name + "Loop"))
	Label(name + "End")
	VZEROUPPER()
	Store(done, ReturnIndex(0))
	RET()
}
