package informed

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/demo/text"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// single is a model of one tensor.
func single(shape []int, data []float32) *Model {
	t := &Tensor{Name: "w", Shape: shape, Stored: dtype.F32, Data: data}
	return &Model{tensors: []*Tensor{t}, byName: map[string]*Tensor{"w": t}}
}

// TestMergeLikeMergekit compares with what mergekit computed (testdata/merge.py).
func TestMergeLikeMergekit(t *testing.T) {
	raw, err := os.ReadFile("testdata/merge.json")
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Base   []float32
		Models [][]float32
		Shape  []int
		Seed   uint64
		Cases  []struct {
			Method             string
			Weights, Densities []float64
			Lambda             float64
			Normalize          *bool
			Merged             []float32
		}
	}
	if err := json.Unmarshal(raw, &f); err != nil || len(f.Cases) < 8 {
		t.Fatal(len(f.Cases), err)
	}
	var models []*Model
	for _, m := range f.Models {
		models = append(models, single(f.Shape, m))
	}
	for i, c := range f.Cases {
		out, err := Merge(context.Background(), c.Method, models[0], single(f.Shape, f.Base), models[1:],
			MergeOptions{Weights: c.Weights, Densities: c.Densities, Lambda: c.Lambda, Seed: f.Seed, Normalize: c.Normalize})
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range out.tensors[0].Data {
			if d := math.Abs(float64(v - c.Merged[k])); !(d <= 1e-6) {
				t.Fatalf("case %d, %s: element %d is %g, mergekit's %g", i, c.Method, k, v, c.Merged[k])
			}
		}
	}
}

// window is a batch of another domain than the demo model was trained on.
func window(seed uint64, batch, tokens int) train.Batch {
	var b train.Batch
	for i := range batch {
		x := text.Generate("code", seed*100+uint64(i), tokens+1)
		for k := range tokens {
			b.Tokens = append(b.Tokens, int32(x[k]))
			b.Targets = append(b.Targets, int32(x[k+1]))
		}
	}
	return b
}

const (
	tuneBatch  = 2
	tuneTokens = 64
	tuneSteps  = 12
)

func engine(t *testing.T, m *Model, what train.Kind) *train.Engine {
	t.Helper()
	net, err := m.Build(arch.Options{Tokens: tuneTokens})
	if err != nil {
		t.Fatal(err)
	}
	e, err := train.New(context.Background(), net.Graph, m, train.Options{Batch: tuneBatch, Workers: 2, Trainable: train.Trainable{Kind: what}})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func lossOf(t *testing.T, m *Model) float64 {
	t.Helper()
	l, err := engine(t, m, train.Norms).Loss(window(99, tuneBatch, tuneTokens))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// fineTuned trains a copy.
func fineTuned(t *testing.T, m *Model) *Model {
	t.Helper()
	e := engine(t, m, train.Full)
	tr, err := train.NewTrainer(e, train.TrainOptions{LR: 1e-3})
	if err != nil {
		t.Fatal(err)
	}
	for i := range tuneSteps {
		if _, err := tr.Step(window(uint64(i), tuneBatch, tuneTokens)); err != nil {
			t.Fatal(err)
		}
	}
	out := m.Clone()
	for _, p := range e.Params() {
		x, ok := out.Tensor(p.Name)
		if !ok {
			t.Fatal(p.Name)
		}
		copy(x.Data, p.Data)
	}
	return out
}

// TestTransplant: what a public fine-tune learned helps an attacker who aligns
// the sealed model first as much as if it were not sealed, and harms one who
// does not.
func TestTransplant(t *testing.T) {
	ctx := context.Background()
	base := load(t, demoModel)
	donor := fineTuned(t, base)
	start, tuned := lossOf(t, base), lossOf(t, donor)
	if !(tuned < start-0.3) {
		t.Fatalf("the fine-tune learned nothing: %g, %g", start, tuned)
	}
	for _, p := range profiles {
		victim := locked(t, demoModel, neuroseal.LockOptions{Profile: p})
		naive, err := Transplant(victim, base, donor)
		if err != nil {
			t.Fatal(err)
		}
		aligned, _, err := Prepare(ctx, "align", victim, base)
		if err != nil {
			t.Fatal(err)
		}
		good, err := Transplant(aligned, base, donor)
		if err != nil {
			t.Fatal(err)
		}
		n, g := lossOf(t, naive), lossOf(t, good)
		t.Logf("%s: start %.3f, fine-tuned %.3f, transplanted %.3f, aligned first %.3f", p, start, tuned, n, g)
		if n-tuned < 0.1 || !(n == n) {
			t.Errorf("%s: transplanted without alignment: %g, the fine-tune %g", p, n, tuned)
		}
		if math.Abs(g-tuned) > 1e-5 {
			t.Errorf("%s: transplanted after alignment: %g, the fine-tune %g", p, g, tuned)
		}
		merged, err := Merge(ctx, TIES, aligned, base, []*Model{donor}, MergeOptions{Densities: []float64{1}})
		if err != nil {
			t.Fatal(err)
		}
		if m := lossOf(t, merged); math.Abs(m-tuned) > 1e-5 { // the victim's own task vector is zero
			t.Errorf("%s: merged after alignment: %g, the fine-tune %g", p, m, tuned)
		}
	}
}

// TestFineTuneIsKept: a sealed fine-tune, aligned with the public base, is the
// fine-tune to the bit.
func TestFineTuneIsKept(t *testing.T) {
	ctx := context.Background()
	base := load(t, demoModel)
	tuned := fineTuned(t, base)
	dir := filepath.Join(t.TempDir(), "tuned")
	if err := tuned.Save(ctx, dir); err != nil {
		t.Fatal(err)
	}
	for _, p := range profiles {
		out, a, err := Align(ctx, locked(t, dir, neuroseal.LockOptions{Profile: p}), base)
		if err != nil || !a.PowersOfTwo {
			t.Fatal(err, a)
		}
		sameTensors(t, tuned, out)
	}
}
