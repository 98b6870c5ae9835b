package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// weigh computes softmax(q kᵀ · scale + mask) v from heads of their own: q
// [n,T,d], k [kv,T,d], v [kv,T,dv] -> [T,n·dv]. sinks names a tensor [n] of
// scores that take part in the softmax and have no value; "" means none.
func (m *model) weigh(q, k, v graph.ID, scale float64, mask graph.ID, sinks string) graph.ID {
	t, n := m.opt.Tokens, m.Shape(q)[0]
	k, v = m.spread(k, n), m.spread(v, n)
	s := m.Add(m.MulScalar(m.MatMul(q, m.Transpose(k, 0, 2, 1)), scale), mask)
	if sinks != "" {
		w := m.Expand(m.Reshape(m.Weight(sinks, n), n, 1, 1), n, t, 1)
		s = m.Concat(2, s, w)
	}
	p := m.Apply(graph.OpSoftmax, s)
	if sinks != "" {
		p = m.Slice(p, 2, 0, t)
	}
	o := m.Transpose(m.MatMul(p, v), 1, 0, 2)
	return m.Reshape(o, t, n*m.Shape(v)[2])
}

// spread gives each of n heads its share of x [kv,T,d]: head h reads h / (n/kv).
func (m *model) spread(x graph.ID, n int) graph.ID {
	s := m.Shape(x)
	if s[0] == n {
		return x
	}
	y := m.Expand(m.Reshape(x, s[0], 1, s[1], s[2]), s[0], n/s[0], s[1], s[2])
	return m.Reshape(y, n, s[1], s[2])
}

// blind is a mask of scores: the lowest float where a token i may not look at
// j; never ahead.
func (m *model) blind(hidden func(i, j int) bool) graph.ID {
	t := m.opt.Tokens
	d := make([]float32, t*t)
	for i := range t {
		for j := range t {
			if j > i || hidden(i, j) {
				d[i*t+j] = -math.MaxFloat32
			}
		}
	}
	return m.Const(d, t, t)
}

// part takes elements [from,to) of the last axis.
func (m *model) part(x graph.ID, from, to int) graph.ID {
	return m.Slice(x, len(m.Shape(x))-1, from, to)
}

// attentionBias reads the two biases that the key stands for in most families.
func (m *model) attentionBias(a *attention, def bool) {
	a.biasQKV = m.boolean("attention_bias", def)
	a.biasO = a.biasQKV
}

// stack is a decoder of the given layers between embedding and head.
func (m *model) stack(s stem, layer func(x graph.ID, i int) graph.ID) []graph.ID {
	x := m.embed(s)
	for i := range m.layers {
		x = layer(x, i)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm)}
}

// layer is the module path of a layer.
func (s stem) layer(i int) string { return fmt.Sprintf("%slayers.%d", s.prefix, i) }

// biasedHead is head with a bias on the logits.
func (m *model) biasedHead(s stem, x graph.ID, bias bool) graph.ID {
	y := m.head(s, x)
	if !bias || y == x {
		return y
	}
	return m.Add(y, m.Weight("lm_head.bias", m.vocab))
}
