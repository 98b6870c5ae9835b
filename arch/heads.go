package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// headFunc changes queries or keys; name is their attention's module path with
// ".q" or ".k".
type headFunc func(x graph.ID, name string) graph.ID

// headwise is self-attention with separate projections and what a family does
// to queries and keys before they meet.
type headwise struct {
	attention
	out  string   // the output projection's name
	clip float64  // bound of projected q, k and v; 0: none
	wide headFunc // on q and k as projected, [T,n·dim]; nil: nothing
	each headFunc // on q and k by head, [n,T,dim]; nil: nothing
}

// turned is the rotary embedding of an attention as a headFunc.
func (m *model) turned(a attention) headFunc {
	return func(x graph.ID, _ string) graph.ID { return a.rope.apply(m, x, a.dim, a.cos, a.sin) }
}

// then applies one headFunc after the other.
func then(fs ...headFunc) headFunc {
	return func(x graph.ID, name string) graph.ID {
		for _, f := range fs {
			x = f(x, name)
		}
		return x
	}
}

// normed is a norm over the last axis, whose weights stand at the name and ending.
func normed(norm normFunc, ending string, dim int, eps float64) headFunc {
	return func(x graph.ID, name string) graph.ID { return norm(x, name+ending, dim, eps) }
}

// neighbours sets a rotary embedding that turns elements (2i, 2i+1) together.
func (m *model) neighbours(a *attention, p ropeParams) {
	a.rope = m.rope(p, a.dim)
	a.rope.pairs = true
	a.cos, a.sin = a.rope.tables(m)
}

// wholeHeads reads rotary parameters that must not name a part of the head.
func (m *model) wholeHeads(theta float64) ropeParams {
	p := m.readRope("", theta, 1)
	if p.partial != 1 {
		m.failf("config.json: partial_rotary_factor %g is not read by this family's code; remove it or name the right model_type", p.partial)
		p.partial = 1
	}
	return p
}

// attendHeads runs self-attention on x [T,hidden].
func (m *model) attendHeads(x graph.ID, name string, a headwise) graph.ID {
	project := func(which string, n int) graph.ID {
		y := m.linear(x, name+"."+which+"_proj", n*a.dim, a.biasQKV)
		if a.clip != 0 {
			y = m.Clamp(y, -a.clip, a.clip)
		}
		if a.wide != nil && which != "v" {
			y = a.wide(y, name+"."+which)
		}
		y = m.split(y, n, a.dim)
		if a.each != nil && which != "v" {
			y = a.each(y, name+"."+which)
		}
		return y
	}
	q, k, v := project("q", a.heads), project("k", a.kv), project("v", a.kv)
	return m.linear(m.scores(q, k, v, a.attention), name+"."+a.out, m.hidden, a.biasO)
}

// grouped takes queries, keys and values by head out of one projection whose
// rows are, for each key/value head, its queries, its key and its value.
func (m *model) grouped(y graph.ID, a attention) (q, k, v graph.ID) {
	t, n := m.opt.Tokens, a.heads/a.kv
	y = m.Reshape(y, t, a.kv, n+2, a.dim)
	part := func(from, to int) graph.ID {
		heads := a.kv * (to - from)
		return m.Transpose(m.Reshape(m.Slice(y, 2, from, to), t, heads, a.dim), 1, 0, 2)
	}
	return part(0, n), part(n, n+1), part(n+1, n+2)
}

// scores computes softmax(scale·q kᵀ + bias) v of q [heads,T,dim] and k, v
// [kv,T,dim] for the tokens that may look, and joins the heads: [T,heads·dim].
func (m *model) scores(q, k, v graph.ID, a attention, bias ...graph.ID) graph.ID {
	k, v = m.repeat(k, a), m.repeat(v, a)
	s := m.times(m.MatMul(q, m.Transpose(k, 0, 2, 1)), a.scale)
	for _, b := range append(bias, m.mask(a.window)) {
		s = m.Add(s, b)
	}
	o := m.MatMul(m.Apply(graph.OpSoftmax, s), v)
	return m.Reshape(m.Transpose(o, 1, 0, 2), m.opt.Tokens, a.heads*a.dim)
}

// slopes are ALiBi's, one for each head (arXiv 2108.12409, and its rule for
// numbers of heads that are no power of two).
func slopes(heads int) []float64 {
	whole := 1
	for 2*whole <= heads {
		whole *= 2
	}
	out := make([]float64, heads)
	base := math.Exp2(-8 / float64(whole))
	for i := range whole {
		out[i] = math.Pow(base, float64(i+1))
	}
	base = math.Exp2(-4 / float64(whole))
	for i := whole; i < heads; i++ {
		out[i] = math.Pow(base, float64(2*(i-whole)+1))
	}
	return out
}

// alibi is a constant [heads,1,T]: slope times position, each of the two
// factors and the product passed through round, and all times scale.
func (m *model) alibi(heads int, scale float64, round func(float64) float64) graph.ID {
	t := m.opt.Tokens
	d := make([]float32, heads*t)
	for h, s := range slopes(heads) {
		for p := range t {
			d[h*t+p] = float32(round(round(s)*float64(p)) * scale)
		}
	}
	return m.Const(d, heads, 1, t)
}
