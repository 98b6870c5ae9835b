package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// GPT-NeoX, BLOOM and Falcon: queries, keys and values of each head side by
// side in one projection, plain MLPs.

// gptNeoX: GPT-NeoX and Pythia; partial rotary, two norms of the same input.
func gptNeoX(m *model) []graph.ID {
	m.alias("partial_rotary_factor", "rotary_pct")
	m.alias("rope_theta", "rotary_emb_base")
	m.ignore("classifier_dropout")
	m.computed = oldMasks
	s := m.openWith("layer_norm_eps", 1e-5, false, "gpt_neox.", "embed_in")
	a := m.headsOf(0, 0)
	bias := m.boolean("attention_bias", true)
	m.rotary(&a, m.readRope("", 10000, 0.25))
	turn := m.turned(a)
	parallel := m.boolean("use_parallel_residual", true)
	dim, act := m.dim("intermediate_size", 24576), m.activate("hidden_act", "gelu")
	x := m.lookup(s.prefix+"embed_in", m.hidden)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		m.Scope(p+".attention", i)
		h := m.layerNorm(x, p+".input_layernorm", m.hidden, s.eps)
		q, k, v := m.grouped(m.linear(h, p+".attention.query_key_value", 3*m.hidden, bias), a)
		y := m.linear(m.scores(turn(q, ""), turn(k, ""), v, a), p+".attention.dense", m.hidden, bias)
		m.Scope(p+".mlp", i)
		in := x
		if !parallel {
			in = m.Add(y, x)
		}
		h = m.layerNorm(in, p+".post_attention_layernorm", m.hidden, s.eps)
		h = m.mlp(h, p+".mlp.dense_h_to_4h", p+".mlp.dense_4h_to_h", dim, act, true)
		if parallel {
			h = m.Add(h, y)
		}
		x = m.Add(h, in)
	}
	m.Scope(s.prefix+"final_layer_norm", -1)
	x = m.layerNorm(x, s.prefix+"final_layer_norm", m.hidden, s.eps)
	return m.readout(s, x, head{embed: "embed_in", name: "embed_out"})
}

// bloom: ALiBi, a norm of the embedding.
func bloom(m *model) []graph.ID {
	m.gptNames()
	m.alias("hidden_size", "n_embed")
	s := m.openWith("layer_norm_epsilon", 1e-5, true, "transformer.", "word_embeddings")
	a := m.headsOf(0, 0)
	after := m.boolean("apply_residual_connection_post_layernorm", false)
	// Matters of precision and of training; keys of the trainer's own code.
	m.ignore(`slow_but_exact attention_softmax_in_fp32 masked_softmax_fusion bias_dropout_fusion offset_alibi
		skip_bias_add skip_bias_add_qkv seq_length n_inner`)
	exact := func(f float64) float64 { return f }
	alibi := m.alibi(a.heads, 1, exact)
	gelu := func(x graph.ID) graph.ID { return m.Apply(graph.OpGELUTanh, x) }
	x := m.lookup(s.prefix+"word_embeddings", m.hidden)
	x = m.layerNorm(x, s.prefix+"word_embeddings_layernorm", m.hidden, s.eps)
	for i := range m.layers {
		p := fmt.Sprintf("%sh.%d", s.prefix, i)
		m.Scope(p+".self_attention", i)
		h := m.layerNorm(x, p+".input_layernorm", m.hidden, s.eps)
		if after {
			x = h
		}
		q, k, v := m.grouped(m.linear(h, p+".self_attention.query_key_value", 3*m.hidden, true), a)
		x = m.Add(x, m.linear(m.scores(q, k, v, a, alibi), p+".self_attention.dense", m.hidden, true))
		m.Scope(p+".mlp", i)
		h = m.layerNorm(x, p+".post_attention_layernorm", m.hidden, s.eps)
		if after {
			x = h
		}
		x = m.Add(x, m.mlp(h, p+".mlp.dense_h_to_4h", p+".mlp.dense_4h_to_h", 4*m.hidden, gelu, true))
	}
	m.Scope(s.prefix+"ln_f", -1)
	x = m.layerNorm(x, s.prefix+"ln_f", m.hidden, s.eps)
	return m.readout(s, x, head{embed: "word_embeddings"})
}

// falconShape says which of Falcon's three layers a config describes.
type falconShape struct {
	bias     bool
	parallel bool // attention and MLP side by side
	norms    int  // of a parallel layer
}

func (m *model) falconShape(a *attention) falconShape {
	grouped := m.boolean("new_decoder_architecture", false)
	single := m.boolean("multi_query", true)
	groups := m.dim("num_kv_heads", a.heads)
	norms := m.count("num_ln_in_parallel_attn", 0)
	f := falconShape{bias: m.boolean("bias", false), parallel: m.boolean("parallel_attn", true), norms: 1}
	switch {
	case grouped:
		if f.norms = norms; norms == 0 {
			f.norms = 2
		}
		if a.kv = groups; a.heads%a.kv != 0 {
			m.failf("config.json: num_attention_heads %d is not a multiple of num_kv_heads %d", a.heads, a.kv)
			a.kv = a.heads
		}
		if !f.parallel || f.norms > 2 {
			m.failf("config.json: new_decoder_architecture with parallel_attn %t and %d norms is not supported", f.parallel, f.norms)
		}
	case norms > 1:
		m.failf("config.json: num_ln_in_parallel_attn needs new_decoder_architecture")
	case single:
		a.kv = 1
	case groups != a.heads:
		m.failf("config.json: num_kv_heads %d needs new_decoder_architecture", groups)
	}
	return f
}

// falcon: 7B (one key/value head), 40B and 11B (groups), and the RefinedWeb
// models with ALiBi.
func falcon(m *model) []graph.ID {
	m.alias("hidden_size", "n_embed")
	m.gptNames()
	s := m.openWith("layer_norm_epsilon", 1e-5, true, "transformer.", "word_embeddings")
	a := m.headsOf(0, 0)
	m.ignore("num_key_value_heads ff_factor") // not read
	a.kv = a.heads
	f := m.falconShape(&a)
	m.only("apply_residual_connection_post_layernorm", "false")
	var bias []graph.ID
	turn := func(x graph.ID, _ string) graph.ID { return x }
	p := m.wholeHeads(10000)
	if m.boolean("alibi", false) {
		bias = []graph.ID{m.alibi(a.heads, a.scale, bfloat)}
	} else {
		m.rotary(&a, p)
		turn = m.turned(a)
	}
	attend := func(h graph.ID, name string) graph.ID {
		q, k, v := m.grouped(m.linear(h, name+".query_key_value", (a.heads+2*a.kv)*a.dim, f.bias), a)
		return m.linear(m.scores(turn(q, ""), turn(k, ""), v, a, bias...), name+".dense", m.hidden, f.bias)
	}
	dim, act := m.innerDim("ffn_hidden_size"), m.activate("activation", "gelu")
	mlp := func(h graph.ID, name string) graph.ID {
		return m.mlp(h, name+".dense_h_to_4h", name+".dense_4h_to_h", dim, act, f.bias)
	}
	x := m.lookup(s.prefix+"word_embeddings", m.hidden)
	for i := range m.layers {
		x = m.falconLayer(x, s, i, f, attend, mlp)
	}
	m.Scope(s.prefix+"ln_f", -1)
	x = m.layerNorm(x, s.prefix+"ln_f", m.hidden, s.eps)
	return m.readout(s, x, head{embed: "word_embeddings"})
}

func (m *model) falconLayer(x graph.ID, s stem, i int, f falconShape, attend, mlp func(h graph.ID, name string) graph.ID) graph.ID {
	p := fmt.Sprintf("%sh.%d", s.prefix, i)
	norm := func(x graph.ID, name string) graph.ID { return m.layerNorm(x, p+name, m.hidden, s.eps) }
	m.Scope(p+".self_attention", i)
	first := ".input_layernorm"
	if f.norms == 2 {
		first = ".ln_attn"
	}
	h := norm(x, first)
	y := attend(h, p+".self_attention")
	m.Scope(p+".mlp", i)
	switch {
	case !f.parallel:
		x = m.Add(y, x)
		return m.Add(mlp(norm(x, ".post_attention_layernorm"), p+".mlp"), x)
	case f.norms == 2:
		h = norm(x, ".ln_mlp")
	}
	return m.Add(m.Add(mlp(h, p+".mlp"), y), x)
}

// bfloat rounds to bfloat16: Falcon computes ALiBi in it, whatever the model's
// precision.
func bfloat(f float64) float64 {
	b := math.Float32bits(float32(f))
	b += 0x7fff + b>>16&1
	return float64(math.Float32frombits(b &^ 0xffff))
}
