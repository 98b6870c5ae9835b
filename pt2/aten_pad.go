package pt2

import (
	"slices"

	"github.com/neuroseal/neuroseal/internal/fold"
)

// padRules: edges that are added, and what is then cut into windows or blocks.
var padRules = map[string]rule{
	"pad constant_pad_nd":                                   padRule,
	"reflection_pad1d reflection_pad2d":                     func(c *call) []*value { return one(c.mirror(c.t("self"), c.ints("padding"), true)) },
	"replication_pad1d replication_pad2d replication_pad3d": func(c *call) []*value { return one(c.mirror(c.t("self"), c.ints("padding"), false)) },
	"unfold": func(c *call) []*value {
		x := c.t("self")
		axis, size, step := c.axis("dimension", 0, x.rank()), c.i("size", 1), c.i("step", 1)
		v := c.l.windows(x, axis, size, step, 1)
		perm := slices.Delete(order(v.rank()), axis+1, axis+2)
		return one(c.l.transpose(v, append(perm, axis+1)))
	},
	"pixel_shuffle": func(c *call) []*value {
		x, r := c.t("self"), c.i("upscale_factor", 1)
		n := x.rank() - 3
		lead, ch, h, w := x.shape[:n], x.shape[n], x.shape[n+1], x.shape[n+2]
		v := c.l.reshape(x, slices.Concat(lead, []int{ch / (r * r), r, r, h, w}))
		v = c.l.transpose(v, append(order(n), n, n+3, n+1, n+4, n+2))
		return one(c.l.reshape(v, slices.Concat(lead, []int{ch / (r * r), h * r, w * r})))
	},
	"pixel_unshuffle": func(c *call) []*value {
		x, r := c.t("self"), c.i("downscale_factor", 1)
		n := x.rank() - 3
		lead, ch, h, w := x.shape[:n], x.shape[n], x.shape[n+1], x.shape[n+2]
		v := c.l.reshape(x, slices.Concat(lead, []int{ch, h / r, r, w / r, r}))
		v = c.l.transpose(v, append(order(n), n, n+2, n+4, n+1, n+3))
		return one(c.l.reshape(v, slices.Concat(lead, []int{ch * r * r, h / r, w / r})))
	},
	"diagonal": func(c *call) []*value {
		x := c.t("self")
		a, b := c.axis("dim1", 0, x.rank()), c.axis("dim2", 1, x.rank())
		if c.i("offset", 0) != 0 || x.shape[a] != x.shape[b] || a == b {
			return nil
		}
		n := x.shape[a]
		perm := append(slices.DeleteFunc(order(x.rank()), func(i int) bool { return i == a || i == b }), a, b)
		v := c.l.transpose(x, perm)
		s := append(slices.Clone(v.shape[:x.rank()-2]), n*n)
		return one(c.l.stride(c.l.reshape(v, s), len(s)-1, 0, n*n, n+1))
	},
}

func padRule(c *call) []*value {
	x, pads := c.t("self"), c.ints("pad")
	if len(pads)%2 != 0 || len(pads)/2 > x.rank() {
		c.stop("padding %v of shape %v", pads, x.shape)
	}
	switch c.str("mode", "constant") {
	case "reflect":
		return one(c.mirror(x, pads, true))
	case "replicate":
		return one(c.mirror(x, pads, false))
	case "circular":
		return nil
	}
	v := c.f("value", 0)
	for i := 0; i < len(pads); i += 2 {
		axis := x.rank() - 1 - i/2
		x = c.l.padWith(x, axis, pads[i], pads[i+1], v)
	}
	return one(x)
}

func (l *lowering) padWith(x *value, axis, before, after int, v float64) *value {
	if v == 0 || before <= 0 && after <= 0 {
		return l.pad(x, axis, before, after)
	}
	var parts []*value
	for _, n := range []int{before, 0, after} {
		if n == 0 && len(parts) == btoi(before > 0) {
			parts = append(parts, l.pad(x, axis, min(0, before), min(0, after)))
		} else if n > 0 {
			s := slices.Clone(x.shape)
			s[axis] = n
			parts = append(parts, l.expand(scalar(x.kind, v), s))
		}
	}
	return l.concat(axis, parts...)
}

// mirror pads with the elements next to the border, or with the border itself.
func (c *call) mirror(x *value, pads []int, reflect bool) *value {
	for i := 0; i+1 < len(pads); i += 2 {
		axis := x.rank() - 1 - i/2
		n := x.shape[axis]
		ids, err := fold.New(fold.Int, max(0, n+pads[i]+pads[i+1]))
		if err != nil {
			c.stop("%v", err)
		}
		for j := range ids.I {
			k := j - pads[i]
			if reflect {
				if k < 0 {
					k = -k
				}
				if k >= n {
					k = 2*(n-1) - k
				}
			}
			ids.I[j] = int64(max(0, min(n-1, k)))
		}
		x = c.l.index(x, c.l.folded(ids, nil), axis)
	}
	return x
}

// windows replaces an axis by [positions, size]: the elements under a window
// that slides along it.
func (l *lowering) windows(x *value, axis, size, step, dilation int) *value {
	n := x.shape[axis]
	room := n - dilation*(size-1) - 1
	if room < 0 || size < 1 || step < 1 || dilation < 1 {
		l.stop("windows of %d elements on an axis of %d", size, n)
	}
	if size == step && dilation == 1 {
		count := room/step + 1
		s := slices.Concat(x.shape[:axis], []int{count, size}, x.shape[axis+1:])
		return l.reshape(l.slice(x, axis, 0, count*size), s)
	}
	ids, err := fold.New(fold.Int, room/step+1, size)
	if err != nil {
		l.stop("%v", err)
	}
	for i := range ids.I {
		ids.I[i] = int64(i/size*step + i%size*dilation)
	}
	return l.index(x, l.folded(ids, nil), axis)
}
