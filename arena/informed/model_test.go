package informed

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

const (
	fixtures  = "../../arch/testdata"
	demoModel = "../../internal/demo/model"
)

// families are tiny random checkpoints that transformers wrote, one per family
// and some variants: tied heads, biases, one key/value head, fused projections.
var families = []string{"llama", "llama-tied", "llama-mqa", "mistral", "qwen2", "qwen3", "qwen3-bias", "gemma", "gemma2", "gemma3",
	"phi3", "phi3-partial", "mixtral", "qwen3_moe", "qwen3_moe-dense"}

func load(t testing.TB, dir string) *Model {
	t.Helper()
	m, err := Load(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// locked seals a checkpoint.
func locked(t testing.TB, dir string, o neuroseal.LockOptions) *Model {
	t.Helper()
	o.Source, o.Output, o.AllowSealed = dir, filepath.Join(t.TempDir(), "sealed"), true
	if o.Key == (keys.SealKey{}) {
		o.Key = keys.SealKey{7, 8, 9}
	}
	if _, err := neuroseal.Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	return load(t, o.Output)
}

// logits runs a model on some tokens.
func logits(t testing.TB, m *Model) []float32 {
	t.Helper()
	const n = 9
	net, err := m.Build(arch.Options{Tokens: n, AllEx: true})
	if err != nil {
		t.Fatal(err)
	}
	out, err := probe.Run(context.Background(), net.Graph, m, probe.Options{Tokens: probe.Tokens(n, net.Vocab, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}

// difference is the largest difference of two models' logits over the largest
// logit of the first.
func difference(t testing.TB, a, b *Model) float64 {
	t.Helper()
	x, y := logits(t, a), logits(t, b)
	diff, top := 0.0, 0.0
	for i, v := range x {
		if d := math.Abs(float64(v) - float64(y[i])); !(d <= diff) {
			diff = d
		}
		top = math.Max(top, math.Abs(float64(v)))
	}
	return diff / top
}

func sameTensors(t testing.TB, a, b *Model) {
	t.Helper()
	for _, x := range a.Tensors() {
		y, ok := b.Tensor(x.Name)
		if !ok || !slices.Equal(x.Data, y.Data) || !slices.Equal(x.Shape, y.Shape) {
			t.Errorf("tensor %s differs", x.Name)
		}
	}
}

// TestSaveKeepsTypes: values that the stored types hold come back in them and
// as they were; others widen all, and the config says so.
func TestSaveKeepsTypes(t *testing.T) {
	ctx := context.Background()
	m := load(t, demoModel)
	dir := filepath.Join(t.TempDir(), "out")
	if err := m.Save(ctx, dir); err != nil {
		t.Fatal(err)
	}
	back := load(t, dir)
	sameTensors(t, m, back)
	if back.Tensors()[0].Stored != dtype.BF16 || string(back.Config()) != string(m.Config()) {
		t.Errorf("stored as %v", back.Tensors()[0].Stored)
	}
	if _, err := os.Stat(filepath.Join(dir, "generation_config.json")); err != nil {
		t.Error(err)
	}
	c := m.Clone()
	c.Tensors()[0].Data[0] = 1.0 / 3
	if m.Tensors()[0].Data[0] == 1.0/3 {
		t.Error("a clone shares its data")
	}
	if err := c.Save(ctx, dir); fault.KindOf(err) != fault.Usage {
		t.Errorf("saved over a model: %v", err)
	}
	wide := filepath.Join(t.TempDir(), "wide")
	if err := c.Save(ctx, wide); err != nil {
		t.Fatal(err)
	}
	back = load(t, wide)
	sameTensors(t, c, back)
	var conf struct{ DType string }
	if err := json.Unmarshal(back.Config(), &conf); err != nil || conf.DType != "float32" || back.Tensors()[0].Stored != dtype.F32 {
		t.Errorf("dtype %q, stored as %v, %v", conf.DType, back.Tensors()[0].Stored, err)
	}
}

// TestSource: the model reads as float32, in any pieces, and refuses others.
func TestSource(t *testing.T) {
	m := load(t, filepath.Join(fixtures, "llama"))
	x := m.Tensors()[0]
	d, size, ok := m.Weight(x.Name)
	if d != dtype.F32 || size != int64(4*len(x.Data)) || !ok {
		t.Fatal(d, size, ok)
	}
	p := make([]byte, 8)
	if err := m.ReadWeight(x.Name, p, 4); err != nil {
		t.Fatal(err)
	}
	got := make([]float32, 2)
	dtype.ToFloat32(dtype.F32, got, p)
	if got[0] != x.Data[1] || got[1] != x.Data[2] {
		t.Error(got, x.Data[:3])
	}
	for _, off := range []int64{-4, size - 4, size + 4, 2} {
		if m.ReadWeight(x.Name, p, off) == nil {
			t.Errorf("read at %d of %d", off, size)
		}
	}
	if m.ReadWeight("nothing", p, 0) == nil {
		t.Error("read a tensor that is not there")
	}
}

// TestRefusals: what cannot be done says so, with the right kind.
func TestRefusals(t *testing.T) {
	ctx := context.Background()
	m, other := load(t, filepath.Join(fixtures, "llama")), load(t, filepath.Join(fixtures, "qwen3"))
	if _, err := Load(ctx, t.TempDir()); err == nil {
		t.Error("loaded an empty folder")
	}
	for name, err := range map[string]error{
		"unknown":    second(Prepare(ctx, "nothing", m, nil)),
		"base":       second(Prepare(ctx, "align", m, nil)),
		"other base": second(Prepare(ctx, "align", m, other)),
		"donor":      first(Transplant(m, m, other)),
		"merge base": first(Merge(ctx, TIES, m, other, nil, MergeOptions{})),
		"method":     first(Merge(ctx, "soup", m, m, nil, MergeOptions{})),
		"weights":    first(Merge(ctx, TIES, m, m, []*Model{m}, MergeOptions{Weights: []float64{1, 2, 3}})),
		"density":    first(Merge(ctx, TIES, m, m, []*Model{m}, MergeOptions{Densities: []float64{-1}})),
	} {
		if fault.KindOf(err) != fault.Usage {
			t.Errorf("%s: %v", name, err)
		}
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	for _, p := range Preparations() {
		if _, _, err := Prepare(stopped, p.Name, m, m); fault.KindOf(err) != fault.Interrupted {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

func first[A any](_ A, err error) error          { return err }
func second[A, B any](_ A, _ B, err error) error { return err }

var profiles = []seal.Profile{seal.Portable, seal.Strong, seal.Max}
