package tensor

import "math"

// The functions of this file serve training: float32 throughout, in assembly
// where there is any. An element of a result depends on its own operands only,
// not on its place in the slice or on the slice's length; sums add in an order
// that depends on the length only. All slices have the length of the first one,
// and dst may be an operand.

// FastExp sets dst to e^x, accurate to 2 units in the last place (4 among the
// subnormal results). NaN stays NaN.
func FastExp(dst, x []float32) { map1(dst, x, asmExp, func(v float32) float32 { return exp32(v) }) }

// FastSiLU sets dst to x · sigmoid(x).
func FastSiLU(dst, x []float32) {
	map1(dst, x, asmSiLU, func(v float32) float32 { return v * sigmoid32(v) })
}

// SiLUBackward sets dst to dy times the derivative of SiLU at x.
func SiLUBackward(dst, x, dy []float32) {
	map2(dst, x, dy, asmSiLUBackward, func(_, x, dy float32) float32 {
		s := sigmoid32(x)
		return dy * (s * (1 + x*(1-s)))
	})
}

// SwiGLU sets dst to SiLU(gate) · up.
func SwiGLU(dst, gate, up []float32) {
	map2(dst, gate, up, asmSwiGLU, func(_, g, u float32) float32 { return g * sigmoid32(g) * u })
}

// SwiGLUBackward sets dgate and dup to the gradients of SiLU(gate) · up, whose
// own gradient is dy. Either may be any of the operands.
func SwiGLUBackward(dgate, dup, gate, up, dy []float32) {
	n := len(dgate)
	need("operand", min(len(dup), len(gate), len(up), len(dy)), n)
	whole := 0
	if haveAsm {
		if whole = n &^ 7; whole > 0 {
			asmSwiGLUBackward(dgate, dup, gate, up, dy, whole)
		}
		if whole < n {
			var a, b, g, u, d [8]float32
			copy(g[:], gate[whole:n])
			copy(u[:], up[whole:n])
			copy(d[:], dy[whole:n])
			asmSwiGLUBackward(a[:], b[:], g[:], u[:], d[:], 8)
			copy(dgate[whole:n], a[:])
			copy(dup[whole:n], b[:])
		}
		return
	}
	for i := range n {
		g, u, d := gate[i], up[i], dy[i]
		s := sigmoid32(g)
		dgate[i] = d * (u * (s * (1 + g*(1-s))))
		dup[i] = d * (g * s)
	}
}

// VecAdd sets dst to x + y.
func VecAdd(dst, x, y []float32) {
	map2(dst, x, y, asmAdd, func(_, x, y float32) float32 { return x + y })
}

// VecMul sets dst to x · y.
func VecMul(dst, x, y []float32) {
	map2(dst, x, y, asmMul, func(_, x, y float32) float32 { return x * y })
}

// VecMulAdd adds x · y to dst.
func VecMulAdd(dst, x, y []float32) {
	map2(dst, x, y, asmMulAdd, func(d, x, y float32) float32 { return d + x*y })
}

// VecScale sets dst to s · x.
func VecScale(dst, x []float32, s float32) {
	n := len(dst)
	need("x", len(x), n)
	whole := 0
	if haveAsm {
		if whole = n &^ 7; whole > 0 {
			asmScale(dst, x, s, whole)
		}
	}
	for i := whole; i < n; i++ {
		dst[i] = s * x[i]
	}
}

// VecAxpy adds s · x to dst.
func VecAxpy(dst, x []float32, s float32) {
	n := len(dst)
	need("x", len(x), n)
	whole := 0
	if haveAsm {
		if whole = n &^ 7; whole > 0 {
			asmAxpy(dst, x, s, whole)
		}
		if whole < n {
			var a, b [8]float32
			copy(a[:], dst[whole:n])
			copy(b[:], x[whole:n])
			asmAxpy(a[:], b[:], s, 8)
			copy(dst[whole:n], a[:])
		}
		return
	}
	for i := range n {
		dst[i] += s * x[i]
	}
}

// VecDot returns Σ x·y, added in eight interleaved sums.
func VecDot(x, y []float32) float32 {
	n := len(x)
	need("y", len(y), n)
	whole := n &^ 7
	var sum float32
	if haveAsm && whole > 0 {
		sum = asmDot(x, y, whole)
	} else if whole > 0 {
		sum = dotGo(x[:whole], y[:whole])
	}
	for i := whole; i < n; i++ {
		sum += x[i] * y[i]
	}
	return sum
}

// SoftmaxRow replaces x by its softmax. Elements of -Inf get 0.
func SoftmaxRow(x []float32) { VecScale(x, x, 1/expSum(x, x)) }

// CrossEntropyRow returns -log softmax(x)[target] and replaces x by the gradient
// of that, times scale.
func CrossEntropyRow(x []float32, target int, scale float32) float64 {
	top, at := rowMax(x), x[target]
	sum := expSumFrom(x, x, top)
	VecScale(x, x, scale/sum)
	x[target] -= scale
	return math.Log(float64(sum)) + float64(top) - float64(at)
}

// LossRow is CrossEntropyRow without the gradient; it uses dst, as long as x and
// maybe x itself, as room.
func LossRow(dst, x []float32, target int) float64 {
	top, at := rowMax(x), x[target]
	return math.Log(float64(expSumFrom(dst, x, top))) + float64(top) - float64(at)
}

func expSum(dst, x []float32) float32 { return expSumFrom(dst, x, rowMax(x)) }

// rowMax is the largest element; NaN may be passed over, and then shows in the
// exponentials.
func rowMax(x []float32) float32 {
	whole, top := 0, float32(math.Inf(-1))
	if haveAsm {
		if whole = len(x) &^ 7; whole > 0 {
			top = asmMax(x, whole)
		}
	}
	for _, v := range x[whole:] {
		if v > top {
			top = v
		}
	}
	return top
}

// expSumFrom sets dst to e^(x-top) and returns the sum.
func expSumFrom(dst, x []float32, top float32) float32 {
	n := len(dst)
	whole, sum := 0, float32(0)
	if haveAsm {
		if whole = n &^ 7; whole > 0 {
			sum = asmExpSum(dst, x, top, whole)
		}
		if whole < n {
			var b [8]float32
			copy(b[:], x[whole:n])
			asmExpSum(b[:], b[:], top, 8)
			for i, e := range b[:n-whole] {
				dst[whole+i] = e
				sum += e
			}
		}
		return sum
	}
	for i, v := range x[:n] {
		dst[i] = exp32(v - top)
		sum += dst[i]
	}
	return sum
}

// AdamWConstants are the factors of one AdamW step, with the bias corrections
// c1 = 1-β₁ᵗ and c2 = 1-β₂ᵗ: [1-lr·wd, 1-β₁, β₂, 1-β₂, √c2, eps, -lr/c1].
type AdamWConstants [7]float32

// AdamW updates weights w and moments m and v with gradients g, as PyTorch's
// single-tensor AdamW does, in its order of operations.
func AdamW(w, g, m, v []float32, c *AdamWConstants) {
	n := len(w)
	need("operand", min(len(g), len(m), len(v)), n)
	whole := 0
	if haveAsm {
		if whole = n &^ 7; whole > 0 {
			asmAdamW(w, g, m, v, c, whole)
		}
		if whole < n {
			var b [4][8]float32
			for i, x := range [][]float32{w, g, m, v} {
				copy(b[i][:], x[whole:n])
			}
			asmAdamW(b[0][:], b[1][:], b[2][:], b[3][:], c, 8)
			copy(w[whole:n], b[0][:])
			copy(m[whole:n], b[2][:])
			copy(v[whole:n], b[3][:])
		}
		return
	}
	for i := range n {
		x := w[i] * c[0]
		m[i] += c[1] * (g[i] - m[i])
		v[i] = v[i]*c[2] + c[3]*(g[i]*g[i])
		w[i] = x + c[6]*m[i]/(float32(math.Sqrt(float64(v[i])))/c[4]+c[5])
	}
}

func exp32(x float32) float32     { return float32(math.Exp(float64(x))) }
func sigmoid32(x float32) float32 { return 1 / (1 + exp32(-x)) }

// map1 runs f on whole groups of eight, padding the last; g is its portable twin.
func map1(dst, x []float32, f func(dst, x []float32, n int), g func(float32) float32) {
	n := len(dst)
	need("x", len(x), n)
	if !haveAsm {
		for i := range n {
			dst[i] = g(x[i])
		}
		return
	}
	whole := n &^ 7
	if whole > 0 {
		f(dst, x, whole)
	}
	if whole < n {
		var a, b [8]float32
		copy(b[:], x[whole:n])
		f(a[:], b[:], 8)
		copy(dst[whole:n], a[:])
	}
}

// map2 is map1 for two operands and the old dst.
func map2(dst, x, y []float32, f func(dst, x, y []float32, n int), g func(d, x, y float32) float32) {
	n := len(dst)
	need("operand", min(len(x), len(y)), n)
	if !haveAsm {
		for i := range n {
			dst[i] = g(dst[i], x[i], y[i])
		}
		return
	}
	whole := n &^ 7
	if whole > 0 {
		f(dst, x, y, whole)
	}
	if whole < n {
		var d, a, b [8]float32
		copy(d[:], dst[whole:n])
		copy(a[:], x[whole:n])
		copy(b[:], y[whole:n])
		f(d[:], a[:], b[:], 8)
		copy(dst[whole:n], d[:])
	}
}
