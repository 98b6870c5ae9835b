package graph

import "slices"

// RMSNorm divides x by the root mean square of its last axis. epsKey names the
// config key that eps was read from, so that a seal may move it; "" pins it.
func (b *Builder) RMSNorm(x ID, eps float64, epsKey string) ID {
	id := b.unary(OpRMSNorm, x, eps)
	b.g.Nodes[id].EpsKey = epsKey
	return id
}

// LayerNorm subtracts the mean of x's last axis and divides by its standard
// deviation; epsKey as in RMSNorm.
func (b *Builder) LayerNorm(x ID, eps float64, epsKey string) ID {
	id := b.unary(OpLayerNorm, x, eps)
	b.g.Nodes[id].EpsKey = epsKey
	return id
}

// Sum adds up the last axis and keeps it with length 1.
func (b *Builder) Sum(x ID) ID { return b.reduce(OpSum, x, b.ints(x)) }

// Max takes the largest of the last axis and keeps it with length 1.
func (b *Builder) Max(x ID) ID { return b.reduce(OpMax, x, b.ints(x)) }

// ArgMax returns where the largest of the last axis is; the axis keeps length 1.
func (b *Builder) ArgMax(x ID) ID { return b.reduce(OpArgMax, x, true) }

func (b *Builder) reduce(op Op, x ID, integer bool) ID {
	s := slices.Clone(b.shape(x))
	if len(s) == 0 || s[len(s)-1] == 0 {
		return b.fail("%v of shape %v", op, s)
	}
	s[len(s)-1] = 1
	return b.add(Node{Op: op, In: []ID{x}, Shape: s, Int: integer})
}

// CumSum adds up the last axis, keeping every step.
func (b *Builder) CumSum(x ID) ID {
	if len(b.shape(x)) == 0 {
		return b.fail("cumsum of a scalar")
	}
	id := b.unary(OpCumSum, x, 0)
	b.g.Nodes[id].Int = b.ints(x)
	return id
}

// TopKMask is 1 where x is among the k largest of its last axis, else 0.
func (b *Builder) TopKMask(x ID, k int) ID {
	s := b.shape(x)
	if len(s) == 0 || k < 1 || k > s[len(s)-1] {
		return b.fail("top-%d of %v", k, s)
	}
	id := b.unary(OpTopKMask, x, 0)
	b.g.Nodes[id].K = k
	return id
}

// TopK returns the k largest of x's last axis in falling order, and their indices.
func (b *Builder) TopK(x ID, k int) (values, indices ID) {
	s := slices.Clone(b.shape(x))
	if len(s) == 0 || k < 1 || k > s[len(s)-1] {
		bad := b.fail("top-%d of %v", k, s)
		return bad, bad
	}
	s[len(s)-1] = k
	values = b.add(Node{Op: OpTopKValues, In: []ID{x}, Shape: s, K: k, Int: b.ints(x)})
	indices = b.add(Node{Op: OpTopKIndices, In: []ID{x}, Shape: slices.Clone(s), K: k, Int: true})
	return values, indices
}

// OneHot turns ids [...] below k into [...,k] with a single 1 in every row.
func (b *Builder) OneHot(ids ID, k int) ID {
	if k < 1 || !b.ints(ids) {
		return b.fail("one-hot of length %d", k)
	}
	return b.add(Node{Op: OpOneHot, In: []ID{ids}, Shape: append(slices.Clone(b.shape(ids)), k), K: k, Int: true})
}
