package arch

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// glmParts reads what GLM-4 (9B) and GLM-4-0414 share: a part of each head
// turns, neighbour by neighbour; gate and up stand in one projection.
func (m *model) glmParts() (s stem, a headwise, mlp halfFunc) {
	s = m.openWith("rms_norm_eps", 1.5625e-7, false, "model.", "embed_tokens")
	a = headwise{attention: m.headsOf(2, 128), out: "o_proj"}
	a.biasQKV = m.boolean("attention_bias", true)
	m.neighbours(&a.attention, m.readRope("", 10000, 0.5))
	a.each = m.turned(a.attention)
	dim, act := m.dim("intermediate_size", 13696), m.activation("hidden_act", "silu")
	mlp = func(h graph.ID, name string) graph.ID { return m.fusedGLU(h, name, dim, act) }
	return s, a, mlp
}

// glm: GLM-4 (9B) as transformers writes it.
func glm(m *model) []graph.ID {
	s, a, mlp := m.glmParts()
	return m.preNorm(m.embed(s), s, same(m.self(a)), mlp, m.rmsNorm)
}

// glm4: GLM-4-0414; a norm before and after each half.
func glm4(m *model) []graph.ID {
	s, a, mlp := m.glmParts()
	x := m.embed(s)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		norm := func(h graph.ID, name string) graph.ID { return m.rmsNorm(h, p+name, m.hidden, s.eps) }
		m.Scope(p+".self_attn", i)
		h := m.attendHeads(norm(x, ".input_layernorm"), p+".self_attn", a)
		x = m.Add(x, norm(h, ".post_self_attn_layernorm"))
		m.Scope(p+".mlp", i)
		h = mlp(norm(x, ".post_attention_layernorm"), p+".mlp")
		x = m.Add(x, norm(h, ".post_mlp_layernorm"))
	}
	return m.closing(x, s, m.rmsNorm, nil)
}
