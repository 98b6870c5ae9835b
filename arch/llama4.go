package arch

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// llama4Attention is Llama 4's: most layers rotate and look back within their
// chunk of the sequence; the others do neither, and warm their queries up as
// the sequence grows (arXiv 2501.19399).
type llama4Attention struct {
	attention
	turns  []bool // by layer
	chunks []bool // by layer
	chunk  int
	normed bool // queries and keys that rotate are normalised, without a gain
	eps    float64
	epsKey string
	warm   bool
	floor  float64 // positions between two steps of the warming up
	step   float64
}

// llama4Text: Llama 4's text model.
func llama4Text(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.llama4Heads(s)
	n := m.expertCount(16)
	e := llama4Experts{
		router: router{n: n, k: m.topK("num_experts_per_tok", 1, n), weight: ".router", score: graph.OpSigmoid},
		dim:    m.dim("intermediate_size", 8192), act: m.activation("hidden_act", "silu"),
	}
	wide := m.dim("intermediate_size_mlp", 16384)
	sparse := m.llama4Sparse()
	m.ignore("for_llm_compressor")
	return m.stack(s, func(x graph.ID, i int) graph.ID {
		return m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.llama4Attend(h, name, a, i) },
			func(h graph.ID, _ string) graph.ID {
				name := s.layer(i) + ".feed_forward"
				m.Scope(name, i)
				if !sparse(i) {
					return m.glu(h, name, wide, e.act, false)
				}
				return m.Add(m.glu(h, name+".shared_expert", e.dim, e.act, false), m.llama4Sum(h, name, e))
			}, m.rmsNorm)
	})
}

// llama4Heads reads the attention.
func (m *model) llama4Heads(s stem) llama4Attention {
	a := llama4Attention{attention: m.headsOf(8, 128), eps: s.eps, epsKey: m.epsKey}
	m.attentionBias(&a.attention, false)
	m.neighbours(&a.attention, m.wholeHeads(500000))
	interval := m.dim("no_rope_layer_interval", 4)
	var turns []int
	m.get("no_rope_layers", &turns)
	if len(turns) > 0 && len(turns) < m.layers {
		m.failf("config.json: no_rope_layers has %d entries for %d layers", len(turns), m.layers)
		turns = nil
	}
	for i := range m.layers {
		on := (i+1)%interval != 0
		if len(turns) > 0 {
			on = turns[i] != 0
		}
		a.turns = append(a.turns, on)
	}
	a.chunks = m.layersOfKind("chunked_attention", func(i int) bool { return a.turns[i] })
	if m.null("attention_chunk_size") && slices.Contains(a.chunks, true) {
		m.failf("config.json: layer_types has chunked layers, but attention_chunk_size is null")
	}
	a.chunk = m.dim("attention_chunk_size", 8192)
	a.normed = m.boolean("use_qk_norm", true)
	a.warm = m.boolean("attn_temperature_tuning", true)
	a.floor, a.step = m.number("floor_scale", 8192), m.number("attn_scale", 0.1)
	return a
}

// llama4Attend runs the attention of layer i.
func (m *model) llama4Attend(x graph.ID, name string, a llama4Attention, i int) graph.ID {
	q := m.split(m.linear(x, name+".q_proj", a.heads*a.dim, a.biasQKV), a.heads, a.dim)
	k := m.split(m.linear(x, name+".k_proj", a.kv*a.dim, a.biasQKV), a.kv, a.dim)
	v := m.split(m.linear(x, name+".v_proj", a.kv*a.dim, a.biasQKV), a.kv, a.dim)
	switch {
	case a.turns[i]:
		q, k = a.rope.apply(m, q, a.dim, a.cos, a.sin), a.rope.apply(m, k, a.dim, a.cos, a.sin)
		if a.normed {
			q, k = m.RMSNorm(q, a.eps, a.epsKey), m.RMSNorm(k, a.eps, a.epsKey)
		}
	case a.warm:
		q = m.Mul(q, m.warmth(a))
	}
	hidden := func(i, j int) bool { return false }
	if a.chunks[i] {
		hidden = func(i, j int) bool { return i/a.chunk != j/a.chunk }
	}
	return m.linear(m.weigh(q, k, v, a.scale, m.blind(hidden), ""), name+".o_proj", m.hidden, a.biasO)
}

// warmth is the factor of each position's queries, [T,1].
func (m *model) warmth(a llama4Attention) graph.ID {
	d := make([]float32, m.opt.Tokens)
	for i := range d {
		d[i] = float32(math.Log1p(math.Floor(float64(i+1)/a.floor))*a.step + 1)
	}
	return m.Const(d, len(d), 1)
}

// llama4Sparse reads which layers have experts.
func (m *model) llama4Sparse() func(i int) bool {
	step := m.dim("interleave_moe_layer_step", 1)
	var list []int
	if m.get("moe_layers", &list) {
		return func(i int) bool { return slices.Contains(list, i) }
	}
	return func(i int) bool { return (i+1)%step == 0 }
}

// llama4Experts share one tensor, and see their input times the router's score.
type llama4Experts struct {
	router router
	dim    int
	act    graph.Op
}

func (m *model) llama4Sum(x graph.ID, name string, e llama4Experts) graph.ID {
	n, t := e.router.n, m.opt.Tokens
	p := m.Reshape(m.Transpose(m.route(x, name, e.router), 1, 0), n, t, 1)
	h := m.Mul(m.copies(x, n), p)
	return m.total(m.fusedExperts(h, name+".experts.gate_up_proj", name+".experts.down_proj", e.dim, e.act, false))
}

// fusedExperts are gated MLPs on x [n,T,in] whose matrices stand in two
// tensors, each expert's gate beside its up; rows as in eachExpert.
func (m *model) fusedExperts(x graph.ID, gateUp, down string, dim int, act graph.Op, rows bool) graph.ID {
	h := m.eachExpert(x, gateUp, 2*dim, rows)
	h = m.Mul(m.Apply(act, m.part(h, 0, dim)), m.part(h, dim, 2*dim))
	return m.eachExpert(h, down, m.hidden, rows)
}
