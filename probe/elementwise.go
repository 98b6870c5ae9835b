package probe

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// grain is how many elements are worth a goroutine.
const grain = 1 << 14

// binary applies an element-wise operation with broadcasting.
func (r *runner) binary(n *graph.Node, a, b []float32) ([]float32, error) {
	p, err := pairs(n.Op)
	if err != nil {
		return nil, err
	}
	out := make([]float32, count(n.Shape))
	l := broadcast(n.Shape, r.g.Shape(n.In[0]), r.g.Shape(n.In[1]))
	l.each(func(at, k int, from, step []int) {
		p.span(out[at:at+k], a[from[0]:], step[0], b[from[1]:], step[1])
	})
	return out, nil
}

// where takes a where the condition is not zero, else b.
func (r *runner) where(n *graph.Node, in [][]float32) []float32 {
	out := make([]float32, count(n.Shape))
	l := broadcast(n.Shape, r.g.Shape(n.In[0]), r.g.Shape(n.In[1]), r.g.Shape(n.In[2]))
	l.each(func(at, k int, from, step []int) {
		for i := range k {
			if in[0][from[0]+i*step[0]] != 0 {
				out[at+i] = in[1][from[1]+i*step[1]]
			} else {
				out[at+i] = in[2][from[2]+i*step[2]]
			}
		}
	})
	return out
}

// pairwise is a loop over two operands of an operation.
type pairwise struct {
	dense func(out, a, b []float32)  // runs of equal length; nil: none of its own
	one   func(x, y float32) float32 // one pair
}

// span fills out from runs of elements that lie sa and sb apart.
func (p pairwise) span(out, a []float32, sa int, b []float32, sb int) {
	if sa == 1 && sb == 1 && p.dense != nil {
		p.dense(out, a[:len(out)], b[:len(out)])
		return
	}
	for i := range out {
		out[i] = p.one(a[i*sa], b[i*sb])
	}
}

// pairs returns the loop of an operation with two operands.
func pairs(op graph.Op) (p pairwise, err error) {
	switch op {
	case graph.OpAdd:
		p.one = func(x, y float32) float32 { return x + y }
		p.dense = func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x + b[i]
			}
		}
	case graph.OpSub:
		p.one = func(x, y float32) float32 { return x - y }
	case graph.OpMul:
		p.one = func(x, y float32) float32 { return x * y }
		p.dense = func(out, a, b []float32) {
			for i, x := range a {
				out[i] = x * b[i]
			}
		}
	case graph.OpDiv:
		p.one = func(x, y float32) float32 { return x / y }
	case graph.OpMaximum:
		p.one = func(x, y float32) float32 { return max(x, y) }
	case graph.OpMinimum:
		p.one = func(x, y float32) float32 { return min(x, y) }
	case graph.OpEqual:
		p.one = func(x, y float32) float32 { return truth(x == y) }
	case graph.OpLess:
		p.one = func(x, y float32) float32 { return truth(x < y) }
	case graph.OpAnd:
		p.one = func(x, y float32) float32 { return truth(x != 0 && y != 0) }
	case graph.OpOr:
		p.one = func(x, y float32) float32 { return truth(x != 0 || y != 0) }
	default:
		err = fmt.Errorf("no rule to compute it")
	}
	return p, err
}

func truth(ok bool) float32 {
	if ok {
		return 1
	}
	return 0
}

// unary evaluates functions of one element; nil for any other operation.
func unary(n *graph.Node, x []float32) ([]float32, error) {
	f := function(n)
	if f == nil {
		return nil, nil
	}
	out := make([]float32, len(x))
	tensor.Parallel(len(x), grain, func(lo, hi int) { f(out[lo:hi], x[lo:hi]) })
	return out, nil
}

func function(n *graph.Node) func(dst, x []float32) {
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
	case graph.OpAddScalar:
		return single(func(v float32) float32 { return v + s })
	case graph.OpMulScalar:
		return single(func(v float32) float32 { return v * s })
	case graph.OpNeg:
		return single(func(v float32) float32 { return -v })
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
		return single(func(v float32) float32 { return truth(v == 0) })
	case graph.OpPow:
		return double(power(n.Scalar))
	case graph.OpSoftplus:
		return double(softplus)
	case graph.OpELU:
		return double(func(v float64) float64 {
			if v > 0 {
				return v
			}
			return n.Scalar * math.Expm1(v)
		})
	case graph.OpLog:
		return double(math.Log)
	case graph.OpSin:
		return double(math.Sin)
	case graph.OpCos:
		return double(math.Cos)
	case graph.OpErf:
		return double(math.Erf)
	case graph.OpFloor:
		return double(math.Floor)
	case graph.OpRound:
		return double(math.RoundToEven)
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

// double computes in float64 and rounds once.
func double(f func(float64) float64) func(dst, x []float32) {
	return func(dst, x []float32) {
		for i, v := range x {
			dst[i] = float32(f(float64(v)))
		}
	}
}

func softplus(v float64) float64 {
	if v > 0 {
		return v + math.Log1p(math.Exp(-v))
	}
	return math.Log1p(math.Exp(v))
}

// maxDenominator is how fine a fraction power still takes powers of two
// through exactly.
const maxDenominator = 8

// power returns x ↦ x^p. With p = a/b, a factor of 2^(b·k) in x gives one of
// exactly 2^(a·k): exponents are split off before and put back after.
func power(p float64) func(float64) float64 {
	switch p {
	case 1:
		return func(v float64) float64 { return v }
	case 2:
		return func(v float64) float64 { return v * v }
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
			k := e / b
			return math.Ldexp(math.Pow(math.Ldexp(m, e-k*b), p), k*int(a))
		}
	}
	return func(v float64) float64 { return math.Pow(v, p) }
}
