package train

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
)

// biased is a network with biases, and a head that shares the embedding's tensor.
func biased(t testing.TB) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(testT)
	embed := b.Weight("embed.weight", testV, testD)
	x := b.Embedding(embed, b.TokenIDs())
	h := b.Add(b.Linear(x, b.Weight("up_proj.weight", 16, testD)), b.Weight("up_proj.bias", 16))
	h = b.Apply(graph.OpTanh, h)
	x = b.Add(x, b.Add(b.Weight("down_proj.bias", testD), b.Linear(h, b.Weight("down_proj.weight", testD, 16))))
	g, err := b.Finish(b.Linear(x, embed))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func stir(e *Engine, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	for _, p := range e.Params() {
		for i := range p.Data {
			p.Data[i] += float32(0.2 * rng.NormFloat64())
		}
	}
}

func lossOf(t *testing.T, e *Engine, b Batch) float64 {
	t.Helper()
	l, err := e.Loss(b)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestWeights: a plain network with the merged weights computes what the adapted
// one does.
func TestWeights(t *testing.T) {
	all := []string{AllLinear}
	for _, c := range []struct {
		name string
		g    *graph.Graph
		o    Options
	}{
		{"full", tiny(t, decoder), Options{Trainable: Trainable{Kind: Full}}},
		{"lora", tiny(t, decoder), Options{Trainable: Trainable{Kind: LoRA, Modules: all, Rank: 3, Alpha: 6}}},
		{"lora on nf4", tiny(t, decoder), Options{Trainable: Trainable{Kind: LoRA, Modules: all, Rank: 3, Alpha: 6}, Base: NF4}},
		{"rslora on the embedding", tiny(t, decoder), Options{Trainable: Trainable{Kind: LoRA, Modules: []string{"embed", "head"}, Rank: 3, Alpha: 6, RSLoRA: true}}},
		{"dora", tiny(t, decoder), Options{Trainable: Trainable{Kind: DoRA, Modules: all, Rank: 3, Alpha: 6}}},
		{"ia3", tiny(t, decoder), Options{Trainable: Trainable{Kind: IA3, Modules: all, FeedForward: []string{"down_proj"}}}},
		{"ia3 with biases", biased(t), Options{Trainable: Trainable{Kind: IA3, Modules: all}}},
		{"dora with biases", biased(t), Options{Trainable: Trainable{Kind: DoRA, Modules: all, Rank: 3, Alpha: 6}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Batch = 2
			src := memory{c.g, 1, 0.6}
			e, err := New(context.Background(), c.g, src, c.o)
			if err != nil {
				t.Fatal(err)
			}
			stir(e, 1)
			b := batchOf(rand.New(rand.NewPCG(1, 1)), 2, e.Tokens(), testV)
			plain, err := New(context.Background(), c.g, src, Options{Batch: 2, Trainable: Trainable{Kind: Full}})
			if err != nil {
				t.Fatal(err)
			}
			start := lossOf(t, plain, b)
			for _, name := range e.Tensors() {
				w, shape, ok := e.Weights(name)
				if !ok || count(shape) != len(w) {
					t.Fatalf("%s: %d values of %v, %v", name, len(w), shape, ok)
				}
				if err := plain.SetWeights(name, w); err != nil {
					t.Fatal(err)
				}
			}
			want, got := lossOf(t, e, b), lossOf(t, plain, b)
			if math.Abs(got-want) > 1e-5*want || math.Abs(want-start) < 1e-3 {
				t.Errorf("loss %.7f, merged %.7f; at first %.7f", want, got, start)
			}
		})
	}
}

// TestSharedHead: adapters on a head and on the embedding whose tensor it shares
// are two.
func TestSharedHead(t *testing.T) {
	g := biased(t)
	for _, c := range []struct {
		modules []string
		params  int
		embed   bool
		head    bool
	}{{[]string{"embed"}, 2, true, false}, {[]string{"lm_head"}, 2, false, true}, {[]string{AllLinear}, 4, false, false}} {
		e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 1, Trainable: Trainable{Kind: LoRA, Modules: c.modules, Rank: 2, Alpha: 2}})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(e.Params()); n != c.params {
			t.Errorf("%v: %d parameters, want %d", c.modules, n, c.params)
		}
		base, _, _ := e.Weights("embed.weight")
		stir(e, 2)
		embed, _, _ := e.Weights("embed.weight")
		head, _, ok := e.Weights("lm_head.weight")
		if slices.Equal(embed, base) == c.embed || slices.Equal(head, base) == c.head || !ok {
			t.Errorf("%v: embedding changed %v, head changed %v", c.modules, !slices.Equal(embed, base), !slices.Equal(head, base))
		}
	}
}

func TestWeightsRefuses(t *testing.T) {
	g := tiny(t, decoder)
	for _, what := range []Trainable{{Kind: SoftPrompt, Virtual: 2}, {Kind: Residual, Modules: []string{"o_proj"}, Rank: 2}} {
		e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 1, Trainable: what})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := e.Weights("o_proj.weight"); ok {
			t.Errorf("%s: a tensor of the checkpoint was given as trained", what.Kind)
		}
		name := e.Params()[0].Name
		w, _, ok := e.Weights(name)
		if !ok {
			t.Errorf("%s: no %s", what.Kind, name)
		}
		if err := e.SetWeights(name, w[1:]); err == nil {
			t.Error("a tensor too short was taken")
		}
		if err := e.SetWeights("none", nil); err == nil {
			t.Error("an unknown tensor was taken")
		}
	}
}

// TestSetWeightsKeptAsStored replaces a frozen matrix that is kept in bfloat16.
func TestSetWeightsKeptAsStored(t *testing.T) {
	g := tiny(t, decoder)
	load := func(wide bool) *Engine {
		e, err := New(context.Background(), g, halved{memory{g, 1, 0.6}, wide}, Options{Batch: 1, Trainable: Trainable{Kind: LoRA, Modules: []string{"wv"}, Rank: 2, Alpha: 2}})
		if err != nil {
			t.Fatal(err)
		}
		w := make([]float32, testD*24)
		normal(w, 3, "other", 0.7)
		if err := e.SetWeights("o_proj.weight", w); err != nil {
			t.Fatal(err)
		}
		return e
	}
	b := batchOf(rand.New(rand.NewPCG(1, 1)), 1, testT, testV)
	if x, y := lossOf(t, load(true), b), lossOf(t, load(false), b); x != y {
		t.Errorf("loss %v, as stored %v", x, y)
	}
}

// TestReset: a second training is the first.
func TestReset(t *testing.T) {
	for _, what := range []Trainable{
		{Kind: Full}, {Kind: LoRA, Modules: someModules, Rank: 4, Alpha: 8}, {Kind: DoRA, Modules: someModules, Rank: 4, Alpha: 8},
		{Kind: SoftPrompt, Virtual: 3}, {Kind: Residual, Modules: []string{"o_proj"}, Rank: 4},
	} {
		for _, method := range []Method{AdamW, RowCol} {
			g, src := openModel(t, demoModel, curveTokens+what.Virtual)
			e, err := New(context.Background(), g, src, Options{Batch: curveBatch, Trainable: what, BF16: what.Kind == LoRA, Seed: 7})
			if err != nil {
				t.Fatal(err)
			}
			run := func() (out []float64) {
				tr, err := NewTrainer(e, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: method}})
				if err != nil {
					t.Fatal(err)
				}
				for i := range 3 {
					r, err := tr.Step(curveData(i))
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, r.Loss)
				}
				return out
			}
			first := run()
			if err := e.Reset(7); err != nil {
				t.Fatal(err)
			}
			if again := run(); !slices.Equal(first, again) {
				t.Errorf("%s, %s: losses %v, after a reset %v", what.Kind, method, first, again)
			}
			if err := e.Reset(8); err != nil {
				t.Fatal(err)
			}
			if again := run(); what.Kind == LoRA && slices.Equal(first, again) {
				t.Errorf("%s: another seed makes no difference", what.Kind)
			}
		}
	}
}
