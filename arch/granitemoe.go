package arch

import "github.com/neuroseal/neuroseal/graph"

// graniteExperts are experts in two tensors, with rows for outputs, and an MLP
// beside them that every token goes to.
type graniteExperts struct {
	router      router
	dim, shared int // shared 0: none
	act         graph.Op
}

func (m *model) graniteExpertsOf(shared int) graniteExperts {
	n := m.count("num_local_experts", 8)
	e := graniteExperts{
		router: router{n: n, weight: ".router.layer", late: true},
		dim:    m.dim("intermediate_size", 0), shared: shared, act: m.activation("hidden_act", "silu"),
	}
	if n > 0 {
		e.router.k = m.topK("num_experts_per_tok", 2, n)
	} else {
		m.count("num_experts_per_tok", 0)
	}
	return e
}

// mix runs the experts and the shared MLP of the layer of that path.
func (e graniteExperts) mix(m *model, h graph.ID, layer string, i int) graph.ID {
	var parts []graph.ID
	if e.router.n > 0 {
		moe := layer + ".block_sparse_moe"
		m.Scope(moe, i)
		p := m.route(h, moe, e.router)
		y := m.fusedExperts(m.copies(h, e.router.n), moe+".input_linear.weight", moe+".output_linear.weight", e.dim, e.act, true)
		parts = append(parts, m.blend(y, p))
	}
	if e.shared > 0 {
		mlp := layer + ".shared_mlp"
		m.Scope(mlp, i)
		y := m.linear(h, mlp+".input_linear", 2*e.shared, false)
		y = m.Mul(m.Apply(e.act, m.part(y, 0, e.shared)), m.part(y, e.shared, 2*e.shared))
		parts = append(parts, m.linear(y, mlp+".output_linear", m.hidden, false))
	}
	if len(parts) == 0 {
		m.failf("config.json: neither num_local_experts nor shared_intermediate_size is above 0")
		return h
	}
	if len(parts) == 2 {
		return m.Add(parts[0], parts[1])
	}
	return parts[0]
}

// graniteScales are the family's constant factors.
type graniteScales struct{ embedding, residual, logits float64 }

func (m *model) graniteScalesOf() graniteScales {
	return graniteScales{m.number("embedding_multiplier", 1), m.number("residual_multiplier", 1), m.number("logits_scaling", 1)}
}

// graniteStack is Granite's decoder: att gives a layer's first half.
func (m *model) graniteStack(s stem, f graniteScales, e graniteExperts, att func(i int, h graph.ID) graph.ID) []graph.ID {
	x := m.times(m.embed(s), f.embedding)
	for i := range m.layers {
		p := s.layer(i)
		m.Scope(p+".self_attn", i)
		x = m.Add(x, m.times(att(i, m.rmsNorm(x, p+".input_layernorm", m.hidden, s.eps)), f.residual))
		m.Scope(p, i)
		x = m.Add(x, m.times(e.mix(m, m.rmsNorm(x, p+".post_attention_layernorm", m.hidden, s.eps), p, i), f.residual))
	}
	return []graph.ID{m.times(m.finish(x, s, m.rmsNorm), 1/f.logits)}
}

// graniteHeads reads the attention, which has a scale of its own.
func (m *model) graniteHeads() attention {
	a := m.headsOf(0, 0)
	m.attentionBias(&a, false)
	a.scale = m.number("attention_multiplier", 1)
	return a
}

// graniteMoe: Granite's mixtures, also with a shared MLP.
func graniteMoe(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.graniteHeads()
	m.fullRotary(&a, 10000)
	shared := 0
	if m.text("model_type", "") == "granitemoeshared" {
		shared = m.count("shared_intermediate_size", 0)
	}
	return m.graniteStack(s, m.graniteScalesOf(), m.graniteExpertsOf(shared), func(i int, h graph.ID) graph.ID {
		return m.attend(h, s.layer(i)+".self_attn", a)
	})
}
