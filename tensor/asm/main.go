// Command asm writes the amd64 assembly of package tensor. It is a module of its
// own, so that the generator is no dependency of the product. Run it through
// go generate in the parent folder.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64")
	for _, typ := range []string{"BF16", "F16", "F32"} {
		for _, tile := range [][2]int{{4, 2}, {2, 4}, {1, 4}, {4, 1}, {2, 1}, {1, 1}} {
			dot(typ, tile[0], tile[1])
		}
		axpy(typ, 4)
		axpy(typ, 1)
	}
	Generate()
}

// weights8 loads eight weights as float32.
func weights8(typ string, m Mem, y reg.VecVirtual) {
	switch typ {
	case "BF16":
		VPMOVZXWD(m, y)
		VPSLLD(Imm(16), y, y)
	case "F16":
		VCVTPH2PS(m, y)
	default:
		VMOVUPS(m, y)
	}
}

func size(typ string) int {
	if typ == "F32" {
		return 4
	}
	return 2
}

// pointers gives the addresses base, base+stride, … of n rows, in registers.
func pointers(base, stride reg.GPVirtual, n int) []reg.Register {
	out := []reg.Register{base}
	for i := 1; i < n; i++ {
		p := GP64()
		MOVQ(out[i-1], p)
		ADDQ(stride, p)
		out = append(out, p)
	}
	return out
}

// dot emits the inner products of a tile of tokens and weight rows. Every
// product has one accumulator of eight lanes, whatever the tile, so that the
// tiling cannot change a result.
func dot(typ string, tokens, rows int) {
	name := fmt.Sprintf("dot%sT%dR%d", typ, tokens, rows)
	TEXT(name, NOSPLIT, "func(x *float32, ldx int, w *byte, ldw int, n int, out *float32)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s writes out[r*%d+t] = x[t]·w[r] over n elements, a positive", name, tokens),
		"multiple of 8; ldx and ldw are the strides in bytes.")
	x, ldx := Load(Param("x"), GP64()).(reg.GPVirtual), Load(Param("ldx"), GP64()).(reg.GPVirtual)
	w, ldw := Load(Param("w"), GP64()).(reg.GPVirtual), Load(Param("ldw"), GP64()).(reg.GPVirtual)
	n, k := Load(Param("n"), GP64()), GP64()
	xs, ws := pointers(x, ldx, tokens), pointers(w, ldw, rows)
	acc := make([]reg.VecVirtual, tokens*rows)
	for i := range acc {
		acc[i] = YMM()
		VXORPS(acc[i], acc[i], acc[i])
	}
	XORQ(k, k)
	Label(name + "Loop")
	wide := make([]reg.VecVirtual, rows)
	for r := range rows {
		wide[r] = YMM()
		weights8(typ, Mem{Base: ws[r], Index: k, Scale: uint8(size(typ))}, wide[r])
	}
	for t := range tokens {
		y := YMM()
		VMOVUPS(Mem{Base: xs[t], Index: k, Scale: 4}, y)
		for r := range rows {
			VFMADD231PS(wide[r], y, acc[r*tokens+t])
		}
	}
	ADDQ(Imm(8), k)
	CMPQ(k, n)
	JLT(LabelRef(name + "Loop"))
	out := Load(Param("out"), GP64())
	for i := range acc {
		VMOVSS(sum8(acc[i]), Mem{Base: out, Disp: 4 * i})
	}
	VZEROUPPER()
	RET()
}

// sum8 adds the lanes as ((0+1)+(2+3)) + ((4+5)+(6+7)).
func sum8(y reg.VecVirtual) reg.VecVirtual {
	VHADDPS(y, y, y)
	VHADDPS(y, y, y)
	hi := XMM()
	VEXTRACTF128(Imm(1), y, hi)
	VADDSS(hi, y.AsX(), hi)
	return hi
}

// axpy emits, for 16 columns, dst[t] += Σ x[t,k]·w[k] in the order of k.
func axpy(typ string, tokens int) {
	name := fmt.Sprintf("axpy%sT%d", typ, tokens)
	TEXT(name, NOSPLIT, "func(dst *float32, ldd int, x *float32, ldx int, w *byte, ldw int, rows int)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s adds to 16 columns of %d rows of dst the products of x with rows", name, tokens),
		"rows of w, at least one, in their order; strides are in bytes.")
	d, ldd := Load(Param("dst"), GP64()).(reg.GPVirtual), Load(Param("ldd"), GP64()).(reg.GPVirtual)
	x, ldx := Load(Param("x"), GP64()).(reg.GPVirtual), Load(Param("ldx"), GP64()).(reg.GPVirtual)
	w, ldw := Load(Param("w"), GP64()), Load(Param("ldw"), GP64())
	rows := Load(Param("rows"), GP64())
	ds, xs := pointers(d, ldd, tokens), pointers(x, ldx, tokens)
	acc := make([]reg.VecVirtual, 2*tokens)
	for t := range tokens {
		for j := range 2 {
			acc[2*t+j] = YMM()
			VMOVUPS(Mem{Base: ds[t], Disp: 32 * j}, acc[2*t+j])
		}
	}
	k := GP64()
	XORQ(k, k)
	Label(name + "Loop")
	wide := [2]reg.VecVirtual{YMM(), YMM()}
	for j := range wide {
		weights8(typ, Mem{Base: w, Disp: 8 * j * size(typ)}, wide[j])
	}
	for t := range tokens {
		y := YMM()
		VBROADCASTSS(Mem{Base: xs[t], Index: k, Scale: 4}, y)
		for j := range wide {
			VFMADD231PS(wide[j], y, acc[2*t+j])
		}
	}
	ADDQ(ldw, w)
	INCQ(k)
	CMPQ(k, rows)
	JLT(LabelRef(name + "Loop"))
	for t := range tokens {
		for j := range 2 {
			VMOVUPS(acc[2*t+j], Mem{Base: ds[t], Disp: 32 * j})
		}
	}
	VZEROUPPER()
	RET()
}
