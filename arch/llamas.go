package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// Llama with one or two things changed.

// llamaLike is the stack and the gated MLP of Llama.
func (m *model) llamaLike(s stem, att func(i int) halfFunc, dim int, bias bool) []graph.ID {
	mlp := m.gated(m.dim("intermediate_size", dim), m.activation("hidden_act", "silu"), bias)
	return m.preNorm(m.embed(s), s, att, mlp, m.rmsNorm)
}

// smollm3: some layers do not turn their heads; some may slide.
func smollm3(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-6, true, "model.", "embed_tokens")
	turning := m.llamaHeads(4, 2e6)
	still := turning
	still.each = nil
	turns := m.smollm3Turns()
	w := m.window(0)
	if !m.boolean("use_sliding_window", false) {
		w = 0
	}
	m.ignore("max_window_layers")
	window := where(m.layerTypes(func(i int) bool { return w > 0 && !turns[i] }), w)
	att := func(i int) halfFunc {
		a := still
		if turns[i] {
			a = turning
		}
		a.window = window(i)
		return m.self(a)
	}
	return m.llamaLike(s, att, 11008, m.boolean("mlp_bias", false))
}

// smollm3Turns reads which layers have a rotary embedding.
func (m *model) smollm3Turns() []bool {
	every := m.dim("no_rope_layer_interval", 4)
	turns := make([]bool, m.layers)
	var list []int
	if m.get("no_rope_layers", &list) && len(list) != m.layers {
		m.failf("config.json: no_rope_layers has %d entries for %d layers", len(list), m.layers)
		list = nil
	}
	for i := range turns {
		turns[i] = (i+1)%every != 0
		if list != nil {
			turns[i] = list[i] != 0
		}
	}
	return turns
}

// helium: neighbours turn together; the output projection has no bias.
func helium(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-8, false, "model.", "embed_tokens")
	a := headwise{attention: m.headsOf(20, 128), out: "o_proj"}
	a.biasQKV = m.boolean("attention_bias", false)
	m.neighbours(&a.attention, m.wholeHeads(100000))
	a.each = m.turned(a.attention)
	return m.llamaLike(s, same(m.self(a)), 7040, m.boolean("mlp_bias", false))
}

// arcee: a plain MLP with squared ReLU.
func arcee(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := m.llamaHeads(0, 10000)
	mlp := m.plain(".up_proj", ".down_proj", m.dim("intermediate_size", 18432), m.activate("hidden_act", "relu2"), m.boolean("mlp_bias", false))
	return m.preNorm(m.embed(s), s, same(m.self(a)), mlp, m.rmsNorm)
}

// seedOSS: Seed-OSS; a key of its own for the output projection's bias.
func seedOSS(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-6, false, "model.", "embed_tokens")
	m.ignore("residual_dropout")
	a := headwise{attention: m.headsOf(8, 128), out: "o_proj"}
	a.biasQKV, a.biasO = m.boolean("attention_bias", true), m.boolean("attention_out_bias", false)
	m.rotary(&a.attention, m.wholeHeads(10000))
	a.each = m.turned(a.attention)
	return m.llamaLike(s, same(m.self(a)), 27648, m.boolean("mlp_bias", false))
}

// ernie: ERNIE 4.5, dense; neighbours turn together, one key for all biases.
func ernie(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, true, "model.", "embed_tokens")
	bias := m.boolean("use_bias", false)
	a := headwise{attention: m.headsOf(2, 128), out: "o_proj"}
	a.biasQKV, a.biasO = bias, bias
	m.neighbours(&a.attention, m.wholeHeads(500000))
	a.each = m.turned(a.attention)
	return m.llamaLike(s, same(m.self(a)), 3072, bias)
}

// ministral: Ministral 8B; layers of two kinds.
func ministral(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-6, false, "model.", "embed_tokens")
	a := headwise{attention: m.headsOf(8, 0), out: "o_proj"}
	m.ignore("attention_bias") // not read
	m.rotary(&a.attention, m.wholeHeads(10000))
	a.each = m.turned(a.attention)
	w := m.window(4096)
	window := where(m.layerTypes(func(int) bool { return w > 0 }), w)
	att := func(i int) halfFunc {
		a := a
		a.window = window(i)
		return m.self(a)
	}
	return m.llamaLike(s, att, 14336, false)
}

// ministral3: Ministral 3; queries grow with their position's logarithm.
func ministral3(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := headwise{attention: m.headsOf(8, 128), out: "o_proj"}
	m.ignore("attention_bias layer_types") // not read
	p := m.wholeHeads(1e6)
	if p.c == nil {
		m.failf("config.json: rope_parameters is missing")
		return nil
	}
	beta := p.c.number("llama_4_scaling_beta", 0)
	p.c.count("max_position_embeddings", 0) // not read
	if !(beta >= 0) || p.original == 0 {
		m.failf("config.json: llama_4_scaling_beta %g with an original context of %d", beta, p.original)
		return nil
	}
	m.rotary(&a.attention, p)
	grow := make([]float32, m.opt.Tokens)
	for i := range grow {
		grow[i] = float32(1 + beta*math.Log1p(float64(i/p.original)))
	}
	factor := m.Const(grow, len(grow), 1)
	turn := m.turned(a.attention)
	a.each = func(x graph.ID, name string) graph.ID {
		x = turn(x, name)
		if name[len(name)-1] == 'q' {
			x = m.Mul(x, factor)
		}
		return x
	}
	a.window = m.window(0)
	return m.llamaLike(s, same(m.self(a)), 14336, false)
}

// hunyuan: HunYuan dense; norms of each head after it turned.
func hunyuan(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	m.ignore("eod_token_id")
	a := m.hunyuanHeads(s)
	return m.llamaLike(s, same(m.self(a)), 11008, false)
}

// apertus: a plain MLP with xIELU, whose parameters are learned.
func apertus(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := m.llamaHeads(0, 12e6)
	if !m.config.has("rope_parameters") && !m.config.has("rope_scaling") {
		m.failf("config.json: rope_parameters is missing")
	}
	a.each = then(normed(m.rmsNorm, "_norm", a.dim, s.eps), a.each)
	dim := m.dim("intermediate_size", 14336)
	act := func(x graph.ID, name string) graph.ID { return m.xielu(x, name+".act_fn") }
	if m.text("hidden_act", "xielu") != "xielu" {
		f := m.activate("hidden_act", "xielu")
		act = func(x graph.ID, _ string) graph.ID { return f(x) }
	}
	mlp := func(h graph.ID, name string) graph.ID {
		return m.linear(act(m.linear(h, name+".up_proj", dim, false), name), name+".down_proj", m.hidden, false)
	}
	x := m.embed(s)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		m.Scope(p+".self_attn", i)
		h := m.rmsNorm(x, p+".attention_layernorm", m.hidden, s.eps)
		x = m.Add(x, m.attendHeads(h, p+".self_attn", a))
		m.Scope(p+".mlp", i)
		x = m.Add(x, mlp(m.rmsNorm(x, p+".feedforward_layernorm", m.hidden, s.eps), p+".mlp"))
	}
	return m.closing(x, s, m.rmsNorm, nil)
}

// xielu is αp·x² + βx where x > 0, else αn·(exp(min(x, ε)) - 1 - x) + βx
// (arXiv 2411.13010), with αp = softplus(p) and αn = β + softplus(n).
func (m *model) xielu(x graph.ID, name string) graph.ID {
	soft := func(w string) graph.ID { return m.Apply(graph.OpSoftplus, m.Weight(name+w, 1)) }
	beta, eps := m.Weight(name+".beta"), m.Weight(name+".eps")
	above := m.Mul(m.Mul(soft(".alpha_p"), x), x)
	below := m.Sub(m.AddScalar(m.Apply(graph.OpExp, m.Minimum(x, eps)), -1), x)
	below = m.Mul(below, m.Add(beta, soft(".alpha_n")))
	positive := m.Compare(graph.OpLess, m.Const([]float32{0}, 1), x)
	return m.Add(m.Where(positive, above, below), m.Mul(beta, x))
}
