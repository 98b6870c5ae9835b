package pt2

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fold"
)

const realKind = fold.Float

// conversion says how the runtime makes its parameters of the checkpoint's
// tensors when it loads them: a list of moves, recorded by the exporter script
// while transformers ran its own conversion on tensors without memory.
type conversion struct {
	Leaves map[string][2]json.RawMessage `json:"leaves"` // tensor on disk -> value, shape
	Nodes  []conversionNode              `json:"nodes"`
	// Weights maps a parameter of the program to a value.
	Weights map[string]string `json:"weights"`

	byValue map[string]diskTensor
}

type conversionNode struct {
	Op  string                     `json:"op"` // aten.cat.default
	In  map[string]json.RawMessage `json:"in"`
	Out []string                   `json:"out"`
}

type diskTensor struct {
	name  string
	shape []int
}

// moves are the operations that a conversion may consist of: none changes a
// number.
var movesOnly = []string{"cat", "stack", "split", "split_with_sizes", "chunk", "slice", "select", "unbind", "transpose", "permute", "t",
	"view", "reshape", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "clone", "contiguous", "alias", "detach", "flip"}

// leaf finds the tensor on disk that a value stands for.
func (c *conversion) leaf(value string) (diskTensor, bool) {
	if c.byValue == nil {
		c.byValue = map[string]diskTensor{}
		for name, pair := range c.Leaves {
			var id string
			var shape []int
			if json.Unmarshal(pair[0], &id) == nil && json.Unmarshal(pair[1], &shape) == nil {
				c.byValue[id] = diskTensor{name, shape}
			}
		}
	}
	d, ok := c.byValue[value]
	return d, ok
}

// converted is a parameter made of the checkpoint's tensors by the recorded
// conversion; nil where there is none or the checkpoint has not all it takes.
func (n *names) converted(name string) *value {
	if n.conv == nil {
		return nil
	}
	id, ok := n.conv.Weights[name]
	if !ok || !n.complete(id, len(n.conv.Nodes), map[string]bool{}) {
		return nil
	}
	return n.move(id)
}

// complete reports whether the checkpoint holds every tensor that a value is
// made of. Values come from earlier nodes only, so that it ends.
func (n *names) complete(id string, before int, seen map[string]bool) bool {
	if seen[id] {
		return true
	}
	seen[id] = true
	if d, ok := n.conv.leaf(id); ok {
		return n.has(d.name, d.shape)
	}
	i, ok := n.nodes[id]
	if !ok || i >= before || !slices.Contains(movesOnly, atenName(&call{target: n.conv.Nodes[i].Op})) {
		return false
	}
	for _, raw := range n.conv.Nodes[i].In {
		for _, in := range valueNames(raw) {
			if !n.complete(in, i, seen) {
				return false
			}
		}
	}
	return true
}

// valueNames lists the values that an argument names.
func valueNames(raw json.RawMessage) []string {
	var one string
	var many []string
	if json.Unmarshal(raw, &one) == nil {
		many = []string{one}
	} else if json.Unmarshal(raw, &many) != nil {
		return nil
	}
	return slices.DeleteFunc(many, func(s string) bool { return !strings.HasPrefix(s, "%") })
}

func (n *names) move(id string) *value {
	if v, ok := n.moved[id]; ok {
		return v
	}
	if d, ok := n.conv.leaf(id); ok {
		name, _ := n.find(d.name, d.shape)
		v := n.leaf(name, d.shape)
		n.moved[id] = v
		return v
	}
	node := n.conv.Nodes[n.nodes[id]]
	c := &call{l: n.l, target: node.Op, args: map[string]any{}, out: make([]meta, len(node.Out))}
	for k, raw := range node.In {
		c.args[k] = n.argument(raw)
		if _, ok := c.args[k].(*cell); ok {
			c.named = append(c.named, k)
		}
	}
	outs := lookup(node.Op)(c)
	if len(outs) != len(node.Out) {
		c.stop("%d results, not %d", len(outs), len(node.Out))
	}
	for i, o := range node.Out {
		n.moved[o] = outs[i]
	}
	return n.moved[id]
}

func (n *names) argument(raw json.RawMessage) any {
	var (
		whole int
		list  []int
	)
	switch in := valueNames(raw); {
	case len(in) == 1 && raw[0] == '"':
		return &cell{v: n.move(in[0])}
	case len(in) > 0:
		out := make([]*cell, len(in))
		for i, id := range in {
			out[i] = &cell{v: n.move(id)}
		}
		return out
	case json.Unmarshal(raw, &whole) == nil && string(raw) != "null":
		return whole
	case json.Unmarshal(raw, &list) == nil && list != nil:
		return list
	}
	return nil
}
