package train

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/probe"
)

// TestFamilies trains every fixture of package arch: the loss is that of package
// probe's logits, and the gradient that of the loss.
func TestFamilies(t *testing.T) {
	dirs, err := filepath.Glob("../../arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	const tokens = 9
	for _, d := range dirs {
		dir := filepath.Dir(d)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			g, src := openModel(t, dir, tokens)
			vocab := g.Shape(g.Outputs[0])[1]
			b := batchOf(rand.New(rand.NewPCG(4, 4)), 2, tokens, vocab)
			e, err := New(context.Background(), g, src, Options{Batch: 2, Trainable: Trainable{Kind: Full}})
			if err != nil {
				t.Fatal(err)
			}
			want, counted := 0.0, 0
			for s := range 2 {
				ids := make([]int, tokens)
				for i := range ids {
					ids[i] = int(b.Tokens[s*tokens+i])
				}
				out, err := probe.Run(context.Background(), g, src, probe.Options{Tokens: ids})
				if err != nil {
					t.Fatal(err)
				}
				for i := range tokens {
					if k := b.Targets[s*tokens+i]; k >= 0 {
						want += crossEntropy64(out[0][i*vocab:(i+1)*vocab], int(k))
						counted++
					}
				}
			}
			want /= float64(counted)
			got, err := e.Gradients(b)
			if err != nil {
				t.Fatal(err)
			}
			if math.Abs(got-want) > 1e-5*want {
				t.Errorf("loss %.7f, from the probe's logits %.7f", got, want)
			}
			alongGradient(t, e, b)
		})
	}
}

func crossEntropy64(x []float32, target int) float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Exp(float64(v - x[target]))
	}
	return math.Log(sum)
}

// alongGradient moves all parameters along the gradient, both ways, and compares
// the change of the loss with the gradient's squared norm.
func alongGradient(t *testing.T, e *Engine, b Batch) {
	t.Helper()
	norm := 0.0
	for _, p := range e.Params() {
		for _, g := range p.Grad {
			norm += float64(g) * float64(g)
		}
	}
	h := 2e-3 / math.Sqrt(norm)
	move := func(h float64) float64 {
		for _, p := range e.Params() {
			for i, g := range p.Grad {
				p.Data[i] += float32(h * float64(g))
			}
		}
		l, err := e.Loss(b)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	up := move(h)
	down := move(-2 * h)
	if got := (up - down) / (2 * h); math.Abs(got-norm) > 1e-2*norm {
		t.Errorf("squared gradient %.6g, difference of the loss %.6g", norm, got)
	}
}
