package train

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
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
	for i, d := range dirs {
		dir := filepath.Dir(d)
		if testing.Short() && i%6 != 0 {
			continue // with the race detector: it looks at goroutines, not at families
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			g, src := openModel(t, dir, tokens)
			rows, vocab, err := logits(g)
			if err != nil {
				t.Skip(err) // images and the like
			}
			rng := rand.New(rand.NewPCG(4, 4))
			b := batchOf(rng, 2, max(rows, g.Tokens), vocab)
			b.Tokens, b.Targets = b.Tokens[:2*g.Tokens], b.Targets[:2*rows]
			b.Inputs = inputsOf(rng, g, 2)
			e, err := New(context.Background(), g, src, Options{Batch: 2, Trainable: Trainable{Kind: Full}})
			if err != nil && strings.Contains(err.Error(), "are tied, but differ") {
				t.Skip(err) // the fixture is there to show it
			}
			if err != nil {
				t.Fatal(err)
			}
			want := probeLoss(t, g, src, b, g.Tokens, b.Inputs)
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

// probeLoss is the mean cross-entropy of package probe's logits.
func probeLoss(t *testing.T, g *graph.Graph, src probe.Source, b Batch, tokens int, inputs map[string][]float32) float64 {
	t.Helper()
	s := g.Shape(g.Outputs[0])
	rows, vocab := s[len(s)-2], s[len(s)-1]
	sum, counted := 0.0, 0
	for i := 0; i*rows < len(b.Targets); i++ {
		ids := make([]int, tokens)
		for j := range ids {
			ids[j] = int(b.Tokens[i*tokens+j])
		}
		mine := map[string][]float32{}
		for name, x := range inputs {
			n := count(g.Shape(g.Inputs()[name]))
			mine[name] = x[i*n : (i+1)*n]
		}
		out, err := probe.Run(context.Background(), g, src, probe.Options{Tokens: ids, Inputs: mine})
		if err != nil {
			t.Fatal(err)
		}
		for j := range rows {
			if k := b.Targets[i*rows+j]; k >= 0 {
				sum += crossEntropy64(out[0][j*vocab:(j+1)*vocab], int(k))
				counted++
			}
		}
	}
	return sum / float64(counted)
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
	// A step may cross the place where a router chooses otherwise: then a shorter
	// one tells.
	var got float64
	for _, length := range []float64{2e-3, 5e-4, 1e-4} {
		h := length / math.Sqrt(norm)
		up := move(h)
		down := move(-2 * h)
		move(h)
		if got = (up - down) / (2 * h); math.Abs(got-norm) <= 1e-2*norm {
			return
		}
	}
	t.Errorf("squared gradient %.6g, difference of the loss %.6g", norm, got)
}
