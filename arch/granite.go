package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// multipliers scale a Llama in four places.
type multipliers struct {
	embedding, residual, logits float64
}

// scaledLlama is Llama with those multipliers.
func (m *model) scaledLlama(s stem, a headwise, mlp halfFunc, f multipliers) []graph.ID {
	scaled := func(half halfFunc) halfFunc {
		return func(h graph.ID, name string) graph.ID { return m.times(half(h, name), f.residual) }
	}
	x := m.times(m.embed(s), f.embedding)
	for i := range m.layers {
		x = m.block(x, s, i, scaled(m.self(a)), scaled(mlp), m.rmsNorm)
	}
	return m.closing(x, s, m.rmsNorm, func(y graph.ID) graph.ID { return m.times(y, f.logits) })
}

// biasedHeads reads attention with one key for all biases; kv as in headsOf.
func (m *model) biasedHeads(kv int) headwise {
	a := headwise{attention: m.headsOf(kv, 0), out: "o_proj"}
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	return a
}

// llamaHeads is biasedHeads with heads that turn as in Llama.
func (m *model) llamaHeads(kv int, theta float64) headwise {
	a := m.biasedHeads(kv)
	m.rotary(&a.attention, m.wholeHeads(theta))
	a.each = m.turned(a.attention)
	return a
}

// granite: Granite 3.
func granite(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-6, false, "model.", "embed_tokens")
	a := m.llamaHeads(0, 10000)
	a.scale = m.number("attention_multiplier", 1)
	mlp := m.gated(m.dim("intermediate_size", 11008), m.activation("hidden_act", "silu"), m.boolean("mlp_bias", false))
	return m.scaledLlama(s, a, mlp, multipliers{
		embedding: m.number("embedding_multiplier", 1),
		residual:  m.number("residual_multiplier", 1),
		logits:    1 / m.number("logits_scaling", 1),
	})
}

// minicpm: MiniCPM 1 and 2, whose code comes with the checkpoint.
func minicpm(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-6, true, "model.", "embed_tokens")
	a := m.llamaHeads(0, 10000)
	mlp := m.gated(m.dim("intermediate_size", 11008), m.activation("hidden_act", "silu"), false)
	return m.scaledLlama(s, a, mlp, multipliers{
		embedding: m.number("scale_emb", 1),
		residual:  m.number("scale_depth", 1) / math.Sqrt(float64(m.layers)),
		logits:    m.number("dim_model_base", 1) / float64(m.hidden),
	})
}
