package arch

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// Phi, StableLM, Starcoder2 and Nemotron: Llama's layout with LayerNorm, and,
// but for Starcoder2, a rotary embedding of a part of each head.

// partialHeads reads attention whose heads turn in part.
func (m *model) partialHeads(kv int, theta, partial float64) headwise {
	a := headwise{attention: m.headsOf(kv, 0), out: "o_proj"}
	m.rotary(&a.attention, m.readRope("", theta, partial))
	a.each = m.turned(a.attention)
	return a
}

// phi: Phi 1, 1.5 and 2; attention and MLP side by side after one norm, biases
// everywhere.
func phi(m *model) []graph.ID {
	s := m.openWith("layer_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := m.partialHeads(0, 10000, 0.5)
	a.out, a.biasQKV, a.biasO = "dense", true, true
	if m.boolean("qk_layernorm", false) {
		a.each = then(normed(m.layerNorm, "_layernorm", a.dim, s.eps), a.each)
	}
	mlp := m.plain(".fc1", ".fc2", m.innerDim("intermediate_size"), m.activate("hidden_act", "gelu_new"), true)
	x := m.embed(s)
	for i := range m.layers {
		x = m.parallel(x, s, i, m.self(a), mlp, m.layerNorm)
	}
	m.Scope(s.prefix+"final_layernorm", -1)
	x = m.layerNorm(x, s.prefix+"final_layernorm", m.hidden, s.eps)
	return m.readout(s, x, head{embed: "embed_tokens", bias: true})
}

// parallel is a layer with attention and MLP side by side after one norm.
func (m *model) parallel(x graph.ID, s stem, i int, att, mlp halfFunc, norm normFunc) graph.ID {
	p := fmt.Sprintf("%slayers.%d", s.prefix, i)
	m.Scope(p+".self_attn", i)
	h := norm(x, p+".input_layernorm", m.hidden, s.eps)
	y := att(h, p+".self_attn")
	m.Scope(p+".mlp", i)
	return m.Add(m.Add(y, mlp(h, p+".mlp")), x)
}

// stableLM: StableLM 1 and 2; some with a norm for each head and with attention
// and MLP side by side.
func stableLM(m *model) []graph.ID {
	s := m.openWith("layer_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := m.partialHeads(32, 10000, 0.25)
	a.biasQKV = m.boolean("use_qkv_bias", false)
	if m.boolean("qk_layernorm", false) {
		a.each = then(m.normEach(a, s.eps), a.each)
	}
	act, dim := m.activation("hidden_act", "silu"), m.dim("intermediate_size", 6912)
	x, mlp := m.embed(s), m.gated(dim, act, false)
	if !m.boolean("use_parallel_residual", false) {
		return m.preNorm(x, s, same(m.self(a)), mlp, m.layerNorm)
	}
	for i := range m.layers {
		x = m.parallel(x, s, i, m.self(a), mlp, m.layerNorm)
	}
	return m.closing(x, s, m.layerNorm, nil)
}

// normEach gives every head a norm of its own.
func (m *model) normEach(a headwise, eps float64) headFunc {
	if n := m.layers * (a.heads + a.kv); n > len(m.shapes) {
		// Said before anything of that size is built.
		m.failf("config.json: a norm for each head needs %d tensors, but the checkpoint holds %d", n, len(m.shapes))
		return func(x graph.ID, _ string) graph.ID { return x }
	}
	return func(x graph.ID, name string) graph.ID {
		parts := make([]graph.ID, m.Shape(x)[0])
		for i := range parts {
			parts[i] = m.plainNorm(m.Slice(x, 0, i, i+1), fmt.Sprintf("%s_layernorm.norms.%d", name, i), a.dim, eps)
		}
		return m.Concat(0, parts...)
	}
}

// starcoder2: whole heads turn, a plain MLP, biases everywhere by default.
func starcoder2(m *model) []graph.ID {
	s := m.openWith("norm_epsilon", 1e-5, true, "model.", "embed_tokens")
	m.ignore("layer_norm_epsilon residual_dropout embedding_dropout") // the first is not read
	m.only("mlp_type", `"default"`)
	m.only("norm_type", `"layer_norm"`)
	bias := m.boolean("use_bias", true)
	a := headwise{attention: m.headsOf(2, 0), out: "o_proj"}
	a.biasQKV, a.biasO, a.window = bias, bias, m.window(0)
	m.rotary(&a.attention, m.wholeHeads(10000))
	a.each = m.turned(a.attention)
	mlp := m.plain(".c_fc", ".c_proj", m.dim("intermediate_size", 12288), m.activate("hidden_act", "gelu_pytorch_tanh"), bias)
	return m.preNorm(m.embed(s), s, same(m.self(a)), mlp, m.layerNorm)
}

// nemotron: Nemotron-4 and Minitron; squared ReLU, norms with 1+w.
func nemotron(m *model) []graph.ID {
	m.alias("partial_rotary_factor", "rope_percent")
	s := m.openWith("norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := m.partialHeads(0, 10000, 0.5)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	mlp := m.plain(".up_proj", ".down_proj", m.dim("intermediate_size", 24576), m.activate("hidden_act", "relu2"), m.boolean("mlp_bias", false))
	return m.preNorm(m.embed(s), s, same(m.self(a)), mlp, m.layerNorm1p)
}
