package arch_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
)

// weightsOf reads the weights of a GGUF.
type weightsOf struct{ ck *checkpoint.Checkpoint }

func (s weightsOf) Weight(name string) (dtype.DType, int64, bool) { return s.ck.Weight(name) }

func (s weightsOf) ReadWeight(name string, p []byte, off int64) error {
	return s.ck.ReadWeight(name, p, off)
}

// openGGUF opens a fixture of interop/gguf_models.py.
func openGGUF(t testing.TB, path string, tokens int) (*arch.GGUF, *checkpoint.Checkpoint) {
	t.Helper()
	m, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	net, err := arch.BuildGGUF(m, arch.Options{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	ck, err := m.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return net, ck
}

// dims are free factors beyond those of the checkpoint on the Hub: norms that
// are stored as 1+w are free in GGUF.
var dims = map[string]int{}

// TestGGUF: models in GGUF give the logits that transformers computed from the
// checkpoints that they were converted from.
func TestGGUF(t *testing.T) {
	files, err := filepath.Glob("testdata/gguf/*.gguf")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gguf")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", name, "reference.json"))
			if err != nil {
				t.Fatal(err)
			}
			var ref struct {
				Tokens []int
				Inputs map[string]struct{ IDs, Values []float32 }
				Logits []float64
			}
			if err := json.Unmarshal(raw, &ref); err != nil {
				t.Fatal(err)
			}
			net, ck := openGGUF(t, file, len(ref.Tokens))
			seen[net.Type] = true
			in := map[string][]float32{}
			for k, x := range ref.Inputs {
				in[k] = append(x.IDs, x.Values...)
			}
			out, err := probe.Run(context.Background(), net.Graph, weightsOf{ck}, probe.Options{Tokens: ref.Tokens, Inputs: in})
			if err != nil {
				t.Fatal(err)
			}
			if err := close64(out[0], ref.Logits); err != nil {
				t.Error(err)
			}
			sol, err := gauge.Solve(net.Graph)
			if err != nil {
				t.Fatal(err)
			}
			conf, shapes := fixture(t, name)
			hub, _ := json.Marshal(conf)
			m, err := arch.Build(hub, shapes, arch.Options{Tokens: len(ref.Tokens)})
			if err != nil {
				t.Fatal(err)
			}
			want, err := gauge.Solve(m.Graph)
			if err != nil {
				t.Fatal(err)
			}
			if sol.FreeDims != want.FreeDims+dims[name] || (sol.Residual >= 0) != (want.Residual >= 0) {
				for _, g := range sol.Groups {
					t.Log(g)
				}
				for _, g := range want.Groups {
					t.Log("hub", g)
				}
				t.Errorf("%d free dimensions, residual %d; on the Hub %d, %d", sol.FreeDims, sol.Residual, want.FreeDims, want.Residual)
			}
		})
	}
	for _, name := range arch.GGUFTypes() {
		if !seen[name] {
			t.Errorf("no fixture of %s", name)
		}
	}
}

func close64(got []float32, want []float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d logits, want %d", len(got), len(want))
	}
	diff, scale := 0.0, 0.0
	for j, w := range want {
		diff, scale = math.Max(diff, math.Abs(float64(got[j])-w)), math.Max(scale, math.Abs(w))
	}
	if !(diff <= 1e-4*scale) {
		return fmt.Errorf("logits differ by %g of %g", diff, scale)
	}
	return nil
}
