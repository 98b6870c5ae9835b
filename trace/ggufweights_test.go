package trace

import (
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
