package arch_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// weightAt reads a weight as GGUFWeights says it stands.
func weightAt(t *testing.T, m *gguf.Model, w arch.GGUFWeight) []float32 {
	t.Helper()
	width, rows := w.Shape[len(w.Shape)-1], 1
	for _, n := range w.Shape[:len(w.Shape)-1] {
		rows *= n
	}
	var out []float32
	for i := range rows {
		r := w.Row(i)
		stored, ok := m.Tensor(r.Tensor)
		if !ok {
			t.Fatalf("there is no tensor %s", r.Tensor)
		}
		x, err := m.Floats(r.Tensor)
		if err != nil {
			t.Fatal(err)
		}
		step, n := 1, int(stored.Dims[0])
		at := r.Row * n
		if r.Column >= 0 {
			step, at = n, at+r.Column
		}
		for j := range width {
			out = append(out, x[at+j*step])
		}
	}
	return out
}

// TestGGUFWeights: every weight of the checkpoint that a file was converted
// from stands where it is said to, but for those that are named.
func TestGGUFWeights(t *testing.T) {
	without := map[string]func(name string) bool{
		"llama": func(name string) bool {
			return strings.HasSuffix(name, "q_proj.bias") || strings.HasSuffix(name, "k_proj.bias")
		},
		"mamba":     func(name string) bool { return strings.HasSuffix(name, "A_log") },
		"gemma":     func(name string) bool { return strings.HasSuffix(name, "norm.weight") },
		"gpt_oss":   func(name string) bool { return strings.Contains(name, "experts.gate_up") },
		"bert-bare": func(name string) bool { return strings.HasPrefix(name, "pooler.") },
		"gpt_neox":  func(name string) bool { return strings.HasSuffix(name, "query_key_value.bias") },
	}
	without["gemma2"], without["gemma3"] = without["gemma"], without["gemma"]
	files, err := filepath.Glob("testdata/gguf/*.gguf")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gguf")
		t.Run(name, func(t *testing.T) {
			m, err := gguf.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			hub, err := checkpoint.Open(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			defer hub.Close()
			found := arch.GGUFWeights(m)
			for _, want := range hub.Tensors() {
				w, ok := found[want.Name]
				if skip := without[name]; skip != nil && skip(want.Name) {
					if ok {
						t.Errorf("%s stands nowhere as it is, and yet is found", want.Name)
					}
					continue
				}
				if !ok || !slices.Equal(w.Shape, want.Shape) {
					t.Errorf("%s of shape %v: %v, shape %v", want.Name, want.Shape, ok, w.Shape)
					continue
				}
				raw := make([]byte, want.Size)
				if err := hub.ReadAt(want, raw, 0); err != nil {
					t.Fatal(err)
				}
				x := make([]float32, want.Elements())
				dtype.ToFloat32(want.DType, x, raw)
				if !slices.Equal(weightAt(t, m, w), x) {
					t.Errorf("%s stands elsewhere", want.Name)
				}
			}
		})
	}
}

// TestGGUFWeightsGuessed: of an architecture that nobody knows, the usual names.
func TestGGUFWeightsGuessed(t *testing.T) {
	for name, least := range map[string]int{"llama": 21, "qwen3_moe-normed": 40, "gpt_neox": 20, "bert-bare": 37} {
		raw, err := os.ReadFile("testdata/gguf/" + name + ".gguf")
		if err != nil {
			t.Fatal(err)
		}
		// The value of general.architecture, but for its first letter.
		at := strings.Index(string(raw), "general.architecture") + len("general.architecture") + 4 + 8
		raw[at] = 'X'
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(path, raw, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := gguf.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		found := arch.GGUFWeights(m)
		for _, w := range found {
			weightAt(t, m, w)
		}
		hub, err := checkpoint.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, want := range hub.Tensors() {
			if w, ok := found[want.Name]; ok && slices.Equal(w.Shape, want.Shape) {
				n++
			}
		}
		hub.Close()
		if n < least {
			t.Errorf("%s: %d of %d weights are found", name, n, len(hub.Tensors()))
		}
	}
}
