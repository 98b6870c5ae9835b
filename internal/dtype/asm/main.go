// Command asm writes the amd64 assembly of package dtype. It is a module of its
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
	for _, l := range []lane{{16}, {32}, {64}} {
		scaleConst(l)
		scaleCols(l)
	}
	convert()
	stats("BF16")
	stats("F16")
	stats("F32")
	Generate()
}

// word loads the parameter name (a uint64) and broadcasts its low bits to every
// lane of a vector.
func (l lane) word(name string) reg.VecVirtual {
	g := Load(Param(name), GP64())
	y := YMM()
	x := XMM()
	VMOVQ(g, x)
	l.broadcast(x, y)
	return y
}

func imm32(v uint32) reg.VecVirtual {
	g, x, y := GP32(), XMM(), YMM()
	MOVL(U32(v), g)
	VMOVD(g, x)
	VPBROADCASTD(x, y)
	return y
}

func ones() reg.VecVirtual {
	y := YMM()
	VPCMPEQD(y, y, y)
	return y
}

func zero() reg.VecVirtual {
	y := YMM()
	VPXOR(y, y, y)
	return y
}

func at(base reg.Register, disp int) Mem { return Mem{Base: base, Disp: disp} }
