package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// mambaOf reads Mamba 2's layer as hybrids spell its keys; inner is its width.
func (m *model) mambaOf(inner, heads, groups int) dual {
	d := dual{
		heads: m.dim("mamba_n_heads", heads), groups: m.dim("mamba_n_groups", groups), state: m.dim("mamba_d_state", 256),
		kernel: m.dim("mamba_d_conv", 4), convBias: m.boolean("mamba_conv_bias", true), bias: m.boolean("mamba_proj_bias", false),
		epsKey: m.epsKey,
	}
	d.low, d.high = m.interval("time_step_limit", 0, math.Inf(1))
	m.dim("mamba_chunk_size", 256) // how the sum is cut into pieces
	m.timeStepKeys()
	m.ignore("time_step_rank")
	d.dim = max(inner/d.heads, 1)
	if raw := string(m.raw["mamba_d_head"]); raw != `"auto"` {
		d.dim = m.dim("mamba_d_head", d.dim)
	}
	m.used["mamba_d_head"] = true
	if d.heads*d.dim != inner || d.heads%d.groups != 0 {
		m.failf("config.json: %d heads of %d elements in %d groups do not make the Mamba layer's width %d", d.heads, d.dim, d.groups, inner)
	}
	if !m.fits(inner, d.groups*d.state) {
		d.heads, d.dim, d.groups, d.state = 1, 1, 1, 1
	}
	return d
}

// falconH1Mixer is Falcon-H1's Mamba layer: constant factors on each part of
// its input, and a norm that may be absent, or stand before the gate.
type falconH1Mixer struct {
	dual
	in            float64
	parts         [5]float64 // of the gate, x, B, C and the time step
	normed, early bool
	outBias       bool
	act           graph.Op
}

func (s falconH1Mixer) mix(m *model, x graph.ID, name string) graph.ID {
	inner, bc := s.heads*s.dim, s.groups*s.state
	p := m.linear(m.times(x, s.in), name+".in_proj", 2*inner+2*bc+s.heads, s.bias)
	p = m.Mul(p, s.factors(m, inner, bc))
	gate := m.Apply(graph.OpSiLU, m.part(p, 0, inner))
	h := m.Apply(s.act, m.causalConv(m.part(p, inner, 2*inner+2*bc), name+".conv1d", s.kernel, s.convBias))
	dt := m.Add(m.part(p, 2*inner+2*bc, 2*inner+2*bc+s.heads), m.Weight(name+".dt_bias", s.heads))
	dt = m.Clamp(m.Apply(graph.OpSoftplus, dt), s.low, s.high)
	y := s.scan(m, m.part(h, 0, inner), m.part(h, inner, inner+bc), m.part(h, inner+bc, inner+2*bc), dt, name)
	if !s.normed || !s.early {
		y = m.Mul(y, gate)
	}
	if s.normed {
		y = m.Mul(m.groupNorm(y, s.groups, s.eps, s.epsKey), m.Weight(name+".norm.weight", inner))
		if s.early {
			y = m.Mul(y, gate)
		}
	}
	return m.linear(y, name+".out_proj", m.hidden, s.outBias)
}

// factors is the constant that multiplies the projected input.
func (s falconH1Mixer) factors(m *model, inner, bc int) graph.ID {
	var d []float32
	for i, n := range []int{inner, inner, bc, bc, s.heads} {
		for range n {
			d = append(d, float32(s.parts[i]))
		}
	}
	return m.Const(d, len(d))
}

func (m *model) falconH1MixerOf(s stem) falconH1Mixer {
	inner := m.dim("mamba_d_ssm", 1024)
	if expand := m.dim("mamba_expand", 2); m.null("mamba_d_ssm") {
		inner = expand * m.hidden
	}
	x := falconH1Mixer{
		dual: m.mambaOf(inner, 128, 1), in: m.number("ssm_in_multiplier", 1), parts: [5]float64{1, 1, 1, 1, 1},
		normed: m.boolean("mamba_rms_norm", false), early: m.boolean("mamba_norm_before_gate", true),
		outBias: m.boolean("projectors_bias", false), act: m.activation("hidden_act", "silu"),
	}
	x.eps = s.eps
	var list []float64
	if m.get("ssm_multipliers", &list) && len(list) != 5 {
		m.failf("config.json: ssm_multipliers has %d entries, not 5", len(list))
	}
	copy(x.parts[:], list)
	return x
}

// falconH1: attention and Mamba 2 side by side in every layer.
func falconH1(m *model) []graph.ID {
	m.atLeast(2)
	s := m.open(1e-5, false)
	a := m.headsOf(8, 0)
	m.attentionBias(&a, false)
	m.fullRotary(&a, 10000)
	m.only("mamba_use_mlp", "true")
	m.ignore("mlp_expansion_factor num_logits_to_keep")
	mixer := m.falconH1MixerOf(s)
	a.scale *= m.number("key_multiplier", 1)
	in, out, mamba := m.number("attention_in_multiplier", 1), m.number("attention_out_multiplier", 1), m.number("ssm_out_multiplier", 1)
	mlp := m.falconH1MLP(mixer.act)
	x := m.times(m.embed(s), m.number("embedding_multiplier", 1))
	for i := range m.layers {
		p := s.layer(i)
		m.Scope(p+".mamba", i)
		h := m.rmsNorm(x, p+".input_layernorm", m.hidden, s.eps)
		y := m.times(mixer.mix(m, h, p+".mamba"), mamba)
		m.Scope(p+".self_attn", i)
		y = m.Add(y, m.times(m.attend(m.times(h, in), p+".self_attn", a), out))
		x = m.Add(x, y)
		m.Scope(p+".feed_forward", i)
		x = m.Add(x, mlp(m.rmsNorm(x, p+".pre_ff_layernorm", m.hidden, s.eps), p+".feed_forward"))
	}
	m.Scope(s.prefix+"final_layernorm", -1)
	x = m.head(s, m.rmsNorm(x, s.prefix+"final_layernorm", m.hidden, s.eps))
	return []graph.ID{m.times(x, m.number("lm_head_multiplier", 1))}
}

// falconH1MLP is the gated MLP with a factor before its activation and one at
// its end.
func (m *model) falconH1MLP(act graph.Op) halfFunc {
	dim, bias := m.dim("intermediate_size", 14336), m.boolean("mlp_bias", false)
	f := []float64{1, 1}
	if m.get("mlp_multipliers", &f) && len(f) != 2 {
		m.failf("config.json: mlp_multipliers has %d entries, not 2", len(f))
		f = []float64{1, 1}
	}
	return func(h graph.ID, name string) graph.ID {
		gate := m.Apply(act, m.times(m.linear(h, name+".gate_proj", dim, bias), f[0]))
		y := m.Mul(gate, m.linear(h, name+".up_proj", dim, bias))
		return m.times(m.linear(y, name+".down_proj", m.hidden, bias), f[1])
	}
}

// graniteHybrid: Granite 4; layers of Mamba 2 and of attention, experts or not.
func graniteHybrid(m *model) []graph.ID {
	m.atLeast(2)
	s := m.open(1e-6, false)
	a := m.graniteHeads()
	turns := m.text("position_embedding_type", "") == "rope"
	p := m.wholeHeads(10000)
	if turns {
		m.rotary(&a, p)
	}
	mixer := m.mambaOf(m.dim("mamba_expand", 2)*m.hidden, 128, 1)
	mixer.eps = s.eps
	m.ignore("init_method normalization_function mup") // keys of the publisher's own code
	mamba := m.graniteMambas()
	e := m.graniteExpertsOf(m.dim("shared_intermediate_size", 1024))
	return m.graniteStack(s, m.graniteScalesOf(), e, func(i int, h graph.ID) graph.ID {
		if mamba[i] {
			name := s.layer(i) + ".mamba"
			m.Scope(name, i)
			return mixer.mix(m, h, name)
		}
		if turns {
			return m.attend(h, s.layer(i)+".self_attn", a)
		}
		return m.attendHeads(h, s.layer(i)+".self_attn", headwise{attention: a, out: "o_proj"})
	})
}

// graniteMambas reads which layers are Mamba, under either name.
func (m *model) graniteMambas() []bool {
	return m.layersNamed([]string{"mamba", "linear_attention"}, []string{"attention", "full_attention"}, func(int) bool { return true })
}
