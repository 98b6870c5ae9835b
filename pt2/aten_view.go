package pt2

// view says how writing into the result of an operation changes what it is a
// view of. Where torch may have copied instead, maybe is set.
type view struct {
	back  func(c *call, i int, base, new *value) *value
	maybe bool
}

func reshapeBack(c *call, _ int, base, new *value) *value { return c.l.reshape(new, base.shape) }

var views = map[string]view{
	"alias":      {back: func(_ *call, _ int, _, new *value) *value { return new }},
	"detach":     {back: func(_ *call, _ int, _, new *value) *value { return new }},
	"to":         {back: func(_ *call, _ int, b, new *value) *value { return new.as(b.kind) }, maybe: true},
	"contiguous": {back: func(_ *call, _ int, _, new *value) *value { return new }, maybe: true},
	"type_as":    {back: func(_ *call, _ int, b, new *value) *value { return new.as(b.kind) }, maybe: true},
	"dropout":    {back: func(_ *call, _ int, _, new *value) *value { return new }, maybe: true},
	"view":       {back: reshapeBack}, "unsqueeze": {back: reshapeBack}, "squeeze": {back: reshapeBack},
	"reshape": {back: reshapeBack, maybe: true}, "flatten": {back: reshapeBack, maybe: true}, "unflatten": {back: reshapeBack, maybe: true},
	"view_as":   {back: reshapeBack},
	"transpose": {back: permuteBack}, "permute": {back: permuteBack}, "t": {back: permuteBack}, "numpy_T": {back: permuteBack},
	"movedim": {back: permuteBack}, "swapaxes": {back: permuteBack},
	"slice": {back: func(c *call, _ int, base, new *value) *value {
		axis, start, _, step := sliceArgs(c, base)
		return c.l.overwrite(base, new, axis, start, step)
	}},
	"narrow": {back: func(c *call, _ int, base, new *value) *value {
		return c.l.overwrite(base, new, c.axis("dim", 0, base.rank()), c.i("start", 0), 1)
	}},
	"select": {back: func(c *call, _ int, base, new *value) *value {
		axis := c.axis("dim", 0, base.rank())
		return c.l.overwrite(base, c.l.unsqueeze(new, axis), axis, at(c, base.shape[axis]), 1)
	}},
	"split": {back: splitBack}, "split_with_sizes": {back: splitBack}, "chunk": {back: splitBack},
	"unbind": {back: func(c *call, i int, base, new *value) *value {
		axis := c.axis("dim", 0, base.rank())
		return c.l.overwrite(base, c.l.unsqueeze(new, axis), axis, i, 1)
	}},
	"expand": {}, "expand_as": {maybe: true}, "broadcast_to": {}, "view_as_complex": {}, "view_as_real": {}, "unfold": {}, "diagonal": {}, "as_strided": {},
	"real": {}, "imag": {},
}

func splitBack(c *call, i int, base, new *value) *value {
	axis := c.axis("dim", 0, base.rank())
	start := 0
	for _, s := range splitSizes(c, base.shape[axis])[:i] {
		start += s
	}
	return c.l.overwrite(base, new, axis, start, 1)
}

func permuteBack(c *call, _ int, _, new *value) *value {
	perm := permutation(c, new.rank())
	inv := make([]int, len(perm))
	for i, p := range perm {
		inv[p] = i
	}
	return c.l.transpose(new, inv)
}
