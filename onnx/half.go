package onnx

import "slices"

// Half reports whether any value of the model is in fp16: an input, a weight, a
// constant or the result of a cast. Unlike a checkpoint's, an ONNX model's types
// are part of it: whoever runs it cannot choose wider ones.
func (m *Model) Half() bool {
	if m.proto.graph.half() {
		return true
	}
	for _, f := range m.proto.functions {
		if slices.ContainsFunc(f.nodes, (*nodeProto).half) {
			return true
		}
	}
	return false
}

func (g *graphProto) half() bool {
	return slices.ContainsFunc(g.inputs, func(v valueProto) bool { return v.elem == elemFloat16 }) ||
		slices.ContainsFunc(g.tensors, func(t *tensorProto) bool { return t.elem == elemFloat16 }) ||
		slices.ContainsFunc(g.nodes, (*nodeProto).half)
}

func (n *nodeProto) half() bool {
	return slices.ContainsFunc(n.attrs, func(a *attrProto) bool {
		return n.op == "Cast" && a.name == "to" && a.i == elemFloat16 ||
			a.t != nil && a.t.elem == elemFloat16 || a.g != nil && a.g.half()
	})
}
