package arch

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// experts is a sparse mixture of gated MLPs.
type experts struct {
	n, k      int
	dim       int
	act       graph.Op
	normalise bool // divide the chosen experts' weights by their sum
	router    string
	names     [3]string // gate, up, down
	prefix    string
}

// sparse computes all experts and weighs them by the router: zero for those
// that were not chosen. With Options.AllEx every expert keeps its weight, so
// that a comparison of two checkpoints misses none.
func (m *model) sparse(x graph.ID, name string, e experts) graph.ID {
	m.routed = true
	if m.needed += 3 * e.n; m.needed > len(m.shapes) {
		if m.needed-3*e.n <= len(m.shapes) { // once
			m.failf("config.json: its experts need %d tensors and more, but the checkpoint holds %d", m.needed, len(m.shapes))
		}
		return x
	}
	p := m.Apply(graph.OpSoftmax, m.linear(x, name+e.router, e.n, false))
	if !m.opt.AllEx {
		p = m.Mul(p, m.TopKMask(p, e.k))
	}
	if e.normalise {
		p = m.Div(p, m.Sum(p))
	}
	var y graph.ID
	for i := range e.n {
		n := fmt.Sprintf("%s.%s%d.", name, e.prefix, i)
		h := m.Apply(e.act, m.linear(x, n+e.names[0], e.dim, false))
		h = m.linear(m.Mul(h, m.linear(x, n+e.names[1], e.dim, false)), n+e.names[2], m.hidden, false)
		h = m.Mul(h, m.Slice(p, 1, i, i+1))
		if i == 0 {
			y = h
		} else {
			y = m.Add(y, h)
		}
	}
	return y
}

// expertCount reads the number of experts, which transformers 4 and 5 spell
// differently for the same family.
func (m *model) expertCount(def int) int {
	n := m.dim("num_local_experts", m.dim("num_experts", def))
	if m.config.has("num_experts") && m.dim("num_experts", def) != n {
		m.failf("config.json: num_experts and num_local_experts differ")
	}
	return n
}

func (m *model) topK(def, n int) int {
	k := m.dim("num_experts_per_tok", def)
	if k > n {
		m.failf("config.json: num_experts_per_tok %d exceeds the %d experts", k, n)
		return n
	}
	return k
}

// mixtral: Mistral's attention, sparse experts in every layer.
func mixtral(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(8, 0)
	m.boolean("attention_bias", false) // not read by Mixtral's code
	m.fullRotary(&a, 1e6)
	n := m.expertCount(8)
	e := experts{
		n: n, k: m.topK(2, n), dim: m.dim("intermediate_size", 0), act: m.activation("hidden_act", "silu"),
		normalise: true, router: ".gate", prefix: "experts.", names: [3]string{"w1", "w3", "w2"},
	}
	x := m.embed(s)
	a.window = m.window(0)
	for i := range m.layers {
		moe := fmt.Sprintf("%slayers.%d.block_sparse_moe", s.prefix, i)
		x = m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attend(h, name, a) },
			func(h graph.ID, _ string) graph.ID {
				m.Scope(moe, i)
				return m.sparse(h, moe, e)
			}, m.rmsNorm)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm)}
}

// qwen3moe: Qwen3's attention, sparse experts in some layers.
func qwen3moe(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(4, 0)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	a.norm, a.eps = m.rmsNorm, s.eps
	m.fullRotary(&a, 10000)
	w := m.window(4096)
	if !m.boolean("use_sliding_window", false) {
		w = 0
	}
	m.count("max_window_layers", 28) // not read by Qwen3-MoE's code
	n := m.expertCount(128)
	e := experts{
		n: n, k: m.topK(8, n), dim: m.dim("moe_intermediate_size", 768), act: m.activation("hidden_act", "silu"),
		normalise: m.boolean("norm_topk_prob", false), router: ".gate", prefix: "experts.",
		names: [3]string{"gate_proj", "up_proj", "down_proj"},
	}
	dense := m.dense(m.dim("intermediate_size", 6144), e.act, false)
	step := m.dim("decoder_sparse_step", 1)
	var only []int
	m.get("mlp_only_layers", &only)
	return m.decoder(s, a, always(w), func(i int) func(graph.ID, string) graph.ID {
		if slices.Contains(only, i) || (i+1)%step != 0 {
			return dense(i)
		}
		return func(h graph.ID, name string) graph.ID { return m.sparse(h, name, e) }
	})
}
