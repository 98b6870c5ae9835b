package onnx

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Operators that contract.
var contractions = map[string]rule{
	":MatMul": func(c *call) []*value { return one(c.matmul(c.in(0), c.in(1))) },
	":Gemm":   gemm, ":Conv": conv, ":Einsum": einsum, "com.microsoft:FusedMatMul": fusedMatMul,
}

func gemm(c *call) []*value {
	a, b := c.in(0), c.in(1)
	need(len(a.shape) == 2 && len(b.shape) == 2, "product of %v and %v", a.shape, b.shape)
	if c.int("transA", 0) != 0 {
		a = c.transpose(a, 1, 0)
	}
	turned := c.int("transB", 0) != 0
	k := 0
	if turned {
		k = 1
	}
	need(a.shape[1] == b.shape[k] && a.size() > 0 && b.size() > 0, "product of %v and %v", a.shape, b.shape)
	y := c.times(c.linear(a, b, turned), c.float("alpha", 1))
	if d := c.maybe(2); d != nil {
		y = c.add(y, c.times(d, c.float("beta", 1)))
	}
	return one(y)
}

func fusedMatMul(c *call) []*value {
	need(c.int("transBatchA", 0) == 0 && c.int("transBatchB", 0) == 0, "a product with batches moved")
	a, b := c.in(0), c.in(1)
	if c.int("transA", 0) != 0 {
		a = c.swapped(a)
	}
	if c.int("transB", 0) != 0 {
		b = c.swapped(b)
	}
	return one(c.times(c.matmul(a, b), c.float("alpha", 1)))
}

// swapped exchanges the last two axes.
func (l *lowerer) swapped(x *value) *value {
	r := len(x.shape)
	need(r >= 2, "the transpose of %v", x.shape)
	perm := make([]int, r)
	for i := range perm {
		perm[i] = i
	}
	perm[r-1], perm[r-2] = r-2, r-1
	return l.transpose(x, perm...)
}

func conv(c *call) []*value {
	x, w := c.in(0), c.in(1)
	n := len(x.shape) - 2
	need(n >= 1 && len(w.shape) == len(x.shape) && x.size() > 0 && w.size() > 0, "convolution of %v by %v", x.shape, w.shape)
	ones := slices.Repeat([]int{1}, n)
	g := graph.Conv{Stride: orElse(c.list("strides"), ones), Dilation: orElse(c.list("dilations"), ones), Groups: c.int("group", 1)}
	pads := orElse(c.list("pads"), make([]int, 2*n))
	need(len(pads) == 2*n && len(g.Stride) == n && len(g.Dilation) == n, "convolution with pads %v", pads)
	for i := range n {
		for _, v := range []int{pads[i], pads[i+n], g.Stride[i], g.Dilation[i]} {
			need(v >= 0 && v < 1<<20, "convolution with pads %v, strides %v, dilations %v", pads, g.Stride, g.Dilation)
		}
		need(g.Stride[i] > 0 && g.Dilation[i] > 0, "convolution with strides %v, dilations %v", g.Stride, g.Dilation)
	}
	g.Before, g.After = pads[:n], pads[n:]
	c.autoPad(&g, x.shape[2:], w.shape[2:])
	need(g.Groups >= 1 && x.shape[1]%g.Groups == 0 && w.shape[0]%g.Groups == 0 && w.shape[1] == x.shape[1]/g.Groups,
		"convolution of %v by %v in %d groups", x.shape, w.shape, g.Groups)
	for i := range n {
		need(x.shape[2+i]+g.Before[i]+g.After[i] > g.Dilation[i]*(w.shape[2+i]-1), "convolution of %v by %v", x.shape, w.shape)
	}
	y := c.wrap(c.b.Conv(c.id(x), c.id(w), g), x.kind)
	if b := c.maybe(2); b != nil {
		y = c.add(y, c.channel(b, len(y.shape)))
	}
	return one(y)
}

// autoPad sets the padding that the attribute asks for.
func (c *call) autoPad(g *graph.Conv, in, kernel []int) {
	mode := c.text("auto_pad", "NOTSET")
	if mode == "NOTSET" || mode == "" {
		return
	}
	g.Before, g.After = make([]int, len(in)), make([]int, len(in))
	if mode == "VALID" {
		return
	}
	need(mode == "SAME_UPPER" || mode == "SAME_LOWER", "padding %s", mode)
	for i := range in {
		out := (in[i] + g.Stride[i] - 1) / g.Stride[i]
		all := max(0, (out-1)*g.Stride[i]+g.Dilation[i]*(kernel[i]-1)+1-in[i])
		g.Before[i], g.After[i] = all/2, all-all/2
		if mode == "SAME_LOWER" {
			g.Before[i], g.After[i] = g.After[i], g.Before[i]
		}
	}
}

func orElse(list, otherwise []int) []int {
	if list == nil {
		return slices.Clone(otherwise)
	}
	return list
}

// einsum works out products of one or two operands: sums over what only one
// has, then one product of matrices over what both share and the result lacks.
func einsum(c *call) []*value {
	left, out, arrow := strings.Cut(strings.ReplaceAll(c.text("equation", ""), " ", ""), "->")
	terms := strings.Split(left, ",")
	need(arrow && len(terms) == len(c.n.in) && len(terms) <= 2 && !strings.Contains(left, "."), "einsum %s", c.text("equation", ""))
	a := c.term(0, terms[0])
	if len(terms) == 1 {
		return one(c.arranged(a, terms[0], out))
	}
	b := c.term(1, terms[1])
	var batch, m, k, n string
	for _, r := range terms[0] {
		l := string(r)
		switch inB, inOut := strings.Contains(terms[1], l), strings.Contains(out, l); {
		case inB && inOut:
			batch += l
		case inB:
			k += l
		case inOut:
			m += l
		}
	}
	for _, r := range terms[1] {
		if l := string(r); !strings.Contains(terms[0], l) && strings.Contains(out, l) {
			n += l
		}
	}
	size := map[string]int{}
	for i, t := range terms {
		for j, r := range t {
			d := []*value{a, b}[i].shape[j]
			old, ok := size[string(r)]
			need(!ok || old == d, "einsum %s with an axis of %d and %d", left, old, d)
			size[string(r)] = d
		}
	}
	of := func(axes string) (shape []int, n int) {
		n = 1
		for _, r := range axes {
			shape = append(shape, size[string(r)])
			n *= size[string(r)]
		}
		return shape, n
	}
	lead, nb := of(batch)
	ms, nm := of(m)
	_, nk := of(k)
	ns, nn := of(n)
	x := c.reshape(c.arranged(a, terms[0], batch+m+k), nb, nm, nk)
	y := c.reshape(c.arranged(b, terms[1], batch+k+n), nb, nk, nn)
	var p *value
	if nb == 1 {
		p = c.matmul(c.reshape(x, nm, nk), c.reshape(y, nk, nn))
	} else {
		p = c.matmul(x, y)
	}
	return one(c.arranged(c.reshape(p, slices.Concat(lead, ms, ns)...), batch+m+n, out))
}

// term is an operand whose axes have different letters.
func (c *call) term(i int, letters string) *value {
	x := c.in(i)
	need(len(letters) == len(x.shape), "einsum term %s of %v", letters, x.shape)
	for j, r := range letters {
		need(strings.IndexRune(letters, r) == j, "einsum term %s", letters)
	}
	return x
}

// arranged sums over the axes that the result lacks and orders the others.
func (c *call) arranged(x *value, from, to string) *value {
	var gone []int
	kept := ""
	for i, r := range from {
		if strings.ContainsRune(to, r) {
			kept += string(r)
		} else {
			gone = append(gone, i)
		}
	}
	x = c.reduce(graph.OpSum, x, gone, false)
	need(len(kept) == len(to), "einsum result %s of %s", to, from)
	perm := make([]int, len(to))
	for i, r := range to {
		perm[i] = strings.IndexRune(kept, r)
		need(perm[i] >= 0 && strings.IndexRune(to, r) == i, "einsum result %s", to)
	}
	return c.transpose(x, perm...)
}

// Operators that make constants.
var sources = map[string]rule{
	":Constant": constantOp, ":ConstantOfShape": constantOfShape, ":Shape": shapeOp, ":Size": sizeOp, ":Range": rangeOp,
	":NonZero": nonZero, ":EyeLike": eyeLike,
}

func constantOp(c *call) []*value {
	for _, a := range c.n.attrs {
		if a.ref != "" {
			if a = c.s.attrs[a.ref]; a == nil {
				continue
			}
		}
		switch a.name {
		case "value":
			need(a.t != nil, "a constant without a value")
			return one(c.initialiser(a.t))
		case "value_float":
			return one(c.scalar(fold.Float, a.f))
		case "value_int":
			return one(c.konst(&fold.Tensor{Kind: fold.Int, I: []int64{a.i}}))
		case "value_ints":
			return one(c.konst(fold.Ints(a.ints...)))
		case "value_floats":
			return one(c.konst(&fold.Tensor{Kind: fold.Float, Shape: []int{len(a.floats)}, F: a.floats}))
		}
	}
	// A function may pass the value on under another name.
	for _, a := range c.n.attrs {
		if a = c.attr(a.name); a == nil {
			continue
		}
		switch a.kind {
		case 1:
			return one(c.scalar(fold.Float, a.f))
		case 2:
			return one(c.konst(&fold.Tensor{Kind: fold.Int, I: []int64{a.i}}))
		case 6:
			return one(c.konst(&fold.Tensor{Kind: fold.Float, Shape: []int{len(a.floats)}, F: a.floats}))
		case 7:
			return one(c.konst(fold.Ints(a.ints...)))
		}
	}
	need(false, "a constant of text")
	return nil
}

func constantOfShape(c *call) []*value {
	fill := fold.Scalar(fold.Float, 0)
	if a := c.attr("value"); a != nil {
		need(a.t != nil, "a constant without a value")
		fill = c.static(c.initialiser(a.t), "the value of a constant")
		need(fill.Len() == 1, "a constant of %d values", fill.Len())
		fill = must(fill.Reshape())
	}
	shape := c.in(0)
	return one(c.konst(must(fill.Expand(c.ints(shape, "the shape of a constant")...)), shape))
}

// shapeOp: sizes are known; what follows from them holds for these sizes.
func shapeOp(c *call) []*value {
	v := c.any(0)
	need(!v.isSeq, "the shape of a sequence")
	r := len(v.shape)
	from, to := c.int("start", 0), c.int("end", r)
	for _, p := range []*int{&from, &to} {
		if *p < 0 {
			*p += r
		}
		*p = min(max(*p, 0), r)
	}
	var out []int64
	for i := from; i < to; i++ {
		out = append(out, int64(v.shape[i]))
	}
	s := c.konst(fold.Ints(out...))
	s.sized = c.free
	return one(s)
}

func sizeOp(c *call) []*value {
	s := c.scalar(fold.Int, float64(c.in(0).size()))
	s.sized = c.free
	return one(s)
}

func rangeOp(c *call) []*value {
	var x [3]float64
	for i := range x {
		v := c.static(c.in(i), "the bounds of a range")
		need(v.Len() == 1, "bounds of shape %v", v.Shape)
		x[i] = v.At(0)
	}
	return one(c.konst(must(fold.Range(c.in(0).kind, x[0], x[1], x[2])), c.in(0), c.in(1), c.in(2)))
}

func nonZero(c *call) []*value {
	x := c.in(0)
	need(x.c != nil, "how many elements are not zero depends on the input")
	return one(c.konst(fold.NonZero(x.c), x))
}

func eyeLike(c *call) []*value {
	x := c.in(0)
	need(len(x.shape) == 2, "an identity of shape %v", x.shape)
	kind := x.kind
	if c.attr("dtype") != nil {
		kind = c.kindAttr("dtype", 0)
	}
	out := must(fold.New(fold.Int, x.shape...))
	for i := range out.I {
		if i%x.shape[1]-i/x.shape[1] == c.int("k", 0) {
			out.I[i] = 1
		}
	}
	return one(c.konst(out.Convert(kind)))
}

// branch takes the branch of a condition that stands in the file. One that
// depends on the input, or on the sizes that were chosen for this lowering,
// might go the other way.
func branch(c *call) []*value {
	cond := c.in(0)
	need(cond.c != nil && cond.c.Len() == 1, "which branch is taken depends on the input")
	need(!cond.sized, "which branch is taken depends on sizes")
	name := "else_branch"
	if cond.c.At(0) != 0 {
		name = "then_branch"
	}
	a := c.attr(name)
	need(a != nil && a.g != nil && c.s.depth < maxDepth, "no %s", name)
	in := newScope(a.g, c.s)
	if err := c.nodes(a.g.nodes, in); err != nil {
		panic(stop{err})
	}
	var out []*value
	for _, o := range a.g.outputs {
		out = append(out, c.get(in, o.name))
	}
	return out
}
