package train

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
)

// twoMaps is a network of two linear maps, whose weights are stored [in,out] if
// transposed, as in GPT-2.
func twoMaps(transposed bool) func(b *graph.Builder, x graph.ID) graph.ID {
	return func(b *graph.Builder, x graph.ID) graph.ID {
		linear := func(x graph.ID, name string, in, out int) graph.ID {
			if transposed {
				return b.Add(b.LinearT(x, b.Weight(name+".weight", in, out)), b.Weight(name+".bias", out))
			}
			return b.Add(b.Linear(x, b.Weight(name+".weight", out, in)), b.Weight(name+".bias", out))
		}
		return linear(b.Apply(graph.OpGELUTanh, linear(x, "c_fc", testD, 20)), "c_proj", 20, testD)
	}
}

// flipped is memory with matrices of other names than the embedding and the head
// transposed.
type flipped struct{ plain memory }

func (f flipped) floats(t testing.TB, name string) []float32 {
	t.Helper()
	p := &Param{Name: name, Shape: f.plain.g.Shape(f.plain.g.Weights()[name])}
	if err := p.load(f.plain, false); err != nil {
		t.Fatal(err)
	}
	if rows, cols := p.matrix(); strings.HasPrefix(name, "c_") && rows > 1 {
		out := make([]float32, p.size())
		transpose(out, p.Data, rows, cols)
		return out
	}
	return p.Data
}

// trainBoth trains the plain and the transposed network alike, and returns the
// engines and their losses.
func trainBoth(t *testing.T, o Options, method Method) (engines [2]*Engine, losses [2][]float64) {
	t.Helper()
	for i := range engines {
		g := tiny(t, twoMaps(i == 1))
		src := memory{tiny(t, twoMaps(false)), 1, 0.4}
		e, err := New(context.Background(), g, src, o)
		if err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			for _, name := range []string{"c_fc.weight", "c_proj.weight"} {
				if err := e.SetWeights(name, flipped{src}.floats(t, name)); err != nil {
					t.Fatal(err)
				}
			}
			e.start(o.Seed) // magnitudes are those of the weights
		}
		tr, err := NewTrainer(e, TrainOptions{LR: 1e-2, Optimizer: Optimizer{Method: method}})
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(7, 7))
		for range 5 {
			r, err := tr.Step(batchOf(rng, 2, testT, testV))
			if err != nil {
				t.Fatal(err)
			}
			losses[i] = append(losses[i], r.Loss)
		}
		engines[i] = e
	}
	return engines, losses
}

// TestTransposedWeights: adapters on weights stored [in,out] learn what those on
// weights stored [out,in] do, and are merged into the transpose of the same.
func TestTransposedWeights(t *testing.T) {
	modules := []string{"c_fc", "c_proj"}
	for _, c := range []struct {
		name   string
		what   Trainable
		method Method
		base   string
	}{
		{"lora", Trainable{Kind: LoRA, Modules: modules, Rank: 3, Alpha: 6}, "", ""},
		{"lora on all", Trainable{Kind: LoRA, Modules: []string{AllLinear}, Rank: 3, Alpha: 6}, "", ""},
		{"lora, balanced", Trainable{Kind: LoRA, Modules: modules, Rank: 3, Alpha: 6}, RowCol, ""},
		{"qlora", Trainable{Kind: LoRA, Modules: modules, Rank: 3, Alpha: 6}, "", NF4},
		{"dora", Trainable{Kind: DoRA, Modules: modules, Rank: 3, Alpha: 6}, "", ""},
		{"dora, balanced", Trainable{Kind: DoRA, Modules: modules, Rank: 3, Alpha: 6}, RowCol, ""},
		{"ia3", Trainable{Kind: IA3, Modules: modules, FeedForward: []string{"c_proj"}}, "", ""},
		{"residual", Trainable{Kind: Residual, Modules: modules, Rank: 3}, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			engines, losses := trainBoth(t, Options{Batch: 2, Trainable: c.what, Base: c.base}, c.method)
			for i, l := range losses[0] {
				if math.Abs(l-losses[1][i]) > 2e-5*l {
					t.Fatalf("step %d: loss %.7f, transposed %.7f", i, l, losses[1][i])
				}
			}
			for _, name := range []string{"c_fc.weight", "c_proj.weight", "c_fc.bias"} {
				x, shape, ok := engines[0].Weights(name)
				y, _, _ := engines[1].Weights(name)
				if !ok && c.what.Kind == Residual {
					continue
				}
				if len(shape) == 2 {
					z := make([]float32, len(y))
					transpose(z, y, shape[1], shape[0])
					y = z
				}
				for i := range x {
					if math.Abs(float64(x[i]-y[i])) > 1e-4 {
						t.Fatalf("%s, element %d: %g, transposed %g", name, i, x[i], y[i])
					}
				}
			}
		})
	}
}

// TestSkipped: what Modules name and no adapter can sit on is said.
func TestSkipped(t *testing.T) {
	f := func(b *graph.Builder, x graph.ID) graph.ID {
		x = b.Add(x, causal(b, x)) // its weight is "w"
		return b.Add(x, b.Linear(x, b.Weight("q_proj.weight", testD, testD)))
	}
	lora := Trainable{Kind: LoRA, Modules: []string{"q_proj", "w"}, Rank: 2, Alpha: 2}
	c, err := Compile(tiny(t, f), Options{Batch: 1, Trainable: lora})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.e.Skipped(); len(got) != 1 || got[0] != "tensor w of [12 1 4] has no lora adapter: it goes into convolution, not into a linear map" {
		t.Errorf("skipped %q", got)
	}
	lora.Modules = []string{"w"}
	if _, err := Compile(tiny(t, f), Options{Batch: 1, Trainable: lora}); err == nil || !strings.Contains(err.Error(), "it goes into convolution") {
		t.Errorf("%v", err)
	}
	lora.Modules = []string{AllLinear}
	c, err = Compile(tiny(t, f), Options{Batch: 1, Trainable: lora})
	if err != nil || len(c.e.Skipped()) > 0 || !slices.ContainsFunc(c.e.Params(), func(p *Param) bool { return p.Name == "q_proj.lora_A" }) {
		t.Errorf("%v", err)
	}
}
