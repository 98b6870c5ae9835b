package arch

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// dbrxExperts are gated MLPs whose matrices are stacked: w1, v1 and w2 hold
// the rows of all experts, one after the other.
type dbrxExperts struct {
	router router
	dim    int
	act    graph.Op
}

func (e dbrxExperts) mix(m *model, x graph.ID, name string) graph.ID {
	n := e.router.n
	stacked := func(w string) graph.ID {
		return m.Reshape(m.Weight(name+".experts.mlp."+w, n*e.dim, m.hidden), n, e.dim, m.hidden)
	}
	p, h := m.route(x, name, e.router), m.copies(x, n)
	gate := m.Apply(e.act, m.MatMul(h, m.Transpose(stacked("w1"), 0, 2, 1)))
	up := m.MatMul(h, m.Transpose(stacked("v1"), 0, 2, 1))
	return m.blend(m.MatMul(m.Mul(gate, up), stacked("w2")), p)
}

func (m *model) dbrxExpertsOf() dbrxExperts {
	c := m.section("ffn_config")
	c.only("is_encoder_decoder", "false")
	n := c.dim("moe_num_experts", 4)
	e := dbrxExperts{router: router{n: n, k: c.dim("moe_top_k", 1), weight: ".router.layer", score: graph.OpSoftmax}, act: graph.OpSiLU}
	if e.router.k > n {
		m.failf("config.json: %smoe_top_k %d exceeds the %d experts", c.path, e.router.k, n)
		e.router.k = n
	}
	e.dim = c.dim("ffn_hidden_size", 3584)
	e.router.normalise = !c.null("moe_normalize_expert_weights")
	c.only("moe_normalize_expert_weights", "1", "1.0", "null")
	c.ignore("hidden_size moe_jitter_eps moe_loss_weight uniform_expert_assignment")
	if a := c.sub("ffn_act_fn"); a != nil {
		a.only("name", `"silu"`)
	}
	return e
}

// dbrx: DBRX; LayerNorm without bias, fused and clipped projections.
func dbrx(m *model) []graph.ID {
	for _, a := range [][2]string{
		{"hidden_size", "d_model"}, {"num_attention_heads", "n_heads"}, {"num_hidden_layers", "n_layers"}, {"max_position_embeddings", "max_seq_len"},
	} {
		m.alias(a[0], a[1])
	}
	m.ignore("emb_pdrop")
	m.only("tie_word_embeddings", "false")
	s := m.openWith("", 1e-5, false, "transformer.", "wte")
	c := m.section("attn_config")
	c.only("is_encoder_decoder", "false")
	c.ignore("attn_pdrop")
	a := m.headsOf(c.dim("kv_n_heads", 1), 0)
	m.rotary(&a, m.readRope("", c.number("rope_theta", 10000), 1))
	clip := c.number("clip_qkv", 0)
	e := m.dbrxExpertsOf()
	x := m.lookup(s.prefix+"wte", m.hidden)
	for i := range m.layers {
		p := fmt.Sprintf("%sblocks.%d", s.prefix, i)
		m.Scope(p+".norm_attn_norm", i)
		h := m.plainNorm(x, p+".norm_attn_norm.norm_1", m.hidden, s.eps)
		x = m.Add(x, m.clippedAttention(h, p+".norm_attn_norm.attn", a, clip))
		h = m.plainNorm(x, p+".norm_attn_norm.norm_2", m.hidden, s.eps)
		m.Scope(p+".ffn", i)
		x = m.Add(x, e.mix(m, h, p+".ffn"))
	}
	m.Scope(s.prefix+"norm_f", -1)
	x = m.plainNorm(x, s.prefix+"norm_f", m.hidden, s.eps)
	if s.prefix == "" && !m.has("lm_head.weight") { // a checkpoint of the bare decoder
		return []graph.ID{x}
	}
	m.Scope("lm_head", -1)
	return []graph.ID{m.Linear(x, m.Weight("lm_head.weight", m.vocab, m.hidden))}
}

// clippedAttention projects with one matrix of rows [q; k; v] and bounds the
// result; clip 0 does not.
func (m *model) clippedAttention(h graph.ID, name string, a attention, clip float64) graph.ID {
	q, kv := a.heads*a.dim, a.kv*a.dim
	y := m.linear(h, name+".Wqkv", q+2*kv, false)
	if clip != 0 {
		y = m.Clamp(y, -clip, clip)
	}
	o := m.mix(m.part(y, 0, q), m.part(y, q, q+kv), m.part(y, q+kv, q+2*kv), name, a)
	return m.linear(o, name+".out_proj", m.hidden, false)
}
