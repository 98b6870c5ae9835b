package probe_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
)

// freeDims are the numbers of free factors that an independent automatic
// finder, which traces the running network, found for the same tiny configs.
var freeDims = map[string]int{
	"llama": 152, "mistral": 176, "qwen2": 152, "qwen3": 168, "gemma": 96, "gemma2": 96,
	"gemma3": 80, "phi3": 152, "mixtral": 296, "qwen3_moe": 248,
}

type source struct{ ck *checkpoint.Checkpoint }

func (s source) Weight(name string) (dtype.DType, int64, bool) {
	t, ok := s.ck.Tensor(name)
	return t.DType, t.Size, ok
}

func (s source) ReadWeight(name string, p []byte, off int64) error {
	t, ok := s.ck.Tensor(name)
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	return s.ck.ReadAt(t, p, off)
}

// reference is what transformers computed for a fixture, and from what.
type reference struct {
	Tokens []int
	Inputs map[string]struct{ IDs, Values []float32 }
	Logits []float64
	More   []struct{ Values []float64 } // further outputs
}

func (r reference) options(tokens int) probe.Options {
	o := probe.Options{Inputs: map[string][]float32{}}
	if tokens > 0 {
		o.Tokens = r.Tokens
	}
	for name, x := range r.Inputs {
		o.Inputs[name] = append(x.IDs, x.Values...)
	}
	return o
}

func near(t *testing.T, i int, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("output %d has %d elements, want %d", i, len(got), len(want))
	}
	diff, scale := 0.0, 0.0
	for j, w := range want {
		diff = math.Max(diff, math.Abs(float64(got[j])-w))
		scale = math.Max(scale, math.Abs(w))
	}
	if !(diff <= 1e-4*scale) {
		t.Errorf("output %d differs from transformers' by %g of %g", i, diff, scale)
	}
}

// TestFamilies checks every builder against logits that transformers computed
// on checkpoints that transformers wrote, for both spellings of the config.
func TestFamilies(t *testing.T) {
	dirs, err := filepath.Glob("../arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	for _, d := range dirs {
		dir := filepath.Dir(d)
		name := filepath.Base(dir)
		for _, conf := range []string{"config.json", "config-v4.json"} {
			t.Run(name+"/"+conf, func(t *testing.T) { family(t, name, dir, conf) })
		}
	}
}

func family(t *testing.T, name, dir, conf string) {
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	raw, err := os.ReadFile(filepath.Join(dir, conf))
	if err != nil {
		t.Fatal(err)
	}
	var ref reference
	data, err := os.ReadFile(filepath.Join(dir, "reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &ref); err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for _, x := range ck.Tensors() {
		shapes[x.Name] = x.Shape
	}
	m, err := arch.Build(raw, shapes, arch.Options{Tokens: len(ref.Tokens)})
	if err != nil {
		t.Fatal(err)
	}
	out, err := probe.Run(context.Background(), m.Graph, source{ck}, ref.options(m.Graph.Tokens))
	if err != nil {
		t.Fatal(err)
	}
	want := [][]float64{ref.Logits}
	for _, x := range ref.More {
		want = append(want, x.Values)
	}
	if len(out) != len(want) {
		t.Fatalf("%d outputs, want %d", len(out), len(want))
	}
	for i := range want {
		near(t, i, out[i], want[i])
	}
	sol, err := gauge.Solve(m.Graph)
	if err != nil {
		t.Fatal(err)
	}
	if want, ok := freeDims[name]; ok && sol.FreeDims != want {
		t.Errorf("%d free dimensions, want %d", sol.FreeDims, want)
	}
}
