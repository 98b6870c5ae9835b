package trace

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
)

// TestHubNames: a class's prefix makes no difference, unless it would be a guess.
func TestHubNames(t *testing.T) {
	list := map[string]arch.GGUFWeight{}
	for i, name := range []string{
		"transformer.h.0.attn.c_attn.weight", "encoder.layer.11.output.dense.weight", "transformer.wte.weight",
		"model.norm.weight", "other.norm.weight",
	} {
		list[name] = arch.GGUFWeight{Shape: []int{i}}
	}
	h := hubWeightsOf(list)
	for name, want := range map[string]int{
		"transformer.h.0.attn.c_attn.weight": 0, "h.0.attn.c_attn.weight": 0, "h.1.attn.c_attn.weight": -1, "h.0.attn.c_attn.bias": -1,
		"bert.encoder.layer.11.output.dense.weight": 1, "bert.pooler.dense.weight": -1, "wte.weight": 2, "weight": -1, "": -1,
		"model.norm.weight": 3, "norm.weight": -1, "0.norm.weight": -1,
	} {
		w, ok := h.weight(name)
		if ok != (want >= 0) || ok && w.Shape[0] != want {
			t.Errorf("%q: %v, %v, want %d", name, w.Shape, ok, want)
		}
	}
	if _, ok := (*hubWeights)(nil).weight("wte.weight"); ok {
		t.Error("weights of what is no GGUF")
	}
}

// FuzzGGUFWeights: whatever a file says of itself, what is found in it is read,
// or refused.
func FuzzGGUFWeights(f *testing.F) {
	for _, name := range []string{"llama", "gpt2", "falcon40b", "gpt_neox", "mamba", "bert-bare", "deepseek_v3", "gpt_oss", "phi3"} {
		raw, err := os.ReadFile("../arch/testdata/gguf/" + name + ".gguf")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		for i := 24; i < 2400; i += 97 {
			bad := slices.Clone(raw)
			bad[i] ^= 0x06
			f.Add(bad)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(path, raw, 0o666); err != nil {
			t.Fatal(err)
		}
		w, err := openWeights(path)
		if err != nil {
			return
		}
		defer w.Close()
		for name, x := range w.hub.whole {
			p := piece{name: name, shape: x.Shape}
			r, ok := w.find(name, x.Shape)
			if !ok {
				continue
			}
			rows, cols := p.places()
			got, err := r.read(rows, cols)
			if err == nil && len(got) != len(rows)*len(cols) {
				t.Fatalf("%s: %d elements of %d rows and %d columns", name, len(got), len(rows), len(cols))
			}
		}
	})
}
