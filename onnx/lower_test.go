package onnx

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

// reference is what interop/onnx.py records: inputs, and onnxruntime's output.
type reference struct {
	Inputs map[string][]float32 `json:"inputs"`
	Output []float32            `json:"output"`
	Shape  []int                `json:"shape"`
}

// fixtures lists the exported models: those in testdata, and those of a folder
// that interop/onnx.py has filled.
func fixtures(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/*.onnx")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	if dir := os.Getenv("NEUROSEAL_ONNX_EXPORTS"); dir != "" {
		more, _ := filepath.Glob(filepath.Join(dir, "*.onnx"))
		files = append(files, more...)
	}
	return files
}

func readReference(t *testing.T, model string) reference {
	t.Helper()
	data, err := os.ReadFile(model[:len(model)-len(Extension)] + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestGolden: the lowered network computes what onnxruntime does.
func TestGolden(t *testing.T) {
	for _, f := range fixtures(t) {
		t.Run(filepath.Base(f), func(t *testing.T) {
			m, err := Open(f)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			g, info, err := m.Graph(Options{Tokens: 5})
			if err != nil {
				t.Fatal(err)
			}
			if len(info.Opaque) > 0 {
				t.Errorf("opaque: %v", info.Opaque)
			}
			want := readReference(t, f)
			got := evaluate(t, m, g, want)
			if len(got) != len(want.Output) {
				t.Fatalf("output of %d elements, onnxruntime's has %d", len(got), len(want.Output))
			}
			for i := range got {
				if d := math.Abs(float64(got[i] - want.Output[i])); !(d <= 1e-4) {
					t.Fatalf("element %d is %g, onnxruntime's %g", i, got[i], want.Output[i])
				}
			}
			sol, err := gauge.Solve(g)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d operations, %d free dimensions in %d groups, %d holes, unread %v", len(g.Nodes), sol.FreeDims, len(sol.Groups), len(sol.Holes), info.Unread)
		})
	}
}

// evaluate runs the network on the reference's inputs and returns the first output.
func evaluate(t *testing.T, m *Model, g *graph.Graph, r reference) []float32 {
	t.Helper()
	ck, err := m.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	opt := probe.Options{Precision: probe.FP32, Inputs: r.Inputs}
	for name, x := range r.Inputs {
		if _, other := g.Inputs()[name]; other {
			continue
		}
		for _, v := range x {
			opt.Tokens = append(opt.Tokens, int(v))
		}
	}
	out, err := probe.Run(t.Context(), g, ck, opt)
	if err != nil {
		t.Fatal(err)
	}
	return out[0]
}
