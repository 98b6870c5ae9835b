package onnx

import (
	"maps"

	"github.com/neuroseal/neuroseal/internal/fold"
)

// call is one node that is being lowered.
type call struct {
	*lowerer
	n       *nodeProto
	s       *scope
	version int64 // of the operator set
}

// rule lowers one operator; results that nobody reads may be left out.
type rule func(*call) []*value

// rules of all operators, by domain and name.
var rules = merge(pointwise, moves, reductions, contractions, sources, attentions, fused)

func merge(ms ...map[string]rule) map[string]rule {
	out := map[string]rule{}
	for _, m := range ms {
		maps.Copy(out, m)
	}
	return out
}

// has reports whether an input is given.
func (c *call) has(i int) bool { return i < len(c.n.in) && c.n.in[i] != "" }

// in returns an input, which must be a tensor.
func (c *call) in(i int) *value {
	v := c.any(i)
	need(!v.isSeq, "input %d is a sequence", i)
	return v
}

// any returns an input, which may be a sequence.
func (c *call) any(i int) *value {
	need(c.has(i), "input %d is missing", i)
	return c.get(c.s, c.n.in[i])
}

// maybe returns an input or nil.
func (c *call) maybe(i int) *value {
	if !c.has(i) {
		return nil
	}
	return c.in(i)
}

// wants reports whether an output is read.
func (c *call) wants(i int) bool { return i < len(c.n.out) && c.n.out[i] != "" }

func (c *call) attr(name string) *attrProto {
	for _, a := range c.n.attrs {
		if a.name != name {
			continue
		}
		if a.ref != "" {
			return c.s.attrs[a.ref]
		}
		return a
	}
	return nil
}

func (c *call) int(name string, otherwise int) int {
	if a := c.attr(name); a != nil {
		need(a.i >= -(1<<40) && a.i <= 1<<40, "attribute %s is %d", name, a.i)
		return int(a.i)
	}
	return otherwise
}

func (c *call) float(name string, otherwise float64) float64 {
	if a := c.attr(name); a != nil {
		return a.f
	}
	return otherwise
}

func (c *call) text(name, otherwise string) string {
	if a := c.attr(name); a != nil {
		return a.s
	}
	return otherwise
}

func (c *call) list(name string) []int {
	a := c.attr(name)
	if a == nil {
		return nil
	}
	out := make([]int, len(a.ints))
	for i, v := range a.ints {
		need(v >= -(1<<40) && v <= 1<<40, "attribute %s holds %d", name, v)
		out[i] = int(v)
	}
	return out
}

// axes returns the axes that stand in an attribute or, from some operator set
// on, in an input; nil where there is neither.
func (c *call) axes(input, rank int) []int {
	list := c.list("axes")
	if c.has(input) {
		list = c.ints(c.in(input), "axes")
	}
	out := make([]int, len(list))
	for i, a := range list {
		out[i] = axis(a, rank)
	}
	return out
}

// kindAttr is the kind that an attribute of an element type names.
func (c *call) kindAttr(name string, otherwise int) fold.Kind {
	k, ok := kindOf(int64(c.int(name, otherwise)))
	need(ok, "element type %d", c.int(name, otherwise))
	return k
}

func one(v *value) []*value { return []*value{v} }

// number returns an input that must be one known integer.
func (c *call) number(i int, what string) int {
	v := c.ints(c.in(i), what)
	need(len(v) == 1, "%s has %d elements", what, len(v))
	return v[0]
}
