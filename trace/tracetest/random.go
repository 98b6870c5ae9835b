package tracetest

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// RandomLlama writes a Llama of width 256 with two layers and random weights in
// bf16: rows are whole blocks of Q4_K.
func RandomLlama(dir string) error {
	const hidden, ffn, heads, kv, dim, vocab, layers = 256, 512, 8, 4, 32, 128, 2
	config, err := json.Marshal(map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_size": hidden, "intermediate_size": ffn,
		"num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": dim, "vocab_size": vocab,
		"max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": false,
	})
	if err != nil {
		return err
	}
	m := &Model{Config: config}
	random := rand.New(rand.NewPCG(1, 256))
	add := func(name string, shape ...int) {
		x := Tensor{Name: name + ".weight", DType: dtype.BF16, Shape: shape}
		n := shape[0]
		if len(shape) > 1 {
			n *= shape[1]
		}
		for range n {
			v := 1 + 0.1*random.NormFloat64()
			if len(shape) > 1 {
				v = 0.05 * random.NormFloat64()
			}
			x.Data = append(x.Data, float32(v))
		}
		m.Tensors = append(m.Tensors, x)
	}
	add("model.embed_tokens", vocab, hidden)
	for l := range layers {
		p := fmt.Sprintf("model.layers.%d.", l)
		add(p+"input_layernorm", hidden)
		add(p+"self_attn.q_proj", heads*dim, hidden)
		add(p+"self_attn.k_proj", kv*dim, hidden)
		add(p+"self_attn.v_proj", kv*dim, hidden)
		add(p+"self_attn.o_proj", hidden, heads*dim)
		add(p+"post_attention_layernorm", hidden)
		add(p+"mlp.gate_proj", ffn, hidden)
		add(p+"mlp.up_proj", ffn, hidden)
		add(p+"mlp.down_proj", hidden, ffn)
	}
	add("model.norm", hidden)
	add("lm_head", vocab, hidden)
	return m.Write(dir)
}
