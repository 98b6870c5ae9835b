package specimen

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Spec is a model to train from scratch: its shape and its training.
type Spec struct {
	Name     string // of the folder
	About    string // what it is, for the model card: "a Llama with …"
	Network  Network
	Training Training
}

// Network is the shape of a model of the families that share Llama's block.
type Network struct {
	Type         string // "llama", "qwen3" or "mixtral"
	Vocab        int
	Layers       int
	Hidden       int
	Heads        int
	KVHeads      int
	HeadDim      int
	Intermediate int     // of the MLP, or of each expert
	Experts      int     // mixtral
	Chosen       int     // mixtral: experts per token
	Tied         bool    // the head is the embedding
	Theta        float64 // of the rotary embedding
	Eps          float64 // of the norms
	Positions    int     // max_position_embeddings
}

// Training says on what and how long. The optimizer is AdamW, with warm-up, a
// cosine down to zero, and the gradients' norm clipped at 1.
type Training struct {
	Text    Text
	Window  int // bytes seen at once
	Batch   int // windows per step
	Steps   int
	Warmup  int // steps
	LR      float64
	Decay   float64 // weight decay
	Seed    uint64  // of the initial weights and of the order of the text
	Workers int     // goroutines; 0: one. The result does not depend on it
}

// Known returns the specimens whose trained folders the repository holds.
func Known() []Spec {
	network := Network{Vocab: Bytes, Layers: 4, Hidden: 128, Heads: 4, KVHeads: 2, HeadDim: 32, Intermediate: 384,
		Theta: 10000, Eps: 1e-5, Positions: 512}
	training := Training{Text: Text{Domain: "tales", Seed: 1, Bytes: 8_000_000},
		Window: 256, Batch: 8, Steps: 1200, Warmup: 60, LR: 3e-3, Decay: 0.05, Seed: 1}

	llama, deep, qwen, mixtral := network, network, network, network
	llama.Type, llama.Tied = "llama", true
	deep.Type, deep.Layers, deep.Hidden, deep.Heads, deep.KVHeads, deep.Intermediate = "llama", 16, 64, 2, 1, 192
	qwen.Type = "qwen3"
	mixtral.Type, mixtral.Intermediate, mixtral.Experts, mixtral.Chosen = "mixtral", 96, 4, 2
	return []Spec{
		{"llama-tied", "a Llama whose head is its embedding", llama, training},
		{"llama-deep", "a Llama of sixteen narrow layers", deep, training},
		{"qwen3", "a Qwen3, with norms on queries and keys", qwen, training},
		{"mixtral", "a Mixtral of four experts, of which every token takes two", mixtral, training},
	}
}

// Find returns the known specimen of that name.
func Find(name string) (Spec, error) {
	known := Known()
	i := slices.IndexFunc(known, func(s Spec) bool { return s.Name == name })
	if i < 0 {
		var names []string
		for _, s := range known {
			names = append(names, s.Name)
		}
		return Spec{}, fault.New(fault.Usage, "unknown specimen %q", name).WithHint("known: %v", names)
	}
	return known[i], nil
}

// Dir returns the folder of a known specimen, given the root of a checkout of
// this repository.
func Dir(root, name string) string {
	return filepath.Join(root, "arena", "specimen", "models", name)
}

// leaf is a tensor of a network.
type leaf struct {
	name  string
	shape []int
}

// leaves lists the tensors of a checkpoint, as transformers names them.
func (n Network) leaves() []leaf {
	out := []leaf{{"model.embed_tokens.weight", []int{n.Vocab, n.Hidden}}}
	for i := range n.Layers {
		add := func(name string, shape ...int) {
			out = append(out, leaf{fmt.Sprintf("model.layers.%d.%s.weight", i, name), shape})
		}
		add("input_layernorm", n.Hidden)
		add("self_attn.q_proj", n.Heads*n.HeadDim, n.Hidden)
		add("self_attn.k_proj", n.KVHeads*n.HeadDim, n.Hidden)
		add("self_attn.v_proj", n.KVHeads*n.HeadDim, n.Hidden)
		add("self_attn.o_proj", n.Hidden, n.Heads*n.HeadDim)
		if n.Type == "qwen3" {
			add("self_attn.q_norm", n.HeadDim)
			add("self_attn.k_norm", n.HeadDim)
		}
		add("post_attention_layernorm", n.Hidden)
		if n.Type != "mixtral" {
			add("mlp.gate_proj", n.Intermediate, n.Hidden)
			add("mlp.up_proj", n.Intermediate, n.Hidden)
			add("mlp.down_proj", n.Hidden, n.Intermediate)
			continue
		}
		add("block_sparse_moe.gate", n.Experts, n.Hidden)
		for e := range n.Experts {
			p := fmt.Sprintf("block_sparse_moe.experts.%d.", e)
			add(p+"w1", n.Intermediate, n.Hidden)
			add(p+"w2", n.Hidden, n.Intermediate)
			add(p+"w3", n.Intermediate, n.Hidden)
		}
	}
	out = append(out, leaf{"model.norm.weight", []int{n.Hidden}})
	if !n.Tied {
		out = append(out, leaf{"lm_head.weight", []int{n.Vocab, n.Hidden}})
	}
	return out
}

var classes = map[string]string{"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM", "mixtral": "MixtralForCausalLM"}

// config is config.json, with the keys that transformers 5 writes.
func (n Network) config() ([]byte, error) {
	class, ok := classes[n.Type]
	if !ok {
		return nil, fault.New(fault.Usage, "no specimens of type %q", n.Type).WithHint("known: llama, qwen3, mixtral")
	}
	c := map[string]any{
		"architectures": []string{class}, "model_type": n.Type, "dtype": "bfloat16",
		"vocab_size": n.Vocab, "num_hidden_layers": n.Layers, "hidden_size": n.Hidden,
		"num_attention_heads": n.Heads, "num_key_value_heads": n.KVHeads, "head_dim": n.HeadDim,
		"intermediate_size": n.Intermediate, "hidden_act": "silu", "rms_norm_eps": decimal(n.Eps),
		"rope_parameters":         map[string]any{"rope_theta": decimal(n.Theta), "rope_type": "default"},
		"max_position_embeddings": n.Positions, "tie_word_embeddings": n.Tied,
		"attention_dropout": decimal(0), "initializer_range": decimal(0.02), "use_cache": true,
		// There is no tokenizer, hence no token that begins or ends a text.
		"bos_token_id": nil, "eos_token_id": nil, "pad_token_id": nil,
	}
	switch n.Type {
	case "llama":
		c["attention_bias"], c["mlp_bias"] = false, false
	case "qwen3":
		c["attention_bias"], c["use_sliding_window"], c["sliding_window"] = false, false, nil
	case "mixtral":
		c["num_local_experts"], c["num_experts_per_tok"] = n.Experts, n.Chosen
		c["sliding_window"], c["output_router_logits"] = nil, false
		c["router_aux_loss_coef"], c["router_jitter_noise"] = decimal(0), decimal(0)
	}
	return indented(c)
}

// decimal is a number that JSON shows with a point: transformers refuses an
// integer where it expects a float.
type decimal float64

func (d decimal) MarshalJSON() ([]byte, error) {
	out, err := json.Marshal(float64(d))
	if !bytes.ContainsAny(out, ".e") {
		out = append(out, ".0"...)
	}
	return out, err
}

// indented is JSON as Python writes it with an indent of two.
func indented(v any) ([]byte, error) {
	out, err := json.MarshalIndent(v, "", "  ")
	return append(out, '\n'), err
}
