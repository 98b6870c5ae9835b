package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Every vector function below works on n elements, a positive multiple of 8.

func vectors() {
	table := newConstants()
	unary("vecExp", "sets dst to e^x", table, func(x reg.VecVirtual) reg.VecVirtual { return exp8(table, x) })
	unary("vecSiLU", "sets dst to x·sigmoid(x)", table, func(x reg.VecVirtual) reg.VecVirtual {
		return mul(x, sigmoid8(table, x))
	})
	expSum(table)
	siluBackward(table)
	swiglu(table)
	swigluBackward(table)
	pointwise("vecAdd", "sets dst to x + y", func(_ Mem, x, y reg.VecVirtual) reg.VecVirtual {
		VADDPS(y, x, x)
		return x
	})
	pointwise("vecMul", "sets dst to x · y", func(_ Mem, x, y reg.VecVirtual) reg.VecVirtual {
		VMULPS(y, x, x)
		return x
	})
	pointwise("vecMulAdd", "adds x · y to dst", func(dst Mem, x, y reg.VecVirtual) reg.VecVirtual {
		d := YMM()
		VMOVUPS(dst, d)
		VFMADD231PS(y, x, d)
		return d
	})
	scaled("vecScale", "sets dst to s·x", false)
	scaled("vecAxpy", "adds s·x to dst", true)
	reduce("vecDot", "is the inner product of x and y")
	maximum()
	adamW()
}

// constants are 32-bit values that a kernel broadcasts from memory.
type constants struct {
	at map[uint32]int
	gl Mem
	n  int
}

func newConstants() *constants {
	return &constants{at: map[uint32]int{}, gl: GLOBL("vecConstants", RODATA|NOPTR)}
}

func (c *constants) bits(v uint32) Mem {
	at, ok := c.at[v]
	if !ok {
		at = c.n
		c.at[v] = at
		for i := range 8 {
			DATA(at+4*i, U32(v))
		}
		c.n += 32
	}
	return c.gl.Offset(at)
}

func (c *constants) float(v float64) Mem { return c.bits(math.Float32bits(float32(v))) }

func mul(x, y reg.VecVirtual) reg.VecVirtual {
	z := YMM()
	VMULPS(x, y, z)
	return z
}

// exp8 computes e^x in one register: x = n·ln 2 + r, e^r by a polynomial
// (Cephes), times 2ⁿ in two steps, so that results become subnormal and infinite
// as they should. NaN stays.
func exp8(c *constants, x reg.VecVirtual) reg.VecVirtual {
	r, n := YMM(), YMM()
	// VMINPS returns its second source where one operand is NaN: x is that one.
	lim := YMM()
	VMOVUPS(c.float(89), lim)
	VMINPS(x, lim, r)
	VMOVUPS(c.float(-104), lim)
	VMAXPS(r, lim, r)
	VMULPS(c.float(math.Log2E), r, n)
	VROUNDPS(Imm(0), n, n)
	VFNMADD231PS(c.float(0.693359375), n, r)
	VFNMADD231PS(c.float(-2.12194440e-4), n, r)
	p := YMM()
	VMOVUPS(c.float(1.9875691500e-4), p)
	for _, v := range []float64{1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1} {
		VFMADD213PS(c.float(v), r, p)
	}
	sq := YMM()
	VMULPS(r, r, sq)
	VFMADD213PS(r, sq, p)
	VADDPS(c.float(1), p, p)
	i, half := YMM(), YMM()
	VCVTPS2DQ(n, i)
	VPSRAD(Imm(1), i, half)
	VPSUBD(half, i, i)
	for _, e := range []reg.VecVirtual{half, i} {
		VPADDD(c.bits(127), e, e)
		VPSLLD(Imm(23), e, e)
		VMULPS(e, p, p)
	}
	return p
}

// sigmoid8 computes 1 / (1 + e^-x).
func sigmoid8(c *constants, x reg.VecVirtual) reg.VecVirtual {
	neg := YMM()
	VXORPS(c.bits(1<<31), x, neg)
	e := exp8(c, neg)
	VADDPS(c.float(1), e, e)
	one := YMM()
	VMOVUPS(c.float(1), one)
	VDIVPS(e, one, e)
	return e
}

// loop runs body over n elements; at gives the current place in an operand.
func loop(name string, body func(at func(param string) Mem)) {
	n, i := Load(Param("n"), GP64()), GP64()
	XORQ(i, i)
	base := map[string]reg.Register{}
	for _, p := range []string{"dst", "x", "y", "z", "dst2"} {
		if _, err := Param(p).Resolve(); err == nil {
			base[p] = Load(Param(p), GP64())
		}
	}
	Label(name + "Loop")
	body(func(p string) Mem { return Mem{Base: base[p], Index: i, Scale: 4} })
	ADDQ(Imm(8), i)
	CMPQ(i, n)
	JLT(LabelRef(name + "Loop"))
}

func signature(name, sig, doc string) {
	TEXT(name, NOSPLIT, sig)
	Pragma("noescape")
	Doc(name + " " + doc + "; n is a positive multiple of 8.")
}

func load(m Mem) reg.VecVirtual {
	y := YMM()
	VMOVUPS(m, y)
	return y
}

func done() {
	VZEROUPPER()
	RET()
}

func unary(name, doc string, _ *constants, f func(reg.VecVirtual) reg.VecVirtual) {
	signature(name, "func(dst, x *float32, n int)", doc)
	loop(name, func(at func(string) Mem) { VMOVUPS(f(load(at("x"))), at("dst")) })
	done()
}

func pointwise(name, doc string, f func(dst Mem, x, y reg.VecVirtual) reg.VecVirtual) {
	signature(name, "func(dst, x, y *float32, n int)", doc)
	loop(name, func(at func(string) Mem) { VMOVUPS(f(at("dst"), load(at("x")), load(at("y"))), at("dst")) })
	done()
}

// broadcast loads a float parameter into all lanes.
func broadcast(param string) reg.VecVirtual {
	m, err := Param(param).Resolve()
	if err != nil {
		panic(err)
	}
	y := YMM()
	VBROADCASTSS(m.Addr, y)
	return y
}

func scaled(name, doc string, add bool) {
	signature(name, "func(dst, x *float32, s float32, n int)", doc)
	s := broadcast("s")
	loop(name, func(at func(string) Mem) {
		x := load(at("x"))
		if add {
			d := load(at("dst"))
			VFMADD231PS(x, s, d)
			VMOVUPS(d, at("dst"))
			return
		}
		VMULPS(s, x, x)
		VMOVUPS(x, at("dst"))
	})
	done()
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

func zero() reg.VecVirtual {
	y := YMM()
	VXORPS(y, y, y)
	return y
}

func reduce(name, doc string) {
	signature(name, "func(x, y *float32, n int) float32", doc)
	acc := zero()
	loop(name, func(at func(string) Mem) { VFMADD231PS(at("y"), load(at("x")), acc) })
	Store(sum8(acc), ReturnIndex(0))
	done()
}

func maximum() {
	signature("vecMax", "func(x *float32, n int) float32", "is the largest element of x, which has no NaN")
	acc := YMM()
	p, err := Param("x").Resolve()
	if err != nil {
		panic(err)
	}
	first := GP64()
	MOVQ(p.Addr, first)
	VMOVUPS(Mem{Base: first}, acc)
	loop("vecMax", func(at func(string) Mem) { VMAXPS(at("x"), acc, acc) })
	hi := XMM()
	VEXTRACTF128(Imm(1), acc, hi)
	VMAXPS(hi, acc.AsX(), hi)
	t := XMM()
	VPSHUFD(Imm(0x4E), hi, t)
	VMAXPS(t, hi, hi)
	VPSHUFD(Imm(0xB1), hi, t)
	VMAXPS(t, hi, hi)
	Store(hi, ReturnIndex(0))
	done()
}

func expSum(c *constants) {
	signature("vecExpSum", "func(dst, x *float32, s float32, n int) float32", "sets dst to e^(x-s) and returns the sum")
	s, acc := broadcast("s"), zero()
	loop("vecExpSum", func(at func(string) Mem) {
		x := load(at("x"))
		VSUBPS(s, x, x)
		e := exp8(c, x)
		VADDPS(e, acc, acc)
		VMOVUPS(e, at("dst"))
	})
	Store(sum8(acc), ReturnIndex(0))
	done()
}

// slope computes the sigmoid s of x and the derivative of x·s, s·(1+x·(1-s)).
func slope(c *constants, x reg.VecVirtual) (s, d reg.VecVirtual) {
	s, d = sigmoid8(c, x), YMM()
	VMOVUPS(c.float(1), d)
	VSUBPS(s, d, d)
	VFMADD213PS(c.float(1), x, d)
	VMULPS(s, d, d)
	return s, d
}

func siluBackward(c *constants) {
	signature("vecSiLUBackward", "func(dst, x, y *float32, n int)", "sets dst to y times the derivative of SiLU at x")
	loop("vecSiLUBackward", func(at func(string) Mem) {
		_, d := slope(c, load(at("x")))
		VMULPS(at("y"), d, d)
		VMOVUPS(d, at("dst"))
	})
	done()
}

func swiglu(c *constants) {
	signature("vecSwiGLU", "func(dst, x, y *float32, n int)", "sets dst to SiLU(x)·y")
	loop("vecSwiGLU", func(at func(string) Mem) {
		x := load(at("x"))
		s := sigmoid8(c, x)
		VMULPS(x, s, s)
		VMULPS(at("y"), s, s)
		VMOVUPS(s, at("dst"))
	})
	done()
}

func swigluBackward(c *constants) {
	signature("vecSwiGLUBackward", "func(dst, dst2, x, y, z *float32, n int)",
		"sets dst and dst2 to the gradients of SiLU(x)·y in x and in y, where z is the product's")
	loop("vecSwiGLUBackward", func(at func(string) Mem) {
		x, y, z := load(at("x")), load(at("y")), load(at("z"))
		s, d := slope(c, x)
		VMULPS(y, d, d)
		VMULPS(z, d, d)
		VMULPS(x, s, s)
		VMULPS(z, s, s)
		VMOVUPS(d, at("dst"))
		VMOVUPS(s, at("dst2"))
	})
	done()
}

// adamW emits PyTorch's update, operation by operation.
func adamW() {
	signature("vecAdamW", "func(dst, x, y, z *float32, c *[7]float32, n int)",
		"updates weights dst with gradients x, and first and second moments y and z; see AdamW for c")
	p := Load(Param("c"), GP64())
	k := make([]reg.VecVirtual, 7)
	for i := range k {
		k[i] = YMM()
		VBROADCASTSS(Mem{Base: p, Disp: 4 * i}, k[i])
	}
	loop("vecAdamW", func(at func(string) Mem) {
		w, g, m, v := load(at("dst")), load(at("x")), load(at("y")), load(at("z"))
		VMULPS(k[0], w, w)
		d := YMM()
		VSUBPS(m, g, d)
		VFMADD231PS(k[1], d, m)
		VMULPS(k[2], v, v)
		sq := mul(g, g)
		VFMADD231PS(k[3], sq, v)
		VMOVUPS(m, at("y"))
		VMOVUPS(v, at("z"))
		VSQRTPS(v, v)
		VDIVPS(k[4], v, v)
		VADDPS(k[5], v, v)
		VMULPS(k[6], m, m)
		VDIVPS(v, m, m)
		VADDPS(m, w, w)
		VMOVUPS(w, at("dst"))
	})
	done()
}
