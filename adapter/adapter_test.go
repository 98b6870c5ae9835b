package adapter

import (
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// model is a small network in names and shapes.
var model = Model{
	"model.embed_tokens.weight":                           {Shape: []int{10, 4}, Moves: true},
	"model.layers.0.q.weight":                             {Shape: []int{6, 4}, Moves: true},
	"model.layers.0.q.bias":                               {Shape: []int{6}, Moves: true},
	"model.layers.0.square.weight":                        {Shape: []int{4, 4}},
	"model.layers.0.hole.weight":                          {},
	"model.layers.0.coded.weight":                         {Shape: []int{12, 1}},
	"model.layers.0.coded.weight.absmax":                  {Shape: []int{1}, Moves: true},
	"model.layers.0.packed.qweight":                       {Shape: []int{12, 1}},
	"model.layers.0.mlp.experts.gate_up_proj":             {Shape: []int{3, 4, 10}, Moves: true},
	"model.layers.0.mlp.experts.down_proj":                {Shape: []int{3, 5, 4}, Moves: true},
	"model.layers.1.block_sparse_moe.experts.0.w1.weight": {Shape: []int{5, 4}, Moves: true},
	"model.layers.1.block_sparse_moe.experts.0.w3.weight": {Shape: []int{5, 4}, Moves: true},
	"model.layers.1.block_sparse_moe.experts.1.w1.weight": {Shape: []int{5, 4}, Moves: true},
	"model.layers.1.block_sparse_moe.experts.1.w3.weight": {Shape: []int{5, 4}, Moves: true},
}

// pair is an update's two matrices.
func pair(path string, rank, in, out int) []Tensor {
	return []Tensor{{"base_model.model." + path + ".lora_A.weight", []int{rank, in}}, {"base_model.model." + path + ".lora_B.weight", []int{out, rank}}}
}

func one(name string, shape ...int) Tensor { return Tensor{"base_model.model." + name, shape} }

// TestPieces: which axes an adapter's tensors follow.
func TestPieces(t *testing.T) {
	experts := Config{Type: LoRA, Rank: 2, Parameters: []string{"mlp.experts.gate_up_proj", "mlp.experts.down_proj"}}
	plain := Config{Type: LoRA, Rank: 2}
	for _, c := range []struct {
		name    string
		conf    Config
		tensors []Tensor
		want    string // of each piece: weight, followed axes
	}{
		{"linear", plain, pair("model.layers.0.q", 2, 4, 6), "q.weight [0 -1] output; q.weight [-1 1] input"},
		{"other prefix", plain, pair("layers.0.q", 2, 4, 6), "q.weight [0 -1] output; q.weight [-1 1] input"},
		{"longer prefix", plain, pair("body.model.layers.0.q", 2, 4, 6), "q.weight [0 -1] output; q.weight [-1 1] input"},
		{"transposed", plain, pair("model.layers.0.q", 2, 6, 4), "q.weight [1 -1] output; q.weight [-1 0] input"},
		{"square", plain, pair("model.layers.0.square", 2, 4, 4), "square.weight [0 -1] output; square.weight [-1 1] input"},
		{"square, transposed", Config{Type: LoRA, FanInFanOut: true}, pair("model.layers.0.square", 2, 4, 4), "square.weight [1 -1] output; square.weight [-1 0] input"},
		{"no shape", plain, pair("model.layers.0.hole", 2, 9, 9), "hole.weight [0 -1] output; hole.weight [-1 1] input"},
		{"bias of B", plain, append(pair("model.layers.0.q", 2, 4, 6), one("model.layers.0.q.lora_B.bias", 6)), "q.weight [0 -1] output; q.weight [-1 1] input; q.weight [0] added"},
		{"DoRA", Config{Type: LoRA, DoRA: true}, append(pair("model.layers.0.q", 2, 4, 6), one("model.layers.0.q.lora_magnitude_vector", 6)), "q.weight [0 -1] output; q.weight [-1 1] input; q.weight [0] magnitude"},
		{"embedding", plain, []Tensor{one("model.embed_tokens.lora_embedding_A", 2, 10), one("model.embed_tokens.lora_embedding_B", 4, 2)}, "embed_tokens.weight [1 -1] output; embed_tokens.weight [-1 0] input"},
		{"tokens", plain, []Tensor{one("model.embed_tokens.token_adapter.trainable_tokens_delta", 3, 4)}, "embed_tokens.weight [-1 1] full"},
		{"bias", plain, []Tensor{one("model.layers.0.q.base_layer.bias", 6)}, "q.bias [0] full"},
		{"saved", plain, []Tensor{one("model.embed_tokens.weight", 10, 4)}, "embed_tokens.weight [0 1] full"},
		{"gain of outputs", Config{Type: IA3}, []Tensor{one("model.layers.0.q.ia3_l", 6, 1)}, "q.weight [0 -1] gain"},
		{"gain of inputs", Config{Type: IA3}, []Tensor{one("model.layers.0.q.ia3_l", 1, 4)}, "q.weight [-1 1] gain"},
		{"experts", experts, append(pair("model.layers.0.mlp.experts.base_layer", 6, 4, 10), pair("model.layers.0.mlp.experts", 6, 5, 4)...),
			"gate_up_proj [2 -1 0] output; gate_up_proj [0 -1 1] input; down_proj [2 -1 0] output; down_proj [0 -1 1] input"},
		{"joined experts", experts, pair("model.layers.1.mlp.experts", 4, 4, 10), "gate_up_proj [1 -1 0] output; gate_up_proj [0 -1 2] input"},
	} {
		list, err := Pieces(&c.conf, c.tensors, model)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		var got []string
		for _, p := range list {
			of := strings.Split(p.Of, ".")
			name := of[len(of)-1]
			if name == "weight" || name == "bias" {
				name = of[len(of)-2] + "." + name
			}
			got = append(got, name+" "+ints(p.Follows)+" "+[]string{"output", "input", "added", "full", "magnitude", "gain"}[p.Role])
			if n, m := product(p.Shape), product(shapeOf(c.tensors, p.Name)); n != m {
				t.Errorf("%s: %s has %d elements, seen as %d", c.name, p.Name, m, n)
			}
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s: %s, want %s", c.name, text, c.want)
		}
	}
}

func ints(list []int) string {
	var b strings.Builder
	b.WriteByte('[')
	for i, n := range list {
		if i > 0 {
			b.WriteByte(' ')
		}
		if n < 0 {
			b.WriteByte('-')
			n = -n
		}
		b.WriteByte(byte('0' + n))
	}
	return b.String() + "]"
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

func shapeOf(list []Tensor, name string) []int {
	return list[slices.IndexFunc(list, func(t Tensor) bool { return t.Name == name })].Shape
}

// TestPiecesRefused: what does not fit is named, with what to do.
func TestPiecesRefused(t *testing.T) {
	plain := Config{Type: LoRA, Rank: 2}
	two := Model{"a.q.weight": {Shape: []int{2, 3}}, "b.q.weight": {Shape: []int{2, 3}}}
	for _, c := range []struct {
		name    string
		conf    Config
		tensors []Tensor
		in      Model
		kind    fault.Kind
		word    string
	}{
		{"nothing", plain, nil, model, fault.Mismatch, "holds no tensor"},
		{"one side", plain, pair("model.layers.0.q", 2, 4, 6)[:1], model, fault.Mismatch, "incomplete"},
		{"ranks", plain, append(pair("model.layers.0.q", 2, 4, 6)[:1], one("model.layers.0.q.lora_B.weight", 6, 3)), model, fault.Mismatch, "rank 2 on one side"},
		{"rank of the config", plain, pair("model.layers.0.q", 3, 4, 6), model, fault.Mismatch, "rank 3"},
		{"shape", plain, pair("model.layers.0.q", 2, 4, 7), model, fault.Mismatch, "7 outputs"},
		{"no module", plain, pair("model.layers.0.k", 2, 4, 6), model, fault.Mismatch, "no tensor"},
		{"convolution", plain, []Tensor{one("model.layers.0.q.lora_A.weight", 2, 4, 3, 3), one("model.layers.0.q.lora_B.weight", 6, 2, 1, 1)}, model, fault.Unsupported, "matrices"},
		{"bitsandbytes", plain, pair("model.layers.0.coded", 2, 4, 6), model, fault.Unsupported, "quantised"},
		{"packed", plain, pair("model.layers.0.packed", 2, 4, 6), model, fault.Mismatch, "no tensor"},
		{"two of a name", plain, pair("q", 2, 3, 2), two, fault.Mismatch, "could be a.q.weight or b.q.weight"},
		{"uncertain square", Config{Type: LoRA, FanInFanOut: true}, append(pair("model.layers.0.q", 2, 4, 6), pair("model.layers.0.square", 2, 4, 4)...), model, fault.Unsupported, "not certain"},
		{"empty", plain, []Tensor{one("model.layers.0.q.lora_A.weight", 0)}, model, fault.Mismatch, "incompletely"},
		{"twice", plain, []Tensor{one("model.layers.0.q.lora_A.weight", 2, 4), {"model.layers.0.q.lora_A.weight", []int{2, 4}}}, model, fault.Mismatch, "twice"},
		{"new head", plain, []Tensor{one("score.weight", 2, 4)}, model, fault.Mismatch, "classifiers"},
		{"strange", plain, []Tensor{one("model.layers.0.q.lora_E", 2, 4)}, model, fault.Unsupported, "lora_E"},
		{"magnitude unsaid", plain, append(pair("model.layers.0.q", 2, 4, 6), one("model.layers.0.q.lora_magnitude_vector", 6)), model, fault.Mismatch, "use_dora"},
		{"no magnitude", Config{Type: LoRA, DoRA: true}, pair("model.layers.0.q", 2, 4, 6), model, fault.Mismatch, "use_dora"},
		{"gain of LoRA", plain, []Tensor{one("model.layers.0.q.ia3_l", 6, 1)}, model, fault.Mismatch, "ia3_l"},
		{"gain's size", Config{Type: IA3}, []Tensor{one("model.layers.0.q.ia3_l", 5, 1)}, model, fault.Mismatch, "ia3_l"},
		{"parameter", Config{Type: LoRA, Parameters: []string{"mlp.experts.gate_up_proj"}}, pair("model.layers.0.mlp.experts", 6, 5, 4), model, fault.Unsupported, "target_parameters"},
	} {
		_, err := Pieces(&c.conf, c.tensors, c.in)
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error()+fault.HintOf(err), c.word) {
			t.Errorf("%s: kind %d, %v (%s)", c.name, fault.KindOf(err), err, fault.HintOf(err))
		}
	}
}

// TestConfig: what a config may say.
func TestConfig(t *testing.T) {
	for text, word := range map[string]string{
		`{"peft_type": "LORA", "r": 8, "rank_pattern": {"q": 4}, "corda_config": null, "kasa_config": null, "megatron_config": null, "future": false, "init_lora_weights": "gaussian"}`: "",
		`{"peft_type": "IA3", "feedforward_modules": ["a"], "init_ia3_weights": true}`:                                                                                                  "",
		`[]`:                              "JSON object",
		`{`:                               "JSON object",
		`{}`:                              "no peft_type",
		`{"peft_type": "LORA", "r": "8"}`: "r",
		`{"peft_type": "PREFIX_TUNING"}`:  "activations",
		`{"peft_type": "BOFT"}`:           "rotation",
		`{"peft_type": "LOKR"}`:           "LOKR",
		`{"peft_type": "LORA", "layer_replication": [[0, 1]]}`:       "layer_replication",
		`{"peft_type": "LORA", "future": 1}`:                         "future",
		`{"peft_type": "LORA", "init_lora_weights": "olora"}`:        "olora",
		`{"peft_type": "IA3", "r": 3}`:                               "option r",
		`{"peft_type": "LORA", "use_bdlora": {"nblocks": 2}}`:        "use_bdlora",
		`{"peft_type": "LORA", "target_parameters": "experts.down"}`: "target_parameters",
	} {
		c, err := ReadConfig([]byte(text))
		if word == "" {
			if err != nil || c.Type == "" {
				t.Errorf("%s: %v", text, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v, want %q", text, err, word)
		}
	}
}

// FuzzPieces: no config and no names crash, and every piece fits its tensor.
func FuzzPieces(f *testing.F) {
	f.Add([]byte(`{"peft_type": "LORA", "r": 2}`), "model.layers.0.q.lora_A.weight\nmodel.layers.0.q.lora_B.weight", 2, 4, 6)
	f.Add([]byte(`{"peft_type": "LORA", "target_parameters": ["mlp.experts.gate_up_proj", "x"]}`), "model.layers.1.mlp.experts.base_layer.lora_A.weight\nmodel.layers.1.mlp.experts.base_layer.lora_B.weight", 4, 4, 10)
	f.Add([]byte(`{"peft_type": "IA3"}`), "model.layers.0.q.ia3_l\n.base_layer.bias\n.", 1, 1, 6)
	f.Fuzz(func(t *testing.T, conf []byte, names string, rank, in, out int) {
		c, err := ReadConfig(conf)
		if err != nil {
			return
		}
		var tensors []Tensor
		for i, n := range strings.Split(names, "\n") {
			shape := []int{rank, in}
			if i%2 == 1 {
				shape = []int{out, rank}
			}
			if slices.ContainsFunc(tensors, func(t Tensor) bool { return t.Name == n }) {
				return // no file holds a name twice
			}
			tensors = append(tensors, Tensor{n, shape})
		}
		list, err := Pieces(c, tensors, model)
		if err != nil {
			return
		}
		for _, p := range list {
			if len(p.Follows) != len(p.Shape) || product(p.Shape) != product(shapeOf(tensors, p.Name)) {
				t.Fatalf("%+v does not fit", p)
			}
			shape := p.Whole
			if shape == nil {
				shape = model[p.Of].Shape
			}
			for i, a := range p.Follows {
				if a >= 0 && shape != nil && shape[a] != p.Shape[i] {
					t.Fatalf("%+v does not fit %v", p, shape)
				}
			}
		}
	})
}
