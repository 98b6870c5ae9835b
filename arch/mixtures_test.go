package arch_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// drafted adds to DeepSeek V3's fixture a layer that predicts a further token,
// with the names of published checkpoints.
func drafted(t *testing.T) ([]byte, map[string][]int) {
	conf, shapes := fixture(t, "deepseek_v3")
	for name, s := range shapes {
		if rest, ok := strings.CutPrefix(name, "model.layers.1."); ok {
			shapes["model.layers.2."+rest] = s
		}
	}
	for name, s := range map[string][]int{
		"enorm.weight": {16}, "hnorm.weight": {16}, "eh_proj.weight": {16, 32}, "shared_head.norm.weight": {16},
		"embed_tokens.weight": {29, 16}, "shared_head.head.weight": {29, 16},
	} {
		shapes["model.layers.2."+name] = s
	}
	conf["num_nextn_predict_layers"] = 1
	raw, _ := json.Marshal(conf)
	return raw, shapes
}

// TestDrafting: the layers that predict further tokens are read, and what they
// share with the decoder cannot move without them.
func TestDrafting(t *testing.T) {
	raw, shapes := drafted(t)
	m, err := arch.Build(raw, shapes, arch.Options{Tokens: 4})
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Graph.Outputs) != 2 || len(m.Graph.Ties()) != 2 {
		t.Errorf("%d outputs, ties %v", len(m.Graph.Outputs), m.Graph.Ties())
	}
	sol, err := gauge.Solve(m.Graph)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range sol.Groups {
		// hnorm reads the final norm's output: its gain can move only as a whole.
		if g.ID == "norm:model.norm" && g.Classes > 1 {
			t.Errorf("%+v", g)
		}
	}
	delete(shapes, "model.layers.2.eh_proj.weight")
	if _, err := arch.Build(raw, shapes, arch.Options{Tokens: 4}); fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "eh_proj") {
		t.Errorf("without eh_proj: %v", err)
	}
}

// TestMixtureRefusals: what a mixture's config asks for is checked before it is
// built.
func TestMixtureRefusals(t *testing.T) {
	for _, c := range []struct {
		fixture, key string
		value        any
		want         string
	}{
		{"deepseek_v3", "n_group", 3, "n_group"},
		{"deepseek_v3", "topk_group", 5, "topk_group"},
		{"deepseek_v3", "scoring_func", "softmax", "scoring_func"},
		{"deepseek_v3", "num_key_value_heads", 2, "num_key_value_heads"},
		{"deepseek_v3", "head_dim", 64, "head_dim"},
		{"deepseek_v3", "moe_layer_freq", 2, "moe_layer_freq"},
		{"deepseek_v2", "topk_method", "noaux_tc", "topk_method"},
		{"gpt_oss", "num_local_experts", 1 << 24, "experts"},
		{"llama4_text", "attention_chunk_size", nil, "attention_chunk_size"},
		{"qwen3_next", "linear_num_value_heads", 3, "linear_num_value_heads"},
		{"phimoe", "num_experts_per_tok", 1, "num_experts_per_tok"},
		{"falcon_h1", "mamba_n_heads", 3, "Mamba"},
		{"lfm2", "layer_types", []string{"conv", "sliding_attention"}, "sliding_attention"},
	} {
		conf, shapes := fixture(t, c.fixture)
		conf[c.key] = c.value
		raw, _ := json.Marshal(conf)
		_, err := arch.Build(raw, shapes, arch.Options{Tokens: 4})
		if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s %v: %v", c.fixture, c.key, c.value, err)
		}
	}
}
