package arch

import "github.com/neuroseal/neuroseal/graph"

// phimoe: Phi-3.5-MoE; LayerNorm with bias, and a router that picks two
// experts one after the other.
func phimoe(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(8, 0)
	m.attentionBias(&a, false)
	m.phimoeRotary(&a)
	a.window = m.window(0)
	n := m.expertCount(16)
	jitter := m.number("router_jitter_noise", 0.01) // read at inference too
	m.ignore("input_jitter_noise")
	m.only("num_experts_per_tok", "2")
	e := experts{
		router: router{n: n, k: m.topK("num_experts_per_tok", 2, n), weight: ".gate", mixed: true, jitter: jitter},
		dim:    m.dim("intermediate_size", 6400), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: [3]string{"w1", "w3", "w2"},
	}
	x := m.embed(s)
	for i := range m.layers {
		moe := s.layer(i) + ".block_sparse_moe"
		x = m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attend(h, name, a) },
			func(h graph.ID, _ string) graph.ID {
				m.Scope(moe, i)
				return m.sparse(h, moe, e)
			}, m.layerNorm)
	}
	m.Scope(s.prefix+"norm", -1)
	x = m.layerNorm(x, s.prefix+"norm", m.hidden, s.eps)
	return []graph.ID{m.biasedHead(s, x, m.boolean("lm_head_bias", false))}
}

// phimoeRotary reads the rotary embedding, whose factor the config names
// itself: one for sequences within the trained context, one for longer ones.
// The frequencies are the short ones for both: the code asks for them without
// the sequence's length.
func (m *model) phimoeRotary(a *attention) {
	p := m.wholeHeads(1e6)
	within := p
	within.original = max(p.original, m.opt.Tokens)
	a.rope = m.rope(within, a.dim)
	if p.c != nil && p.typ != "default" {
		key := "short_mscale"
		if m.opt.Tokens > p.original {
			key = "long_mscale"
		}
		if !p.c.has("short_mscale") || !p.c.has("long_mscale") {
			m.failf("config.json: %sshort_mscale and long_mscale must be given", p.c.path)
		}
		a.rope.factor = p.c.number(key, 1)
	}
	a.cos, a.sin = a.rope.tables(m)
}

// twice is SparseMixer's choice (arXiv 2409.12136): the best expert, weighed
// by a softmax over those whose score r [T,n] comes near, then the best of the
// others, weighed likewise.
func (m *model) twice(r graph.ID, n int, jitter float64) graph.ID {
	t := m.opt.Tokens
	pick := func(scores graph.ID) (weights, chosen graph.ID) {
		best := m.Max(scores)
		gap := m.Div(m.Sub(best, r), m.Maximum(m.Apply(graph.OpAbs, r), best))
		far := m.Compare(graph.OpLess, m.Const([]float32{float32(2 * jitter)}, 1), gap)
		p := m.Apply(graph.OpSoftmax, m.Where(far, m.lowest(), scores))
		chosen = m.Reshape(m.OneHot(m.ArgMax(scores), n), t, n)
		return m.Mul(p, chosen), chosen
	}
	first, taken := pick(r)
	second, _ := pick(m.Where(taken, m.lowest(), r))
	return m.Add(first, second)
}
