package train

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

const (
	testT = 5  // tokens
	testD = 12 // width
	testV = 11 // vocabulary
)

// memory is a source of random weights.
type memory struct {
	g    *graph.Graph
	seed uint64
	gain float64
}

func (m memory) shape(name string) ([]int, bool) {
	id, ok := m.g.Weights()[name]
	if !ok {
		return nil, false
	}
	return m.g.Shape(id), true
}

func (m memory) Weight(name string) (dtype.DType, int64, bool) {
	s, ok := m.shape(name)
	return dtype.F32, 4 * int64(count(s)), ok
}

func (m memory) ReadWeight(name string, p []byte, off int64) error {
	s, _ := m.shape(name)
	x := make([]float32, count(s))
	normal(x, m.seed, name, m.gain)
	if strings.Contains(name, "positive") {
		for i, v := range x {
			x[i] = 1 + v*v
		}
	}
	buf := make([]byte, 4*len(x))
	for i, v := range x {
		binary.LittleEndian.PutUint32(buf[4*i:], math.Float32bits(v))
	}
	copy(p, buf[off:])
	return nil
}

// tiny builds a network around what f does to the embedded tokens.
func tiny(t testing.TB, f func(b *graph.Builder, x graph.ID) graph.ID) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(testT)
	b.Scope("model", 0)
	x := b.Embedding(b.Weight("embed.weight", testV, testD), b.TokenIDs())
	y := f(b, x)
	if s := b.Shape(y); len(s) != 2 {
		y = b.Reshape(y, testT, count(s)/testT)
	}
	s := b.Shape(y)
	g, err := b.Finish(b.Linear(y, b.Weight("head.weight", testV, s[1])))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func batchOf(rng *rand.Rand, batch, tokens, vocab int) Batch {
	var b Batch
	for i := range batch * tokens {
		b.Tokens = append(b.Tokens, int32(rng.IntN(vocab)))
		b.Targets = append(b.Targets, int32(rng.IntN(vocab)))
		if i%7 == 3 {
			b.Targets[i] = -1
		}
	}
	return b
}

// checkGradients compares every parameter's gradient with differences of the loss
// along random directions and along single elements.
func checkGradients(t *testing.T, g *graph.Graph, o Options) *Engine {
	t.Helper()
	o.Batch = 2
	e, err := New(context.Background(), g, memory{g, 1, 0.6}, o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	for _, p := range e.Params() {
		if p.Adapter { // off the initial zeros and ones
			for i := range p.Data {
				p.Data[i] += float32(0.3 * rng.NormFloat64())
			}
		}
	}
	b := batchOf(rng, 2, e.Tokens(), testV)
	if _, err := e.Gradients(b); err != nil {
		t.Fatal(err)
	}
	for _, p := range e.Params() {
		grad := slices.Clone(p.Grad)
		for try := range 6 {
			dir := make([]float32, len(p.Data))
			if try < 3 {
				dir[rng.IntN(len(dir))] = 1
			} else {
				for i := range dir {
					dir[i] = float32(rng.NormFloat64())
				}
			}
			want, norm := 0.0, 0.0
			for i, d := range dir {
				want += float64(grad[i]) * float64(d)
				norm += float64(d) * float64(d)
			}
			h := 3e-3 / math.Sqrt(norm)
			got := (lossAt(t, e, p, b, dir, h) - lossAt(t, e, p, b, dir, -h)) / (2 * h)
			if math.Abs(got-want) > 4e-3*(math.Sqrt(norm)*0.05+math.Abs(want)) {
				t.Errorf("%s, direction %d: gradient %.6g, difference %.6g", p.Name, try, want, got)
			}
		}
	}
	return e
}

func lossAt(t *testing.T, e *Engine, p *Param, b Batch, dir []float32, h float64) float64 {
	t.Helper()
	old := slices.Clone(p.Data)
	for i, d := range dir {
		p.Data[i] += float32(h * float64(d))
	}
	l, err := e.Loss(b)
	copy(p.Data, old)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func apply(op graph.Op) func(*graph.Builder, graph.ID) graph.ID {
	return func(b *graph.Builder, x graph.ID) graph.ID { return b.Apply(op, x) }
}

func heads3(b *graph.Builder, x graph.ID, name string) graph.ID {
	return b.Transpose(b.Reshape(b.Linear(x, b.Weight(name, testD, testD)), testT, 3, 4), 1, 0, 2)
}

func back2(b *graph.Builder, y graph.ID) graph.ID {
	s := b.Shape(y)
	return b.Reshape(b.Transpose(y, 1, 0, 2), testT, s[0]*s[2])
}

type opCase struct {
	name string
	f    func(b *graph.Builder, x graph.ID) graph.ID
}

// opCases and furtherCases have every operation of the graph, with its ways of
// broadcasting.
var opCases = []opCase{
	{"embedding, linear", func(b *graph.Builder, x graph.ID) graph.ID { return x }},
	{"linear of 3 axes", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(b.Reshape(x, testT, 3, 4), b.Weight("w", 6, 4))
	}},
	{"matmul", func(b *graph.Builder, x graph.ID) graph.ID {
		return back2(b, b.MatMul(heads3(b, x, "q"), b.Transpose(heads3(b, x, "k"), 0, 2, 1)))
	}},
	{"matmul with a weight", func(b *graph.Builder, x graph.ID) graph.ID { return b.MatMul(x, b.Weight("w", testD, 7)) }},
	{"matmul of a weight", func(b *graph.Builder, x graph.ID) graph.ID { return b.MatMul(b.Weight("w", testT, testT), x) }},
	{"matmul of weights", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.MatMul(x, b.MatMul(b.Weight("u", testD, 3), b.Weight("v", 3, testD)))
	}},
	{"add", func(b *graph.Builder, x graph.ID) graph.ID { return b.Add(x, b.Apply(graph.OpTanh, x)) }},
	{"add to itself", func(b *graph.Builder, x graph.ID) graph.ID { return b.Add(x, x) }},
	{"residuals", func(b *graph.Builder, x graph.ID) graph.ID {
		for i := range 3 {
			x = b.Add(x, b.Apply(graph.OpTanh, b.Linear(b.RMSNorm(x, 1e-5, ""), b.Weight(fmt.Sprint("w", i), testD, testD))))
		}
		return x
	}},
	{"add a bias", func(b *graph.Builder, x graph.ID) graph.ID { return b.Add(x, b.Weight("bias", testD)) }},
	{"add by rows", func(b *graph.Builder, x graph.ID) graph.ID { return b.Add(b.Weight("w", testT, 1), x) }},
	{"sub", func(b *graph.Builder, x graph.ID) graph.ID { return b.Sub(b.Weight("w", testD), x) }},
	{"sub by rows", func(b *graph.Builder, x graph.ID) graph.ID { return b.Sub(x, b.Weight("w", testT, 1)) }},
	{"mul", func(b *graph.Builder, x graph.ID) graph.ID { return b.Mul(x, b.Apply(graph.OpTanh, x)) }},
	{"mul by itself", func(b *graph.Builder, x graph.ID) graph.ID { return b.Mul(x, x) }},
	{"mul by a gain", func(b *graph.Builder, x graph.ID) graph.ID { return b.Mul(x, b.Weight("w", testD)) }},
	{"mul by a column", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Mul(x, b.Slice(b.Linear(x, b.Weight("w", 3, testD)), 1, 1, 2))
	}},
	{"mul by one axis of three", func(b *graph.Builder, x graph.ID) graph.ID {
		return back2(b, b.Mul(heads3(b, x, "q"), b.Weight("w", 3, 1, 4)))
	}},
	{"div", func(b *graph.Builder, x graph.ID) graph.ID { return b.Div(x, b.Weight("positive", testD)) }},
	{"div by rows", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Div(x, b.AddScalar(b.Sum(b.Apply(graph.OpSigmoid, x)), 1))
	}},
	{"div of a weight", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Div(b.Weight("w", testD), b.AddScalar(b.Apply(graph.OpSigmoid, x), 1))
	}},
	{"scalars", func(b *graph.Builder, x graph.ID) graph.ID { return b.MulScalar(b.AddScalar(x, 0.3), -1.7) }},
	{"gain of one plus a weight", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Mul(b.RMSNorm(x, 1e-5, ""), b.AddScalar(b.Weight("w", testD), 1))
	}},
	{"neg", apply(graph.OpNeg)}, {"relu", apply(graph.OpReLU)}, {"silu", apply(graph.OpSiLU)}, {"gelu", apply(graph.OpGELU)},
	{"gelu.tanh", apply(graph.OpGELUTanh)}, {"tanh", apply(graph.OpTanh)}, {"sigmoid", apply(graph.OpSigmoid)}, {"softmax", apply(graph.OpSoftmax)},
	{"rms_norm", func(b *graph.Builder, x graph.ID) graph.ID { return b.RMSNorm(x, 1e-2, "") }},
	{"sum", func(b *graph.Builder, x graph.ID) graph.ID { return b.Mul(x, b.Sum(x)) }},
	{"topk_mask", func(b *graph.Builder, x graph.ID) graph.ID {
		p := b.Apply(graph.OpSoftmax, b.Linear(x, b.Weight("router", 4, testD)))
		p = b.Mul(p, b.TopKMask(p, 2))
		return b.Div(p, b.Sum(p))
	}},
	{"reshape", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Add(b.Reshape(b.Reshape(x, testT, 3, 4), testT, testD), x)
	}},
	{"transpose", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Reshape(b.Transpose(b.Apply(graph.OpTanh, b.Transpose(b.Reshape(x, testT, 3, 4), 2, 0, 1)), 1, 2, 0), testT, testD)
	}},
	{"slice, cat", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Concat(1, b.Apply(graph.OpNeg, b.Slice(x, 1, 7, testD)), b.Slice(x, 1, 2, 7), b.Slice(x, 1, 0, 4))
	}},
	{"cat of a weight", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Concat(0, b.Weight("w", 2, testD), b.Slice(x, 0, 2, testT))
	}},
	{"expand", func(b *graph.Builder, x graph.ID) graph.ID {
		y := b.Expand(b.Reshape(heads3(b, x, "q"), 3, 1, testT, 4), 3, 2, testT, 4)
		return back2(b, b.Mul(b.Reshape(y, 6, testT, 4), b.Weight("w", 6, testT, 4)))
	}},
	{"tied head", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Linear(b.Apply(graph.OpTanh, x), b.Weight("embed.weight", testV, testD))
	}},
	{"swiglu", func(b *graph.Builder, x graph.ID) graph.ID {
		return b.Mul(b.Apply(graph.OpSiLU, b.Linear(x, b.Weight("gate", 19, testD))), b.Linear(x, b.Weight("up", 19, testD)))
	}},
	{"rotary", func(b *graph.Builder, x graph.ID) graph.ID { return back2(b, rotaryOf(b, heads3(b, x, "q"))) }},
	{"attention", func(b *graph.Builder, x graph.ID) graph.ID { return attentionOf(b, x, 0, 0) }},
	{"attention, window", func(b *graph.Builder, x graph.ID) graph.ID { return attentionOf(b, x, 2, 0) }},
	{"attention, cap", func(b *graph.Builder, x graph.ID) graph.ID { return attentionOf(b, x, 0, 3) }},
}

func rotaryOf(b *graph.Builder, x graph.ID) graph.ID {
	cos, sin := make([]float32, testT*4), make([]float32, testT*4)
	for i := range cos {
		s, c := math.Sincos(float64(i) * 0.37)
		cos[i], sin[i] = float32(c), float32(s)
	}
	half := b.Concat(2, b.Apply(graph.OpNeg, b.Slice(x, 2, 2, 4)), b.Slice(x, 2, 0, 2))
	return b.Add(b.Mul(x, b.Const(cos, testT, 4)), b.Mul(half, b.Const(sin, testT, 4)))
}

// attentionOf is attention of 6 heads of 4 in 3 groups, as package arch writes it.
func attentionOf(b *graph.Builder, x graph.ID, window int, limit float64) graph.ID {
	q := b.Transpose(b.Reshape(b.Linear(x, b.Weight("wq", 24, testD)), testT, 6, 4), 1, 0, 2)
	q, k, v := rotaryOf(b, q), rotaryOf(b, heads3(b, x, "wk")), heads3(b, x, "wv")
	rep := func(x graph.ID) graph.ID {
		return b.Reshape(b.Expand(b.Reshape(x, 3, 1, testT, 4), 3, 2, testT, 4), 6, testT, 4)
	}
	mask := make([]float32, testT*testT)
	for i := range testT {
		for j := range testT {
			if j > i || window > 0 && j <= i-window {
				mask[i*testT+j] = -math.MaxFloat32
			}
		}
	}
	s := b.MulScalar(b.MatMul(q, b.Transpose(rep(k), 0, 2, 1)), 0.5)
	if limit > 0 {
		s = b.MulScalar(b.Apply(graph.OpTanh, b.MulScalar(s, 1/limit)), limit)
	}
	p := b.Apply(graph.OpSoftmax, b.Add(s, b.Const(mask, testT, testT)))
	return back2(b, b.MatMul(p, rep(v)))
}

func TestOpGradients(t *testing.T) {
	for _, c := range slices.Concat(opCases, furtherCases) {
		for _, unfused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/unfused=%v", c.name, unfused), func(t *testing.T) {
				checkGradients(t, tiny(t, c.f), Options{Trainable: Trainable{Kind: Full}, Unfused: unfused, Workers: 2})
			})
		}
	}
}

// TestFusion: the patterns that package arch writes are found.
func TestFusion(t *testing.T) {
	for _, c := range slices.Concat(opCases, furtherCases) {
		want := map[string][]graph.Op{
			"layer_norm, gain and bias": {opLayerNorm}, "scan": {opScan}, "scan by a weight": {opScan}, "scan of a weight": {opScan}, "swiglu": {opSwiGLU}, "rotary": {opRotary}, "attention": {opAttention, opRotary}, "attention, window": {opAttention, opRotary},
		}[c.name]
		n, err := newNet(tiny(t, c.f), Trainable{Kind: Full})
		if err != nil {
			t.Fatal(err)
		}
		n.finish(true)
		for _, op := range want {
			if !slices.ContainsFunc(n.nodes, func(x node) bool { return x.Op == op }) {
				t.Errorf("%s: no operation %d", c.name, op)
			}
		}
	}
}
