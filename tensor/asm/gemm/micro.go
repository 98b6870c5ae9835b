package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unroll is the number of steps along k in the main loop.
const unroll = 4

// micro emits a kernel of mr rows and cols registers of columns. Every element
// of c has one accumulator, to which the products are added in the order of k:
// the shape of the tile cannot change a result.
func micro(name string, mr, cols int, wide bool) {
	lanes, vec := 8, func() reg.VecVirtual { return YMM() }
	if wide {
		lanes, vec = 16, func() reg.VecVirtual { return ZMM() }
	}
	TEXT(name, NOSPLIT, "func(k int, a, b, c *float32, ldc int, alpha float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds alpha·a·b to the tile c of %d × %d, whose rows are ldc", name, mr, cols*lanes),
		fmt.Sprintf("elements apart; a holds k columns of %d, b k rows of %d. It needs %s.", mr, cols*lanes,
			map[bool]string{false: "AVX2 and FMA", true: "AVX-512F"}[wide]))
	k, a, b := Load(Param("k"), GP64()), Load(Param("a"), GP64()), Load(Param("b"), GP64())
	acc := make([]reg.VecVirtual, mr*cols)
	for i := range acc {
		acc[i] = vec()
		if wide {
			VPXORD(acc[i], acc[i], acc[i])
		} else {
			VXORPS(acc[i], acc[i], acc[i])
		}
	}
	step := func(u int) {
		row := make([]reg.VecVirtual, cols)
		for j := range row {
			row[j] = vec()
			VMOVUPS(Mem{Base: b, Disp: 4 * lanes * (u*cols + j)}, row[j])
		}
		for i := range mr {
			x := vec()
			VBROADCASTSS(Mem{Base: a, Disp: 4 * (u*mr + i)}, x)
			for j := range row {
				VFMADD231PS(row[j], x, acc[i*cols+j])
			}
		}
	}
	advance := func(n int) {
		ADDQ(U32(4*mr*n), a)
		ADDQ(U32(4*lanes*cols*n), b)
		SUBQ(Imm(uint64(n)), k)
	}
	SUBQ(Imm(unroll), k)
	JLT(LabelRef(name + "Rest"))
	Label(name + "Loop")
	PREFETCHT0(Mem{Base: a, Disp: 4*mr*unroll + 256})
	for u := range unroll {
		step(u)
	}
	advance(unroll)
	JGE(LabelRef(name + "Loop"))
	Label(name + "Rest")
	ADDQ(Imm(unroll), k)
	JZ(LabelRef(name + "Store"))
	Label(name + "One")
	step(0)
	advance(1)
	JNZ(LabelRef(name + "One"))
	Label(name + "Store")
	c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ldc)
	alpha := vec()
	m, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(m.Addr, alpha)
	for i := range mr {
		for j := range cols {
			at := Mem{Base: c, Disp: 4 * lanes * j}
			old := vec()
			VMOVUPS(at, old)
			VFMADD231PS(alpha, acc[i*cols+j], old)
			VMOVUPS(old, at)
		}
		if i < mr-1 {
			ADDQ(ldc, c)
		}
	}
	VZEROUPPER()
	RET()
}

// transpose emits the packing of eight rows, or of fewer and zeros.
func transpose(rows int) {
	name := fmt.Sprintf("transpose%d", rows)
	TEXT(name, NOSPLIT, "func(dst *float32, ldd int, src *float32, lds, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes %d rows of n elements, a multiple of 8, lds elements", name, rows),
		"apart, as n rows of eight, ldd elements apart, in ascending order.")
	dst, ldd := Load(Param("dst"), GP64()).(reg.GPVirtual), Load(Param("ldd"), GP64()).(reg.GPVirtual)
	src, lds := Load(Param("src"), GP64()).(reg.GPVirtual), Load(Param("lds"), GP64()).(reg.GPVirtual)
	n := Load(Param("n"), GP64())
	SHLQ(Imm(2), ldd)
	SHLQ(Imm(2), lds)
	src4, lds3, ldd3 := GP64(), GP64(), GP64()
	LEAQ(Mem{Base: src, Index: lds, Scale: 4}, src4)
	LEAQ(Mem{Base: lds, Index: lds, Scale: 2}, lds3)
	LEAQ(Mem{Base: ldd, Index: ldd, Scale: 2}, ldd3)
	at := func(base, ld, ld3 reg.GPVirtual, i int) Mem {
		switch i {
		case 0:
			return Mem{Base: base}
		case 3:
			return Mem{Base: base, Index: ld3, Scale: 1}
		}
		return Mem{Base: base, Index: ld, Scale: uint8(i)}
	}
	Label(name + "Loop")
	r := make([]reg.VecVirtual, 8)
	for i := range r {
		r[i] = YMM()
		base := src
		if i >= 4 {
			base = src4
		}
		if i < rows {
			VMOVUPS(at(base, lds, lds3, i%4), r[i])
		} else {
			VXORPS(r[i], r[i], r[i])
		}
	}
	t := make([]reg.VecVirtual, 8)
	for i := 0; i < 8; i += 2 {
		t[i], t[i+1] = YMM(), YMM()
		VUNPCKLPS(r[i+1], r[i], t[i])
		VUNPCKHPS(r[i+1], r[i], t[i+1])
	}
	u := make([]reg.VecVirtual, 8)
	for i := range u {
		u[i] = YMM()
	}
	for i := 0; i < 8; i += 4 {
		VSHUFPS(Imm(0x44), t[i+2], t[i], u[i])
		VSHUFPS(Imm(0xEE), t[i+2], t[i], u[i+1])
		VSHUFPS(Imm(0x44), t[i+3], t[i+1], u[i+2])
		VSHUFPS(Imm(0xEE), t[i+3], t[i+1], u[i+3])
	}
	for i := range 8 {
		y := YMM()
		if i < 4 {
			VPERM2F128(Imm(0x20), u[i+4], u[i], y)
		} else {
			VPERM2F128(Imm(0x31), u[i], u[i-4], y)
		}
		if i == 4 {
			LEAQ(Mem{Base: dst, Index: ldd, Scale: 4}, dst)
		}
		VMOVUPS(y, at(dst, ldd, ldd3, i%4))
	}
	LEAQ(Mem{Base: dst, Index: ldd, Scale: 4}, dst)
	ADDQ(Imm(32), src)
	ADDQ(Imm(32), src4)
	SUBQ(Imm(8), n)
	JG(LabelRef(name + "Loop"))
	VZEROUPPER()
	RET()
}
