package main

import (
	"fmt"
	"math"
)

// Every vector function works on n elements, a positive multiple of 8, eight in
// each round: four in the registers from 0 on, four in those from 7 on. Their
// constants lie from register 14 on.
const second = 7

var (
	dst  = arg{"dst", "*float32"}
	x    = arg{"x", "*float32"}
	y    = arg{"y", "*float32"}
	z    = arg{"z", "*float32"}
	s    = arg{"s", "float32"}
	n    = arg{"n", "int"}
	sum  = arg{"ret", "float32"}
	dst2 = arg{"dst2", "*float32"}
)

const multiple = "; n is a positive multiple of 8."

// Registers of the constants of exp.
const (
	cTop = 14 + iota
	cBottom
	cLog2E
	cHigh
	cLow
	cPoly // six
	cOne  = cPoly + 6
	cBias = cOne + 1
	cMore = cBias + 1 // the first free one
)

func (w *writer) vectors() {
	w.mapped("vecExp", "sets dst to e^x", func(r int) { w.exp(r, 0); w.move(r, r+5) })
	w.mapped("vecSiLU", "sets dst to x·sigmoid(x)", func(r int) { w.sigmoid(r); w.op(fmul, r, r, r+5) })
	w.expSum()
	w.mapped2("vecSiLUBackward", "sets dst to y times the derivative of SiLU at x", true, false, func(r int) {
		w.slope(r)
		w.op(fmul, r, r+3, r+1)
	})
	w.mapped2("vecSwiGLU", "sets dst to SiLU(x)·y", true, false, func(r int) {
		w.sigmoid(r)
		w.op(fmul, r, r, r+5)
		w.op(fmul, r, r, r+1)
	})
	w.swigluBackward()
	w.mapped2("vecAdd", "sets dst to x + y", false, false, func(r int) { w.op(fadd, r, r, r+1) })
	w.mapped2("vecMul", "sets dst to x · y", false, false, func(r int) { w.op(fmul, r, r, r+1) })
	w.mapped2("vecMulAdd", "adds x · y to dst", false, true, func(r int) {
		w.fmla(r+2, r, r+1)
		w.move(r, r+2)
	})
	w.scaled("vecScale", "sets dst to s·x", false)
	w.scaled("vecAxpy", "adds s·x to dst", true)
	w.dot()
	w.maximum()
	w.adamW()
	w.constants()
}

// round emits f for both halves of eight elements, until counter is zero.
func (w *writer) round(name string, counter int, f func(r int)) {
	w.label(name + "Loop")
	f(0)
	f(second)
	w.line("SUBS $8, R%d, R%d", counter, counter)
	w.line("BGT %sLoop", name)
}

func (w *writer) load(v, r int)     { w.line("VLD1 (R%d), [V%d.S4]", r, v) }
func (w *writer) loadNext(v, r int) { w.line("VLD1.P 16(R%d), [V%d.S4]", r, v) }
func (w *writer) storeNext(v, r int) {
	w.line("VST1.P [V%d.S4], 16(R%d)", v, r)
}

// constant loads the table that exp needs.
func (w *writer) constant() {
	w.line("MOVD $neonConstants<>(SB), R9")
	for r := cTop; r < cMore; r++ {
		w.loadNext(r, 9)
	}
}

// constants emits the table, in the order of the registers.
func (w *writer) constants() {
	values := []float64{89, -104, math.Log2E, 0.693359375, -2.12194440e-4, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3,
		4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1, 1}
	var bits []uint32
	for _, v := range values {
		bits = append(bits, math.Float32bits(float32(v)))
	}
	bits = append(bits, 127)
	fmt.Fprintln(&w.text)
	for i, b := range bits {
		for lane := range 4 {
			fmt.Fprintf(&w.text, "DATA neonConstants<>+%d(SB)/4, $0x%08X\n", 16*i+4*lane, b)
		}
	}
	fmt.Fprintf(&w.text, "GLOBL neonConstants<>(SB), RODATA|NOPTR, $%d\n", 16*len(bits))
}

// exp sets register r+5 to e^v, v being register r+from; r+3, r+4 and r+6 are
// changed. It is the amd64 kernel's computation, operation by operation.
func (w *writer) exp(r, from int) {
	u, k, p, t := r+3, r+4, r+5, r+6
	w.op(fmin, u, r+from, cTop)
	w.op(fmax, u, u, cBottom)
	w.op(fmul, k, u, cLog2E)
	w.op1(frintn, k, k)
	w.fmls(u, k, cHigh)
	w.fmls(u, k, cLow)
	w.move(p, cPoly)
	for i := 1; i < 6; i++ {
		w.move(t, cPoly+i)
		w.fmla(t, p, u)
		p, t = t, p
	}
	// Five turns: the polynomial is in what was t.
	w.op(fmul, t, u, u)
	w.fmla(u, t, p)
	p, t = t, p
	w.op(fadd, p, u, cOne)
	w.op1(fcvtns, k, k)
	w.op1(sshr1, t, k)
	w.line("VSUB V%d.S4, V%d.S4, V%d.S4", t, k, k)
	for _, e := range []int{t, k} {
		w.line("VADD V%d.S4, V%d.S4, V%d.S4", cBias, e, e)
		w.line("VSHL $23, V%d.S4, V%d.S4", e, e)
		w.op(fmul, p, p, e)
	}
	if p != r+5 {
		w.move(r+5, p)
	}
}

// sigmoid sets register r+5 to 1 / (1 + e^-v), v being register r.
func (w *writer) sigmoid(r int) {
	w.op1(fneg, r+3, r)
	w.exp(r, 3)
	w.op(fadd, r+5, r+5, cOne)
	w.op(fdiv, r+5, cOne, r+5)
}

// slope sets r+5 to the sigmoid s of register r, and r+3 to s·(1+v·(1-s)).
func (w *writer) slope(r int) {
	w.sigmoid(r)
	w.op(fsub, r+3, cOne, r+5)
	w.move(r+4, cOne)
	w.fmla(r+4, r+3, r)
	w.op(fmul, r+3, r+4, r+5)
}

// mapped emits dst = f(x), from and to register r.
func (w *writer) mapped(name, doc string, f func(r int)) {
	w.function(name, doc+multiple, dst, x, n)
	w.constant()
	w.round(name, 2, func(r int) {
		w.loadNext(r, 1)
		f(r)
		w.storeNext(r, 0)
	})
	w.line("RET")
}

// mapped2 emits dst = f(x, y), from registers r, r+1 and, if old, dst in r+2, to r.
func (w *writer) mapped2(name, doc string, constants, old bool, f func(r int)) {
	w.function(name, doc+multiple, dst, x, y, n)
	if constants {
		w.constant()
	}
	w.round(name, 3, func(r int) {
		w.loadNext(r, 1)
		w.loadNext(r+1, 2)
		if old {
			w.load(r+2, 0)
		}
		f(r)
		w.storeNext(r, 0)
	})
	w.line("RET")
}

func (w *writer) scaled(name, doc string, add bool) {
	w.function(name, doc+multiple, dst, x, s, n)
	w.dup(cMore, 0)
	w.round(name, 2, func(r int) {
		w.loadNext(r, 1)
		if add {
			w.load(r+2, 0)
			w.fmla(r+2, r, cMore)
		} else {
			w.op(fmul, r+2, r, cMore)
		}
		w.storeNext(r+2, 0)
	})
	w.line("RET")
}

// Sums of both halves, and what follows them.
const accum = cMore + 1

// sum8 adds eight lanes as ((0+1)+(2+3)) + ((4+5)+(6+7)) into F0.
func (w *writer) sum8() {
	w.op(faddp, 0, accum, accum+1)
	w.op(faddp, 0, 0, 0)
	w.op1(faddps, 0, 0)
}

func (w *writer) dot() {
	w.function("vecDot", "is the inner product of x and y"+multiple, x, y, n, sum)
	w.zero(accum)
	w.zero(accum + 1)
	w.round("vecDot", 2, func(r int) {
		w.loadNext(r, 0)
		w.loadNext(r+1, 1)
		w.fmla(accum+r/second, r, r+1)
	})
	w.sum8()
	w.ret(24)
}

func (w *writer) maximum() {
	w.function("vecMax", "is the largest element of x, which has no NaN"+multiple, x, n, sum)
	w.load(accum, 0)
	w.move(accum+1, accum)
	w.round("vecMax", 1, func(r int) {
		w.loadNext(r, 0)
		w.op(fmax, accum+r/second, accum+r/second, r)
	})
	w.op(fmax, accum, accum, accum+1)
	w.op1(fmaxv, 0, accum)
	w.ret(16)
}

func (w *writer) expSum() {
	w.function("vecExpSum", "sets dst to e^(x-s) and returns the sum"+multiple, dst, x, s, n, sum)
	w.constant()
	w.dup(cMore, 0)
	w.zero(accum)
	w.zero(accum + 1)
	w.round("vecExpSum", 2, func(r int) {
		w.loadNext(r, 1)
		w.op(fsub, r, r, cMore)
		w.exp(r, 0)
		w.op(fadd, accum+r/second, accum+r/second, r+5)
		w.storeNext(r+5, 0)
	})
	w.sum8()
	w.ret(32)
}

func (w *writer) swigluBackward() {
	w.function("vecSwiGLUBackward", "sets dst and dst2 to the gradients of SiLU(x)·y in x and in y, where z\n// is the product's"+multiple, dst, dst2, x, y, z, n)
	w.constant()
	w.round("vecSwiGLUBackward", 5, func(r int) {
		w.loadNext(r, 2)
		w.loadNext(r+1, 3)
		w.loadNext(r+2, 4)
		w.slope(r)
		w.op(fmul, r+3, r+3, r+1)
		w.op(fmul, r+3, r+3, r+2)
		w.op(fmul, r+5, r+5, r)
		w.op(fmul, r+5, r+5, r+2)
		w.storeNext(r+3, 0)
		w.storeNext(r+5, 1)
	})
	w.line("RET")
}

// adamW emits PyTorch's update, operation by operation.
func (w *writer) adamW() {
	w.function("vecAdamW", "updates weights dst with gradients x, and first and second moments y\n// and z; see AdamW for c"+multiple, dst, x, y, z, arg{"c", "*[7]float32"}, n)
	for i := range 7 {
		w.line("FMOVS %d(R4), F0", 4*i)
		w.dup(14+i, 0)
	}
	w.round("vecAdamW", 5, func(r int) {
		weight, g, m, v, d := r, r+1, r+2, r+3, r+4
		w.load(weight, 0)
		w.loadNext(g, 1)
		w.load(m, 2)
		w.load(v, 3)
		w.op(fmul, weight, weight, 14)
		w.op(fsub, d, g, m)
		w.fmla(m, d, 15)
		w.op(fmul, v, v, 16)
		w.op(fmul, d, g, g)
		w.fmla(v, d, 17)
		w.storeNext(m, 2)
		w.storeNext(v, 3)
		w.op1(fsqrt, v, v)
		w.op(fdiv, v, v, 18)
		w.op(fadd, v, v, 19)
		w.op(fmul, m, m, 20)
		w.op(fdiv, m, m, v)
		w.op(fadd, weight, weight, m)
		w.storeNext(weight, 0)
	})
	w.line("RET")
}
