package arch

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// olmo: OLMo 1; norms without weights, clipped projections.
func olmo(m *model) []graph.ID {
	s := m.openWith("", 1e-5, false, "model.", "embed_tokens")
	a := m.llamaHeads(0, 10000)
	a.clip = m.number("clip_qkv", 0)
	if m.config.has("clip_qkv") && !(a.clip > 0) {
		m.failf("config.json: clip_qkv is %g; it must be positive", a.clip)
	}
	norm := func(x graph.ID, _ string, _ int, eps float64) graph.ID { return m.LayerNorm(x, eps, "") }
	mlp := m.gated(m.dim("intermediate_size", 11008), m.activation("hidden_act", "silu"), false)
	return m.preNorm(m.embed(s), s, same(m.self(a)), mlp, norm)
}

// postNorm is a stack whose layers normalise what each half adds.
func (m *model) postNorm(s stem, att func(i int) halfFunc, mlp halfFunc) []graph.ID {
	x := m.embed(s)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		m.Scope(p+".self_attn", i)
		x = m.Add(x, m.rmsNorm(att(i)(x, p+".self_attn"), p+".post_attention_layernorm", m.hidden, s.eps))
		m.Scope(p+".mlp", i)
		x = m.Add(x, m.rmsNorm(mlp(x, p+".mlp"), p+".post_feedforward_layernorm", m.hidden, s.eps))
	}
	return m.closing(x, s, m.rmsNorm, nil)
}

// wideNorm normalises all queries of a token together, and all keys.
func (m *model) wideNorm(eps float64) headFunc {
	return func(x graph.ID, name string) graph.ID { return m.rmsNorm(x, name+"_norm", m.width(x), eps) }
}

// olmo2: norms after each half, and of all queries and all keys.
func olmo2(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := m.llamaHeads(0, 10000)
	a.wide = m.wideNorm(s.eps)
	mlp := m.gated(m.dim("intermediate_size", 11008), m.activation("hidden_act", "silu"), false)
	return m.postNorm(s, same(m.self(a)), mlp)
}

// olmo3: olmo2 with three sliding layers of four, whose rotary embedding is
// never scaled.
func olmo3(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	full := m.biasedHeads(0)
	full.wide = m.wideNorm(s.eps)
	local := full
	m.olmo3Rotary(&full.attention, &local.attention)
	full.each, local.each = m.turned(full.attention), m.turned(local.attention)
	local.window = m.window(4096)
	sliding := m.layerTypes(func(i int) bool { return (i+1)%4 != 0 })
	mlp := m.gated(m.dim("intermediate_size", 11008), m.activation("hidden_act", "silu"), false)
	return m.postNorm(s, m.either(sliding, local, full), mlp)
}

// either is the first attention in marked layers, the second in the others.
func (m *model) either(marked []bool, a, b headwise) func(i int) halfFunc {
	return func(i int) halfFunc {
		if marked[i] {
			return m.self(a)
		}
		return m.self(b)
	}
}

// olmo3Rotary: transformers 4 has one base for both and scales the full layers
// only; transformers 5 nests both by the layer's type.
func (m *model) olmo3Rotary(full, local *attention) {
	pf := m.readRope("full_attention", 500000, 1)
	pl := ropeParams{typ: "default", theta: pf.theta, partial: 1, maxPositions: pf.maxPositions}
	if c := m.sub("rope_parameters"); c != nil && nested(c) {
		pl = m.readRope("sliding_attention", 500000, 1)
	}
	if pf.partial != 1 || pl.partial != 1 {
		m.failf("config.json: partial_rotary_factor is not read by this family's code")
		pf.partial, pl.partial = 1, 1
	}
	m.rotary(full, pf)
	m.rotary(local, pl)
}

// exaone: EXAONE 4; norms after each half and of each head; where some layers
// slide, the others do not turn their heads.
func exaone(m *model) []graph.ID {
	s := m.openWith("rms_norm_eps", 1e-5, false, "model.", "embed_tokens")
	a := headwise{attention: m.headsOf(32, 0), out: "o_proj"}
	m.rotary(&a.attention, m.wholeHeads(10000))
	norm := normed(m.rmsNorm, "_norm", a.dim, s.eps)
	a.each = then(norm, m.turned(a.attention))
	mlp := m.gated(m.dim("intermediate_size", 16384), m.activation("hidden_act", "silu"), false)
	w := m.window(4096)
	sliding := m.exaoneSliding(w)
	if w == 0 {
		return m.postNorm(s, same(m.self(a)), mlp)
	}
	full, local := a, a
	full.each, local.window = norm, w
	return m.postNorm(s, m.either(sliding, local, full), mlp)
}

// exaoneSliding reads which layers slide.
func (m *model) exaoneSliding(window int) []bool {
	pattern := 4
	var word string
	switch raw := m.raw["sliding_window_pattern"]; {
	case len(raw) > 0 && raw[0] == '"': // as in "LLLG"; read by others, with layer_types beside it
		m.get("sliding_window_pattern", &word)
		if !m.config.has("layer_types") {
			m.failf("config.json: sliding_window_pattern %q without layer_types is not supported", word)
		}
	case window == 0:
		m.count("sliding_window_pattern", 0) // not read
	default:
		pattern = m.dim("sliding_window_pattern", 4)
	}
	sliding := m.layerTypes(func(i int) bool { return window > 0 && (i+1)%pattern != 0 })
	for _, s := range sliding {
		if s && window == 0 {
			m.failf("config.json: layer_types has sliding layers, but sliding_window is null")
			break
		}
	}
	return sliding
}
