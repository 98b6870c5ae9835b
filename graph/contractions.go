package graph

import "slices"

// Embedding looks rows of weight [V,d] up by ids [T].
func (b *Builder) Embedding(weight, ids ID) ID {
	w := b.shape(weight)
	if len(w) != 2 {
		return b.fail("embedding weight of shape %v", w)
	}
	return b.add(Node{Op: OpEmbedding, In: []ID{weight, ids}, Shape: append(slices.Clone(b.shape(ids)), w[1])})
}

// Linear multiplies x [...,in] by weight [out,in]; no bias.
func (b *Builder) Linear(x, weight ID) ID {
	xs, w := b.shape(x), b.shape(weight)
	if len(w) != 2 || len(xs) == 0 || xs[len(xs)-1] != w[1] {
		return b.fail("linear of input %v and weight %v", xs, w)
	}
	s := slices.Clone(xs)
	s[len(s)-1] = w[0]
	return b.add(Node{Op: OpLinear, In: []ID{x, weight}, Shape: s})
}

// LinearT multiplies x [...,in] by weight [in,out]; no bias.
func (b *Builder) LinearT(x, weight ID) ID {
	xs, w := b.shape(x), b.shape(weight)
	if len(w) != 2 || len(xs) == 0 || xs[len(xs)-1] != w[0] {
		return b.fail("linear of input %v and transposed weight %v", xs, w)
	}
	s := slices.Clone(xs)
	s[len(s)-1] = w[1]
	return b.add(Node{Op: OpLinear, In: []ID{x, weight}, Shape: s, Transposed: true})
}

// MatMul multiplies a [...,m,k] by b [...,k,n]; leading axes must agree.
func (b *Builder) MatMul(x, y ID) ID {
	p, q := b.shape(x), b.shape(y)
	n := len(p)
	if n < 2 || len(q) != n || p[n-1] != q[n-2] || !slices.Equal(p[:n-2], q[:n-2]) {
		return b.fail("matmul of %v and %v", p, q)
	}
	s := slices.Clone(p)
	s[n-1] = q[n-1]
	return b.add(Node{Op: OpMatMul, In: []ID{x, y}, Shape: s})
}

// Conv convolves x [N,C,spatial...] with weight [O,C/groups,kernel...]; no bias.
func (b *Builder) Conv(x, weight ID, c Conv) ID {
	xs, w := b.shape(x), b.shape(weight)
	n := len(xs) - 2
	ok := n >= 1 && len(w) == len(xs) && c.Groups >= 1 && xs[1]%c.Groups == 0 && w[0]%c.Groups == 0 && w[1] == xs[1]/c.Groups
	for _, list := range [][]int{c.Stride, c.Before, c.After, c.Dilation} {
		ok = ok && len(list) == n
	}
	if !ok {
		return b.fail("convolution of %v with weight %v, %+v", xs, w, c)
	}
	s := []int{xs[0], w[0]}
	for i := range n {
		if c.Stride[i] < 1 || c.Dilation[i] < 1 || c.Before[i] < 0 || c.After[i] < 0 {
			return b.fail("convolution with %+v", c)
		}
		room := xs[2+i] + c.Before[i] + c.After[i] - c.Dilation[i]*(w[2+i]-1) - 1
		if room < 0 {
			return b.fail("convolution of %v with weight %v, %+v", xs, w, c)
		}
		s = append(s, room/c.Stride[i]+1)
	}
	id := b.add(Node{Op: OpConv, In: []ID{x, weight}, Shape: s})
	b.g.Nodes[id].Conv = Conv{slices.Clone(c.Stride), slices.Clone(c.Before), slices.Clone(c.After), slices.Clone(c.Dilation), c.Groups}
	return id
}

// Opaque is an operation that has no rule here: its inputs are pinned.
func (b *Builder) Opaque(name string, integer bool, shape []int, in ...ID) ID {
	return b.add(Node{Op: OpOpaque, Name: name, In: slices.Clone(in), Shape: slices.Clone(shape), Int: integer})
}
