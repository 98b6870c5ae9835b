package arch

import (
	"encoding/json"
	"maps"
	"math"
	"strconv"

	"github.com/neuroseal/neuroseal/graph"
)

// names joins tables of names; later ones win.
func names(ms ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range ms {
		maps.Copy(out, m)
	}
	return out
}

var (
	decoderWhole = map[string]string{"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
	attentionQKV = map[string]string{
		"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
		"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm",
	}
	gatedMLP = map[string]string{"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
	preNorms = map[string]string{"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
	sandwich = map[string]string{
		"attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm",
		"ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
	}
	wideMLP = map[string]string{"ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h"}
)

// decoderOf is a dialect with the names that most decoders share.
func decoderOf(config func(*ggufModel) map[string]any, more ...map[string]string) dialect {
	layer := names(append([]map[string]string{attentionQKV, gatedMLP, preNorms}, more...)...)
	return dialect{config: config, whole: decoderWhole, layer: layer, prefix: "model.layers.%d.", epsilon: "rms_norm_eps"}
}

func (d dialect) wholeGains() dialect {
	d.gains = true
	return d
}

var dialects = map[string]dialect{
	"llama":    decoderOf(ggufLlama),
	"qwen2":    decoderOf(ggufQwen2),
	"qwen3":    decoderOf(ggufQwen3),
	"qwen3moe": decoderOf(ggufQwen3MoE, map[string]string{"ffn_gate_inp": "mlp.gate"}),
	"gemma":    decoderOf(ggufGemma).wholeGains(),
	"gemma2":   decoderOf(ggufGemma2, sandwich).wholeGains(),
	"gemma3":   decoderOf(ggufGemma3, sandwich).wholeGains(),
	"phi3":     decoderOf(ggufPhi3, map[string]string{"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}),
	"olmo2":    decoderOf(ggufOLMo2, map[string]string{"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"}),
	"gpt-oss": decoderOf(ggufGPTOSS, map[string]string{
		"post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router",
	}),
	"deepseek2": decoderOf(ggufDeepSeek2, map[string]string{
		"attn_q_a": "self_attn.q_a_proj", "attn_q_a_norm": "self_attn.q_a_layernorm", "attn_q_b": "self_attn.q_b_proj",
		"attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa", "attn_kv_a_norm": "self_attn.kv_a_layernorm", "attn_kv_b": "self_attn.kv_b_proj",
		"ffn_gate_inp": "mlp.gate", "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
		"ffn_up_shexp": "mlp.shared_experts.up_proj", "ffn_down_shexp": "mlp.shared_experts.down_proj",
	}),
	"starcoder2": {
		config: ggufStarCoder2, whole: decoderWhole, prefix: "model.layers.%d.", epsilon: "norm_epsilon", layerNorm: true,
		layer: names(attentionQKV, preNorms, map[string]string{"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}),
	},
	"gpt2": {
		config: ggufGPT2, prefix: "transformer.h.%d.", epsilon: "layer_norm_epsilon", layerNorm: true,
		whole: map[string]string{"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f", "output": "lm_head"},
		layer: map[string]string{
			"attn_norm": "ln_1", "ffn_norm": "ln_2", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
		},
	},
	"falcon": {
		config: ggufFalcon, prefix: "transformer.h.%d.", epsilon: "layer_norm_epsilon", layerNorm: true,
		whole: map[string]string{"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head"},
		layer: names(wideMLP, map[string]string{"attn_output": "self_attention.dense"}),
	},
	"gptneox": {
		config: ggufNeoX, prefix: "gpt_neox.layers.%d.", epsilon: "layer_norm_eps", layerNorm: true,
		whole: map[string]string{"token_embd": "gpt_neox.embed_in", "output_norm": "gpt_neox.final_layer_norm", "output": "embed_out"},
		layer: names(wideMLP, preNorms, map[string]string{"attn_output": "attention.dense"}),
	},
	"mamba": {
		config: ggufMamba, prefix: "backbone.layers.%d.", epsilon: "layer_norm_epsilon",
		whole: map[string]string{"token_embd": "backbone.embeddings", "output_norm": "backbone.norm_f", "output": "lm_head"},
		layer: map[string]string{
			"attn_norm": "norm", "ssm_in": "mixer.in_proj", "ssm_conv1d": "mixer.conv1d", "ssm_x": "mixer.x_proj", "ssm_dt": "mixer.dt_proj",
			"ssm_d": "mixer.D", "ssm_out": "mixer.out_proj",
		},
	},
	"bert": {
		config: ggufBERT, prefix: "encoder.layer.%d.", epsilon: "layer_norm_eps", layerNorm: true,
		whole: map[string]string{
			"token_embd": "embeddings.word_embeddings", "token_types": "embeddings.token_type_embeddings",
			"position_embd": "embeddings.position_embeddings", "token_embd_norm": "embeddings.LayerNorm",
		},
		layer: map[string]string{
			"attn_q": "attention.self.query", "attn_k": "attention.self.key", "attn_v": "attention.self.value",
			"attn_output": "attention.output.dense", "attn_output_norm": "attention.output.LayerNorm",
			"ffn_up": "intermediate.dense", "ffn_down": "output.dense", "layer_output_norm": "output.LayerNorm",
		},
	},
}

// decoder is the config of a decoder with heads of one width and a gated MLP.
func (g *ggufModel) decoder(model string) map[string]any {
	conf := map[string]any{
		"model_type": model, "num_attention_heads": g.heads, "num_key_value_heads": g.kv, "head_dim": g.dim,
		"intermediate_size": g.size("feed_forward_length"),
	}
	g.rope(conf)
	return conf
}

// ggufLlama: Llama and Mistral; with experts, Mixtral. Rotary pairs stand side
// by side; the sliding window of Mistral is not in the format.
func ggufLlama(g *ggufModel) map[string]any {
	conf := g.decoder("llama")
	g.fullRope()
	g.views.pairs = true
	conf["attention_bias"], conf["mlp_bias"] = g.stores("attn_q.bias"), g.stores("ffn_up.bias")
	n, k := g.count("expert_count", 0), g.count("expert_used_count", 0)
	if n == 0 {
		return conf
	}
	if g.stores("attn_q.bias") {
		g.failf("experts beside attention with biases are not supported")
	}
	conf["model_type"], conf["num_local_experts"], conf["num_experts_per_tok"] = "mixtral", n, k
	delete(conf, "mlp_bias")
	g.each("ffn_gate_inp.weight", func(stored, layer string, shape []int) {
		g.same(layer+"block_sparse_moe.gate.weight", stored, shape)
	})
	g.experts("block_sparse_moe.experts.", [3]string{"w1", "w3", "w2"})
	return conf
}

// experts shows the fused experts [E,out,in] as the Hub's single ones; names
// are those of gate, up and down.
func (g *ggufModel) experts(below string, names [3]string) {
	for i, part := range []string{"ffn_gate_exps.weight", "ffn_up_exps.weight", "ffn_down_exps.weight"} {
		if !g.ranked(part, 3) {
			return
		}
		g.each(part, func(stored, layer string, shape []int) {
			for e := range shape[0] {
				g.part(layer+below+strconv.Itoa(e)+"."+names[i]+".weight", stored, e)
			}
		})
	}
}

func ggufQwen2(g *ggufModel) map[string]any {
	conf := g.decoder("qwen2")
	g.fullRope()
	if g.dim*g.heads != g.hidden {
		g.failf("%d heads of %d elements in a width of %d are not supported for qwen2", g.heads, g.dim, g.hidden)
	}
	delete(conf, "head_dim")
	return conf
}

func ggufQwen3(g *ggufModel) map[string]any {
	conf := g.decoder("qwen3")
	g.fullRope()
	conf["attention_bias"] = g.stores("attn_q.bias")
	return conf
}

func ggufQwen3MoE(g *ggufModel) map[string]any {
	conf := g.decoder("qwen3_moe")
	g.fullRope()
	conf["attention_bias"] = g.stores("attn_q.bias")
	conf["num_experts"], conf["num_experts_per_tok"] = g.size("expert_count"), g.size("expert_used_count")
	conf["moe_intermediate_size"] = g.size("expert_feed_forward_length")
	conf["norm_topk_prob"] = true // the runtime always does
	g.experts("mlp.experts.", gateUpDown)
	return conf
}

func ggufGemma(g *ggufModel) map[string]any {
	conf := g.decoder("gemma")
	g.fullRope()
	conf["hidden_act"] = "gelu_pytorch_tanh"
	return conf
}

// gemmaScale is what the scores are divided by the root of: the width of a
// head, but in the largest model of a generation the mean width of all.
func (g *ggufModel) gemmaScale(largest int) float64 {
	if s := g.number("attention.scale", 0); s > 0 {
		return 1 / (s * s)
	}
	if g.layers == largest && g.heads > 0 {
		return float64(g.hidden / g.heads)
	}
	return float64(g.dim)
}

func ggufGemma2(g *ggufModel) map[string]any {
	conf := g.decoder("gemma2")
	g.fullRope()
	conf["query_pre_attn_scalar"] = g.gemmaScale(46)
	conf["attn_logit_softcapping"] = g.number("attn_logit_softcapping", 50)
	conf["final_logit_softcapping"] = g.number("final_logit_softcapping", 30)
	conf["sliding_window"] = g.count("attention.sliding_window", 4096)
	return conf
}

func ggufGemma3(g *ggufModel) map[string]any {
	conf := g.decoder("gemma3_text")
	g.fullRope()
	conf["query_pre_attn_scalar"] = g.gemmaScale(62)
	conf["sliding_window"] = g.size("attention.sliding_window")
	conf["sliding_window_pattern"] = g.count("attention.sliding_window_pattern", 6)
	conf["rope_local_base_freq"] = g.number("rope.freq_base_swa", 10000)
	if c := g.number("final_logit_softcapping", 0); c != 0 {
		conf["final_logit_softcapping"] = c
	}
	return conf
}

// ggufPhi3: the runtime ignores the sliding window.
func ggufPhi3(g *ggufModel) map[string]any {
	conf := g.decoder("phi3")
	delete(conf, "head_dim")
	g.partial(conf)
	g.ignore("attention.sliding_window")
	if g.dim*g.heads != g.hidden {
		g.failf("%d heads of %d elements in a width of %d are not supported for phi3", g.heads, g.dim, g.hidden)
	}
	return conf
}

func ggufOLMo2(g *ggufModel) map[string]any {
	conf := g.decoder("olmo2")
	g.fullRope()
	delete(conf, "head_dim")
	return conf
}

// ggufGPTOSS: gate and up stand apart, [E,out,in], where the Hub interleaves them.
func ggufGPTOSS(g *ggufModel) map[string]any {
	conf := g.decoder("gpt_oss")
	g.fullRope()
	conf["num_local_experts"], conf["num_experts_per_tok"] = g.size("expert_count"), g.size("expert_used_count")
	conf["intermediate_size"] = g.count("expert_feed_forward_length", g.count("feed_forward_length", 1))
	conf["sliding_window"] = g.count("attention.sliding_window", 128)
	if y, ok := conf["rope_scaling"].(map[string]any); ok && y["rope_type"] == "yarn" {
		y["truncate"] = false
	} else {
		conf["rope_scaling"] = map[string]any{"rope_type": "default"}
	}
	g.each("attn_sinks.weight", func(stored, layer string, shape []int) { g.same(layer+"self_attn.sinks", stored, shape) })
	for _, end := range []string{".weight", ".bias"} {
		for _, part := range []string{"gate", "up", "down"} {
			tensor := "ffn_" + part + "_exps" + end
			if !g.ranked(tensor, map[string]int{".weight": 3, ".bias": 2}[end]) {
				return conf
			}
			g.each(tensor, func(stored, layer string, s []int) {
				for e := range s[0] {
					g.part(layer+"mlp.experts."+strconv.Itoa(e)+"."+part+"_proj"+end, stored, e)
				}
			})
		}
	}
	g.stacked()
	return conf
}

func ggufStarCoder2(g *ggufModel) map[string]any {
	conf := g.decoder("starcoder2")
	g.fullRope()
	delete(conf, "head_dim")
	conf["use_bias"] = g.stores("attn_q.bias")
	return conf
}

// ggufGPT2: matrices are stored [out,in]; the Hub has [in,out].
func ggufGPT2(g *ggufModel) map[string]any {
	for stored, to := range map[string]string{
		"attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj",
	} {
		if g.ranked(stored+".weight", 2) {
			g.each(stored+".weight", func(stored, layer string, _ []int) { g.transposed(layer+to+".weight", stored) })
		}
	}
	return map[string]any{
		"model_type": "gpt2", "num_attention_heads": g.heads, "n_inner": g.size("feed_forward_length"),
		"activation_function": "gelu_new",
	}
}

// ggufFalcon: Falcon 7B, whose one norm serves both halves, 40B with two, and
// 11B with one and grouped heads.
func ggufFalcon(g *ggufModel) map[string]any {
	conf := map[string]any{
		"model_type": "falcon", "num_attention_heads": g.heads, "bias": g.stores("attn_qkv.bias"), "parallel_attn": true, "alibi": false,
		"multi_query": true, "ffn_hidden_size": g.size("feed_forward_length"), "activation": "gelu",
	}
	g.rope(conf)
	g.fullRope()
	two := g.stores("attn_norm_2.weight")
	grouped := two || g.kv > 1
	conf["new_decoder_architecture"] = grouped
	norm := "input_layernorm"
	if grouped {
		conf["num_kv_heads"] = g.kv
		conf["num_ln_in_parallel_attn"] = 1
		if two {
			conf["num_ln_in_parallel_attn"] = 2
			norm = "ln_mlp"
		}
	}
	for _, end := range []string{".weight", ".bias"} {
		g.each("attn_norm"+end, func(stored, layer string, s []int) { g.same(layer+norm+end, stored, s) })
		g.each("attn_norm_2"+end, func(stored, layer string, s []int) { g.same(layer+"ln_attn"+end, stored, s) })
	}
	g.fused("self_attention.query_key_value", g.kv)
	return conf
}

// fused shows rows [queries; keys; values] of attn_qkv as the Hub's.
func (g *ggufModel) fused(to string, kv int) {
	for _, end := range []string{".weight", ".bias"} {
		g.each("attn_qkv"+end, func(stored, layer string, s []int) {
			if n := len(s); kv < 1 || g.heads%kv != 0 || n < 1 || n > 2 || s[0] != (g.heads+2*kv)*g.dim {
				g.failf("tensor %s of shape %v for %d heads and %d of keys and values", stored, s, g.heads, kv)
				return
			}
			g.grouped(layer+to+end, stored, kv, g.heads/kv)
		})
	}
}

func ggufNeoX(g *ggufModel) map[string]any {
	conf := map[string]any{
		"model_type": "gpt_neox", "num_attention_heads": g.heads, "intermediate_size": g.size("feed_forward_length"), "hidden_act": "gelu",
		"use_parallel_residual": g.boolean("use_parallel_residual", true), "attention_bias": g.stores("attn_qkv.bias"),
		"partial_rotary_factor": 1.0,
	}
	g.rope(conf)
	g.partial(conf)
	if g.kv != g.heads {
		g.failf("%d heads of keys and values for %d of queries", g.kv, g.heads)
	}
	g.fused("attention.query_key_value", g.heads)
	return conf
}

// ggufMamba: the decay is stored as -exp(A_log).
func ggufMamba(g *ggufModel) map[string]any {
	if g.boolean("ssm.dt_b_c_rms", false) {
		g.failf("norms of the time step, B and C (FalconMamba) are not supported")
	}
	g.ignore("feed_forward_length") // 0
	g.each("ssm_a", func(stored, layer string, s []int) {
		g.views.byName[layer+"mixer.A_log"] = view{s, func(b *graph.Builder, leaf func(string) graph.ID) graph.ID {
			return b.Apply(graph.OpLog, b.Apply(graph.OpNeg, leaf(stored)))
		}}
	})
	if !g.ranked("ssm_conv1d.weight", 2) {
		return nil
	}
	g.each("ssm_conv1d.weight", func(stored, layer string, s []int) {
		// The Hub's shape, with as many elements in the same order: as a matrix it
		// would have a factor per tap that a convolution cannot have.
		shape := []int{s[0], 1, s[1]}
		g.views.stored[stored] = shape
		g.same(layer+"mixer.conv1d.weight", stored, shape)
	})
	return map[string]any{
		"model_type": "mamba", "state_size": g.size("ssm.state_size"), "conv_kernel": g.size("ssm.conv_kernel"),
		"intermediate_size": g.size("ssm.inner_size"), "time_step_rank": g.size("ssm.time_step_rank"),
		"use_bias": g.stores("ssm_in.bias"), "use_conv_bias": g.stores("ssm_conv1d.bias"), "max_position_embeddings": nil,
	}
}

func ggufBERT(g *ggufModel) map[string]any {
	if g.boolean("attention.causal", false) {
		g.failf("a causal BERT is not supported")
	}
	types := g.views.stored["token_types.weight"]
	if len(types) != 2 {
		g.failf("token_types.weight is missing, or no matrix")
		return nil
	}
	g.ignore("rope.freq_base")
	rows := g.views.stored["position_embd.weight"]
	if len(rows) != 2 {
		g.failf("position_embd.weight is missing, or no matrix")
		return nil
	}
	return map[string]any{
		"model_type": "bert", "architectures": []string{"BertModel"}, "num_attention_heads": g.heads, "hidden_act": "gelu",
		"intermediate_size": g.size("feed_forward_length"), "type_vocab_size": types[0], "max_position_embeddings": rows[0],
		"tie_word_embeddings": true,
	}
}

// ggufDeepSeek2: DeepSeek V2 and V3. Newer files hold the key and value halves
// of kv_b apart, the former transposed, and name the sizes of what the runtime
// then computes; the sizes of the network itself end in _mla.
func ggufDeepSeek2(g *ggufModel) map[string]any {
	turned := g.size("rope.dimension_count")
	rank := g.size("attention.kv_lora_rank")
	split := g.stores("attn_k_b.weight")
	key, value := g.dim, g.count("attention.value_length", 0)
	if split {
		key, value = g.size("attention.key_length_mla"), g.size("attention.value_length_mla")
	} else {
		g.ignore("attention.key_length_mla", "attention.value_length_mla")
	}
	nope := key - turned
	conf := map[string]any{
		"model_type": "deepseek_v2", "num_attention_heads": g.heads, "num_key_value_heads": g.heads, "kv_lora_rank": rank,
		"q_lora_rank": json.RawMessage("null"), "qk_rope_head_dim": turned, "qk_nope_head_dim": nope, "v_head_dim": value,
		"intermediate_size": g.size("feed_forward_length"), "first_k_dense_replace": g.count("leading_dense_block_count", 0),
		"attention_bias": g.stores("attn_kv_a_mqa.bias"),
	}
	if nope < 1 || value < 1 {
		g.failf("heads of %d elements, of which %d turn, and values of %d", key, turned, value)
		return conf
	}
	if q := g.count("attention.q_lora_rank", 0); q > 0 && g.stores("attn_q_a.weight") {
		conf["q_lora_rank"] = q
	}
	g.rope(conf)
	g.deepseekYarn(conf)
	g.deepseekExperts(conf)
	if split {
		g.latentHalves(rank, nope, value)
	}
	return conf
}

// deepseekYarn: the factor of the scores is stored as 0.1·mscale_all_dim.
func (g *ggufModel) deepseekYarn(conf map[string]any) {
	mul := g.number("rope.scaling.yarn_log_multiplier", 0)
	y, ok := conf["rope_scaling"].(map[string]any)
	if !ok {
		return
	}
	if mul != 0 {
		all := math.Round(mul*1e4) / 1e3
		y["mscale"], y["mscale_all_dim"] = all, all
	}
}

func (g *ggufModel) deepseekExperts(conf map[string]any) {
	n := g.count("expert_count", 0)
	conf["n_routed_experts"], conf["num_experts_per_tok"] = n, g.count("expert_used_count", 0)
	conf["moe_intermediate_size"], conf["n_shared_experts"] = g.count("expert_feed_forward_length", 1), g.count("expert_shared_count", 0)
	conf["routed_scaling_factor"] = g.number("expert_weights_scale", 1)
	normed := g.boolean("expert_weights_norm", false)
	groups, keep := g.count("expert_group_count", 0), g.count("expert_group_used_count", 0)
	g.experts("mlp.experts.", gateUpDown)
	g.each("exp_probs_b.bias", func(stored, layer string, s []int) { g.same(layer+"mlp.gate.e_score_correction_bias", stored, s) })
	switch gate := g.count("expert_gating_func", 1); gate {
	case 1: // softmax
		if normed || g.stores("exp_probs_b.bias") {
			g.failf("softmax routing that is normalised or corrected is not supported")
		}
		conf["topk_method"] = "greedy"
		if groups > 1 {
			conf["topk_method"], conf["n_group"], conf["topk_group"] = "group_limited_greedy", groups, keep
		}
	case 2: // sigmoid
		conf["model_type"], conf["norm_topk_prob"] = "deepseek_v3", normed
		conf["n_group"], conf["topk_group"] = max(groups, 1), max(keep, 1)
	default:
		g.failf("expert_gating_func %d is not supported", gate)
	}
}
