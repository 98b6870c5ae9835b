package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// rwkv: RWKV 4. The recurrence is unrolled over the tokens; before the first,
// its sums are zero and their maximum is minus infinity.
func rwkv(m *model) []graph.ID {
	m.atLeast(3)
	m.hidden, m.layers, m.vocab = m.dim("hidden_size", 4096), m.depth("num_hidden_layers", 32), m.dim("vocab_size", 50277)
	m.dim("context_length", 1024) // a buffer's size
	tie := m.boolean("tie_word_embeddings", false)
	eps, key := m.epsilon("layer_norm_epsilon", 1e-5)
	rescale := m.count("rescale_every", 6)
	att, ffn := m.dim("attention_hidden_size", m.hidden), m.dim("intermediate_size", 4*m.hidden)
	p := m.prefix("embeddings.weight", "rwkv.", "")
	m.Scope(p+"embeddings", -1)
	embed := p + "embeddings.weight"
	x := m.Embedding(m.Weight(embed, m.vocab, m.hidden), m.TokenIDs())
	for i := range m.layers {
		name := fmt.Sprintf("%sblocks.%d", p, i)
		m.Scope(name+".attention", i)
		if i == 0 {
			x = m.affineNorm(x, name+".pre_ln", eps, key)
		}
		// For fp16's sake the code halves the residual stream every few layers, and
		// divides what is added to it alike.
		less := 1.0
		if rescale > 0 {
			less = math.Ldexp(1, -(i / rescale))
		}
		x = m.Add(x, m.timeMix(m.affineNorm(x, name+".ln1", eps, key), name+".attention", att, less))
		m.Scope(name+".feed_forward", i)
		x = m.Add(x, m.channelMix(m.affineNorm(x, name+".ln2", eps, key), name+".feed_forward", ffn, less))
		if rescale > 0 && (i+1)%rescale == 0 {
			x = m.MulScalar(x, 0.5)
		}
	}
	m.Scope(p+"ln_out", -1)
	x = m.affineNorm(x, p+"ln_out", 1e-5, "") // the code's own epsilon
	if p == "" {
		return []graph.ID{x}
	}
	return []graph.ID{m.logits(x, "head", embed, m.vocab, tie)}
}

// shifted is x [T,n] one token later, with a zero before the first.
func (m *model) shifted(x graph.ID) graph.ID {
	return m.Pad(m.Slice(x, 0, 0, m.Shape(x)[0]-1), 0, 1, 0)
}

// interpolate mixes every token with the one before it.
func (m *model) interpolate(x, before graph.ID, name string) graph.ID {
	w := m.Reshape(m.Weight(name, 1, 1, m.hidden), 1, m.hidden)
	rest := m.AddScalar(m.Apply(graph.OpNeg, w), 1)
	return m.Add(m.Mul(x, w), m.Mul(before, rest))
}

// timeMix is RWKV's attention.
func (m *model) timeMix(x graph.ID, name string, dim int, less float64) graph.ID {
	before := m.shifted(x)
	k := m.linear(m.interpolate(x, before, name+".time_mix_key"), name+".key", dim, false)
	v := m.linear(m.interpolate(x, before, name+".time_mix_value"), name+".value", dim, false)
	r := m.Apply(graph.OpSigmoid, m.linear(m.interpolate(x, before, name+".time_mix_receptance"), name+".receptance", dim, false))
	y := m.linear(m.Mul(r, m.wkv(k, v, name, dim)), name+".output", m.hidden, false)
	return m.scaled(y, less)
}

// wkv is the recurrence: a mean of all values so far, with weights that are
// exponentials; both sums are kept relative to the largest exponent. The first
// token sees nothing before it, so that its own weight cancels.
func (m *model) wkv(k, v graph.ID, name string, dim int) graph.ID {
	exp := func(x graph.ID) graph.ID { return m.Apply(graph.OpExp, x) }
	decay := m.Apply(graph.OpNeg, exp(m.Weight(name+".time_decay", dim)))
	bonus := m.Weight(name+".time_first", dim)
	out := []graph.ID{m.first(v)}
	num, den, top := m.first(v), m.Const(ones(dim), 1, dim), m.first(k)
	for i := 1; i < m.opt.Tokens; i++ {
		key, value := m.Slice(k, 0, i, i+1), m.Slice(v, 0, i, i+1)
		if i > 1 {
			key, value := m.Slice(k, 0, i-1, i), m.Slice(v, 0, i-1, i)
			old := m.Add(top, decay)
			most := m.Maximum(old, key)
			e1, e2 := exp(m.Sub(old, most)), exp(m.Sub(key, most))
			num, den, top = m.Add(m.Mul(e1, num), m.Mul(e2, value)), m.Add(m.Mul(e1, den), e2), most
		}
		now := m.Add(key, bonus)
		most := m.Maximum(top, now)
		e1, e2 := exp(m.Sub(top, most)), exp(m.Sub(now, most))
		out = append(out, m.Div(m.Add(m.Mul(e1, num), m.Mul(e2, value)), m.Add(m.Mul(e1, den), e2)))
	}
	return m.Concat(0, out...)
}

func ones(n int) []float32 {
	d := make([]float32, n)
	for i := range d {
		d[i] = 1
	}
	return d
}

// channelMix is RWKV's feed-forward, with a squared ReLU.
func (m *model) channelMix(x graph.ID, name string, dim int, less float64) graph.ID {
	before := m.shifted(x)
	k := m.Apply(graph.OpReLU, m.linear(m.interpolate(x, before, name+".time_mix_key"), name+".key", dim, false))
	r := m.Apply(graph.OpSigmoid, m.linear(m.interpolate(x, before, name+".time_mix_receptance"), name+".receptance", m.hidden, false))
	return m.Mul(r, m.scaled(m.linear(m.Mul(k, k), name+".value", m.hidden, false), less))
}

func (m *model) scaled(x graph.ID, factor float64) graph.ID {
	if factor == 1 {
		return x
	}
	return m.MulScalar(x, factor)
}
