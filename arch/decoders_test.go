package arch_test

import (
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func build(t *testing.T, conf map[string]any, shapes map[string][]int, opt arch.Options) (*arch.Model, error) {
	t.Helper()
	raw, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	return arch.Build(raw, shapes, opt)
}

// TestDecoderRefusals: combinations that a family's code does not have.
func TestDecoderRefusals(t *testing.T) {
	for _, c := range []struct {
		fixture string
		edit    map[string]any
		want    string
	}{
		{"gpt2", map[string]any{"hidden_size": 17}, "n_embd differ"},
		{"gpt2", map[string]any{"activation_function": "snake"}, "snake"},
		{"gpt2", map[string]any{"n_positions": 0}, "max_position_embeddings"},
		{"gptj", map[string]any{"rotary_dim": nil}, "rotary_dim"},
		{"gptj", map[string]any{"rotary_dim": 1 << 20}, "rotary"},
		{"gptj", map[string]any{"rotary": false}, "rotary"},
		{"gpt_neo", map[string]any{"attention_types": []any{[]any{[]any{"global"}, 1 << 40}}}, "attention_types"},
		{"gpt_neo", map[string]any{"attention_types": []any{[]any{[]any{"global", "odd"}, 1}}}, "attention_"},
		{"gpt_neo", map[string]any{"attention_layers": []string{"local", "local"}}, "attention_layers"},
		{"gpt_neox", map[string]any{"rotary_pct": 0.5, "partial_rotary_factor": 0.25}, "rotary_pct differ"},
		{"falcon40b", map[string]any{"parallel_attn": false}, "new_decoder_architecture"},
		{"falcon40b", map[string]any{"num_ln_in_parallel_attn": 3}, "new_decoder_architecture"},
		{"falcon40b", map[string]any{"num_kv_heads": 3}, "num_kv_heads"},
		{"falcon7b", map[string]any{"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"},
		{"falconrw", map[string]any{"num_kv_heads": 2}, "num_kv_heads"},
		{"falcon7b", map[string]any{"apply_residual_connection_post_layernorm": true}, "apply_residual"},
		{"stablelm-normed", map[string]any{"num_attention_heads": 16, "num_key_value_heads": 16}, "norm for each head"},
		{"starcoder2", map[string]any{"norm_type": "rms_norm"}, "norm_type"},
		{"olmo-clipped", map[string]any{"clip_qkv": 0}, "clip_qkv"},
		{"olmo2", map[string]any{"rope_parameters": map[string]any{"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"},
		{"cohere2", map[string]any{"position_embedding_type": "alibi"}, "position_embedding_type"},
		{"exaone4", map[string]any{"sliding_window": nil}, "sliding_window is null"},
		{"exaone4", map[string]any{"sliding_window_pattern": "LLLG", "layer_types": nil}, "LLLG"},
		{"smollm3", map[string]any{"no_rope_layers": []int{1}}, "no_rope_layers"},
		{"ministral3", map[string]any{"rope_parameters": nil}, "rope_parameters"},
		{"apertus", map[string]any{"rope_parameters": nil}, "rope_parameters"},
	} {
		t.Run(c.fixture+"/"+c.want, func(t *testing.T) {
			conf, shapes := fixture(t, c.fixture)
			for k, v := range c.edit {
				conf[k] = v
			}
			_, err := build(t, conf, shapes, arch.Options{Tokens: 3})
			if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (exit %d), want exit 14 and %q", err, fault.KindOf(err), c.want)
			}
		})
	}
}

// TestBareDecoder: without the prefix, a checkpoint that names a class with a
// head gives logits; one that does not may be read with its embedding as the
// head or without, and untied it has no logits.
func TestBareDecoder(t *testing.T) {
	for _, c := range []struct {
		name   string
		edit   func(map[string]any)
		widths []int // of the outputs
	}{
		{"head", func(map[string]any) {}, []int{29}},
		{"no head", func(c map[string]any) { c["architectures"] = []string{"BloomModel"} }, []int{29, 16}},
		{"nothing", func(c map[string]any) { delete(c, "architectures") }, []int{29, 16}},
		{"untied", func(c map[string]any) { c["tie_word_embeddings"] = false }, []int{16}},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf, shapes := fixture(t, "bloom-bare")
			c.edit(conf)
			m, err := build(t, conf, shapes, arch.Options{Tokens: 3})
			if err != nil {
				t.Fatal(err)
			}
			var widths []int
			for _, o := range m.Graph.Outputs {
				widths = append(widths, m.Graph.Shape(o)[1])
			}
			if !slices.Equal(widths, c.widths) {
				t.Errorf("outputs of width %v, want %v", widths, c.widths)
			}
		})
	}
}

// TestStoredMasks: causal masks in old checkpoints of the GPT-2 lineage are no
// weights; in other families that name is not known.
func TestStoredMasks(t *testing.T) {
	for _, c := range []struct {
		fixture, name string
		ok            bool
	}{
		{"gpt2", "transformer.h.0.attn.bias", true},
		{"gpt2-bare", "h.1.attn.masked_bias", true},
		{"gpt_neo", "transformer.h.0.attn.attention.masked_bias", true},
		{"gpt_neox", "gpt_neox.layers.0.attention.bias", true},
		{"llama", "model.layers.0.attention.bias", false},
	} {
		conf, shapes := fixture(t, c.fixture)
		shapes[c.name] = []int{1, 1, 64, 64}
		m, err := build(t, conf, shapes, arch.Options{Tokens: 3})
		if ok := err == nil && slices.Equal(m.Buffers, []string{c.name}); ok != c.ok {
			t.Errorf("%s in %s: %v", c.name, c.fixture, err)
		}
	}
}

// TestLearnedPositions: a graph reads no more tokens than there are positions.
func TestLearnedPositions(t *testing.T) {
	for _, name := range []string{"gpt2", "gpt_bigcode", "gpt_neo", "gptj", "opt"} {
		conf, shapes := fixture(t, name)
		m, err := build(t, conf, shapes, arch.Options{Tokens: 1000})
		if err != nil || m.Graph.Tokens != 64 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestMiniCPM: transformers has no MiniCPM; its paper's factors are Granite's
// under other names.
func TestMiniCPM(t *testing.T) {
	conf, shapes := fixture(t, "granite")
	conf["attention_multiplier"] = 0.5 // 1/sqrt(head_dim)
	conf["residual_multiplier"] = 1.4 / math.Sqrt(2)
	conf["embedding_multiplier"], conf["logits_scaling"] = 12, 4
	want, err := build(t, conf, shapes, arch.Options{Tokens: 5})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"attention_multiplier", "residual_multiplier", "embedding_multiplier", "logits_scaling", "mlp_bias"} {
		delete(conf, k)
	}
	conf["model_type"] = "minicpm"
	conf["scale_emb"], conf["scale_depth"], conf["dim_model_base"] = 12, 1.4, 4
	got, err := build(t, conf, shapes, arch.Options{Tokens: 5})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got.Graph.Nodes, want.Graph.Nodes) {
		t.Error("not Granite's network")
	}
}
