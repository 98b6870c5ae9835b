package probe_test

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

// scaling is a rule of an operation: if its inputs a, b, … are multiplied by
// 2^in, the result is multiplied by 2^out, to the last bit.
type scaling struct {
	name string
	net  func(b *graph.Builder, eps float64) graph.ID // of inputs "a" and "b" [4,6], and ids
	in   map[string]int                               // exponent per input
	out  int
	eps  int // exponent of epsilon
}

const rows, width = 4, 6

func inA(b *graph.Builder) graph.ID { return b.Input("a", rows, width) }
func inB(b *graph.Builder) graph.ID { return b.Input("b", rows, width) }

func both(n int) map[string]int { return map[string]int{"a": n, "b": n} }

func pow(p float64) func(b *graph.Builder, _ float64) graph.ID {
	return func(b *graph.Builder, _ float64) graph.ID { return b.Pow(b.Apply(graph.OpAbs, inA(b)), p) }
}

func apply(op graph.Op) func(b *graph.Builder, _ float64) graph.ID {
	return func(b *graph.Builder, _ float64) graph.ID { return b.Apply(op, inA(b)) }
}

func pairOf(f func(b *graph.Builder, x, y graph.ID) graph.ID) func(b *graph.Builder, _ float64) graph.ID {
	return func(b *graph.Builder, _ float64) graph.ID { return f(b, inA(b), inB(b)) }
}

func convolve(b *graph.Builder, _ float64) graph.ID {
	x := b.Reshape(inA(b), 1, rows, width)
	w := b.Reshape(inB(b), rows, 2, 3)
	return b.Conv(x, w, graph.Conv{Stride: []int{2}, Before: []int{1}, After: []int{2}, Dilation: []int{1}, Groups: 2})
}

func ids(b *graph.Builder, limit int, shape ...int) graph.ID {
	return b.InputIDs("ids", limit, shape...)
}

var scalings = []scaling{
	{"linear", pairOf((*graph.Builder).Linear), map[string]int{"a": 3, "b": -7}, -4, 0},
	{"long linear", func(b *graph.Builder, _ float64) graph.ID { return b.Linear(b.Input("a", 50, 70), b.Input("b", 9, 70)) }, map[string]int{"a": 3, "b": -7}, -4, 0},
	{"matmul", func(b *graph.Builder, _ float64) graph.ID { return b.MatMul(inA(b), b.Transpose(inB(b), 1, 0)) }, map[string]int{"a": 5, "b": 4}, 9, 0},
	{"long matmul", func(b *graph.Builder, _ float64) graph.ID { return b.MatMul(b.Input("a", 50, 70), b.Input("b", 70, 9)) }, map[string]int{"a": 5, "b": 4}, 9, 0},
	{"convolution", convolve, map[string]int{"a": 5, "b": -3}, 2, 0},
	{"embedding", func(b *graph.Builder, _ float64) graph.ID { return b.Embedding(inA(b), ids(b, rows, 5)) }, both(4), 4, 0},
	{"add", pairOf((*graph.Builder).Add), both(4), 4, 0},
	{"sub", pairOf((*graph.Builder).Sub), both(-4), -4, 0},
	{"mul", pairOf((*graph.Builder).Mul), map[string]int{"a": 4, "b": 3}, 7, 0},
	{"div", pairOf((*graph.Builder).Div), map[string]int{"a": 4, "b": 3}, 1, 0},
	{"maximum", pairOf((*graph.Builder).Maximum), both(6), 6, 0},
	{"minimum", pairOf((*graph.Builder).Minimum), both(6), 6, 0},
	{"where", pairOf(func(b *graph.Builder, x, y graph.ID) graph.ID { return b.Where(ids(b, 2, rows, 1), x, y) }), both(6), 6, 0},
	{"compare", pairOf(func(b *graph.Builder, x, y graph.ID) graph.ID { return b.Compare(graph.OpLess, x, y) }), both(6), 0, 0},
	{"not", func(b *graph.Builder, _ float64) graph.ID { return b.Not(b.Apply(graph.OpReLU, inA(b))) }, both(6), 0, 0},
	{"mul.Scalar", func(b *graph.Builder, _ float64) graph.ID { return b.MulScalar(inA(b), 0.7) }, both(6), 6, 0},
	{"neg", apply(graph.OpNeg), both(6), 6, 0},
	{"abs", apply(graph.OpAbs), both(6), 6, 0},
	{"relu", apply(graph.OpReLU), both(6), 6, 0},
	{"leaky relu", func(b *graph.Builder, _ float64) graph.ID { return b.LeakyReLU(inA(b), 0.3) }, both(6), 6, 0},
	{"clamp at zero", func(b *graph.Builder, _ float64) graph.ID { return b.Clamp(inA(b), 0, math.Inf(1)) }, both(6), 6, 0},
	{"square", pow(2), both(6), 12, 0}, {"cube", pow(3), both(6), 18, 0}, {"root", pow(0.5), both(6), 3, 0},
	{"inverse root", pow(-0.5), both(6), -3, 0}, {"x^1.5", pow(1.5), both(6), 9, 0}, {"x^(2/3)", pow(2.0 / 3), both(6), 4, 0},
	{"x^-1.25", pow(-1.25), both(8), -10, 0}, {"x^-3", pow(-3), both(2), -6, 0},
	{"rms norm", func(b *graph.Builder, eps float64) graph.ID { return b.RMSNorm(inA(b), eps, "") }, both(5), 0, 10},
	{"layer norm", func(b *graph.Builder, eps float64) graph.ID { return b.LayerNorm(inA(b), eps, "") }, both(5), 0, 10},
	{"sum", func(b *graph.Builder, _ float64) graph.ID { return b.Sum(inA(b)) }, both(6), 6, 0},
	{"amax", func(b *graph.Builder, _ float64) graph.ID { return b.Max(inA(b)) }, both(6), 6, 0},
	{"argmax", func(b *graph.Builder, _ float64) graph.ID { return b.ArgMax(inA(b)) }, both(6), 0, 0},
	{"cumsum", func(b *graph.Builder, _ float64) graph.ID { return b.CumSum(inA(b)) }, both(6), 6, 0},
	{"top-k mask", func(b *graph.Builder, _ float64) graph.ID { return b.TopKMask(inA(b), 2) }, both(6), 0, 0},
	{"top-k values", func(b *graph.Builder, _ float64) graph.ID { v, _ := b.TopK(inA(b), 3); return v }, both(6), 6, 0},
	{"top-k indices", func(b *graph.Builder, _ float64) graph.ID { _, i := b.TopK(inA(b), 3); return i }, both(6), 0, 0},
	{"pad", func(b *graph.Builder, _ float64) graph.ID { return b.Pad(inA(b), 1, 2, 1) }, both(6), 6, 0},
	{"flip", func(b *graph.Builder, _ float64) graph.ID { return b.Flip(inA(b), 1) }, both(6), 6, 0},
	{"index", func(b *graph.Builder, _ float64) graph.ID { return b.Index(inA(b), ids(b, width, 3), 1) }, both(6), 6, 0},
	{"gather", func(b *graph.Builder, _ float64) graph.ID { return b.Gather(inA(b), ids(b, width, rows, 3), 1) }, both(6), 6, 0},
	{"scatter", pairOf(func(b *graph.Builder, x, y graph.ID) graph.ID {
		return b.Scatter(graph.OpScatter, x, ids(b, width, rows, width), y, 1)
	}), both(6), 6, 0},
	{"scatter add", pairOf(func(b *graph.Builder, x, y graph.ID) graph.ID {
		return b.Scatter(graph.OpScatterAdd, x, ids(b, width, rows, width), y, 1)
	}), both(6), 6, 0},
	{"reshape, transpose, slice, expand, cat", func(b *graph.Builder, _ float64) graph.ID {
		x := b.Expand(b.Reshape(b.Slice(b.Transpose(inA(b), 1, 0), 0, 1, 5), 1, 16), 3, 16)
		return b.Concat(0, x, x)
	}, both(6), 6, 0},
}

// TestPowersOfTwo: what the rules of package gauge let scale, scales exactly,
// also when the network is run in bf16.
func TestPowersOfTwo(t *testing.T) {
	for _, s := range scalings {
		t.Run(s.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 9))
				times := rapid.IntRange(-1, 2).Draw(rt, "times")
				p := rapid.SampledFrom([]probe.Precision{probe.FP32, probe.BF16}).Draw(rt, "precision")
				const eps = 0x1p-9
				g := finish(rt, s.net, eps)
				_, in, _ := leaves(g, r)
				before := runInputs(rt, g, in, p)
				for name, e := range s.in {
					for i, v := range in[name] {
						in[name][i] = float32(math.Ldexp(float64(v), e*times))
					}
				}
				h := finish(rt, s.net, math.Ldexp(eps, s.eps*times))
				for i, v := range runInputs(rt, h, in, p) {
					if want := math.Ldexp(float64(before[i]), s.out*times); float64(v) != want {
						rt.Fatalf("element %d: %g, want %g", i, v, want)
					}
				}
			})
		})
	}
}

func finish(t interface{ Fatal(...any) }, net func(b *graph.Builder, eps float64) graph.ID, eps float64) *graph.Graph {
	b := graph.NewBuilder(0)
	g, err := b.Finish(net(b, eps))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func runInputs(t interface{ Fatal(...any) }, g *graph.Graph, in map[string][]float32, p probe.Precision) []float32 {
	out, err := probe.Run(context.Background(), g, weights{g: g}, probe.Options{Inputs: in, Precision: p})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}
