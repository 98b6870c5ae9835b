package arch

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// experts is a sparse mixture of gated MLPs, each with tensors of its own.
type experts struct {
	router router
	dim    int
	act    graph.Op
	names  [3]string // gate, up, down
	prefix string    // between the block's path and the expert's number
}

// gateUpDown is how most families call an expert's three matrices.
var gateUpDown = [3]string{"gate_proj", "up_proj", "down_proj"}

// sparse computes all experts and adds them up by the router's weights.
func (m *model) sparse(x graph.ID, name string, e experts) graph.ID {
	return m.oneByOne(x, name, e.router, 3, name+"."+e.prefix, func(at string) graph.ID {
		h := m.Apply(e.act, m.linear(x, at+e.names[0], e.dim, false))
		return m.linear(m.Mul(h, m.linear(x, at+e.names[1], e.dim, false)), at+e.names[2], m.hidden, false)
	})
}

// oneByOne adds up what each expert says of x, by the router's weights. An
// expert has so many tensors, below prefix and its number.
func (m *model) oneByOne(x graph.ID, name string, r router, tensors int, prefix string, expert func(at string) graph.ID) graph.ID {
	if m.needed += tensors * r.n; m.needed > len(m.shapes) {
		if m.needed-tensors*r.n <= len(m.shapes) { // once
			m.failf("config.json: its experts need %d tensors and more, but the checkpoint holds %d", m.needed, len(m.shapes))
		}
		return x
	}
	p := m.route(x, name, r)
	var y graph.ID
	for i := range r.n {
		h := m.Mul(expert(fmt.Sprintf("%s%d.", prefix, i)), m.Slice(p, 1, i, i+1))
		if i == 0 {
			y = h
		} else {
			y = m.Add(y, h)
		}
	}
	return y
}

// copies repeats x [T,d] for n experts: [n,T,d].
func (m *model) copies(x graph.ID, n int) graph.ID {
	s := m.Shape(x)
	return m.Expand(m.Reshape(x, 1, s[0], s[1]), n, s[0], s[1])
}

// blend adds up y [n,T,d] by the weights p [T,n].
func (m *model) blend(y, p graph.ID) graph.ID {
	s := m.Shape(y)
	w := m.Reshape(m.Transpose(p, 1, 0), s[0], s[1], 1)
	return m.total(m.Mul(y, w))
}

// total adds up y [n,T,d] along the experts.
func (m *model) total(y graph.ID) graph.ID {
	s := m.Shape(y)
	return m.Reshape(m.Sum(m.Transpose(y, 1, 2, 0)), s[1], s[2])
}

// eachExpert multiplies x [n,T,in] by the weight of each expert, stored
// [n,in,out], or [n,out,in] when rows is set.
func (m *model) eachExpert(x graph.ID, name string, out int, rows bool) graph.ID {
	s := m.Shape(x)
	if rows {
		return m.MatMul(x, m.Transpose(m.Weight(name, s[0], out, s[2]), 0, 2, 1))
	}
	return m.MatMul(x, m.Weight(name, s[0], s[2], out))
}

// mixtral: Mistral's attention, sparse experts in every layer.
func mixtral(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(8, 0)
	m.boolean("attention_bias", false) // not read by Mixtral's code
	m.fullRotary(&a, 1e6)
	n := m.expertCount(8)
	e := experts{
		router: router{n: n, k: m.topK("num_experts_per_tok", 2, n), weight: ".gate", score: graph.OpSoftmax, normalise: true},
		dim:    m.dim("intermediate_size", 0), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: [3]string{"w1", "w3", "w2"},
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

// qwenExperts reads the experts of Qwen's mixtures, whose channels dim names;
// def are the class's numbers of experts, of those chosen, and of channels.
func (m *model) qwenExperts(dim string, def [3]int, normalise bool) experts {
	n := m.expertCount(def[0])
	return experts{
		router: router{
			n: n, k: m.topK("num_experts_per_tok", def[1], n), weight: ".gate", score: graph.OpSoftmax,
			normalise: m.boolean("norm_topk_prob", normalise),
		},
		dim: m.dim(dim, def[2]), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: gateUpDown,
	}
}

// sparseLayers reads which layers of Qwen's mixtures have experts.
func (m *model) sparseLayers() func(i int) bool {
	step := m.dim("decoder_sparse_step", 1)
	var only []int
	m.get("mlp_only_layers", &only)
	return func(i int) bool { return !slices.Contains(only, i) && (i+1)%step == 0 }
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
	e := m.qwenExperts("moe_intermediate_size", [3]int{128, 8, 768}, false)
	dense := m.dense(m.dim("intermediate_size", 6144), e.act, false)
	sparse := m.sparseLayers()
	return m.decoder(s, a, always(w), func(i int) func(graph.ID, string) graph.ID {
		if !sparse(i) {
			return dense(i)
		}
		return func(h graph.ID, name string) graph.ID { return m.sparse(h, name, e) }
	})
}
