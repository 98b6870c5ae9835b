// Package elementwise computes the operations of a graph that look at one element
// of each operand at a time, as the probe and the trainer both need them.
package elementwise

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// Unary returns the function of a node with one operand, nil if its operation is
// none. dst and x have the same length and may be the same.
func Unary(n *graph.Node) func(dst, x []float32) {
	s := float32(n.Scalar)
	switch n.Op {
	case graph.OpSiLU:
		return tensor.SiLU
	case graph.OpGELU:
		return tensor.GELU
	case graph.OpGELUTanh:
		return tensor.GELUTanh
	case graph.OpTanh:
		return tensor.Tanh
	case graph.OpSigmoid:
		return tensor.Sigmoid
	case graph.OpExp:
		return tensor.Exp
	case graph.OpMulScalar:
		return func(dst, x []float32) { tensor.VecScale(dst, x, s) }
	case graph.OpNeg:
		return func(dst, x []float32) { tensor.VecScale(dst, x, -1) }
	case graph.OpAddScalar:
		return single(func(v float32) float32 { return v + s })
	case graph.OpAbs:
		return single(func(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) })
	case graph.OpReLU:
		return single(func(v float32) float32 { return max(v, 0) })
	case graph.OpLeakyReLU:
		return single(func(v float32) float32 {
			if v > 0 {
				return v
			}
			return v * s
		})
	case graph.OpClamp:
		lo, hi := float32(n.Min), float32(n.Max)
		return single(func(v float32) float32 { return max(lo, min(hi, v)) })
	case graph.OpNot:
		return single(func(v float32) float32 { return Truth(v == 0) })
	}
	if f := rounded(n); f != nil {
		return double(f)
	}
	return nil
}

// rounded returns a function that is computed in float64 and rounded once, nil if
// the operation is none.
func rounded(n *graph.Node) func(float64) float64 {
	switch n.Op {
	case graph.OpPow:
		return Power(n.Scalar)
	case graph.OpSoftplus:
		return func(v float64) float64 { return max(v, 0) + math.Log1p(math.Exp(-math.Abs(v))) }
	case graph.OpELU:
		return func(v float64) float64 {
			if v > 0 {
				return v
			}
			return n.Scalar * math.Expm1(v)
		}
	case graph.OpLog:
		return math.Log
	case graph.OpSin:
		return math.Sin
	case graph.OpCos:
		return math.Cos
	case graph.OpErf:
		return math.Erf
	case graph.OpFloor:
		return math.Floor
	case graph.OpRound:
		return math.RoundToEven
	}
	return nil
}

func single(f func(float32) float32) func(dst, x []float32) {
	return func(dst, x []float32) {
		for i, v := range x {
			dst[i] = f(v)
		}
	}
}

func double(f func(float64) float64) func(dst, x []float32) {
	return func(dst, x []float32) {
		for i, v := range x {
			dst[i] = float32(f(float64(v)))
		}
	}
}

// Binary returns the function of an operation with two operands, nil if it is
// none. Comparisons and logic give 1 or 0; every number but 0 is true.
func Binary(op graph.Op) func(x, y float32) float32 {
	switch op {
	case graph.OpAdd:
		return func(x, y float32) float32 { return x + y }
	case graph.OpSub:
		return func(x, y float32) float32 { return x - y }
	case graph.OpMul:
		return func(x, y float32) float32 { return x * y }
	case graph.OpDiv:
		return func(x, y float32) float32 { return x / y }
	case graph.OpMaximum:
		return func(x, y float32) float32 { return max(x, y) }
	case graph.OpMinimum:
		return func(x, y float32) float32 { return min(x, y) }
	case graph.OpEqual:
		return func(x, y float32) float32 { return Truth(x == y) }
	case graph.OpLess:
		return func(x, y float32) float32 { return Truth(x < y) }
	case graph.OpAnd:
		return func(x, y float32) float32 { return Truth(x != 0 && y != 0) }
	case graph.OpOr:
		return func(x, y float32) float32 { return Truth(x != 0 || y != 0) }
	}
	return nil
}

// Truth is 1 for what holds, else 0.
func Truth(ok bool) float32 {
	if ok {
		return 1
	}
	return 0
}

// maxDenominator is how fine a fraction Power still takes powers of two through
// exactly.
const maxDenominator = 8

// Power returns x ↦ x^p. With p = a/b, a factor of 2^(b·k) in x gives one of
// exactly 2^(a·k): exponents are split off before and put back after.
func Power(p float64) func(float64) float64 {
	switch p {
	case 0:
		return func(float64) float64 { return 1 }
	case 1:
		return func(v float64) float64 { return v }
	case 2:
		return func(v float64) float64 { return v * v }
	case 3:
		return func(v float64) float64 { return v * v * v }
	case 0.5:
		return math.Sqrt
	case -1:
		return func(v float64) float64 { return 1 / v }
	case -0.5:
		return func(v float64) float64 { return 1 / math.Sqrt(v) }
	}
	for b := 1; b <= maxDenominator; b++ {
		a := p * float64(b)
		if a != math.Trunc(a) || math.Abs(a) > 64 {
			continue
		}
		return func(v float64) float64 {
			m, e := math.Frexp(v)
			if m == 0 || math.IsNaN(m) || math.IsInf(m, 0) {
				return math.Pow(v, p)
			}
			k := (e - (e%b+b)%b) / b // rounded down, that the remainder be the same for all k
			return math.Ldexp(math.Pow(math.Ldexp(m, e-k*b), p), k*int(a))
		}
	}
	return func(v float64) float64 { return math.Pow(v, p) }
}
