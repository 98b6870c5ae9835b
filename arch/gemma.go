package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// gemmaStem reads what Gemma 1 to 3 share and refuses the bidirectional
// variants, which are not causal decoders.
func (m *model) gemmaStem() stem {
	m.only("use_bidirectional_attention", "false", "null")
	return m.open(1e-6, true)
}

// embedScaled multiplies the embedding by sqrt(hidden size).
func (m *model) embedScaled(s stem) graph.ID {
	return m.MulScalar(m.embed(s), float64(float32(math.Sqrt(float64(m.hidden)))))
}

// gemma: (1+w) norms, GELU, scaled embedding.
func gemma(m *model) []graph.ID {
	s := m.gemmaStem()
	a := m.headsOf(16, 256)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	m.fullRotary(&a, 10000)
	// hidden_activation is not read by the code; a plain "gelu" means tanh.
	m.text("hidden_activation", "")
	act := m.activation("hidden_act", "gelu_pytorch_tanh")
	if act == graph.OpGELU {
		act = graph.OpGELUTanh
	}
	dim := m.dim("intermediate_size", 0)
	x := m.embedScaled(s)
	for i := range m.layers {
		x = m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attend(h, name, a) },
			func(h graph.ID, name string) graph.ID { return m.glu(h, name, dim, act, false) }, m.rmsNorm1p)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm1p)}
}

// sandwich is Gemma 2's and 3's layer: a norm before and after each half.
func (m *model) sandwich(x graph.ID, s stem, i int, a attention, dim int, act graph.Op) graph.ID {
	p := fmt.Sprintf("%slayers.%d", s.prefix, i)
	norm := func(h graph.ID, name string) graph.ID { return m.rmsNorm1p(h, p+name, m.hidden, s.eps) }
	m.Scope(p+".self_attn", i)
	h := m.attend(norm(x, ".input_layernorm"), p+".self_attn", a)
	x = m.Add(x, norm(h, ".post_attention_layernorm"))
	m.Scope(p+".mlp", i)
	h = m.glu(norm(x, ".pre_feedforward_layernorm"), p+".mlp", dim, act, false)
	return m.Add(x, norm(h, ".post_feedforward_layernorm"))
}

// capped squashes logits into (-c, c).
func (m *model) capped(x graph.ID, c float64) graph.ID {
	if c == 0 {
		return x
	}
	return m.MulScalar(m.Apply(graph.OpTanh, m.MulScalar(x, 1/c)), c)
}

// softcap reads a soft cap; null means none.
func (m *model) softcap(key string, def float64) float64 {
	if m.null(key) {
		def = 0
	}
	return m.number(key, def)
}

func (m *model) gemma2Attention() attention {
	a := m.headsOf(4, 256)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	a.scale = 1 / math.Sqrt(m.number("query_pre_attn_scalar", 256))
	m.text("hidden_act", "") // not read by the code
	return a
}

// gemma2: soft caps, every other layer slides.
func gemma2(m *model) []graph.ID {
	s := m.gemmaStem()
	a := m.gemma2Attention()
	a.cap = m.softcap("attn_logit_softcapping", 50)
	last := m.softcap("final_logit_softcapping", 30)
	m.fullRotary(&a, 10000)
	window := where(m.layerTypes(func(i int) bool { return i%2 == 0 }), m.window(4096))
	m.count("sliding_window_size", 0) // an early spelling, not read
	act, dim := m.activation("hidden_activation", "gelu_pytorch_tanh"), m.dim("intermediate_size", 0)
	x := m.embedScaled(s)
	for i := range m.layers {
		a := a
		a.window = window(i)
		x = m.sandwich(x, s, i, a, dim, act)
	}
	return []graph.ID{m.capped(m.finish(x, s, m.rmsNorm1p), last)}
}

// gemma3: norms on query and key heads, two rotary bases.
func gemma3(m *model) []graph.ID {
	s := m.gemmaStem()
	full := m.gemma2Attention()
	full.norm, full.eps = m.rmsNorm1p, s.eps
	m.softcap("attn_logit_softcapping", 0) // stored, not read by the code
	last := m.softcap("final_logit_softcapping", 0)
	local := full
	m.gemma3Rotary(&full, &local)
	pattern := m.dim("sliding_window_pattern", 6)
	m.count("_sliding_window_pattern", 6) // written beside layer_types, not read
	sliding := m.layerTypes(func(i int) bool { return (i+1)%pattern != 0 })
	local.window = m.window(4096)
	act, dim := m.activation("hidden_activation", "gelu_pytorch_tanh"), m.dim("intermediate_size", 0)
	x := m.embedScaled(s)
	for i := range m.layers {
		a := full
		if sliding[i] {
			a = local
		}
		x = m.sandwich(x, s, i, a, dim, act)
	}
	return []graph.ID{m.capped(m.finish(x, s, m.rmsNorm1p), last)}
}

// gemma3Rotary reads the two rotary embeddings: full layers take rope_theta
// and rope_scaling, sliding layers rope_local_base_freq.
func (m *model) gemma3Rotary(full, local *attention) {
	localTheta := m.number("rope_local_base_freq", 10000)
	pf := m.readRope("full_attention", 1e6, 1)
	pl := ropeParams{typ: "default", theta: localTheta, partial: 1, maxPositions: pf.maxPositions}
	if c := m.sub("rope_parameters"); c != nil && nested(c) {
		pl = m.readRope("sliding_attention", localTheta, 1)
		if !c.has("sliding_attention") {
			pl.theta = localTheta
		}
	}
	if pf.partial != 1 || pl.partial != 1 {
		m.failf("config.json: partial_rotary_factor is not read by this family's code")
		pf.partial, pl.partial = 1, 1
	}
	m.rotary(full, pf)
	m.rotary(local, pl)
}
