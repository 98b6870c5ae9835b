package arch

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// opt: OPT, also its 350m, which normalises after each half and projects its
// embedding.
func opt(m *model) []graph.ID {
	m.ignore("_remove_final_layer_norm init_std layerdrop activation_dropout") // the first is read below
	s := m.openWith("", 1e-5, true, "model.decoder.", "embed_tokens")
	if m.has("decoder.embed_tokens.weight") && s.prefix != "" {
		s.prefix = "decoder."
	}
	bias := m.boolean("enable_bias", true)
	a := headwise{attention: m.headsOf(0, 0), out: "out_proj"}
	a.biasQKV, a.biasO = bias, bias
	norm := m.layerNorm
	if !m.boolean("layer_norm_elementwise_affine", true) {
		norm = func(x graph.ID, _ string, _ int, eps float64) graph.ID { return m.LayerNorm(x, eps, "") }
	}
	before := m.boolean("do_layer_norm_before", true)
	dim, act := m.dim("ffn_dim", 3072), m.activate("activation_function", "relu")
	x := m.optEmbed(s)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		half := func(x graph.ID, name string, f func(graph.ID) graph.ID) graph.ID {
			if before {
				return m.Add(x, f(norm(x, p+name, m.hidden, s.eps)))
			}
			return norm(m.Add(x, f(x)), p+name, m.hidden, s.eps)
		}
		m.Scope(p+".self_attn", i)
		x = half(x, ".self_attn_layer_norm", func(h graph.ID) graph.ID { return m.attendHeads(h, p+".self_attn", a) })
		m.Scope(p, i)
		x = half(x, ".final_layer_norm", func(h graph.ID) graph.ID { return m.mlp(h, p+".fc1", p+".fc2", dim, act, bias) })
	}
	m.Scope(s.prefix+"final_layer_norm", -1)
	if before && !m.boolean("_remove_final_layer_norm", false) {
		x = norm(x, s.prefix+"final_layer_norm", m.hidden, s.eps)
	}
	if w := m.wordDim(); w != m.hidden {
		x = m.linear(x, s.prefix+"project_out", w, false)
	}
	return m.readout(s, x, head{embed: "embed_tokens"})
}

// wordDim is the width of OPT's embedding.
func (m *model) wordDim() int { return m.dim("word_embed_proj_dim", m.hidden) }

// optEmbed adds tokens and positions, whose first two rows nobody reads.
func (m *model) optEmbed(s stem) graph.ID {
	m.atMost(m.dim("max_position_embeddings", 2048))
	x := m.lookup(s.prefix+"embed_tokens", m.wordDim())
	if m.wordDim() != m.hidden {
		x = m.linear(x, s.prefix+"project_in", m.hidden, false)
	}
	return m.Add(x, m.learnedRows(s.prefix+"embed_positions", 2))
}
