package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// The size of a step: sequences and the tokens of each.
const (
	batch  = 4
	tokens = 128
)

// shape is a Llama, with the keys that transformers' config.json has.
type shape struct {
	ModelType string  `json:"model_type"`
	Hidden    int     `json:"hidden_size"`
	Layers    int     `json:"num_hidden_layers"`
	Heads     int     `json:"num_attention_heads"`
	KVHeads   int     `json:"num_key_value_heads"`
	HeadDim   int     `json:"head_dim"`
	FFN       int     `json:"intermediate_size"`
	Vocab     int     `json:"vocab_size"`
	Eps       float64 `json:"rms_norm_eps"`
	Act       string  `json:"hidden_act"`
	Tied      bool    `json:"tie_word_embeddings"`
	Positions int     `json:"max_position_embeddings"`
	Theta     float64 `json:"rope_theta"`
}

// shapes are the models measured: the first is that of arena/train's benchmark,
// the second SmolLM2-135M's.
var shapes = map[string]shape{
	"6m":   {"llama", 256, 6, 8, 4, 32, 688, 4096, 1e-5, "silu", false, 512, 10000},
	"135m": {"llama", 576, 30, 9, 3, 64, 1536, 49152, 1e-5, "silu", true, 8192, 100000},
}

// tensors are the checkpoint's tensors.
func (s shape) tensors() map[string][]int {
	q, kv := s.Heads*s.HeadDim, s.KVHeads*s.HeadDim
	m := map[string][]int{"model.embed_tokens.weight": {s.Vocab, s.Hidden}, "model.norm.weight": {s.Hidden}}
	if !s.Tied {
		m["lm_head.weight"] = []int{s.Vocab, s.Hidden}
	}
	for i := range s.Layers {
		for name, dims := range map[string][]int{
			"self_attn.q_proj": {q, s.Hidden}, "self_attn.k_proj": {kv, s.Hidden}, "self_attn.v_proj": {kv, s.Hidden}, "self_attn.o_proj": {s.Hidden, q},
			"mlp.gate_proj": {s.FFN, s.Hidden}, "mlp.up_proj": {s.FFN, s.Hidden}, "mlp.down_proj": {s.Hidden, s.FFN},
			"input_layernorm": {s.Hidden}, "post_attention_layernorm": {s.Hidden},
		} {
			m[fmt.Sprintf("model.layers.%d.%s.weight", i, name)] = dims
		}
	}
	return m
}

func (s shape) graph() (*graph.Graph, error) {
	conf, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	m, err := arch.Build(conf, s.tensors(), arch.Options{Tokens: tokens})
	if err != nil {
		return nil, err
	}
	return m.Graph, nil
}

// weights makes a checkpoint's bytes as they are read: norm gains of one,
// everything else uniform with transformers' initial deviation of 0.02.
type weights struct {
	shapes map[string][]int
	d      dtype.DType // F32 or BF16
}

func (w weights) Weight(name string) (dtype.DType, int64, bool) {
	dims, ok := w.shapes[name]
	n := int64(w.d.Bits() / 8)
	for _, d := range dims {
		n *= int64(d)
	}
	return w.d, n, ok
}

func (w weights) ReadWeight(name string, p []byte, off int64) error {
	width := w.d.Bits() / 8
	norm := strings.Contains(name, "norm")
	state := uint64(len(name))<<32 + uint64(off)
	for _, c := range name {
		state = state*31 + uint64(c)
	}
	for i := 0; i+width <= len(p); i += width {
		state += 0x9E3779B97F4A7C15
		z := (state ^ state>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		x := (float32(z>>40)/(1<<23) - 1) * 0.02 * math.Sqrt2 * 1.2247
		if norm {
			x = 1
		}
		bits := math.Float32bits(x)
		if w.d == dtype.BF16 {
			binary.LittleEndian.PutUint16(p[i:], uint16(bits>>16))
		} else {
			binary.LittleEndian.PutUint32(p[i:], bits)
		}
	}
	return nil
}
