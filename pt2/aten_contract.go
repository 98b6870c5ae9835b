package pt2

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// contractionRules multiply and add up.
var contractionRules = map[string]rule{
	"linear": func(c *call) []*value {
		v := c.l.linear(c.t("input"), c.t("weight"))
		if c.has("bias") {
			v = c.l.add(v, c.t("bias"))
		}
		return one(v)
	},
	"matmul": func(c *call) []*value { return one(c.l.product(c.t("self"), c.t("other"))) },
	"mm bmm": func(c *call) []*value { return one(c.l.product(c.t("self"), c.t("mat2"))) },
	"mv":     func(c *call) []*value { return one(c.l.product(c.t("self"), c.t("vec"))) },
	"dot vdot inner": func(c *call) []*value {
		if c.has("tensor") {
			return one(c.l.product(c.t("self"), c.t("tensor")))
		}
		return one(c.l.product(c.t("self"), c.t("other")))
	},
	"outer ger": func(c *call) []*value {
		x, y := c.t("self"), c.t("vec2")
		return one(c.l.mul(c.l.unsqueeze(x, 1), c.l.unsqueeze(y, 0)))
	},
	"addmm":   func(c *call) []*value { return plus(c, c.l.product(c.t("mat1"), c.t("mat2"))) },
	"baddbmm": func(c *call) []*value { return plus(c, c.l.product(c.t("batch1"), c.t("batch2"))) },
	"addmv":   func(c *call) []*value { return plus(c, c.l.product(c.t("mat"), c.t("vec"))) },
	"einsum": func(c *call) []*value {
		v := c.l.einsum(c.str("equation", ""), c.ts("tensors"))
		if v == nil {
			return nil
		}
		return one(v)
	},
	"scaled_dot_product_attention": attention,
	"conv1d conv2d conv3d convolution _convolution": func(c *call) []*value {
		if c.flag("transposed", false) {
			return transposedConv(c)
		}
		return convolution(c)
	},
	"conv_transpose1d conv_transpose2d conv_transpose3d": transposedConv,
}

func plus(c *call, v *value) []*value {
	x := c.t("self")
	beta := c.f("beta", 1)
	v = c.l.times(v, c.f("alpha", 1))
	if beta == 0 {
		return one(v)
	}
	return one(c.l.add(v, c.l.times(x, beta)))
}

// linear multiplies x [...,in] by weight [out,in].
func (l *lowering) linear(x, w *value) *value {
	if w.rank() == 1 {
		v := l.linear(x, l.unsqueeze(w, 0))
		return l.reshape(v, v.shape[:v.rank()-1])
	}
	if constants(x, w) {
		return l.product(x, l.transpose(w, []int{1, 0}))
	}
	return l.node(l.b.Linear(l.id(x), l.id(w)), max(x.kind, w.kind))
}

// product is torch.matmul.
func (l *lowering) product(x, y *value) *value {
	switch {
	case x.rank() == 0 || y.rank() == 0:
		l.stop("matmul of shapes %v and %v", x.shape, y.shape)
	case x.rank() == 1:
		v := l.product(l.unsqueeze(x, 0), y)
		a := v.rank() - 2
		if y.rank() == 1 {
			a = v.rank() - 1
		}
		return l.reshape(v, slices.Delete(slices.Clone(v.shape), a, a+1))
	case y.rank() == 1:
		v := l.product(x, l.unsqueeze(y, 1))
		return l.reshape(v, v.shape[:v.rank()-1])
	}
	if x.size() == 0 || y.size() == 0 {
		s, _ := fold.Broadcast(x.shape[:x.rank()-2], y.shape[:y.rank()-2])
		s = append(s, x.shape[x.rank()-2], y.shape[y.rank()-1])
		return l.expand(scalar(max(x.kind, y.kind), 0), s)
	}
	if y.rank() == 2 && !constants(x, y) {
		return l.linear(x, l.transpose(y, []int{1, 0}))
	}
	batch, ok := fold.Broadcast(x.shape[:x.rank()-2], y.shape[:y.rank()-2])
	if !ok {
		l.stop("matmul of shapes %v and %v", x.shape, y.shape)
	}
	x = l.expand(x, slices.Concat(batch, x.shape[x.rank()-2:]))
	y = l.expand(y, slices.Concat(batch, y.shape[y.rank()-2:]))
	return l.matmul(x, y)
}

// attention writes scaled dot-product attention out.
func attention(c *call) []*value {
	l := c.l
	q, k, v := c.t("query"), c.t("key"), c.t("value")
	n := q.rank()
	if n < 3 || k.rank() != n || v.rank() != n || c.f("dropout_p", 0) != 0 {
		return nil
	}
	if h, kh := q.shape[n-3], k.shape[n-3]; c.flag("enable_gqa", false) && kh > 0 && h != kh {
		k, v = l.repeatHeads(k, h/kh), l.repeatHeads(v, h/kh)
	}
	scale := c.f("scale", 0)
	if !c.has("scale") {
		scale = rootInverse(q.shape[n-1])
	}
	swap := order(n)
	swap[n-1], swap[n-2] = n-2, n-1
	s := l.times(l.product(q, l.transpose(k, swap)), scale)
	if c.flag("is_causal", false) {
		t, err := fold.New(fold.Bool, q.shape[n-2], k.shape[n-2])
		if err != nil {
			c.stop("%v", err)
		}
		for i := range t.I {
			t.I[i] = int64(btoi(i%k.shape[n-2] <= i/k.shape[n-2]))
		}
		s = l.where(l.folded(t, nil), s, scalar(fold.Float, -inf))
	}
	if c.has("attn_mask") {
		if m := c.t("attn_mask"); m.kind == fold.Bool {
			s = l.where(m, s, scalar(fold.Float, -inf))
		} else {
			s = l.add(s, m)
		}
	}
	p := l.node(l.b.Apply(graph.OpSoftmax, l.id(s)), fold.Float)
	return one(l.product(p, v))
}

func (l *lowering) repeatHeads(x *value, n int) *value {
	a := x.rank() - 3
	wide := slices.Concat(x.shape[:a+1], []int{n}, x.shape[a+1:])
	out := slices.Clone(x.shape)
	out[a] *= n
	return l.reshape(l.expand(l.unsqueeze(x, a+1), wide), out)
}

// einsum handles equations without repeated letters in one operand, two
// operands at a time; nil for others.
func (l *lowering) einsum(equation string, xs []*value) *value {
	equation = strings.ReplaceAll(equation, " ", "")
	ins, out, arrow := strings.Cut(equation, "->")
	subs := strings.Split(ins, ",")
	if !arrow || strings.Contains(equation, ".") || len(subs) != len(xs) || len(xs) == 0 {
		return nil
	}
	for i, s := range subs {
		if xs[i] == nil || len(s) != xs[i].rank() || repeats(s) {
			return nil
		}
	}
	x, sub := xs[0], subs[0]
	for i := 1; i < len(xs); i++ {
		rest := out + strings.Join(subs[i+1:], "")
		x, sub = l.pairwise(x, xs[i], sub, subs[i], rest)
	}
	x, sub = l.sumAway(x, sub, out)
	perm := make([]int, len(out))
	for i, r := range out {
		perm[i] = strings.IndexRune(sub, r)
		if perm[i] < 0 {
			return nil
		}
	}
	return l.transpose(x, perm)
}

func repeats(s string) bool {
	for i, r := range s {
		if strings.IndexRune(s, r) != i {
			return true
		}
	}
	return false
}

// sumAway adds up the axes that nobody needs any more.
func (l *lowering) sumAway(x *value, sub, need string) (*value, string) {
	for i := len(sub) - 1; i >= 0; i-- {
		if strings.IndexByte(need, sub[i]) < 0 {
			x = l.along(x, i, func(v *value) *value { return l.reduce(graph.OpSum, v) })
			x = l.reshape(x, slices.Delete(slices.Clone(x.shape), i, i+1))
			sub = sub[:i] + sub[i+1:]
		}
	}
	return x, sub
}

// pairwise contracts the letters of two operands that the rest does not need.
func (l *lowering) pairwise(x, y *value, sx, sy, rest string) (*value, string) {
	x, sx = l.sumAway(x, sx, sy+rest)
	y, sy = l.sumAway(y, sy, sx+rest)
	var batch, sum, left, right string
	for _, r := range sx {
		switch {
		case !strings.ContainsRune(sy, r):
			left += string(r)
		case strings.ContainsRune(rest, r):
			batch += string(r)
		default:
			sum += string(r)
		}
	}
	for _, r := range sy {
		if !strings.ContainsRune(sx, r) {
			right += string(r)
		}
	}
	size := func(v *value, s, letters string) (dims []int, n int) {
		n = 1
		for _, r := range letters {
			d := v.shape[strings.IndexRune(s, r)]
			dims, n = append(dims, d), n*d
		}
		return dims, n
	}
	to := func(v *value, s, order string) *value {
		perm := make([]int, len(order))
		for i, r := range order {
			perm[i] = strings.IndexRune(s, r)
		}
		return l.transpose(v, perm)
	}
	b, nb := size(x, sx, batch)
	ld, nl := size(x, sx, left)
	rd, nr := size(y, sy, right)
	_, ns := size(x, sx, sum)
	a := l.reshape(to(x, sx, batch+left+sum), []int{nb, nl, ns})
	c := l.reshape(to(y, sy, batch+sum+right), []int{nb, ns, nr})
	var v *value
	switch {
	case sum == "": // nothing is added up: a product element by element
		v = l.mul(a, c)
	case nb == 1:
		v = l.product(a, l.reshape(c, []int{ns, nr}))
	default:
		v = l.product(a, c)
	}
	return l.reshape(v, slices.Concat(b, ld, rd)), batch + left + right
}

// spatial returns a setting of every spatial axis.
func (c *call) spatial(name string, n, def int) []int {
	list := c.ints(name)
	switch len(list) {
	case 0:
		return slices.Repeat([]int{def}, n)
	case 1:
		return slices.Repeat(list, n)
	case n:
		return list
	}
	c.stop("%s %v for %d spatial axes", name, list, n)
	return nil
}

func convolution(c *call) []*value {
	x, w := c.t("input"), c.t("weight")
	n := w.rank() - 2
	if n < 1 || n > 3 {
		return nil
	}
	g := graph.Conv{Stride: c.spatial("stride", n, 1), Dilation: c.spatial("dilation", n, 1), Groups: c.i("groups", 1)}
	switch c.str("padding", "") {
	case "same":
		for i := range n {
			total := g.Dilation[i] * (w.shape[2+i] - 1)
			g.Before, g.After = append(g.Before, total/2), append(g.After, total-total/2)
		}
	case "valid":
		g.Before, g.After = make([]int, n), make([]int, n)
	default:
		g.Before = c.spatial("padding", n, 0)
		g.After = g.Before
	}
	v := c.l.batched(x, n, func(x *value) *value { return c.l.node(c.l.b.Conv(c.l.id(x), c.l.id(w), g), max(x.kind, w.kind)) })
	return one(c.l.channelBias(c, v, n))
}

// batched gives x the batch axis that torch allows to leave out.
func (l *lowering) batched(x *value, n int, f func(*value) *value) *value {
	if x.rank() == n+2 {
		return f(x)
	}
	v := f(l.unsqueeze(x, 0))
	return l.reshape(v, v.shape[1:])
}

func (l *lowering) channelBias(c *call, v *value, n int) *value {
	if !c.has("bias") {
		return v
	}
	b := c.t("bias")
	return l.add(v, l.reshape(b, append([]int{b.size()}, ones(n)...)))
}

// transposedConv puts zeros between the elements of x and convolves with the
// reversed kernel.
func transposedConv(c *call) []*value {
	l, x, w := c.l, c.t("input"), c.t("weight")
	n := w.rank() - 2
	if n < 1 || n > 3 || x.rank() != n+2 {
		return nil
	}
	groups := c.i("groups", 1)
	stride, dilation := c.spatial("stride", n, 1), c.spatial("dilation", n, 1)
	pad, more := c.spatial("padding", n, 0), c.spatial("output_padding", n, 0)
	if groups < 1 || w.shape[0]%groups != 0 {
		return nil
	}
	s := slices.Clone(w.shape)
	k := l.reshape(w, slices.Concat([]int{groups, s[0] / groups}, s[1:]))
	k = l.transpose(k, append([]int{0, 2, 1}, order(n + 3)[3:]...))
	k = l.reshape(k, slices.Concat([]int{groups * s[1], s[0] / groups}, s[2:]))
	g := graph.Conv{Stride: ones(n), Dilation: dilation, Before: make([]int, n), After: make([]int, n), Groups: groups}
	for i := range n {
		k = l.flip(k, 2+i)
		a := 2 + i
		if stride[i] > 1 {
			d := x.shape[a]
			wide := slices.Clone(x.shape)
			wide[a] = d * stride[i]
			x = l.reshape(l.pad(l.unsqueeze(x, a+1), a+1, 0, stride[i]-1), wide)
			x = l.slice(x, a, 0, (d-1)*stride[i]+1)
		}
		edge := dilation[i]*(s[2+i]-1) - pad[i]
		x = l.pad(x, a, edge, edge+more[i])
	}
	v := l.node(l.b.Conv(l.id(x), l.id(k), g), max(x.kind, w.kind))
	return one(l.channelBias(c, v, n))
}
