package onnx

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Attention and rotary positions, of the standard and as onnxruntime fuses them.
var attentions = map[string]rule{
	":Attention": attention, ":RotaryEmbedding": rotary,
	"com.microsoft:RotaryEmbedding": rotaryMS, "com.microsoft:MultiHeadAttention": multiHead,
	"com.microsoft:GroupQueryAttention": groupQuery,
}

// attend is softmax(q·kᵀ·scale + mask)·v for q [B,H,T,D], k and v [B,G,S,D],
// where H is a multiple of G; mask is nil or broadcasts to [B,H,T,S].
type attend struct {
	q, k, v, mask  *value
	scale, softcap float64
	causal         bool
	past           int // positions before the first query
}

func (l *lowerer) attend(a attend) *value {
	need(len(a.q.shape) == 4 && len(a.k.shape) == 4 && len(a.v.shape) == 4, "attention of %v, %v, %v", a.q.shape, a.k.shape, a.v.shape)
	heads := a.q.shape[1]
	k, v := l.repeatHeads(a.k, heads), l.repeatHeads(a.v, heads)
	if a.scale == 0 {
		a.scale = 1 / math.Sqrt(float64(a.q.shape[3]))
	}
	s := l.times(l.matmul(a.q, l.swapped(k)), a.scale)
	if a.softcap != 0 {
		s = l.times(l.unary(graph.OpTanh, l.times(s, 1/a.softcap)), a.softcap)
	}
	if a.causal {
		s = l.add(s, l.causal(a.q.shape[2], k.shape[2], a.past))
	}
	if a.mask != nil {
		if !a.mask.kind.Real() {
			a.mask = l.where(a.mask, l.scalar(fold.Float, 0), l.scalar(fold.Float, lowest))
		}
		s = l.add(s, a.mask)
	}
	return l.matmul(l.softmax(s, 3), v)
}

// causal is a mask [T,S] that hides what comes after each query.
func (l *lowerer) causal(t, s, past int) *value {
	m := must(fold.New(fold.Float, t, s))
	for i := range m.F {
		if i%s > i/s+past {
			m.F[i] = lowest
		}
	}
	return l.konst(m)
}

// repeatHeads repeats every head of x [B,G,S,D] for the queries that share it.
func (l *lowerer) repeatHeads(x *value, heads int) *value {
	b, g, s, d := x.shape[0], x.shape[1], x.shape[2], x.shape[3]
	need(g > 0 && heads%g == 0, "%d heads over %d", heads, g)
	if g == heads {
		return x
	}
	y := l.expand(l.reshape(x, b, g, 1, s, d), b, g, heads/g, s, d)
	return l.reshape(y, b, heads, s, d)
}

// heads splits x [B,T,H·D] into [B,H,T,D]; four axes are split already.
func (l *lowerer) heads(x *value, n int) *value {
	if len(x.shape) == 4 {
		return x
	}
	need(len(x.shape) == 3 && n > 0 && x.shape[2]%n == 0, "%d heads of %v", n, x.shape)
	return l.transpose(l.reshape(x, x.shape[0], x.shape[1], n, x.shape[2]/n), 0, 2, 1, 3)
}

// joined is the inverse of heads.
func (l *lowerer) joined(x *value) *value {
	y := l.transpose(x, 0, 2, 1, 3)
	return l.reshape(y, y.shape[0], y.shape[1], y.shape[2]*y.shape[3])
}

// after appends k or v to what was cached.
func (c *call) after(past int, x *value) (*value, int) {
	p := c.maybe(past)
	if p == nil || p.size() == 0 {
		return x, 0
	}
	need(len(p.shape) == 4, "a cache of shape %v", p.shape)
	return c.concat(2, p, x), p.shape[2]
}

func attention(c *call) []*value {
	need(!c.wants(3), "the products of queries and keys are read")
	q := c.heads(c.in(0), c.int("q_num_heads", 0))
	k := c.heads(c.in(1), c.int("kv_num_heads", 0))
	v := c.heads(c.in(2), c.int("kv_num_heads", 0))
	need(!c.has(6), "attention with padded lengths")
	k, past := c.after(4, k)
	v, _ = c.after(5, v)
	y := c.attend(attend{q: q, k: k, v: v, mask: c.maybe(3), scale: c.float("scale", 0), softcap: c.float("softcap", 0),
		causal: c.int("is_causal", 0) != 0, past: past})
	if len(c.in(0).shape) == 3 {
		y = c.joined(y)
	}
	return []*value{y, k, v}
}

// rotate turns x [B,H,T,D] by tables that broadcast to [B,H,T,n/2], the first n
// of D: pairs are (i, i+n/2), or (2i, 2i+1) if interleaved.
func (l *lowerer) rotate(x, cos, sin *value, n int, interleaved bool) *value {
	r := len(x.shape) - 1
	need(n > 0 && n%2 == 0 && n <= x.shape[r], "a rotation of %d of %v", n, x.shape)
	rest := l.slice(x, r, n, x.shape[r])
	y := l.slice(x, r, 0, n)
	var a, b *value
	half := append(slices.Clone(y.shape[:r]), n/2, 1)
	if interleaved {
		p := l.reshape(y, append(slices.Clone(y.shape[:r]), n/2, 2)...)
		a, b = l.reshape(l.slice(p, r+1, 0, 1), half[:r+1]...), l.reshape(l.slice(p, r+1, 1, 2), half[:r+1]...)
	} else {
		a, b = l.slice(y, r, 0, n/2), l.slice(y, r, n/2, n)
	}
	u := l.sub(l.mul(a, cos), l.mul(b, sin))
	w := l.add(l.mul(b, cos), l.mul(a, sin))
	if interleaved {
		y = l.reshape(l.concat(r+1, l.reshape(u, half...), l.reshape(w, half...)), y.shape...)
	} else {
		y = l.concat(r, u, w)
	}
	return l.concat(r, y, rest)
}

// rows reads the rows of a rotary table at positions [B,T] and gives them an
// axis for the heads; without positions the table is [B,T,n/2] already.
func (l *lowerer) rows(table, at *value) *value {
	if at != nil {
		table = l.index(table, at, 0)
	}
	if len(table.shape) == 2 {
		return l.reshape(table, 1, 1, table.shape[0], table.shape[1])
	}
	need(len(table.shape) == 3, "a rotary table of shape %v", table.shape)
	return l.reshape(table, table.shape[0], 1, table.shape[1], table.shape[2])
}

func rotary(c *call) []*value { return c.rotaryBy(1, 2, 3) }

func rotaryMS(c *call) []*value {
	at := c.in(1)
	if at.size() == 1 { // an offset
		first := c.number(1, "the first position")
		x := c.in(0)
		need(len(x.shape) >= 2, "rotary positions of %v", x.shape)
		r, err := fold.Range(fold.Int, float64(first), float64(first+x.shape[len(x.shape)-2]), 1)
		at = c.konst(must(must(r, err).Reshape(1, r.Len())), at)
	}
	return c.rotated(c.in(2), c.in(3), at)
}

func (c *call) rotaryBy(cos, sin, at int) []*value {
	return c.rotated(c.in(cos), c.in(sin), c.maybe(at))
}

func (c *call) rotated(cos, sin, at *value) []*value {
	x := c.in(0)
	y := c.heads(x, c.int("num_heads", 0))
	n := c.int("rotary_embedding_dim", 0)
	if n == 0 {
		n = y.shape[3]
	}
	y = c.rotate(y, c.rows(cos, at), c.rows(sin, at), n, c.int("interleaved", 0) != 0)
	if len(x.shape) == 3 {
		y = c.joined(y)
	}
	return one(y)
}

// multiHead has separate queries, keys and values, with one bias for all three.
func multiHead(c *call) []*value {
	n := c.int("num_heads", 0)
	need(n > 0 && c.has(1) && c.has(2) && !c.has(4), "packed or padded attention")
	need(!c.has(8) && !c.has(9) && !c.wants(3), "attention with an own cache layout")
	in := [3]*value{c.in(0), c.in(1), c.in(2)}
	if b := c.maybe(3); b != nil {
		at := 0
		for i, x := range in {
			w := x.shape[len(x.shape)-1]
			need(len(x.shape) == 3 && len(b.shape) == 1 && at+w <= b.shape[0], "a bias of %v for %v", b.shape, x.shape)
			in[i] = c.add(x, c.slice(b, 0, at, at+w))
			at += w
		}
	}
	q, k, v := c.heads(in[0], n), c.heads(in[1], n), c.heads(in[2], n)
	k, past := c.after(6, k)
	v, _ = c.after(7, v)
	y := c.attend(attend{q: q, k: k, v: v, mask: c.maybe(5), scale: c.float("scale", 0), causal: c.int("unidirectional", 0) != 0, past: past})
	return []*value{c.joined(y), k, v}
}

// groupQuery is causal attention over caches; here it starts from empty ones,
// with all tokens real.
func groupQuery(c *call) []*value {
	n, g := c.int("num_heads", 0), c.int("kv_num_heads", 0)
	need(n > 0 && g > 0 && c.has(1) && c.has(2), "packed attention")
	need(c.int("local_window_size", -1) < 0 && c.int("smooth_softmax", 0) == 0, "attention in a window")
	for _, i := range []int{3, 4} {
		p := c.maybe(i)
		need(p == nil || p.size() == 0, "attention over a cache that is not empty")
	}
	for i := 9; i < len(c.n.in); i++ {
		need(!c.has(i), "input %d of group query attention", i)
	}
	q, k, v := c.heads(c.in(0), n), c.heads(c.in(1), g), c.heads(c.in(2), g)
	if c.int("do_rotary", 0) != 0 {
		at := c.konst(must(fold.Range(fold.Int, 0, float64(q.shape[2]), 1)))
		cos, sin := c.rows(c.in(7), at), c.rows(c.in(8), at)
		dims, inter := 2*cos.shape[3], c.int("rotary_interleaved", 0) != 0
		q, k = c.rotate(q, cos, sin, dims, inter), c.rotate(k, cos, sin, dims, inter)
	}
	y := c.attend(attend{q: q, k: k, v: v, scale: c.float("scale", 0), softcap: c.float("softcap", 0), causal: true})
	return []*value{c.joined(y), k, v}
}
