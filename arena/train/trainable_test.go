package train

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
)

// decoder is a small network with what adapters attach to.
func decoder(b *graph.Builder, x graph.ID) graph.ID {
	h := b.Mul(b.RMSNorm(x, 1e-5, ""), b.Weight("norm1.weight", testD))
	x = b.Add(x, b.Linear(attentionOf(b, h, 0, 0), b.Weight("o_proj.weight", testD, 24)))
	h = b.Mul(b.RMSNorm(x, 1e-5, ""), b.Weight("norm2.weight", testD))
	gate, up := b.Linear(h, b.Weight("gate_proj.weight", 16, testD)), b.Linear(h, b.Weight("up_proj.weight", 16, testD))
	x = b.Add(x, b.Linear(b.Mul(b.Apply(graph.OpSiLU, gate), up), b.Weight("down_proj.weight", testD, 16)))
	return b.Mul(b.RMSNorm(x, 1e-5, ""), b.Weight("norm.weight", testD))
}

var trainableCases = []struct {
	name   string
	t      Trainable
	params int
}{
	{"full", Trainable{Kind: Full}, 12},
	{"tensors", Trainable{Kind: Tensors, Modules: []string{"*_proj.weight"}}, 4},
	{"norms", Trainable{Kind: Norms}, 3},
	{"embeddings", Trainable{Kind: Embeddings}, 1},
	{"head", Trainable{Kind: Head}, 1},
	{"lora", Trainable{Kind: LoRA, Modules: []string{AllLinear}, Rank: 3, Alpha: 6}, 14},
	{"rslora+", Trainable{Kind: LoRA, Modules: []string{"wq", "down_proj"}, Rank: 3, Alpha: 6, RSLoRA: true, Ratio: 16}, 4},
	{"lora on the embedding", Trainable{Kind: LoRA, Modules: []string{"embed"}, Rank: 3, Alpha: 6}, 2},
	{"ia3", Trainable{Kind: IA3, Modules: []string{"wk", "wv", "down_proj"}, FeedForward: []string{"down_proj"}}, 3},
	{"soft prompt", Trainable{Kind: SoftPrompt, Virtual: 2}, 1},
	{"residual adapters", Trainable{Kind: Residual, Modules: []string{"o_proj", "down_proj"}, Rank: 3}, 4},
}

func TestTrainables(t *testing.T) {
	for _, c := range trainableCases {
		t.Run(c.name, func(t *testing.T) {
			e := checkGradients(t, tiny(t, decoder), Options{Trainable: c.t})
			if n := len(e.Params()); n != c.params {
				t.Errorf("%d parameters are trained, want %d", n, c.params)
			}
		})
	}
}

// TestAdaptersStartAsTheBase: an adapter that has learned nothing changes nothing.
func TestAdaptersStartAsTheBase(t *testing.T) {
	g := tiny(t, decoder)
	loss := func(c Trainable) float64 {
		e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 2, Trainable: c})
		if err != nil {
			t.Fatal(err)
		}
		l, err := e.Loss(batchOf(rand.New(rand.NewPCG(1, 1)), 2, e.Tokens(), testV))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	want := loss(Trainable{Kind: Full})
	dora := Trainable{Kind: DoRA, Modules: []string{AllLinear}, Rank: 3, Alpha: 6}
	for _, c := range append(trainableCases, struct {
		name   string
		t      Trainable
		params int
	}{"dora", dora, 0}) {
		if c.t.Kind == SoftPrompt {
			continue
		}
		if got := loss(c.t); got < want-1e-6 || got > want+1e-6 {
			t.Errorf("%s: loss %.8f, base %.8f", c.name, got, want)
		}
	}
}

// TestFrozenWeightsGetNoGradients: a LoRA computes no more than it needs.
func TestFrozenWeightsGetNoGradients(t *testing.T) {
	o := Options{Batch: 2, Trainable: Trainable{Kind: LoRA, Modules: []string{"wv"}, Rank: 2, Alpha: 2}}
	x, err := Compile(tiny(t, decoder), o)
	if err != nil {
		t.Fatal(err)
	}
	c := x.c
	for p := range c.leafG {
		if !p.Adapter {
			t.Errorf("%s has a gradient", p.Name)
		}
	}
	for _, in := range c.p.instrs {
		if n := &c.nodes[in.node]; in.back && len(n.In) > 1 && n.Op == graph.OpLinear {
			name := c.nodes[n.In[1]].Name
			if name == "wq" || name == "wk" {
				t.Errorf("a gradient passes %s", name)
			}
		}
	}
}

func TestTrainableErrors(t *testing.T) {
	g := tiny(t, decoder)
	for _, c := range []struct {
		t    Trainable
		want string
	}{
		{Trainable{Kind: "loral"}, "unknown kind"},
		{Trainable{Kind: LoRA, Modules: []string{"qproj"}, Rank: 2}, "nothing in this network"},
		{Trainable{Kind: LoRA, Modules: []string{"["}, Rank: 2}, "pattern"},
		{Trainable{Kind: LoRA, Modules: []string{AllLinear}}, "rank 0"},
		{Trainable{Kind: IA3}, "no modules"},
		{Trainable{Kind: SoftPrompt, Virtual: testT}, "virtual tokens"},
		{Trainable{Kind: SoftPrompt}, "0 tokens"},
	} {
		_, err := Estimate(g, Options{Batch: 1, Trainable: c.t}, TrainOptions{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.t, err, c.want)
		}
	}
	if _, err := Estimate(g, Options{Trainable: Trainable{Kind: Full}}, TrainOptions{}); err == nil {
		t.Error("an empty batch was taken")
	}
	e, err := New(context.Background(), g, memory{g, 1, 1}, Options{Batch: 1, Trainable: Trainable{Kind: Full}})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []Batch{{}, {Tokens: make([]int32, testT), Targets: []int32{-1, -1, -1, -1, -1}},
		{Tokens: []int32{0, 0, 0, 0, testV}, Targets: make([]int32, testT)}, {Tokens: make([]int32, testT), Targets: []int32{0, 0, 0, 0, testV}}} {
		if _, err := e.Loss(b); err == nil {
			t.Errorf("batch %v was taken", b)
		}
	}
}

// TestWorkers: the bits do not depend on the number of goroutines.
func TestWorkers(t *testing.T) {
	run := func(workers int) []float64 {
		return curve(t, demoModel, 3, Options{Trainable: Trainable{Kind: Full}, Workers: workers}, TrainOptions{LR: 1e-3, Clip: 1})
	}
	one := run(1)
	for _, w := range []int{2, 3} {
		for i, v := range run(w) {
			if v != one[i] {
				t.Errorf("%d workers, step %d: loss %v, with one %v", w, i, v, one[i])
			}
		}
	}
}
