package arch_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/safetensors"
)

// shapesFor asks the builder which tensors a config needs. The shapes that it
// is given agree with nothing; the graph beside the error says what would.
func shapesFor(t testing.TB, conf []byte) map[string][]int {
	t.Helper()
	fake := map[string][]int{}
	for i := range 1 << 16 {
		fake[fmt.Sprint(i)] = []int{1 << 24}
	}
	m, err := arch.Build(conf, fake, arch.Options{Tokens: 1})
	if m == nil && (strings.Contains(err.Error(), "lm_head") || strings.Contains(err.Error(), "embed_out")) {
		fake["lm_head.weight"], fake["embed_out.weight"] = nil, nil
		m, err = arch.Build(conf, fake, arch.Options{Tokens: 1})
	}
	if m == nil {
		t.Fatal(err)
	}
	out := map[string][]int{}
	for name, id := range m.Graph.Weights() {
		out[name] = m.Graph.Shape(id)
	}
	return out
}

// published counts the groups of the published configurations: per layer one
// of queries and keys, one of values, one per MLP, and the norms that move; the
// final norm where the head is not tied; and the residual stream (not Gemma's).
var published = map[string]int{
	"llama-2-7b": 32*5 + 2, "llama-3.1-8b": 32*5 + 2, "llama-3.2-1b": 16*5 + 1,
	"mistral-7b-v0.3": 32*5 + 2, "qwen2.5-7b": 28*5 + 2, "qwen3-8b": 36*5 + 2,
	"gemma-2b": 18 * 3, "gemma-2-9b": 42 * 3, "gemma-3-1b": 26 * 2,
	"phi-3-mini-4k": 32*5 + 2, "phi-3.5-mini": 32*5 + 2, "phi-4-mini": 32*5 + 1,
	"olmoe-1b-7b": 16*(4+64) + 2, "qwen1.5-moe-a2.7b": 24*(4+61) + 2,
	// DeepSeek: norms of the narrow vectors too (V2 Lite has none for queries); expert layers have one shared MLP.
	"command-r-v01": 40*4 + 1, "glm-4-9b-hf": 40*5 + 2, "gpt-j-6b": 28*3 + 2, "falcon-40b": 60*4 + 1, "gpt-oss-20b": 24*4 + 2,
	"deepseek-v2-lite": 27*5 + 1 + 26*(64+1) + 2, "deepseek-v3": 61*6 + 3 + 58*(256+1) + 2,
	"mixtral-8x7b": 32*12 + 2, "qwen3-30b-a3b": 48*(4+128) + 2,
	// No pair in an MLP with GELU; one norm before attention and MLP side by side.
	"phi-2": 32*3 + 2, "falcon-7b": 32*3 + 1,
	"gpt2": 12*4 + 1, "gpt-neo-1.3b": 24*4 + 1, "bloom-7b1": 30*4 + 1,
	"pythia-6.9b": 32*4 + 2, "starcoder2-7b": 32*4 + 1,
	// OPT's epsilon stands in the code; 350m has norms after the halves, of which
	// the last moves, and projections of the embedding.
	"opt-6.7b": 32 * 5, "opt-350m": 24*3 + 2,
	"stablelm-2-12b": 40*(3+8) + 2, // queries and keys: one for each key head's norm
	"olmo-2-7b":      32*3 + 2,     // norms after the halves
	"granite-3.1-8b": 40*5 + 1, "smollm3-3b": 36*5 + 1, "minicpm-2b": 40*5 + 1,
	// BERT: queries and keys, values; the last norm before the head. A norm behind
	// GELU pins its epsilon. The vision transformers, with a classifier: two norms
	// more, and DINOv2's gains per channel. CLIP: two encoders, the norms before the
	// projections, one scalar for each of these; its epsilons are nested.
	"bert-base-uncased": 12*2 + 1, "vit-base-patch16-224": 12*4 + 2, "dinov2-base": 12*6 + 2, "clip-vit-base-patch32": 2 * (12*4 + 1 + 1),
	// The encoder's last norm is one group with all that the decoder reads of it.
	"whisper-tiny": 4*4 + 1 + 4*7, "t5-small": 6*5 + 1 + 6*8 + 1, "flan-t5-base": 12*5 + 1 + 12*8 + 1,
	// The channels of the state are one group with D and what reads its output.
	"mamba-130m": 24*4 + 1,
}

// large are the configurations that take seconds.
var large = map[string]bool{"qwen3-30b-a3b": true, "deepseek-v3": true, "command-r-v01": true, "gpt-oss-20b": true, "glm-4-9b-hf": true}

// TestPublishedConfigs: every key of a real config is known, and the network,
// at its real size, has the groups that its family should have.
func TestPublishedConfigs(t *testing.T) {
	files, err := filepath.Glob("testdata/configs/*.json")
	if err != nil || len(files) != len(published) {
		t.Fatalf("%d configs, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		t.Run(name, func(t *testing.T) {
			if testing.Short() && large[name] {
				t.Skip("large")
			}
			conf, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			shapes := shapesFor(t, conf)
			began := time.Now()
			m, err := arch.Build(conf, shapes, arch.Options{Tokens: 4})
			if err != nil {
				t.Fatal(err)
			}
			sol, err := gauge.Solve(m.Graph)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d tensors, %d groups, %d free dimensions, %d holes, in %v", len(shapes), len(sol.Groups), sol.FreeDims, len(sol.Holes), time.Since(began).Round(time.Millisecond))
			if want := published[name]; len(sol.Groups) != want {
				t.Errorf("%d groups, want %d", len(sol.Groups), want)
			}
		})
	}
}

// fixture reads a folder that transformers wrote.
func fixture(t testing.TB, name string) (map[string]any, map[string][]int) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var conf map[string]any
	if err := json.Unmarshal(raw, &conf); err != nil {
		t.Fatal(err)
	}
	h, err := safetensors.ParseFile(filepath.Join("testdata", name, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for _, x := range h.Tensors {
		shapes[x.Name] = x.Shape
	}
	return conf, shapes
}

// TestRefusals: whatever the builder cannot account for is an error of kind
// Unsupported that names it.
func TestRefusals(t *testing.T) {
	const q = "model.layers.0.self_attn.q_proj.weight"
	set := func(key string, v any) func(map[string]any, map[string][]int) {
		return func(c map[string]any, _ map[string][]int) { c[key] = v }
	}
	for _, c := range []struct {
		name, fixture string
		edit          func(conf map[string]any, shapes map[string][]int)
		want          string
	}{
		{"unknown key", "llama", set("residual_multiplier", 0.2), "residual_multiplier"},
		{"unknown nested key", "llama", set("rope_scaling", map[string]any{"rope_type": "linear", "factor": 2.0, "wobble": 1}), "rope_scaling.wobble"},
		{"unknown rope", "llama", set("rope_scaling", map[string]any{"rope_type": "spiral"}), "spiral"},
		{"unknown type", "llama", set("model_type", "wobble"), `"wobble"`},
		{"no type", "llama", func(c map[string]any, _ map[string][]int) { delete(c, "model_type") }, "model_type"},
		{"activation", "llama", set("hidden_act", "snake"), "snake"},
		{"quantised", "llama", set("quantization_config", map[string]any{"quant_method": "gptq"}), "gptq"},
		{"encoder", "llama", set("is_encoder_decoder", true), "is_encoder_decoder"},
		{"wrong type", "llama", set("hidden_size", "big"), "hidden_size"},
		{"zero heads", "llama", set("num_attention_heads", 0), "num_attention_heads"},
		{"heads", "llama", set("num_attention_heads", 3), "num_attention_heads"},
		{"layer types", "gemma3", set("layer_types", []string{"sliding_attention", "chunked_attention"}), "chunked_attention"},
		{"layer count", "gemma3", set("layer_types", []string{"full_attention"}), "layer_types"},
		{"missing layer", "llama", set("num_hidden_layers", 3), "model.layers.2."},
		{"extra layer", "llama", set("num_hidden_layers", 1), "model.layers.1."},
		{"top k", "mixtral", set("num_experts_per_tok", 9), "num_experts_per_tok"},
		{"huge layers", "llama", set("num_hidden_layers", 1<<24), "num_hidden_layers"},
		{"huge heads", "llama", set("num_attention_heads", 1<<24), "heads"},
		{"huge head", "qwen3", set("head_dim", 1<<24), "heads"},
		{"huge experts", "mixtral", func(c map[string]any, _ map[string][]int) {
			c["num_local_experts"], c["num_experts"] = 1<<24, 1<<24
		}, "experts"},
		{"huge window", "mistral", set("sliding_window", 1<<40), "sliding_window"},
		{"missing tensor", "llama", func(_ map[string]any, s map[string][]int) { delete(s, q) }, q},
		{"missing head", "llama", func(_ map[string]any, s map[string][]int) { delete(s, "lm_head.weight") }, "lm_head.weight"},
		{"extra tensor", "llama", func(_ map[string]any, s map[string][]int) { s["model.layers.0.adapter.weight"] = []int{2} }, "model.layers.0.adapter.weight"},
		{"extra bias", "mistral", func(_ map[string]any, s map[string][]int) { s["model.layers.0.mlp.up_proj.bias"] = []int{24} }, "up_proj.bias"},
		{"shape", "llama", func(_ map[string]any, s map[string][]int) { s[q] = []int{16, 15} }, q + " [16 15]"},
		{"transposed", "llama", func(_ map[string]any, s map[string][]int) { slices.Reverse(s["lm_head.weight"]) }, "lm_head.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conf, shapes := fixture(t, c.fixture)
			c.edit(conf, shapes)
			raw, _ := json.Marshal(conf)
			_, err := arch.Build(raw, shapes, arch.Options{Tokens: 3})
			if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v (exit %d), want exit 14 and %q", err, fault.KindOf(err), c.want)
			}
		})
	}
	for _, raw := range []string{"", "[]", "{", "null"} {
		if _, err := arch.Build([]byte(raw), nil, arch.Options{Tokens: 1}); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("config %q: %v", raw, err)
		}
	}
}

// TestAllowUnsealed lets unread tensors and unknown keys pass, and says so;
// never a missing tensor.
func TestAllowUnsealed(t *testing.T) {
	conf, shapes := fixture(t, "llama")
	conf["wobble"] = 1
	shapes["extra"] = []int{3}
	shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = []int{2}
	raw, _ := json.Marshal(conf)
	m, err := arch.Build(raw, shapes, arch.Options{Tokens: 3, AllowUnsealed: true})
	if err != nil || !slices.Equal(m.Unknown, []string{"extra"}) || len(m.Buffers) != 1 || len(m.Warn) != 1 {
		t.Fatalf("%+v, %v", m, err)
	}
	delete(shapes, "model.norm.weight")
	if _, err := arch.Build(raw, shapes, arch.Options{Tokens: 3, AllowUnsealed: true}); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a missing tensor passes: %v", err)
	}
}

// TestDefaultEpsilonIsPinned: an epsilon that the config does not name cannot
// be moved there.
func TestDefaultEpsilonIsPinned(t *testing.T) {
	conf, shapes := fixture(t, "llama")
	delete(conf, "rms_norm_eps")
	raw, _ := json.Marshal(conf)
	m, err := arch.Build(raw, shapes, arch.Options{Tokens: 3})
	if err != nil {
		t.Fatal(err)
	}
	sol, err := gauge.Solve(m.Graph)
	if err != nil || sol.Residual >= 0 || sol.FreeDims != 152 {
		t.Errorf("residual group %d, %d free dimensions, %v", sol.Residual, sol.FreeDims, err)
	}
}

// FuzzBuild: a config is never trusted with memory or time before its sizes
// have been compared with the tensors.
func FuzzBuild(f *testing.F) {
	names := []string{"llama", "qwen3", "gemma3", "phi3-longrope", "mixtral", "qwen3_moe-dense", "llama-rope-yarn-mscale",
		"gpt2", "gpt_neo", "gptj", "falcon40b", "opt-350m", "stablelm-normed", "exaone4"}
	all := map[string]map[string][]int{}
	for _, n := range names {
		conf, shapes := fixture(f, n)
		all[n] = shapes
		raw, _ := json.Marshal(conf)
		f.Add(raw)
		for _, key := range slices.Sorted(maps.Keys(conf)) {
			if _, ok := conf[key].(float64); ok {
				old := conf[key]
				for _, v := range []any{0, -1, 1 << 24, 1e300, "x", nil} {
					conf[key] = v
					raw, _ := json.Marshal(conf)
					f.Add(raw)
				}
				conf[key] = old
			}
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, n := range names {
			m, err := arch.Build(raw, all[n], arch.Options{Tokens: 3})
			if err != nil {
				if fault.KindOf(err) != fault.Unsupported {
					t.Fatalf("exit %d: %v", fault.KindOf(err), err)
				}
				continue
			}
			if len(m.Graph.Nodes) > 100*len(all[n]) {
				t.Fatalf("%d nodes for %d tensors", len(m.Graph.Nodes), len(all[n]))
			}
			if _, err := gauge.Solve(m.Graph); err != nil {
				t.Fatal(err)
			}
		}
	})
}
