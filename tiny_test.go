package neuroseal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// drawer chooses among values; rapid's draws and a seeded generator both do.
type drawer func(label string, n int) int

func pick[T any](d drawer, label string, of ...T) T { return of[d(label, len(of))] }

// tinyConfig draws a small config.json of a model type.
func tinyConfig(typ string, d drawer) map[string]any {
	kv := pick(d, "kv", 1, 2)
	heads := kv * pick(d, "rep", 1, 2, 3)
	dim := pick(d, "head_dim", 2, 4, 8)
	layers := 1 + d("layers", 2)
	c := map[string]any{
		"model_type": typ, "architectures": []string{"TinyForCausalLM"},
		"hidden_size": pick(d, "hidden", 8, 12, 16, 64), "num_hidden_layers": layers,
		"num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": dim,
		"intermediate_size": pick(d, "ffn", 1, 6, 20, 64), "vocab_size": 11 + d("vocab", 30),
		"max_position_embeddings": 64, "rms_norm_eps": pick(d, "eps", 1e-5, 1e-6, 9.99e-7),
		"tie_word_embeddings": d("tied", 2) == 1, "hidden_act": pick(d, "act", "silu", "gelu", "gelu_pytorch_tanh", "relu"),
		"bos_token_id": 1, "torch_dtype": "bfloat16",
	}
	if d("no epsilon", 12) == 0 {
		delete(c, "rms_norm_eps") // the class's default, which no seal can move
	}
	flag := func(key string) {
		if d(key, 2) == 1 {
			c[key] = true
		}
	}
	window := func() {
		if d("window", 2) == 1 {
			c["sliding_window"] = 1 + d("window size", 6)
		} else {
			c["sliding_window"] = nil
		}
	}
	switch typ {
	case "llama":
		flag("attention_bias")
		flag("mlp_bias")
	case "mistral", "mixtral":
		window()
	case "qwen2", "qwen3":
		if typ == "qwen3" {
			flag("attention_bias")
		}
		if d("sliding", 2) == 1 {
			c["use_sliding_window"], c["sliding_window"], c["max_window_layers"] = true, 3, 1
		}
	case "gemma", "gemma2", "gemma3_text":
		flag("attention_bias")
		if typ == "gemma" {
			break
		}
		delete(c, "hidden_act")
		c["query_pre_attn_scalar"], c["sliding_window"] = dim, 4
		c["final_logit_softcapping"] = pick(d, "final cap", any(nil), 3.0)
		if typ == "gemma2" {
			c["attn_logit_softcapping"] = pick(d, "cap", any(nil), 2.0)
		}
	case "phi3":
		window()
		c["original_max_position_embeddings"] = 32
	}
	if typ == "mixtral" || typ == "qwen3_moe" {
		n := 1 + d("experts", 4)
		key := map[string]string{"mixtral": "num_local_experts", "qwen3_moe": "num_experts"}[typ]
		c[key], c["num_experts_per_tok"] = n, 1+d("chosen", n)
	}
	if typ == "qwen3_moe" {
		c["moe_intermediate_size"] = pick(d, "expert size", 4, 10)
		flag("norm_topk_prob")
		flag("attention_bias")
		if d("dense layer", 2) == 1 {
			c["mlp_only_layers"] = []int{0}
		}
	}
	tinyRope(c, typ, dim, d)
	return c
}

// tinyRope draws the rotary embedding.
func tinyRope(c map[string]any, typ string, dim int, d drawer) {
	c["rope_theta"] = pick(d, "theta", 10000.0, 500.0)
	switch typ {
	case "phi3":
		if dim >= 4 && d("partial", 2) == 1 {
			c["partial_rotary_factor"] = 0.5
			dim /= 2
		}
		if d("longrope", 2) == 1 {
			factors := make([]float64, dim/2)
			for i := range factors {
				factors[i] = 1 + float64(i)/2
			}
			c["rope_scaling"] = map[string]any{"rope_type": "longrope", "short_factor": factors, "long_factor": factors}
		}
	default:
		switch d("rope", 6) {
		case 1:
			c["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": 2.0}
		case 2:
			c["rope_scaling"] = map[string]any{"rope_type": "dynamic", "factor": 2.0}
		case 3:
			c["rope_scaling"] = map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16}
		case 4:
			c["rope_scaling"] = map[string]any{"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 32}
		}
	}
}

// expectedTensors asks a builder which tensors a config needs. The shapes that
// it is given agree with nothing; the graph that it returns beside the error
// says what would.
func expectedTensors(conf []byte, tied bool) (map[string][]int, error) {
	fake := map[string][]int{}
	for i := range 1 << 10 {
		fake[fmt.Sprint(i)] = []int{1 << 24}
	}
	if !tied {
		fake["lm_head.weight"] = nil
	}
	m, err := arch.Build(conf, fake, arch.Options{Tokens: 1})
	if m == nil {
		return nil, err
	}
	out := map[string][]int{}
	for name, id := range m.Graph.Weights() {
		out[name] = m.Graph.Shape(id)
	}
	return out, nil
}

// spice says what unusual numbers weights hold.
type spice struct {
	zeros, subnormals, extremes, nan bool
}

// tinyTensor draws a tensor: norm gains around one (Gemma's around zero), the
// rest around zero.
func tinyTensor(name string, shape []int, d dtype.DType, typ string, s spice, r *rand.Rand) safetensors.Tensor {
	n := 1
	for _, k := range shape {
		n *= k
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64() * 0.3)
		if strings.Contains(name, "norm") {
			x[i] = float32(1 + r.NormFloat64()/8)
			if strings.HasPrefix(typ, "gemma") {
				x[i] -= 1
			}
		}
		switch r.IntN(40) {
		case 0:
			if s.zeros {
				x[i] = float32(math.Copysign(0, r.NormFloat64()))
			}
		case 1:
			if s.subnormals {
				x[i] = float32(r.NormFloat64()) * map[dtype.DType]float32{dtype.F16: 0x1p-18, dtype.BF16: 0x1p-129, dtype.F32: 0x1p-135}[d]
			}
		case 2:
			if s.extremes {
				x[i] *= float32(math.Exp2(float64(r.IntN(13) - 9)))
			}
		case 3:
			if s.nan {
				x[i] = [3]float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[r.IntN(3)]
			}
		}
	}
	b := make([]byte, n*d.Bits()/8)
	dtype.FromFloat32(d, b, x)
	return safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: name, DType: d, Shape: shape}, Data: b}
}

// tiny is a checkpoint to draw and write.
type tiny struct {
	typ    string
	from   string // folder of the fixture that has config and shapes; "": config
	config map[string]any
	dtype  dtype.DType
	norm32 bool // norms in F32, as mixed checkpoints have them
	shards int
	spice  spice
	seed   uint64
}

// drawn are the model types whose configs tinyConfig draws. The configs of the
// others are those of the fixtures; only their weights are drawn.
var drawn = []string{"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "mixtral", "qwen3_moe"}

func drawTiny(typ string, d drawer) tiny {
	c, from := map[string]any(nil), ""
	if slices.Contains(drawn, typ) {
		c = tinyConfig(typ, d)
	} else if all := fixturesOf()[typ]; len(all) > 0 {
		from = all[d("fixture", len(all))]
	}
	return tiny{
		typ: typ, config: c, from: from, seed: uint64(d("weights", 1<<30)),
		dtype:  pick(d, "dtype", dtype.BF16, dtype.BF16, dtype.F32, dtype.F16),
		norm32: d("norm32", 4) == 0, shards: 1 + d("shards", 2),
		spice: spice{zeros: d("zeros", 2) == 0, subnormals: d("subnormals", 4) == 0, extremes: d("extremes", 2) == 0},
	}
}

// fewer lets one check in five through for the types that share most of their
// builder with others: there are many. After a failure all, so that it repeats.
type fewer struct {
	n, ran int
	failed bool
}

func (c *fewer) now(typ string) bool {
	c.n++
	if !slices.Contains(drawn, typ) && !c.failed && c.n%5 != 1 {
		return false
	}
	c.ran++
	return true
}

// tolerated is how many of few checks may be refused by chance; that every type
// can be sealed is what TestFixtures demands.
func (c *fewer) tolerated(typ string) int {
	if slices.Contains(drawn, typ) {
		return 2
	}
	return 5
}

// unwritten are the types that transformers 5 cannot save by themselves: halves
// of another model, and one whose code stands on the hub.
var unwritten = []string{"siglip_text_model", "siglip_vision_model", "minicpm"}

func needsFixture(t *testing.T, typ string) {
	if slices.Contains(unwritten, typ) {
		t.Skip("no fixture: transformers does not save this type by itself")
	}
}

// fixturesOf lists the folders of the fixtures by model type.
var fixturesOf = sync.OnceValue(func() map[string][]string {
	out := map[string][]string{}
	files, _ := filepath.Glob("arch/testdata/*/model.safetensors")
	for _, f := range files {
		dir := filepath.Dir(f)
		var c struct {
			Type string `json:"model_type"`
		}
		if raw, err := os.ReadFile(filepath.Join(dir, "config.json")); err == nil && json.Unmarshal(arch.PlainJSON(raw), &c) == nil {
			out[c.Type] = append(out[c.Type], dir)
		}
	}
	return out
})

// described returns the config, the shapes of all tensors, and those tensors
// whose values are not drawn.
func (c tiny) described(t failer) (conf []byte, shapes map[string][]int, rest map[string]safetensors.Tensor) {
	if c.from == "" {
		conf, err := json.MarshalIndent(c.config, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		tied, _ := c.config["tie_word_embeddings"].(bool)
		if shapes, err = expectedTensors(conf, tied); err != nil {
			t.Fatalf("%v\n%s", err, conf)
		}
		return conf, shapes, nil
	}
	conf, err := os.ReadFile(filepath.Join(c.from, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(c.from, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := safetensors.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	shapes, rest = map[string][]int{}, map[string]safetensors.Tensor{}
	for _, x := range h.Tensors {
		shapes[x.Name] = x.Shape
		if !x.DType.Scalable() {
			at := h.DataStart + x.Begin
			rest[x.Name] = safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: x.Name, DType: x.DType, Shape: x.Shape}, Data: raw[at : at+x.Size()]}
		}
	}
	return conf, shapes, rest
}

// failer is what *testing.T and *rapid.T share here.
type failer interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// write makes the folder.
func (c tiny) write(t failer, dir string) {
	if c.from == "" && c.config == nil {
		t.Fatalf("no fixture of model type %s", c.typ)
	}
	conf, shapes, rest := c.described(t)
	var names []string
	for n := range shapes {
		names = append(names, n)
	}
	sort.Strings(names)
	r := rand.New(rand.NewPCG(c.seed, 7))
	shards := make([][]safetensors.Tensor, c.shards)
	index := map[string]string{}
	file := func(i int) string {
		if c.shards == 1 {
			return "model.safetensors"
		}
		return fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, c.shards)
	}
	for i, n := range names {
		d := c.dtype
		if c.norm32 && strings.Contains(n, "norm") {
			d = dtype.F32
		}
		k := i % c.shards
		if x, ok := rest[n]; ok { // a buffer that holds no real numbers
			shards[k], index[n] = append(shards[k], x), file(k)
			continue
		}
		shards[k] = append(shards[k], tinyTensor(n, shapes[n], d, c.typ, c.spice, r))
		index[n] = file(k)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	put := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	for i, s := range shards {
		var b strings.Builder
		if err := safetensors.Write(&b, map[string]string{"format": "pt"}, s); err != nil {
			t.Fatal(err)
		}
		put(file(i), []byte(b.String()))
	}
	if c.shards > 1 {
		b, _ := json.Marshal(map[string]any{"metadata": map[string]any{}, "weight_map": index})
		put("model.safetensors.index.json", b)
	}
	put("config.json", conf)
	put("tokenizer.json", []byte(`{"version":"1.0"}`))
}
