package pt2

import (
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// complexArgs reports whether a call makes or reads complex numbers.
func (l *lowering) complexArgs(c *call) bool {
	for _, a := range c.args {
		switch a := a.(type) {
		case *cell:
			if l.get(a).im != nil {
				return true
			}
		case []*cell:
			for _, x := range a {
				if x != nil && l.get(x).im != nil {
					return true
				}
			}
		}
	}
	switch atenName(c) {
	case "view_as_complex", "view_as_complex_copy", "complex", "polar":
		return true
	}
	return false
}

func atenName(c *call) string {
	parts := strings.SplitN(c.target, ".", 3)
	if len(parts) < 2 {
		return ""
	}
	return strings.TrimSuffix(parts[1], "_")
}

func pair(re, im *value) []*value {
	v := *re
	v.im = im
	return []*value{&v}
}

func realPart(v *value) *value {
	w := *v
	w.im = nil
	return &w
}

// imagPart is zero for a real number.
func imagPart(v *value) *value {
	if v.im != nil {
		return v.im
	}
	return scalar(fold.Float, 0)
}

// complexCall evaluates what is done with complex numbers: products by the
// rule, moves and sums on both parts.
func (l *lowering) complexCall(f rule, c *call) []*value {
	last := func(x *value, i int) *value {
		a := x.rank() - 1
		return l.reshape(l.slice(x, a, i, i+1), x.shape[:a])
	}
	switch atenName(c) {
	case "view_as_complex", "view_as_complex_copy":
		x := c.t("self")
		if x.rank() == 0 || x.shape[x.rank()-1] != 2 {
			c.stop("shape %v as complex numbers", x.shape)
		}
		return pair(last(x, 0), last(x, 1))
	case "complex":
		return pair(c.t("real"), c.t("imag"))
	case "polar":
		r, a := c.t("abs"), c.t("angle")
		return pair(l.mul(r, l.unary(graph.OpCos, a)), l.mul(r, l.unary(graph.OpSin, a)))
	case "view_as_real", "view_as_real_copy":
		x := c.t("self")
		re := realPart(x)
		return one(l.concat(x.rank(), l.unsqueeze(re, x.rank()), l.unsqueeze(x.im, x.rank())))
	case "real":
		return one(realPart(c.t("self")))
	case "imag":
		return one(imagPart(c.t("self")))
	case "conj", "_conj", "_conj_physical", "conj_physical":
		x := c.t("self")
		return pair(realPart(x), l.unary(graph.OpNeg, imagPart(x)))
	case "abs":
		x := c.t("self")
		return one(l.pow(l.add(l.pow(realPart(x), 2), l.pow(x.im, 2)), 0.5))
	case "mul", "multiply":
		x, y := c.t("self"), c.t("other")
		a, b, p, q := realPart(x), x.im, realPart(y), y.im
		switch {
		case b == nil:
			return pair(l.mul(a, p), l.mul(a, q))
		case q == nil:
			return pair(l.mul(a, p), l.mul(b, p))
		}
		return pair(l.sub(l.mul(a, p), l.mul(b, q)), l.add(l.mul(a, q), l.mul(b, p)))
	case "add", "sub", "neg", "view", "reshape", "_unsafe_view", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose",
		"permute", "t", "numpy_T", "movedim", "expand", "slice", "select", "narrow", "split", "split_with_sizes", "chunk", "unbind",
		"cat", "stack", "repeat", "index", "index_select", "alias", "detach", "clone", "contiguous", "to", "_to_copy", "lift_fresh_copy", "roll", "flip":
		if _, number := c.args["other"].(*cell); c.has("other") && !number {
			return nil // a real number belongs to one part only
		}
		if f != nil {
			return l.parts(f, c)
		}
	}
	return nil
}

// parts runs a linear rule on the real and on the imaginary parts.
func (l *lowering) parts(f rule, c *call) []*value {
	run := func(part func(*value) *value) []*value {
		d := *c
		d.args = map[string]any{}
		for k, a := range c.args {
			switch a := a.(type) {
			case *cell:
				v := l.get(a)
				if k == "indices" || k == "index" {
					d.args[k] = a
					continue
				}
				d.args[k] = &cell{v: part(v)}
			case []*cell:
				if k == "indices" {
					d.args[k] = a
					continue
				}
				list := make([]*cell, len(a))
				for i, x := range a {
					if x != nil {
						list[i] = &cell{v: part(l.get(x))}
					}
				}
				d.args[k] = list
			default:
				d.args[k] = a
			}
		}
		return f(&d)
	}
	re, im := run(realPart), run(imagPart)
	if len(re) != len(im) {
		return nil
	}
	for i := range re {
		re[i] = pair(re[i], im[i])[0]
	}
	return re
}
