package trace

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/gguf"
)

// ggufAlias is where a GGUF holds a weight that the Hub knows by another name.
type ggufAlias struct {
	stored      string
	part, parts int // which of so many equal parts of the stored tensor it is
	pairs       int // width of heads whose rotary pairs stand as (2i, 2i+1), which the Hub has as (i, i+width/2); 0: as on the Hub
}

// Names of tensors, without their ending; several where families differ.
// Source: gguf-py's tensor_mapping.py and convert_hf_to_gguf.py.
var (
	ggufWhole = map[string][]string{
		"token_embd": {"model.embed_tokens"}, "output_norm": {"model.norm"}, "output": {"lm_head"},
	}
	ggufLayer = map[string][]string{
		"attn_q": {"self_attn.q_proj"}, "attn_k": {"self_attn.k_proj"}, "attn_v": {"self_attn.v_proj"},
		"attn_output": {"self_attn.o_proj"}, "attn_qkv": {"self_attn.qkv_proj"},
		"attn_q_norm": {"self_attn.q_norm"}, "attn_k_norm": {"self_attn.k_norm"},
		"attn_norm": {"input_layernorm"}, "ffn_norm": {"post_attention_layernorm", "pre_feedforward_layernorm"},
		"post_attention_norm": {"post_attention_layernorm"}, "post_ffw_norm": {"post_feedforward_layernorm"},
		"ffn_gate": {"mlp.gate_proj"}, "ffn_up": {"mlp.up_proj", "mlp.gate_up_proj", "mlp.c_fc"}, "ffn_down": {"mlp.down_proj", "mlp.c_proj"},
		"ffn_gate_inp": {"mlp.gate", "mlp.router", "block_sparse_moe.gate"},
		"attn_q_a":     {"self_attn.q_a_proj"}, "attn_q_a_norm": {"self_attn.q_a_layernorm"}, "attn_q_b": {"self_attn.q_b_proj"},
		"attn_kv_a_mqa": {"self_attn.kv_a_proj_with_mqa"}, "attn_kv_a_norm": {"self_attn.kv_a_layernorm"}, "attn_kv_b": {"self_attn.kv_b_proj"},
		"ffn_gate_shexp": {"mlp.shared_experts.gate_proj", "mlp.shared_expert.gate_proj"},
		"ffn_up_shexp":   {"mlp.shared_experts.up_proj", "mlp.shared_expert.up_proj"},
		"ffn_down_shexp": {"mlp.shared_experts.down_proj", "mlp.shared_expert.down_proj"},
	}
	ggufExperts = map[string][]string{
		"ffn_gate_exps": {"mlp.experts.%d.gate_proj", "block_sparse_moe.experts.%d.w1"},
		"ffn_up_exps":   {"mlp.experts.%d.up_proj", "block_sparse_moe.experts.%d.w3"},
		"ffn_down_exps": {"mlp.experts.%d.down_proj", "block_sparse_moe.experts.%d.w2"},
	}
)

// maxExperts bounds the experts of a layer.
const maxExperts = 1 << 12

// aliasesOf finds the Hub's names of a model's tensors. A name that does not
// belong to the family does no harm: no plan asks for it, or its shape differs.
func aliasesOf(m *gguf.Model) map[string]ggufAlias {
	out := map[string]ggufAlias{}
	arch := m.Header().Text("general.architecture")
	for _, f := range m.Files() {
		for _, t := range f.Tensors {
			base, end := t.Name, ""
			if i := strings.LastIndexByte(base, '.'); i >= 0 && (base[i:] == ".weight" || base[i:] == ".bias") {
				base, end = base[:i], base[i:]
			}
			for _, to := range ggufWhole[base] {
				out[to+end] = ggufAlias{stored: t.Name, parts: 1}
			}
			layer, rest, ok := layerOf(base)
			if !ok {
				continue
			}
			prefix := fmt.Sprintf("model.layers.%d.", layer)
			for _, to := range ggufLayer[rest] {
				out[prefix+to+end] = ggufAlias{stored: t.Name, parts: 1, pairs: rotaryPairs(f, arch, rest)}
			}
			if shape := t.Shape(); len(shape) == 3 && shape[0] <= maxExperts {
				for _, to := range ggufExperts[rest] {
					for e := range shape[0] {
						out[prefix+fmt.Sprintf(to, e)+end] = ggufAlias{stored: t.Name, part: e, parts: shape[0]}
					}
				}
			}
		}
	}
	return out
}

// rotaryPairs is the width of the heads of a projection that the converter of
// the family permutes; 0 where it does not.
func rotaryPairs(f *gguf.File, arch, tensor string) int {
	if arch != "llama" || tensor != "attn_q" && tensor != "attn_k" {
		return 0
	}
	if n, ok := f.Number(arch + ".attention.key_length"); ok {
		return evenWidth(n)
	}
	width, ok1 := f.Number(arch + ".embedding_length")
	heads, ok2 := f.Number(arch + ".attention.head_count")
	if !ok1 || !ok2 || heads < 1 {
		return 0
	}
	return evenWidth(width / heads)
}

// evenWidth is the width of a head that has pairs, 0 of one that has none.
func evenWidth(n float64) int {
	if n < 2 || n > 1<<20 || int(n)%2 != 0 {
		return 0
	}
	return int(n)
}

// layerOf splits "blk.3.attn_q".
func layerOf(base string) (i int, rest string, ok bool) {
	s, ok := strings.CutPrefix(base, "blk.")
	if !ok {
		return 0, "", false
	}
	n, rest, ok := strings.Cut(s, ".")
	i, err := strconv.Atoi(n)
	return i, rest, ok && err == nil && i >= 0
}
