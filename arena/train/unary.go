package train

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/elementwise"
	"github.com/neuroseal/neuroseal/tensor"
)

func (c *compiler) unary(id graph.ID, x *buf) {
	out, f := c.result(id), unaryFunc(&c.nodes[id].Node)
	if f == nil {
		panic(fmt.Sprintf("train: no rule to compute %v", c.nodes[id].Op))
	}
	c.emit(instr{reads: []*buf{x}, writes: []*buf{out}, inPlace: [][2]*buf{{x, out}}, run: func() {
		d, a := out.f(), x.f()
		c.flat(len(d), func(lo, hi int) { f(d[lo:hi], a[lo:hi]) })
	}})
}

// unaryFunc returns an element-wise function of one operand. Training can do with
// the quicker of two kernels, each within rounding of the other.
func unaryFunc(n *graph.Node) func(dst, x []float32) {
	switch n.Op {
	case graph.OpSiLU:
		return tensor.FastSiLU
	case graph.OpExp:
		return tensor.FastExp
	}
	return elementwise.Unary(n)
}

func (c *compiler) unaryBack(id graph.ID, g *buf) {
	x := &c.nodes[id]
	a, y := c.val[x.In[0]], c.val[id]
	s := float32(x.Scalar)
	switch x.Op {
	case graph.OpNeg:
		s = -1
		fallthrough
	case graph.OpMulScalar:
		c.elements(x.In[0], func(d []float32, lo, hi int) { tensor.VecScale(d, g.f()[lo:hi], s) }, g)
	case graph.OpSiLU:
		c.elements(x.In[0], func(d []float32, lo, hi int) { tensor.SiLUBackward(d, a.f()[lo:hi], g.f()[lo:hi]) }, g, a)
	case graph.OpExp:
		c.elements(x.In[0], func(d []float32, lo, hi int) { tensor.VecMul(d, g.f()[lo:hi], y.f()[lo:hi]) }, g, y)
	default:
		f, of := slopeOf(&x.Node), a
		if fromResult(x.Op) {
			of = y
		}
		c.elements(x.In[0], func(d []float32, lo, hi int) { slope(d, g.f()[lo:hi], of.f()[lo:hi], f) }, g, of)
	}
}

func slope(d, g, x []float32, f func(float64) float64) {
	for i, v := range x {
		d[i] = g[i] * float32(f(float64(v)))
	}
}

// fromResult reports whether a derivative is computed from the result, so that the
// operand need not be kept.
func fromResult(op graph.Op) bool {
	return op == graph.OpTanh || op == graph.OpSigmoid || op == graph.OpReLU
}

// above is a where x > 0, else b.
func above(x, a, b float64) float64 {
	if x > 0 {
		return a
	}
	return b
}

// slopeOf returns a derivative: in terms of the result if fromResult, else of the
// operand. At kinks it is PyTorch's.
func slopeOf(n *graph.Node) func(float64) float64 {
	s := n.Scalar
	switch n.Op {
	case graph.OpTanh:
		return func(y float64) float64 { return 1 - y*y }
	case graph.OpSigmoid:
		return func(y float64) float64 { return y * (1 - y) }
	case graph.OpReLU:
		return func(y float64) float64 { return above(y, 1, 0) }
	case graph.OpGELU:
		return func(x float64) float64 {
			return math.Erfc(-x/math.Sqrt2)/2 + x*math.Exp(-x*x/2)/math.Sqrt(2*math.Pi)
		}
	case graph.OpGELUTanh:
		return func(x float64) float64 {
			c := 2 * math.Sqrt(2/math.Pi)
			s := 1 / (1 + math.Exp(-c*(x+0.044715*x*x*x)))
			return s + x*s*(1-s)*c*(1+3*0.044715*x*x)
		}
	case graph.OpPow:
		f := elementwise.Power(s - 1)
		if s == 0 {
			return func(float64) float64 { return 0 }
		}
		return func(x float64) float64 { return s * f(x) }
	case graph.OpClamp:
		return func(x float64) float64 { return float64(elementwise.Truth(x >= n.Min && x <= n.Max)) }
	case graph.OpAbs:
		return func(x float64) float64 { return above(x, 1, -above(-x, 1, 0)) }
	case graph.OpLeakyReLU:
		return func(x float64) float64 { return above(x, 1, s) }
	case graph.OpELU:
		return func(x float64) float64 { return above(x, 1, s*math.Exp(min(x, 0))) }
	case graph.OpSoftplus:
		return func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	case graph.OpLog:
		return func(x float64) float64 { return 1 / x }
	case graph.OpSin:
		return math.Cos
	case graph.OpCos:
		return func(x float64) float64 { return -math.Sin(x) }
	case graph.OpErf:
		return func(x float64) float64 { return 2 / math.SqrtPi * math.Exp(-x*x) }
	}
	panic(fmt.Sprintf("train: no derivative of %v", n.Op))
}
