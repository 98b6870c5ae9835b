package train

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// positive is x where functions are defined that are not for negative numbers.
func positive(b *graph.Builder, x graph.ID) graph.ID {
	return b.AddScalar(b.Apply(graph.OpSoftplus, x), 0.1)
}

// ids are integers that depend on the tokens: [T], below 5.
func ids(b *graph.Builder, x graph.ID) graph.ID {
	return b.Reshape(b.ArgMax(b.Slice(x, 1, 0, 5)), testT)
}

func convOf(c, axes int, weight []int, g graph.Conv) func(*graph.Builder, graph.ID) graph.ID {
	return func(b *graph.Builder, x graph.ID) graph.ID {
		in := []int{1, c}
		switch axes {
		case 1:
			in = append(in, testT*testD/c)
		case 2:
			in = append(in, testT, testD/c)
		case 3:
			in = append(in, testT, 2, testD/c/2)
		}
		y := b.Conv(b.Reshape(b.Transpose(x, 1, 0), in...), b.Weight("w", weight...), g)
		return b.Reshape(b.Linear(b.Reshape(y, 1, count(b.Shape(y))), b.Weight("out", testT, count(b.Shape(y)))), testT, 1)
	}
}

// causal mixes neighbouring tokens as Mamba does.
func causal(b *graph.Builder, x graph.ID) graph.ID {
	t := b.Reshape(b.Transpose(x, 1, 0), 1, testD, testT)
	y := b.Conv(t, b.Weight("w", testD, 1, 4), graph.Conv{Stride: []int{1}, Before: []int{3}, After: []int{0}, Dilation: []int{1}, Groups: testD})
	return b.Transpose(b.Reshape(y, testD, testT), 1, 0)
}

// scanOf is the recurrence of package arch's state space models.
func scanOf(b *graph.Builder, decay, in graph.ID) graph.ID {
	states := []graph.ID{b.Slice(in, 0, 0, 1)}
	for i := 1; i < testT; i++ {
		last := b.Mul(b.Slice(decay, 0, i, i+1), states[i-1])
		states = append(states, b.Add(last, b.Slice(in, 0, i, i+1)))
	}
	return b.Concat(0, states...)
}

var furtherCases = []opCase{
	{"embedding by constant ids", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Embedding(b.Weight("pos", 7, testD), b.ConstInts([]int{2, 3, 4, 6, 3}, testT)))
	}},
	{"embedding by computed ids", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Embedding(b.Weight("table", 5, testD), ids(b, x)))
	}},
	{"embedding in a computed table", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Embedding(b.Apply(graph.OpTanh, b.Weight("table", 5, testD)), ids(b, x)))
	}},
	{"embedding in values", func(b *graph.Builder, x graph.ID) graph.ID { return b.Add(x, b.Embedding(x, ids(b, x))) }},
	{"embedding of [1,T]", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Reshape(b.Embedding(b.Weight("e", testV, testD), b.TokenIDs(1, testT)), testT, testD))
	}},
	{"embedding of inputs", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Embedding(b.Weight("types", 3, testD), b.InputIDs("token_type_ids", 3, testT)))
	}},
	{"linear with a computed weight", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(x, b.Apply(graph.OpTanh, b.Weight("w", 7, testD)))
	}},
	{"linear with a weight of the tokens", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(x, b.Linear(x, b.Weight("w", testD, testD)))
	}},
	{"linear of a constant by values", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(b.Weight("u", testT, testD), x)
	}},
	{"causal convolution", causal},
	{"convolution, groups of several", convOf(4, 1, []int{6, 2, 3}, graph.Conv{Stride: []int{1}, Before: []int{1}, After: []int{2}, Dilation: []int{2}, Groups: 2})},
	{"convolution, direct with padding", convOf(4, 1, []int{8, 1, 5}, graph.Conv{Stride: []int{1}, Before: []int{4}, After: []int{4}, Dilation: []int{1}, Groups: 4})},
	{"convolution, stride", convOf(3, 1, []int{5, 3, 3}, graph.Conv{Stride: []int{3}, Before: []int{2}, After: []int{0}, Dilation: []int{1}, Groups: 1})},
	{"convolution of an image", convOf(3, 2, []int{4, 3, 2, 3}, graph.Conv{Stride: []int{2, 1}, Before: []int{1, 0}, After: []int{1, 1}, Dilation: []int{1, 1}, Groups: 1})},
	{"convolution of a volume", convOf(2, 3, []int{3, 2, 2, 1, 3}, graph.Conv{Stride: []int{1, 1, 2}, Before: []int{0, 1, 1}, After: []int{0, 0, 2}, Dilation: []int{2, 1, 1}, Groups: 1})},
	{"convolution by values", func(b *graph.Builder, x graph.ID) graph.ID {
		w := b.Reshape(b.Slice(b.Slice(x, 0, 0, 1), 1, 0, 6), 2, 1, 3)
		y := b.Conv(b.Reshape(b.Weight("in", 2, 6), 1, 2, 6), w, graph.Conv{Stride: []int{1}, Before: []int{0}, After: []int{0}, Dilation: []int{1}, Groups: 2})
		return b.Add(x, b.Slice(b.Reshape(y, 8, 1), 0, 0, testT))
	}},
	{"scan", func(b *graph.Builder, x graph.ID) graph.ID {
		return scanOf(b, b.Apply(graph.OpSigmoid, x), b.Apply(graph.OpTanh, x))
	}},
	{"scan by a weight", func(b *graph.Builder, x graph.ID) graph.ID { return scanOf(b, b.Weight("w", testT, testD), x) }},
	{"scan of a weight", func(b *graph.Builder, x graph.ID) graph.ID { return scanOf(b, x, b.Weight("w", testT, testD)) }},
	{"maximum", func(b *graph.Builder, x graph.ID) graph.ID { return b.Maximum(x, b.Weight("w", testD)) }},
	{"minimum", func(b *graph.Builder, x graph.ID) graph.ID { return b.Minimum(b.Weight("w", testT, 1), x) }},
	{"maximum of itself", func(b *graph.Builder, x graph.ID) graph.ID { return b.Maximum(x, x) }},
	{"where", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Where(b.Compare(graph.OpLess, x, b.Weight("w", testD)), b.Weight("v", testT, 1), b.Mul(x, x))
	}},
	{"where of scalars", func(b *graph.Builder, x graph.ID) graph.ID {
		cond := b.ConstInts([]int{1, 0, 1, 0, 0}, testT, 1)
		return b.Where(cond, x, b.Const([]float32{0.5}, 1))
	}},
	{"truth", func(b *graph.Builder, x graph.ID) graph.ID {
		i := b.Reshape(ids(b, x), testT, 1)
		less, same := b.Compare(graph.OpLess, x, b.Const([]float32{0}, 1)), b.Compare(graph.OpEqual, i, b.ConstInts([]int{2}, 1))
		either := b.Logical(graph.OpOr, b.Logical(graph.OpAnd, less, b.Not(same)), same)
		return b.Add(b.Mul(x, either), b.Mul(b.Weight("w", testD), b.Apply(graph.OpRound, b.MulScalar(b.Apply(graph.OpFloor, x), 0.3))))
	}},
	{"pow 2", func(b *graph.Builder, x graph.ID) graph.ID { return b.Pow(x, 2) }},
	{"pow 3", func(b *graph.Builder, x graph.ID) graph.ID { return b.Pow(x, 3) }},
	{"pow -0.5", func(b *graph.Builder, x graph.ID) graph.ID { return b.Pow(positive(b, x), -0.5) }},
	{"pow 0.5", func(b *graph.Builder, x graph.ID) graph.ID { return b.Pow(positive(b, x), 0.5) }},
	{"pow 1.7", func(b *graph.Builder, x graph.ID) graph.ID { return b.Pow(positive(b, x), 1.7) }},
	{"clamp", func(b *graph.Builder, x graph.ID) graph.ID { return b.Clamp(x, -0.4, math.Inf(1)) }},
	{"clamp both", func(b *graph.Builder, x graph.ID) graph.ID { return b.Clamp(x, -0.4, 0.5) }},
	{"leaky_relu", func(b *graph.Builder, x graph.ID) graph.ID { return b.LeakyReLU(x, 0.1) }},
	{"elu", func(b *graph.Builder, x graph.ID) graph.ID { return b.ELU(x, 0.7) }},
	{"abs", apply(graph.OpAbs)}, {"softplus", apply(graph.OpSoftplus)}, {"exp", apply(graph.OpExp)},
	{"sin", apply(graph.OpSin)}, {"cos", apply(graph.OpCos)}, {"erf", apply(graph.OpErf)},
	{"log", func(b *graph.Builder, x graph.ID) graph.ID { return b.Apply(graph.OpLog, positive(b, x)) }},
	{"layer_norm", func(b *graph.Builder, x graph.ID) graph.ID { return b.LayerNorm(x, 1e-2, "") }},
	{"layer_norm and a gain", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(b.Mul(b.Weight("gain", testD), b.LayerNorm(x, 1e-5, "")), b.Weight("w", testD, testD))
	}},
	{"layer_norm, gain and bias", func(b *graph.Builder, x graph.ID) graph.ID {
		y := b.Add(b.Mul(b.LayerNorm(x, 1e-5, ""), b.Weight("gain", testD)), b.Weight("bias", testD))
		return b.Add(x, b.Linear(y, b.Weight("w", testD, testD)))
	}},
	{"amax", func(b *graph.Builder, x graph.ID) graph.ID { return b.Mul(x, b.Max(x)) }},
	{"amax of equals", func(b *graph.Builder, x graph.ID) graph.ID { return b.Mul(x, b.Max(b.Concat(1, x, x))) }},
	{"cumsum", func(b *graph.Builder, x graph.ID) graph.ID { return b.CumSum(x) }},
	{"topk", func(b *graph.Builder, x graph.ID) graph.ID {
		values, indices := b.TopK(x, 4)
		return b.Mul(values, b.Embedding(b.Weight("w", testD, 4), b.Reshape(b.Slice(indices, 1, 1, 2), testT)))
	}},
	{"one_hot", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(b.OneHot(ids(b, x), 5), b.Weight("w", testD, 5))
	}},
	{"pad", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Slice(b.Pad(b.Pad(x, 0, 2, 1), 1, 0, 3), 0, 1, 1+testT)
	}},
	{"flip", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(b.Flip(x, 0), b.Flip(b.Apply(graph.OpTanh, x), 1))
	}},
	{"index of the first axis", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Index(b.Weight("w", 5, testD), ids(b, x), 0))
	}},
	{"index of the middle axis", func(b *graph.Builder, x graph.ID) graph.ID {
		y := b.Index(b.Reshape(x, testT, 3, 4), b.ConstInts([]int{2, 0, 2, 1}, 2, 2), 1)
		return b.Reshape(y, testT, 16)
	}},
	{"index of the last axis", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Concat(1, x, b.Index(b.Apply(graph.OpTanh, x), b.Reshape(ids(b, x), testT), 1))
	}},
	{"gather", func(b *graph.Builder, x graph.ID) graph.ID {
		_, i := b.TopK(x, 3)
		return b.Concat(1, b.Gather(b.Mul(x, x), i, 1), b.Gather(b.Weight("w", testT, testD), i, 1))
	}},
	{"gather along the first axis", func(b *graph.Builder, x graph.ID) graph.ID {
		i := b.ConstInts([]int{4, 0, 3, 3, 1, 2}, 2, 3)
		return b.Add(x, b.Pad(b.Pad(b.Gather(x, i, 0), 0, 0, 3), 1, 4, 5))
	}},
	{"scatter", func(b *graph.Builder, x graph.ID) graph.ID {
		v, i := b.TopK(x, 3)
		return b.Scatter(graph.OpScatter, b.Weight("w", testT, testD), i, b.Mul(v, v), 1)
	}},
	{"scatter of a weight", func(b *graph.Builder, x graph.ID) graph.ID {
		_, i := b.TopK(x, 3)
		return b.Scatter(graph.OpScatter, b.Mul(x, x), i, b.Weight("w", testT, 3), 1)
	}},
	{"scatter_add", func(b *graph.Builder, x graph.ID) graph.ID {
		i := b.ConstInts([]int{1, 1, 3, 0, 2, 4}, 2, 3)
		return b.Scatter(graph.OpScatterAdd, x, i, b.Slice(b.Slice(b.Apply(graph.OpTanh, x), 0, 0, 2), 1, 5, 8), 0)
	}},
	{"scatter_add to a weight", func(b *graph.Builder, x graph.ID) graph.ID {
		_, i := b.TopK(x, 3)
		return b.Scatter(graph.OpScatterAdd, b.Weight("w", testT, testD), i, b.Weight("v", testT, 3), 1)
	}},
}

// TestEveryOp: no operation of the graph is forgotten here.
func TestEveryOp(t *testing.T) {
	seen := map[graph.Op]bool{graph.OpOpaque: true}
	for _, c := range slices.Concat(opCases, furtherCases) {
		for _, n := range tiny(t, c.f).Nodes {
			seen[n.Op] = true
		}
	}
	for _, op := range graph.Ops() {
		if !seen[op] {
			t.Errorf("%v: no gradient is checked", op)
		}
	}
}

// TestForward compares every operation with package probe.
func TestForward(t *testing.T) {
	for _, c := range slices.Concat(opCases, furtherCases) {
		t.Run(c.name, func(t *testing.T) {
			g := tiny(t, c.f)
			rng := rand.New(rand.NewPCG(5, 5))
			b := batchOf(rng, 2, testT, testV)
			b.Inputs = inputsOf(rng, g, 2)
			e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 2, Trainable: Trainable{Kind: Full}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Loss(b)
			if err != nil {
				t.Fatal(err)
			}
			if want := probeLoss(t, g, memory{g, 1, 0.6}, b, testT, b.Inputs); math.Abs(got-want) > 1e-5*math.Abs(want) {
				t.Errorf("loss %.7f, from the probe's logits %.7f", got, want)
			}
		})
	}
}

// inputsOf makes up a graph's further inputs.
func inputsOf(rng *rand.Rand, g *graph.Graph, batch int) map[string][]float32 {
	out := map[string][]float32{}
	for name, id := range g.Inputs() {
		n := &g.Nodes[id]
		x := make([]float32, batch*count(n.Shape))
		for i := range x {
			if x[i] = float32(rng.NormFloat64()); n.Int {
				x[i] = float32(rng.IntN(n.K))
			}
		}
		out[name] = x
	}
	return out
}

// TestInputs: what is fed by name counts, and what is missing or wrong is said.
func TestInputs(t *testing.T) {
	g := tiny(t, func(b *graph.Builder, x graph.ID) graph.ID {
		x = b.Add(x, b.Embedding(b.Weight("types", 3, testD), b.InputIDs("kinds", 3, testT)))
		return b.Mul(x, b.Linear(b.Input("pixels", testT, 4), b.Weight("w", testD, 4)))
	})
	rng := rand.New(rand.NewPCG(6, 6))
	e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 2, Trainable: Trainable{Kind: Full}})
	if err != nil {
		t.Fatal(err)
	}
	b := batchOf(rng, 2, testT, testV)
	all := inputsOf(rng, g, 2)
	try := func(inputs map[string][]float32) (float64, string) {
		b.Inputs = inputs
		l, err := e.Gradients(b)
		if err != nil {
			return 0, err.Error()
		}
		return l, ""
	}
	first, msg := try(all)
	if msg != "" {
		t.Fatal(msg)
	}
	zeros, _ := try(map[string][]float32{"pixels": all["pixels"], "kinds": make([]float32, 2*testT)})
	absent, _ := try(map[string][]float32{"pixels": all["pixels"]})
	if absent != zeros || first == zeros {
		t.Errorf("loss %g; with zeros %g; without integers %g", first, zeros, absent)
	}
	for want, inputs := range map[string]map[string][]float32{
		"input pixels of [5 4]: the batch has none": {"kinds": all["kinds"]},
		"has none of that name":                     {"pixels": all["pixels"], "mel": nil},
		"input pixels: 3 values":                    {"pixels": make([]float32, 3)},
		"is no integer below 3":                     {"pixels": all["pixels"], "kinds": {0, 0, 0, 3, 0, 0, 0, 0, 0, 0}},
	} {
		if _, msg := try(inputs); !strings.Contains(msg, want) {
			t.Errorf("%q, expected %q", msg, want)
		}
	}
}

// TestRefusedGraphs: what cannot be trained is said when it is compiled.
func TestRefusedGraphs(t *testing.T) {
	for want, f := range map[string]func(b *graph.Builder) graph.ID{
		"operation aten.fft_rfft in layers.0 cannot be trained": func(b *graph.Builder) graph.ID {
			x := b.Embedding(b.Weight("embed", testV, testD), b.TokenIDs())
			return b.Add(x, b.Opaque("aten.fft_rfft", false, []int{testT, testD}, x))
		},
		"does not depend on its inputs": func(b *graph.Builder) graph.ID { return b.Weight("w", testT, testV) },
		"of shape [5], is not [tokens, vocabulary]": func(b *graph.Builder) graph.ID {
			return b.Weight("w", testT)
		},
	} {
		b := graph.NewBuilder(testT)
		b.Scope("layers.0", 0)
		g, err := b.Finish(f(b))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Compile(g, Options{Batch: 1, Trainable: Trainable{Kind: Full}}); fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, expected %q", err, want)
		}
	}
}

// TestIndexOutOfRange: a computed index beyond its table is an error, not a crash.
func TestIndexOutOfRange(t *testing.T) {
	g := tiny(t, func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(x, b.Embedding(b.Weight("table", 2, testD), b.AddScalar(ids(b, x), 2)))
	})
	e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 2, Workers: 2, Trainable: Trainable{Kind: Full}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Gradients(batchOf(rand.New(rand.NewPCG(1, 1)), 2, testT, testV)); err == nil || !strings.Contains(err.Error(), "of an axis of 2") {
		t.Errorf("%v", err)
	}
}
