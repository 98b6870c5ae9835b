package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// micro emits a kernel of mr rows, a multiple of three or of four, and cols
// registers of columns. Every element of c has one accumulator, to which the
// products are added in the order of k: the shape of the tile cannot change a
// result.
func micro(name string, mr, cols int, wide bool) {
	lanes, vec := 8, func() reg.VecVirtual { return YMM() }
	if wide {
		lanes, vec = 16, func() reg.VecVirtual { return ZMM() }
	}
	TEXT(name, NOSPLIT, "func(k int, a *float32, sa, sp int, b *float32, sb int, c *float32, ldc int, alpha float32, set int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds alpha·a·b to the tile c of %d × %d, whose rows are ldc elements", name, mr, cols*lanes),
		"apart, or sets it if set is not 0. Row i and column p of a is i·sa + p·sp elements",
		fmt.Sprintf("from a, row p of b p·sb from b. It needs %s.", map[bool]string{false: "AVX2 and FMA", true: "AVX-512F"}[wide]))
	k, b, sb := Load(Param("k"), GP64()), Load(Param("b"), GP64()), Load(Param("sb"), GP64())
	sa, sp := Load(Param("sa"), GP64()).(reg.GPVirtual), Load(Param("sp"), GP64())
	for _, r := range []reg.Register{sa, sp, sb} {
		SHLQ(Imm(2), r)
	}
	// Rows by base registers: 0, 1 and 2 times sa from each, and 4 if it fits.
	per := 3
	if mr%4 == 0 {
		per = 4
	}
	bases := make([]reg.GPVirtual, mr/per)
	bases[0] = Load(Param("a"), GP64()).(reg.GPVirtual)
	var sa3 reg.GPVirtual
	if per == 4 {
		sa3 = GP64()
		LEAQ(Mem{Base: sa, Index: sa, Scale: 2}, sa3)
	}
	for i := 1; i < len(bases); i++ {
		bases[i] = GP64()
		if per == 4 {
			LEAQ(Mem{Base: bases[i-1], Index: sa, Scale: 4}, bases[i])
		} else {
			LEAQ(Mem{Base: bases[i-1], Index: sa, Scale: 2}, bases[i])
			ADDQ(sa, bases[i])
		}
	}
	row := func(i int) Mem {
		m := Mem{Base: bases[i/per]}
		switch i % per {
		case 1, 2:
			m.Index, m.Scale = sa, uint8(i%per)
		case 3:
			m.Index, m.Scale = sa3, 1
		}
		return m
	}
	acc := make([]reg.VecVirtual, mr*cols)
	for i := range acc {
		acc[i] = vec()
		if wide {
			VPXORD(acc[i], acc[i], acc[i])
		} else {
			VXORPS(acc[i], acc[i], acc[i])
		}
	}
	prefetch(mr, 4*lanes*cols)
	Label(name + "Loop")
	cells := make([]reg.VecVirtual, cols)
	for j := range cells {
		cells[j] = vec()
		VMOVUPS(Mem{Base: b, Disp: 4 * lanes * j}, cells[j])
	}
	for i := range mr {
		x := vec()
		VBROADCASTSS(row(i), x)
		for j := range cells {
			VFMADD231PS(cells[j], x, acc[i*cols+j])
		}
	}
	ADDQ(sb, b)
	for _, r := range bases {
		ADDQ(sp, r)
	}
	DECQ(k)
	JNZ(LabelRef(name + "Loop"))
	store(name, mr, cols, lanes, acc, vec)
	VZEROUPPER()
	RET()
}

// prefetch asks for the tile's lines, which are needed at the end.
func prefetch(mr, width int) {
	c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
	SHLQ(Imm(2), ldc)
	for i := range mr {
		for at := 0; at < width; at += 64 {
			PREFETCHT0(Mem{Base: c, Disp: at})
		}
		if i < mr-1 {
			ADDQ(ldc, c)
		}
	}
}

// store adds the accumulators to the tile, or sets it.
func store(name string, mr, cols, lanes int, acc []reg.VecVirtual, vec func() reg.VecVirtual) {
	alpha := vec()
	m, err := Param("alpha").Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(m.Addr, alpha)
	set := Load(Param("set"), GP64())
	for _, add := range []bool{true, false} {
		c, ldc := Load(Param("c"), GP64()), Load(Param("ldc"), GP64())
		SHLQ(Imm(2), ldc)
		if add {
			TESTQ(set, set)
			JNZ(LabelRef(name + "Set"))
		}
		for i := range mr {
			for j := range cols {
				at, v := Mem{Base: c, Disp: 4 * lanes * j}, vec()
				if add {
					VMOVUPS(at, v)
					VFMADD231PS(alpha, acc[i*cols+j], v)
				} else {
					VMULPS(alpha, acc[i*cols+j], v)
				}
				VMOVUPS(v, at)
			}
			if i < mr-1 {
				ADDQ(ldc, c)
			}
		}
		if add {
			JMP(LabelRef(name + "Done"))
			Label(name + "Set")
		}
	}
	Label(name + "Done")
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

// copyGroups emits the packing of what lies in groups already, of bfloat16 too.
func copyGroups(width int, bf16 bool) {
	name, typ, shift := fmt.Sprintf("copy%d", width), "*float32", uint64(2)
	if bf16 {
		name, typ, shift = fmt.Sprintf("widen%d", width), "*byte", 1
	}
	TEXT(name, NOSPLIT, "func(dst *float32, src "+typ+", ld, n int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes n groups of %d elements, at least one, one after another; they are", name, width), "ld elements apart in src.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	ld, n := Load(Param("ld"), GP64()), Load(Param("n"), GP64())
	SHLQ(Imm(shift), ld)
	Label(name + "Loop")
	for at := 0; at < 4*width; {
		x, size := reg.Register(YMM()), 32
		if 4*width-at < 32 {
			x, size = XMM(), 16
		}
		if bf16 {
			VPMOVZXWD(Mem{Base: src, Disp: at / 2}, x)
			VPSLLD(Imm(16), x, x)
		} else {
			VMOVUPS(Mem{Base: src, Disp: at}, x)
		}
		VMOVUPS(x, Mem{Base: dst, Disp: at})
		at += size
	}
	ADDQ(ld, src)
	ADDQ(U32(uint32(4*width)), dst)
	DECQ(n)
	JNZ(LabelRef(name + "Loop"))
	VZEROUPPER()
	RET()
}
