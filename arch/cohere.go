package arch

import "github.com/neuroseal/neuroseal/graph"

// cohereHeads reads what the attention of Cohere's models shares; neighbours
// turn together.
func (m *model) cohereHeads(theta float64) headwise {
	a := m.biasedHeads(0)
	m.neighbours(&a.attention, m.wholeHeads(theta))
	a.each = m.turned(a.attention)
	return a
}

// cohereStack is the stack of layers with attention and MLP side by side, and
// the scaled head.
func (m *model) cohereStack(s stem, att func(i int) halfFunc) []graph.ID {
	mlp := m.gated(m.dim("intermediate_size", 22528), m.activation("hidden_act", "silu"), false)
	scale := m.number("logit_scale", 0.0625)
	x := m.embed(s)
	for i := range m.layers {
		x = m.parallel(x, s, i, att(i), mlp, m.plainNorm)
	}
	return m.closing(x, s, m.plainNorm, func(y graph.ID) graph.ID { return m.times(y, scale) })
}

// cohere: Command R and Aya; some with a norm whose gains differ by head.
func cohere(m *model) []graph.ID {
	s := m.openWith("layer_norm_eps", 1e-5, true, "model.", "embed_tokens")
	m.ignore("model_max_length")
	a := m.cohereHeads(500000)
	if m.boolean("use_qk_norm", false) {
		a.each = then(func(x graph.ID, name string) graph.ID {
			n := m.Shape(x)[0]
			gain := m.Weight(name+"_norm.weight", n, a.dim)
			return m.Mul(m.LayerNorm(x, s.eps, m.epsKey), m.Reshape(gain, n, 1, a.dim))
		}, a.each)
	}
	return m.cohereStack(s, same(m.self(a)))
}

// cohere2: Command R7B and A; only sliding layers turn their heads.
func cohere2(m *model) []graph.ID {
	s := m.openWith("layer_norm_eps", 1e-5, true, "model.", "embed_tokens")
	m.cohere2Keys()
	local := m.cohereHeads(10000)
	full := local
	full.each = nil
	local.window = m.window(4096)
	pattern := m.dim("sliding_window_pattern", 4)
	m.count("_sliding_window_pattern", 4) // written beside layer_types, not read
	sliding := m.layerTypes(func(i int) bool { return (i+1)%pattern != 0 })
	if local.window == 0 {
		local.each = nil // the code turns where there is a window
	}
	return m.cohereStack(s, m.either(sliding, local, full))
}

// cohere2Keys passes keys of other runtimes at the values that this family has.
func (m *model) cohere2Keys() {
	m.ignore("model_max_length layer_switch")
	m.only("order_of_interleaved_layers", `"local_attn_first"`)
	m.only("position_embedding_type", `"rope_gptj"`)
	m.only("rotary_pct", "1", "1.0")
	m.only("use_embedding_sharing", "true")
	m.only("use_gated_activation", "true")
	m.only("use_parallel_block", "true")
	m.only("use_parallel_embedding", "false")
	m.only("use_qk_norm", "false")
}
