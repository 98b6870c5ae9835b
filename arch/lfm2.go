package arch

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// lfm2Layers reads which layers are short convolutions.
func (m *model) lfm2Layers() []bool {
	var full []int
	given := m.get("full_attn_idxs", &full)
	return m.layersOfKind("conv", func(i int) bool { return given && !slices.Contains(full, i) })
}

// shortConv is LFM2's other half of a layer: a gated convolution over the last
// tokens.
func (m *model) shortConv(h graph.ID, name string, kernel int, bias bool) graph.ID {
	y := m.linear(h, name+".in_proj", 3*m.hidden, bias)
	b, c, x := m.part(y, 0, m.hidden), m.part(y, m.hidden, 2*m.hidden), m.part(y, 2*m.hidden, 3*m.hidden)
	y = m.Mul(c, m.causalConv(m.Mul(b, x), name+".conv", kernel, bias))
	return m.linear(y, name+".out_proj", m.hidden, bias)
}

// lfm2Stack is what LFM2 and its mixtures share; mlp is a layer's second half.
func (m *model) lfm2Stack(mlp func(i int, h graph.ID, name string) graph.ID) []graph.ID {
	tie := m.boolean("tie_embedding", m.boolean("tie_word_embeddings", true))
	s := m.openWith("norm_eps", 1e-5, tie, "model.", "embed_tokens")
	s.tie = tie
	a := headwise{attention: m.headsOf(8, 0), out: "out_proj"}
	m.rotary(&a.attention, m.wholeHeads(1e6))
	a.each = then(normed(m.rmsNorm, "_layernorm", a.dim, s.eps), m.turned(a.attention))
	kernel, bias := m.dim("conv_L_cache", 3), m.boolean("conv_bias", false)
	convolves := m.lfm2Layers()
	x := m.embed(s)
	for i := range m.layers {
		p := s.layer(i)
		h := m.rmsNorm(x, p+".operator_norm", m.hidden, s.eps)
		if convolves[i] {
			m.Scope(p+".conv", i)
			x = m.Add(x, m.shortConv(h, p+".conv", kernel, bias))
		} else {
			m.Scope(p+".self_attn", i)
			x = m.Add(x, m.attendHeads(h, p+".self_attn", a))
		}
		m.Scope(p+".feed_forward", i)
		x = m.Add(x, mlp(i, m.rmsNorm(x, p+".ffn_norm", m.hidden, s.eps), p+".feed_forward"))
	}
	m.Scope(s.prefix+"embedding_norm", -1)
	x = m.rmsNorm(x, s.prefix+"embedding_norm", m.hidden, s.eps)
	return []graph.ID{m.head(s, x)}
}

// w123 is the gated MLP under its older names: w2(silu(w1)·w3).
func (m *model) w123(h graph.ID, name string, dim int) graph.ID {
	gate := m.Apply(graph.OpSiLU, m.linear(h, name+".w1", dim, false))
	return m.linear(m.Mul(gate, m.linear(h, name+".w3", dim, false)), name+".w2", m.hidden, false)
}

// lfm2: LFM2, dense. Its configs carry keys of the code that trained it.
func lfm2(m *model) []graph.ID {
	m.atLeast(m.dim("conv_L_cache", 3))
	m.ignore(`block_dim block_mlp_init_scale block_norm_eps block_out_init_scale block_use_xavier_init
		conv_dim conv_dim_out conv_use_xavier_init num_heads theta`)
	m.only("block_use_swiglu", "true")
	m.only("use_pos_enc", "true")
	dim := m.dim("block_ff_dim", m.dim("intermediate_size", 12288))
	multiple, factor := m.dim("block_multiple_of", 256), m.number("block_ffn_dim_multiplier", 1)
	if m.null("block_ffn_dim_multiplier") {
		factor = 0
	}
	if m.boolean("block_auto_adjust_ff_dim", true) {
		if dim = 2 * dim / 3; factor != 0 {
			dim = int(factor * float64(dim))
			dim = multiple * ((dim + multiple - 1) / multiple)
		}
	}
	return m.lfm2Stack(func(_ int, h graph.ID, name string) graph.ID { return m.w123(h, name, dim) })
}

// lfm2Moe: LFM2's mixtures.
func lfm2Moe(m *model) []graph.ID {
	m.atLeast(m.dim("conv_L_cache", 3))
	n := m.expertCount(32)
	e := experts{
		router: router{
			n: n, k: m.topK("num_experts_per_tok", 4, n), weight: ".gate", score: graph.OpSigmoid,
			normalise: m.boolean("norm_topk_prob", true), tiny: 1e-6, scale: m.number("routed_scaling_factor", 1),
		},
		dim: m.dim("moe_intermediate_size", 1792), act: graph.OpSiLU, prefix: "experts.", names: [3]string{"w1", "w3", "w2"},
	}
	if m.boolean("use_expert_bias", true) {
		e.router.correction = ".expert_bias"
	}
	if !m.config.has("layer_types") {
		m.failf("config.json: layer_types is missing")
	}
	dense, dim := m.count("num_dense_layers", 2), m.dim("intermediate_size", 7168)
	return m.lfm2Stack(func(i int, h graph.ID, name string) graph.ID {
		if i < dense {
			return m.w123(h, name, dim)
		}
		return m.sparse(h, name, e)
	})
}
