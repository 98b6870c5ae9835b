package arch

import "github.com/neuroseal/neuroseal/graph"

// phi3: Phi-3, 3.5 and 4-mini; fused projections, partial rotary, longrope.
func phi3(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(0, 0)
	m.boolean("attention_bias", false) // not read by the code
	// Keys of Phi-4-mini, pinned at the values without effect.
	m.only("mlp_bias", "false")
	m.only("lm_head_bias", "false")
	m.only("full_attn_mod", "1")
	m.only("interpolate_factor", "1")
	p := m.readRope("", 10000, 1)
	switch p.typ {
	case "su", "yarn": // old names
		p.typ = "longrope"
	case "default", "longrope":
	default:
		m.failf("config.json: rope type %q is not supported for phi3", p.typ)
		p.typ = "default"
	}
	if !m.config.has("original_max_position_embeddings") {
		p.original = 4096
	}
	m.rotary(&a, p)
	a.window = m.window(0)
	act, dim := m.activation("hidden_act", "silu"), m.dim("intermediate_size", 0)
	x := m.embed(s)
	for i := range m.layers {
		x = m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.fusedAttention(h, name, a) },
			func(h graph.ID, name string) graph.ID { return m.fusedGLU(h, name, dim, act) }, m.rmsNorm)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm)}
}

// fusedAttention projects with one matrix of rows [q; k; v].
func (m *model) fusedAttention(h graph.ID, name string, a attention) graph.ID {
	q, kv := a.heads*a.dim, a.kv*a.dim
	y := m.linear(h, name+".qkv_proj", q+2*kv, false)
	o := m.mix(m.Slice(y, 1, 0, q), m.Slice(y, 1, q, q+kv), m.Slice(y, 1, q+kv, q+2*kv), name, a)
	return m.linear(o, name+".o_proj", m.hidden, false)
}

// fusedGLU projects with one matrix of rows [gate; up].
func (m *model) fusedGLU(h graph.ID, name string, dim int, act graph.Op) graph.ID {
	y := m.linear(h, name+".gate_up_proj", 2*dim, false)
	g := m.Apply(act, m.Slice(y, 1, 0, dim))
	return m.linear(m.Mul(g, m.Slice(y, 1, dim, 2*dim)), name+".down_proj", m.hidden, false)
}
