package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// deltaNet is the gated delta rule, a linear attention whose state is decayed
// and corrected token by token (arXiv 2412.06464).
type deltaNet struct {
	keyHeads, valueHeads int
	keyDim, valueDim     int // of one head
	kernel               int
	act                  graph.Op
	eps                  float64
	epsKey               string
}

func (m *model) deltaNetOf(s stem) deltaNet {
	d := deltaNet{
		keyHeads: m.dim("linear_num_key_heads", 16), valueHeads: m.dim("linear_num_value_heads", 32),
		keyDim: m.dim("linear_key_head_dim", 128), valueDim: m.dim("linear_value_head_dim", 128),
		kernel: m.dim("linear_conv_kernel_dim", 4), act: m.activation("hidden_act", "silu"),
		eps: s.eps, epsKey: m.epsKey,
	}
	if d.valueHeads%d.keyHeads != 0 {
		m.failf("config.json: linear_num_value_heads %d is not a multiple of linear_num_key_heads %d", d.valueHeads, d.keyHeads)
		d.valueHeads = d.keyHeads
	}
	if w := m.widest(); max(d.keyHeads*d.keyDim, d.valueHeads*d.valueDim, d.kernel) > w {
		m.failf("config.json: linear attention of %d·%d and %d·%d elements, but no tensor of the checkpoint is wider than %d",
			d.keyHeads, d.keyDim, d.valueHeads, d.valueDim, w)
		d.keyHeads, d.valueHeads, d.keyDim, d.valueDim, d.kernel = 1, 1, 1, 1, 1
	}
	return d
}

func (d deltaNet) keys() int   { return d.keyHeads * d.keyDim }
func (d deltaNet) values() int { return d.valueHeads * d.valueDim }

// deltaInput is what a layer projects its input to: queries, keys and values
// side by side, [T,2·keys+values]; the output's gate, [T,values]; the state's
// correction and decay before their functions, [T,value heads].
type deltaInput struct{ qkv, z, b, a graph.ID }

// mingled projects by two matrices whose rows are grouped by key head
// (Qwen3-Next).
func (d deltaNet) mingled(m *model, x graph.ID, name string) deltaInput {
	t, n := m.opt.Tokens, d.valueHeads/d.keyHeads
	width := n * d.valueDim
	y := m.linear(x, name+".in_proj_qkvz", 2*d.keys()+2*d.values(), false)
	y = m.Reshape(y, t, d.keyHeads, 2*d.keyDim+2*width)
	take := func(from, to int) graph.ID { return m.Reshape(m.part(y, from, to), t, d.keyHeads*(to-from)) }
	k := 2 * d.keyDim
	ba := m.Reshape(m.linear(x, name+".in_proj_ba", 2*d.valueHeads, false), t, d.keyHeads, 2*n)
	return deltaInput{
		qkv: m.Concat(1, take(0, d.keyDim), take(d.keyDim, k), take(k, k+width)), z: take(k+width, k+2*width),
		b: m.Reshape(m.part(ba, 0, n), t, d.valueHeads), a: m.Reshape(m.part(ba, n, 2*n), t, d.valueHeads),
	}
}

// separate projects by a matrix for each (Qwen3.5).
func (d deltaNet) separate(m *model, x graph.ID, name string) deltaInput {
	return deltaInput{
		qkv: m.linear(x, name+".in_proj_qkv", 2*d.keys()+d.values(), false), z: m.linear(x, name+".in_proj_z", d.values(), false),
		b: m.linear(x, name+".in_proj_b", d.valueHeads, false), a: m.linear(x, name+".in_proj_a", d.valueHeads, false),
	}
}

// mix runs the layer on what its input was projected to.
func (d deltaNet) mix(m *model, in deltaInput, name string) graph.ID {
	t := m.opt.Tokens
	y := m.Apply(d.act, m.causalConv(in.qkv, name+".conv1d", d.kernel, false))
	q := d.unit(m, m.split(m.part(y, 0, d.keys()), d.keyHeads, d.keyDim))
	k := d.unit(m, m.split(m.part(y, d.keys(), 2*d.keys()), d.keyHeads, d.keyDim))
	v := m.split(m.part(y, 2*d.keys(), 2*d.keys()+d.values()), d.valueHeads, d.valueDim)
	q = m.MulScalar(m.spread(q, d.valueHeads), 1/math.Sqrt(float64(d.keyDim)))
	beta := m.split(m.Apply(graph.OpSigmoid, in.b), d.valueHeads, 1)
	rate := m.Apply(graph.OpExp, m.Weight(name+".A_log", d.valueHeads))
	decay := m.Mul(rate, m.Apply(graph.OpSoftplus, m.Add(in.a, m.Weight(name+".dt_bias", d.valueHeads))))
	decay = m.split(m.Apply(graph.OpExp, m.Apply(graph.OpNeg, decay)), d.valueHeads, 1)
	o := d.recur(m, q, m.spread(k, d.valueHeads), v, beta, decay)
	o = m.Mul(m.RMSNorm(o, d.eps, d.epsKey), m.Weight(name+".norm.weight", d.valueDim))
	o = m.Mul(o, m.Apply(graph.OpSiLU, m.split(in.z, d.valueHeads, d.valueDim)))
	o = m.Reshape(m.Transpose(o, 1, 0, 2), t, d.values())
	return m.linear(o, name+".out_proj", m.hidden, false)
}

// unit divides x [n,T,d] by its length: sum and mean differ by d.
func (d deltaNet) unit(m *model, x graph.ID) graph.ID {
	n := float64(d.keyDim)
	return m.MulScalar(m.RMSNorm(x, 1e-6/n, ""), 1/math.Sqrt(n))
}

// recur unrolls the recurrence over the tokens: q, k [n,T,keyDim], v
// [n,T,valueDim], beta and decay [n,T,1] -> [n,T,valueDim]. The state before
// the first token is zero.
func (d deltaNet) recur(m *model, q, k, v, beta, decay graph.ID) graph.ID {
	var state graph.ID
	var out []graph.ID
	for i := range m.opt.Tokens {
		at := func(x graph.ID) graph.ID { return m.Slice(x, 1, i, i+1) }
		key, delta := at(k), at(v)
		if i > 0 {
			state = m.Mul(state, at(decay))
			delta = m.Sub(delta, m.MatMul(key, state))
		}
		add := m.MatMul(m.Transpose(key, 0, 2, 1), m.Mul(delta, at(beta)))
		if i > 0 {
			add = m.Add(state, add)
		}
		state = add
		out = append(out, m.MatMul(at(q), state))
	}
	return m.Concat(1, out...)
}

// gatedAttention is attention whose output passes a gate that is projected
// beside the queries, head by head.
func (m *model) gatedAttention(x graph.ID, name string, a attention) graph.ID {
	t := m.opt.Tokens
	y := m.Reshape(m.linear(x, name+".q_proj", 2*a.heads*a.dim, a.biasQKV), t, a.heads, 2*a.dim)
	gate := m.Reshape(m.part(y, a.dim, 2*a.dim), t, a.heads*a.dim)
	q := m.Transpose(m.part(y, 0, a.dim), 1, 0, 2)
	k := m.split(m.linear(x, name+".k_proj", a.kv*a.dim, a.biasQKV), a.kv, a.dim)
	v := m.split(m.linear(x, name+".v_proj", a.kv*a.dim, a.biasQKV), a.kv, a.dim)
	q, k = a.norm(q, name+".q_norm", a.dim, a.eps), a.norm(k, name+".k_norm", a.dim, a.eps)
	q, k = a.rope.apply(m, q, a.dim, a.cos, a.sin), a.rope.apply(m, k, a.dim, a.cos, a.sin)
	o := m.Mul(m.weigh(q, k, v, a.scale, m.mask(0), ""), m.Apply(graph.OpSigmoid, gate))
	return m.linear(o, name+".o_proj", m.hidden, a.biasO)
}

// linearLayers reads which layers are linear attention: all but every fourth,
// unless the config says otherwise.
func (m *model) linearLayers() []bool {
	every := m.dim("full_attention_interval", 4)
	return m.layersOfKind("linear_attention", func(i int) bool { return (i+1)%every != 0 })
}

// deltaStack is a decoder with (1+w) norms of linear and of gated attention.
func (m *model) deltaStack(s stem, a attention, linear func(x graph.ID, name string) graph.ID, mlp func(i int) func(graph.ID, string) graph.ID) []graph.ID {
	isLinear := m.linearLayers()
	x := m.embed(s)
	for i := range m.layers {
		x = m.block(x, s, i, func(h graph.ID, name string) graph.ID {
			if isLinear[i] {
				m.Scope(s.layer(i)+".linear_attn", i)
				return linear(h, s.layer(i)+".linear_attn")
			}
			return m.gatedAttention(h, name, a)
		}, mlp(i), m.rmsNorm1p)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm1p)}
}

// gatedHeads reads the attention of the families below.
func (m *model) gatedHeads(s stem, kv int) attention {
	a := m.headsOf(kv, 256)
	m.attentionBias(&a, false)
	a.norm, a.eps = m.rmsNorm1p, s.eps
	p := m.readRope("", 10000, 0.25)
	if p.c != nil {
		p.c.ignore("mrope_section mrope_interleaved") // tell text from images; nothing for text alone
	}
	m.rotary(&a, p)
	return a
}

// qwen3next: Qwen3-Next.
func qwen3next(m *model) []graph.ID {
	m.atLeast(4)
	s := m.open(1e-6, false)
	a, d := m.gatedHeads(s, 2), m.deltaNetOf(s)
	e := m.qwenExperts("moe_intermediate_size", [3]int{512, 10, 512}, true)
	shared := m.dim("shared_expert_intermediate_size", 512)
	dense := m.dense(m.dim("intermediate_size", 5632), e.act, false)
	sparse := m.sparseLayers()
	return m.deltaStack(s, a,
		func(x graph.ID, name string) graph.ID { return d.mix(m, d.mingled(m, x, name), name) },
		func(i int) func(graph.ID, string) graph.ID {
			if !sparse(i) {
				return dense(i)
			}
			return func(h graph.ID, name string) graph.ID { return m.withShared(h, name, e, shared) }
		})
}

// qwen35: Qwen3.5, dense.
func qwen35(m *model) []graph.ID {
	m.atLeast(4)
	s := m.open(1e-6, false)
	a, d := m.gatedHeads(s, 4), m.deltaNetOf(s)
	mlp := m.dense(m.dim("intermediate_size", 12288), d.act, false)
	return m.deltaStack(s, a, func(x graph.ID, name string) graph.ID { return d.mix(m, d.separate(m, x, name), name) }, mlp)
}

// qwen35moe: Qwen3.5's mixtures.
func qwen35moe(m *model) []graph.ID {
	m.atLeast(4)
	s := m.open(1e-6, false)
	a, d := m.gatedHeads(s, 2), m.deltaNetOf(s)
	e := m.qwenExperts("moe_intermediate_size", [3]int{256, 8, 512}, true)
	e.router.normalise = true // norm_topk_prob is not read by the code
	shared := m.dim("shared_expert_intermediate_size", 512)
	return m.deltaStack(s, a,
		func(x graph.ID, name string) graph.ID { return d.mix(m, d.separate(m, x, name), name) },
		func(int) func(graph.ID, string) graph.ID {
			return func(h graph.ID, name string) graph.ID { return m.withShared(h, name, e, shared) }
		})
}
