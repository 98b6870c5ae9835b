package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// latent is DeepSeek's multi-head latent attention: queries, keys and values
// come out of narrow vectors, and the rotated part of the key is one for all
// heads.
type latent struct {
	heads       int
	qRank, rank int // widths of the narrow vectors; qRank 0: queries are direct
	nope, v     int // a head's channels without position, and of values
	bias        bool
	scale       float64
	rope        rope
	cos, sin    graph.ID
}

// latentOf reads the sizes of latent attention. qRank and the next are the
// class's defaults.
func (m *model) latentOf(s stem, qRank int) latent {
	a := latent{heads: m.dim("num_attention_heads", 0), bias: m.boolean("attention_bias", false)}
	if kv := m.dim("num_key_value_heads", a.heads); kv != a.heads {
		m.failf("config.json: num_key_value_heads is %d; latent attention has as many as num_attention_heads, %d", kv, a.heads)
	}
	m.ignore("q_lora_rank") // where it is null
	if !m.null("q_lora_rank") {
		a.qRank = m.dim("q_lora_rank", qRank)
	}
	a.rank = m.dim("kv_lora_rank", 512)
	a.nope, a.v = m.dim("qk_nope_head_dim", 128), m.dim("v_head_dim", 128)
	turned := m.dim("qk_rope_head_dim", 64)
	m.demand("head_dim", turned)
	m.demand("qk_head_dim", a.nope+turned)
	if w := m.widest(); a.heads*max(a.nope+a.v, a.nope+turned) > w {
		m.failf("config.json: %d attention heads of %d elements, but no tensor of the checkpoint is wider than %d", a.heads, a.nope+turned, w)
		a.heads, a.nope, a.v, turned = 1, 1, 1, 2
	}
	a.scale = 1 / math.Sqrt(float64(a.nope+turned))
	p := m.readRope("", 10000, 1)
	a.rope = m.rope(p, turned)
	if p.c != nil && p.typ != "default" {
		if all := p.c.number("mscale_all_dim", 0); all != 0 {
			f := p.c.number("factor", 1)
			if f > 1 {
				f = 0.1*all*math.Log(f) + 1
			}
			a.scale *= f * f
		}
	}
	return a
}

// demand refuses a key that repeats what other sizes say, if it says otherwise.
func (m *model) demand(key string, want int) {
	if got := m.dim(key, want); got != want {
		m.failf("config.json: %s is %d, but the other sizes make it %d", key, got, want)
	}
}

// attendLatent runs latent attention on x [T,hidden].
func (m *model) attendLatent(x graph.ID, name string, a latent) graph.ID {
	t, r, hd := m.opt.Tokens, a.rope.dim, a.nope+a.rope.dim
	// The norms' epsilon is a default of their class, not the config's.
	norm := func(x graph.ID, n string, dim int) graph.ID {
		return m.Mul(m.RMSNorm(x, 1e-6, ""), m.Weight(name+n+".weight", dim))
	}
	q := x
	if a.qRank > 0 {
		q = norm(m.linear(x, name+".q_a_proj", a.qRank, a.bias), ".q_a_layernorm", a.qRank)
		q = m.linear(q, name+".q_b_proj", a.heads*hd, false)
	} else {
		q = m.linear(x, name+".q_proj", a.heads*hd, false)
	}
	q = m.split(q, a.heads, hd)
	c := m.linear(x, name+".kv_a_proj_with_mqa", a.rank+r, a.bias)
	kv := m.linear(norm(m.part(c, 0, a.rank), ".kv_a_layernorm", a.rank), name+".kv_b_proj", a.heads*(a.nope+a.v), false)
	kv = m.split(kv, a.heads, a.nope+a.v)
	turnedQ := a.rope.apply(m, m.part(q, a.nope, hd), r, a.cos, a.sin)
	turnedK := a.rope.apply(m, m.Reshape(m.part(c, a.rank, a.rank+r), 1, t, r), r, a.cos, a.sin)
	q = m.Concat(2, m.part(q, 0, a.nope), turnedQ)
	k := m.Concat(2, m.part(kv, 0, a.nope), m.Expand(turnedK, a.heads, t, r))
	o := m.weigh(q, k, m.part(kv, a.nope, a.nope+a.v), a.scale, m.mask(0), "")
	return m.linear(o, name+".o_proj", m.hidden, a.bias)
}

// routedExperts reads the experts of DeepSeek and its relatives; def are the
// class's numbers of experts, of those chosen (0: none) and of their channels.
func (m *model) routedExperts(def [3]int) experts {
	n := m.dim("n_routed_experts", def[0])
	m.only("moe_layer_freq", "1")
	m.ignore("aux_loss_alpha seq_aux ep_size")
	return experts{
		router: router{
			n: n, k: m.topK("num_experts_per_tok", def[1], n), weight: ".gate", score: graph.OpSoftmax,
			scale: m.number("routed_scaling_factor", 1),
		},
		dim: m.dim("moe_intermediate_size", def[2]), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: gateUpDown,
	}
}

// corrected makes a router choose by sigmoid scores plus a learned correction
// (DeepSeek V3, arXiv 2412.19437).
func (m *model) corrected(r *router, normalise bool, groups, keep int) {
	m.only("scoring_func", `"sigmoid"`)
	m.only("topk_method", `"noaux_tc"`)
	r.score, r.correction = graph.OpSigmoid, ".gate.e_score_correction_bias"
	r.normalise, r.tiny = m.boolean("norm_topk_prob", normalise), 1e-20
	m.groupLimits(r, groups, keep, 2)
}

// mixedLayers are dense MLPs in the first layers, then experts beside shared
// ones that every token goes to.
func (m *model) mixedLayers(e experts, dense, shared, first int) func(i int) func(graph.ID, string) graph.ID {
	first = m.count("first_k_dense_replace", first)
	plain := m.dense(dense, e.act, false)
	return func(i int) func(graph.ID, string) graph.ID {
		if i < first {
			return plain(i)
		}
		return func(h graph.ID, name string) graph.ID {
			return m.Add(m.sparse(h, name, e), m.glu(h, name+".shared_experts", e.dim*shared, e.act, false))
		}
	}
}

// deepseekV2: latent attention, softmax routing, by groups in the large model.
func deepseekV2(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.latentOf(s, 1536)
	a.rope.pairs = true
	a.cos, a.sin = a.rope.tables(m)
	e := m.routedExperts([3]int{64, 0, 1407})
	m.only("scoring_func", `"softmax"`)
	m.boolean("norm_topk_prob", false) // not read by the code
	m.only("mlp_bias", "false")
	switch method := m.text("topk_method", "greedy"); method {
	case "greedy":
		m.count("n_group", 0)
		m.count("topk_group", 0)
	case "group_limited_greedy":
		m.groupLimits(&e.router, 0, 0, 1)
	default:
		m.failf("config.json: topk_method %q is not supported", method)
	}
	mlp := m.mixedLayers(e, m.dim("intermediate_size", 0), m.dim("n_shared_experts", 2), 0)
	return m.latentDecoder(s, a, mlp)
}

// deepseekV3: V3, R1 and their descendants; the layers that predict further
// tokens are read where the checkpoint has them.
func deepseekV3(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.latentOf(s, 1536)
	a.rope.pairs = m.boolean("rope_interleave", true)
	a.cos, a.sin = a.rope.tables(m)
	e := m.routedExperts([3]int{256, 8, 2048})
	m.scaleDefault(&e.router, 2.5)
	m.corrected(&e.router, true, 8, 4)
	mlp := m.mixedLayers(e, m.dim("intermediate_size", 0), m.dim("n_shared_experts", 1), 3)
	return m.latentDecoder(s, a, mlp)
}

// scaleDefault is for classes whose routed_scaling_factor is not 1 when absent.
func (m *model) scaleDefault(r *router, def float64) {
	r.scale = m.number("routed_scaling_factor", def)
}

func (m *model) latentDecoder(s stem, a latent, mlp func(i int) func(graph.ID, string) graph.ID) []graph.ID {
	return m.drafting(s, func(x graph.ID, i int) graph.ID {
		return m.block(x, s, i, func(h graph.ID, name string) graph.ID { return m.attendLatent(h, name, a) }, mlp(i), m.rmsNorm)
	})
}

// drafting is a decoder whose checkpoint may hold, after its own layers, some
// that predict one token further each (multi-token prediction). They share the
// embedding and the head, and read the last hidden state; so what moves in the
// decoder moves in them. Their logits are further outputs.
//
// Here they read the embedding of the token whose state they read, not of the
// one after it: the same weights meet in the same places.
func (m *model) drafting(s stem, layer func(x graph.ID, i int) graph.ID) []graph.ID {
	x := m.embed(s)
	for i := range m.layers {
		x = layer(x, i)
	}
	m.Scope(s.prefix+"norm", -1)
	x = m.rmsNorm(x, s.prefix+"norm", m.hidden, s.eps)
	out := []graph.ID{m.head(s, x)}
	extra := m.count("num_nextn_predict_layers", m.count("num_mtp_layers", len(m.shapes)))
	for i := m.layers; i < m.layers+extra; i++ {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		if !m.has(p + ".enorm.weight") {
			break
		}
		x = m.draft(s, p, x, func(x graph.ID) graph.ID { return layer(x, i) })
		out = append(out, m.draftHead(s, p, x))
	}
	return out
}

// draft is one layer of multi-token prediction, from the hidden state x.
func (m *model) draft(s stem, p string, x graph.ID, layer func(graph.ID) graph.ID) graph.ID {
	m.Scope(p, -1)
	embed := s.prefix + "embed_tokens.weight"
	if copied := p + ".embed_tokens.weight"; m.has(copied) {
		m.Tie(embed, copied)
		embed = copied
	}
	e := m.Embedding(m.Weight(embed, m.vocab, m.hidden), m.TokenIDs())
	e = m.rmsNorm(e, p+".enorm", m.hidden, s.eps)
	h := m.rmsNorm(x, p+".hnorm", m.hidden, s.eps)
	return m.rmsNorm(layer(m.linear(m.Concat(1, e, h), p+".eh_proj", m.hidden, false)), p+".shared_head.norm", m.hidden, s.eps)
}

// draftHead returns the logits of a layer of multi-token prediction.
func (m *model) draftHead(s stem, p string, x graph.ID) graph.ID {
	copied, own := p+".shared_head.head.weight", "lm_head.weight"
	if !m.has(copied) || s.prefix == "" {
		return m.head(s, x)
	}
	if !m.has(own) {
		own = s.prefix + "embed_tokens.weight"
	}
	m.Tie(own, copied)
	return m.Linear(x, m.Weight(copied, m.vocab, m.hidden))
}
