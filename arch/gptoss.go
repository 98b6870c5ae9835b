package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// clampedExperts are gpt-oss's: one tensor for all experts, gate and up
// interleaved, and (up+1)·gate·sigmoid(α·gate) of clamped values.
type clampedExperts struct {
	router       router
	dim          int
	alpha, limit float64
}

// gptOSSRope is the rotary embedding of a gpt-oss config that names none.
const gptOSSRope = `{"rope_type": "yarn", "factor": 32, "beta_fast": 32, "beta_slow": 1,
	"truncate": false, "original_max_position_embeddings": 4096}`

// gptOSS: sinks in the attention, every other layer slides.
func gptOSS(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(8, 64)
	m.attentionBias(&a, true)
	p := m.readRope("", 150000, 1)
	if p.c == nil {
		p.c, _ = parseConfig([]byte(gptOSSRope))
		p.typ, p.original = "yarn", 4096
	}
	m.rotary(&a, p)
	window := where(m.layerTypes(func(i int) bool { return i%2 == 0 }), m.window(128))
	m.ignore("hidden_act initial_context_length experts_per_token") // the publisher's, beside those below
	n := m.expertCount(128)
	e := clampedExperts{
		router: router{n: n, k: m.topK("num_experts_per_tok", 4, n), weight: ".router", bias: true, late: true},
		dim:    m.dim("intermediate_size", 0), alpha: m.number("swiglu_alpha", 1.702), limit: m.number("swiglu_limit", 7),
	}
	x := m.embed(s)
	for i := range m.layers {
		x = m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attendSinks(h, name, a, window(i)) },
			func(h graph.ID, name string) graph.ID { return m.clamped(h, name, e) }, m.rmsNorm)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm)}
}

// attendSinks is attention in which a learned score of each head competes
// with the tokens'.
func (m *model) attendSinks(x graph.ID, name string, a attention, window int) graph.ID {
	q := m.split(m.linear(x, name+".q_proj", a.heads*a.dim, a.biasQKV), a.heads, a.dim)
	k := m.split(m.linear(x, name+".k_proj", a.kv*a.dim, a.biasQKV), a.kv, a.dim)
	v := m.split(m.linear(x, name+".v_proj", a.kv*a.dim, a.biasQKV), a.kv, a.dim)
	q, k = a.rope.apply(m, q, a.dim, a.cos, a.sin), a.rope.apply(m, k, a.dim, a.cos, a.sin)
	o := m.weigh(q, k, v, a.scale, m.mask(window), name+".sinks")
	return m.linear(o, name+".o_proj", m.hidden, a.biasO)
}

// clamped computes all experts at once.
func (m *model) clamped(x graph.ID, name string, e clampedExperts) graph.ID {
	if m.has(name + ".experts.0.gate_proj.weight") {
		return m.clampedApart(x, name, e)
	}
	n, t := e.router.n, m.opt.Tokens
	p := m.route(x, name, e.router)
	bias := func(y graph.ID, part string, dim int) graph.ID {
		return m.Add(y, m.Reshape(m.Weight(name+".experts."+part+"_bias", n, dim), n, 1, dim))
	}
	h := bias(m.eachExpert(m.copies(x, n), name+".experts.gate_up_proj", 2*e.dim, false), "gate_up_proj", 2*e.dim)
	pairs := m.Reshape(h, n, t, e.dim, 2)
	gate := m.Clamp(m.Reshape(m.part(pairs, 0, 1), n, t, e.dim), math.Inf(-1), e.limit)
	up := m.Clamp(m.Reshape(m.part(pairs, 1, 2), n, t, e.dim), -e.limit, e.limit)
	h = m.Mul(gate, m.Apply(graph.OpSigmoid, m.MulScalar(gate, e.alpha)))
	h = m.Mul(m.AddScalar(up, 1), h)
	h = bias(m.eachExpert(h, name+".experts.down_proj", m.hidden, false), "down_proj", m.hidden)
	return m.blend(h, p)
}

// clampedApart computes experts one by one, of checkpoints that hold gate and
// up apart.
func (m *model) clampedApart(x graph.ID, name string, e clampedExperts) graph.ID {
	return m.oneByOne(x, name, e.router, 6, name+".experts.", func(at string) graph.ID {
		gate := m.Clamp(m.linear(x, at+"gate_proj", e.dim, true), math.Inf(-1), e.limit)
		up := m.Clamp(m.linear(x, at+"up_proj", e.dim, true), -e.limit, e.limit)
		h := m.Mul(gate, m.Apply(graph.OpSigmoid, m.MulScalar(gate, e.alpha)))
		return m.linear(m.Mul(m.AddScalar(up, 1), h), at+"down_proj", m.hidden, true)
	})
}
