package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// lightning is MiniMax's linear attention: scores of tokens with tokens that
// fade with their distance, without a softmax (arXiv 2501.08313).
type lightning struct {
	heads, dim int
	act        graph.Op
}

// fading is the factor of the scores in layer i, [heads,T,T].
func (l lightning) fading(m *model, i int) graph.ID {
	t := m.opt.Tokens
	d := make([]float32, l.heads*t*t)
	layer := 1 - float64(i)/(float64(m.layers-1)+1e-5) + 1e-5
	for h := range l.heads {
		rate := math.Exp2(-8*float64(h+1)/float64(l.heads)) * layer
		for a := range t {
			for b := range a + 1 {
				d[(h*t+a)*t+b] = float32(math.Exp(-rate * float64(a-b)))
			}
		}
	}
	return m.Const(d, l.heads, t, t)
}

func (l lightning) mix(m *model, x graph.ID, name string, i int) graph.ID {
	t, width := m.opt.Tokens, l.heads*l.dim
	y := m.split(m.Apply(l.act, m.linear(x, name+".qkv_proj", 3*width, false)), l.heads, 3*l.dim)
	q, k, v := m.part(y, 0, l.dim), m.part(y, l.dim, 2*l.dim), m.part(y, 2*l.dim, 3*l.dim)
	o := m.MatMul(m.Mul(m.MatMul(q, m.Transpose(k, 0, 2, 1)), l.fading(m, i)), v)
	o = m.Reshape(m.Transpose(o, 1, 0, 2), t, width)
	// The norm's epsilon is its class's default, not the config's.
	o = m.Mul(m.RMSNorm(o, 1e-6, ""), m.Weight(name+".norm.weight", width))
	o = m.Mul(m.Apply(graph.OpSigmoid, m.linear(x, name+".output_gate", width, false)), o)
	return m.linear(o, name+".out_proj", m.hidden, false)
}

// minimax: MiniMax-Text-01; the residual stream is what the norms give.
func minimax(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(8, 0)
	m.fullRotary(&a, 1e6)
	a.window = m.window(0)
	n := m.expertCount(8)
	e := experts{
		router: router{n: n, k: m.topK("num_experts_per_tok", 2, n), weight: ".gate", score: graph.OpSoftmax, normalise: true},
		dim:    m.dim("intermediate_size", 14336), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: [3]string{"w1", "w3", "w2"},
	}
	m.dim("block_size", 256) // how the sum is cut into pieces
	m.computed = []string{".self_attn.slope_rate", ".self_attn.query_decay", ".self_attn.key_decay", ".self_attn.diagonal_decay"}
	faint := m.layersOfKind("linear_attention", func(i int) bool { return i%2 != 0 })
	l := lightning{heads: a.heads, dim: a.dim, act: e.act}
	weights := func(kind string) [2]float64 {
		return [2]float64{m.number(kind+"_alpha_factor", 1), m.number(kind+"_beta_factor", 1)}
	}
	full, linear, mlp := weights("full_attn"), weights("linear_attn"), weights("mlp")
	sum := func(x, y graph.ID, f [2]float64) graph.ID { return m.Add(m.times(x, f[0]), m.times(y, f[1])) }
	return m.stack(s, func(x graph.ID, i int) graph.ID {
		p := s.layer(i)
		m.Scope(p+".self_attn", i)
		x = m.rmsNorm(x, p+".input_layernorm", m.hidden, s.eps)
		if faint[i] {
			x = sum(x, l.mix(m, x, p+".self_attn", i), linear)
		} else {
			x = sum(x, m.attend(x, p+".self_attn", a), full)
		}
		m.Scope(p+".block_sparse_moe", i)
		x = m.rmsNorm(x, p+".post_attention_layernorm", m.hidden, s.eps)
		return sum(x, m.sparse(x, p+".block_sparse_moe", e), mlp)
	})
}
