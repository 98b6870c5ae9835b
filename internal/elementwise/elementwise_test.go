package elementwise

import (
	"math"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
	"pgregory.net/rapid"
)

// TestPowerTakesFactorsThrough: with p = a/b, 2^(b·k) before is 2^(a·k) after, to
// the bit.
func TestPowerTakesFactorsThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.IntRange(1, maxDenominator).Draw(t, "b")
		a := rapid.IntRange(-9, 9).Draw(t, "a")
		k := rapid.IntRange(-12, 12).Draw(t, "k")
		x := rapid.Float64Range(1e-3, 1e3).Draw(t, "x")
		f := Power(float64(a) / float64(b))
		if b&(b-1) != 0 && math.Mod(float64(a), float64(b)) != 0 {
			return // thirds and the like are not what a float64 holds
		}
		was, is := f(x), f(math.Ldexp(x, b*k))
		if is != math.Ldexp(was, a*k) {
			t.Fatalf("(%v · 2^%d)^(%d/%d) = %v, want %v · 2^%d", x, b*k, a, b, is, was, a*k)
		}
		if want := math.Pow(x, float64(a)/float64(b)); math.Abs(was-want) > 1e-13*want {
			t.Fatalf("%v^(%d/%d) = %v, want %v", x, a, b, was, want)
		}
	})
}

// TestUnary compares each function with its definition, in place and not.
func TestUnary(t *testing.T) {
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	gelu := func(x float64) float64 { return x * math.Erfc(-x/math.Sqrt2) / 2 }
	for op, want := range map[graph.Op]func(float64) float64{
		graph.OpSiLU: func(x float64) float64 { return x * sigmoid(x) }, graph.OpSigmoid: sigmoid, graph.OpGELU: gelu,
		graph.OpGELUTanh: func(x float64) float64 {
			return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
		},
		graph.OpTanh: math.Tanh, graph.OpExp: math.Exp, graph.OpErf: math.Erf,
		graph.OpMulScalar: func(x float64) float64 { return x * 0.25 }, graph.OpAddScalar: func(x float64) float64 { return x + 0.25 },
		graph.OpNeg: func(x float64) float64 { return -x }, graph.OpAbs: math.Abs,
		graph.OpReLU:      func(x float64) float64 { return math.Max(x, 0) },
		graph.OpLeakyReLU: func(x float64) float64 { return math.Max(x, 0.25*x) },
		graph.OpELU: func(x float64) float64 {
			return math.Max(x, 0) + 0.25*math.Min(0, math.Exp(math.Min(x, 0))-1)
		},
		graph.OpClamp:    func(x float64) float64 { return math.Min(math.Max(x, -2), 1.5) },
		graph.OpSoftplus: func(x float64) float64 { return math.Log1p(math.Exp(x)) },
		graph.OpPow:      func(x float64) float64 { return math.Sqrt(math.Sqrt(x)) },
		graph.OpLog:      math.Log, graph.OpSin: math.Sin, graph.OpCos: math.Cos,
		graph.OpFloor: math.Floor, graph.OpRound: math.RoundToEven,
		graph.OpNot: func(x float64) float64 {
			if x == 0 {
				return 1
			}
			return 0
		},
	} {
		f := Unary(&graph.Node{Op: op, Scalar: 0.25, Min: -2, Max: 1.5})
		if f == nil {
			t.Errorf("%v: none", op)
			continue
		}
		x := []float32{-7.5, -2.5, -1, -0.3, 0, 0.3, 0.5, 1, 1.5, 2.5, 7.75}
		y := make([]float32, len(x))
		f(y, x)
		for i, v := range x {
			w := want(float64(v))
			if got := float64(y[i]); !(math.Abs(got-w) <= 2e-6*math.Max(1, math.Abs(w))) && !(math.IsNaN(w) && math.IsNaN(got)) && got != w {
				t.Errorf("%v(%v) = %v, want %v", op, v, got, w)
			}
		}
		f(x, x)
		for i := range x {
			if math.Float32bits(x[i]) != math.Float32bits(y[i]) {
				t.Errorf("%v in place: %v, else %v", op, x[i], y[i])
			}
		}
	}
	if Unary(&graph.Node{Op: graph.OpAdd}) != nil {
		t.Error("a sum has one operand")
	}
}

// TestBinary compares each function with its definition.
func TestBinary(t *testing.T) {
	for _, c := range []struct {
		op         graph.Op
		x, y, want float32
	}{
		{graph.OpAdd, 3, 4, 7}, {graph.OpSub, 3, 4, -1}, {graph.OpMul, 3, 4, 12}, {graph.OpDiv, 3, 4, 0.75},
		{graph.OpMaximum, 3, 4, 4}, {graph.OpMinimum, 3, 4, 3}, {graph.OpEqual, 3, 4, 0}, {graph.OpEqual, 3, 3, 1},
		{graph.OpLess, 3, 4, 1}, {graph.OpLess, 4, 3, 0}, {graph.OpLess, 3, 3, 0}, {graph.OpAnd, 2, -1, 1}, {graph.OpAnd, 2, 0, 0},
		{graph.OpOr, 0, -1, 1}, {graph.OpOr, 0, 0, 0},
	} {
		if got := Binary(c.op)(c.x, c.y); got != c.want {
			t.Errorf("%v(%v, %v) = %v, want %v", c.op, c.x, c.y, got, c.want)
		}
	}
	if Binary(graph.OpNeg) != nil {
		t.Error("a negation has two operands")
	}
}
