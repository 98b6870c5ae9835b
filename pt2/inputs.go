package pt2

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// inputs gives every placeholder of the program its value.
func (s *scope) inputs() {
	l, sig := s.l, s.l.p.json.GraphModule.Signature
	type input struct {
		name   string // in the program
		public string // of the model's argument
		m      tensorMeta
	}
	var users []input
	for _, spec := range sig.Inputs {
		var in struct {
			Arg  json.RawMessage `json:"arg"`
			Name string          `json:"parameter_name"`
			Buf  string          `json:"buffer_name"`
			Con  string          `json:"tensor_constant_name"`
			Kept bool            `json:"persistent"`
		}
		for tag, raw := range spec {
			if json.Unmarshal(raw, &in) != nil {
				l.stop("an input of type %s is not readable", tag)
			}
			var t struct{ Name string }
			var a argument
			switch tag {
			case "parameter", "buffer", "tensor_constant":
				if json.Unmarshal(in.Arg, &t) != nil {
					l.stop("an input of type %s is not readable", tag)
				}
				s.leaf(t.Name, in.Name, in.Buf+in.Con, tag == "parameter", in.Kept)
			case "user_input":
				if json.Unmarshal(in.Arg, &a) == nil && a["as_tensor"] != nil && json.Unmarshal(a["as_tensor"], &t) == nil {
					users = append(users, input{t.Name, t.Name, s.g.Tensors[t.Name]})
				}
			}
		}
	}
	var ids []string
	collected := len(users) > 0 // torch 2.5 puts the name of **kw before those of what it collects
	for _, u := range users {
		ids = append(ids, u.name)
		collected = collected && strings.HasPrefix(u.name, "kw_")
	}
	for i := range users {
		if collected {
			users[i].public = strings.TrimPrefix(users[i].name, "kw_")
		}
	}
	limits := s.limits(ids)
	tokens, shape := "", []int(nil)
	for _, u := range users {
		if k, ok := kindOf(u.m.DType); ok && k == fold.Int && (u.public == "input_ids" || len(users) == 1) {
			tokens, shape = u.name, s.shape(u.name)
		}
	}
	n := 0
	if tokens != "" {
		n = 1
		for _, d := range shape {
			n *= d
		}
	}
	l.b = graph.NewBuilder(n)
	for _, u := range users {
		k, ok := kindOf(u.m.DType)
		if !ok {
			l.stop("input %s has an element type that is not known", u.public)
		}
		shape := s.shape(u.name)
		var v *value
		switch {
		case u.name == tokens:
			l.vocab = limits[u.name]
			v = &value{id: l.b.TokenIDs(shape...), kind: k, shape: shape}
		case k.Real():
			v = &value{id: l.b.Input(u.public, shape...), kind: k, shape: shape}
		default:
			limit := limits[u.name]
			if limit == 0 {
				limit = 2 // a mask
			}
			v = &value{id: l.b.InputIDs(u.public, limit, shape...), kind: k, shape: shape}
		}
		s.env[u.name] = &cell{v: v}
	}
}

func (s *scope) shape(name string) []int {
	shape, err := s.g.Tensors[name].sizes()
	if err != nil {
		s.l.stop("input %s: %v", name, err)
	}
	return shape
}

// limits finds what ids of the inputs are below: the rows of the embedding that
// reads them.
func (s *scope) limits(users []string) map[string]int {
	root := map[string]string{}
	for _, u := range users {
		root[u] = u
	}
	out := map[string]int{}
	for i := range s.g.Nodes {
		n := &s.g.Nodes[i]
		var first, weight string
		for _, in := range n.Inputs {
			var t struct{ Name string }
			if in.Arg["as_tensor"] == nil || json.Unmarshal(in.Arg["as_tensor"], &t) != nil {
				continue
			}
			if in.Name == "weight" {
				weight = t.Name
			} else if first == "" {
				first = t.Name
			}
		}
		u, ok := root[first]
		if !ok {
			continue
		}
		switch name := strings.SplitN(strings.TrimPrefix(n.Target, "torch.ops.aten."), ".", 2)[0]; name {
		case "embedding":
			if sizes, err := s.g.Tensors[weight].sizes(); err == nil && len(sizes) == 2 && (out[u] == 0 || sizes[0] < out[u]) {
				out[u] = sizes[0]
			}
		case "view", "reshape", "to", "unsqueeze", "alias", "clone", "_to_copy", "contiguous", "slice", "select":
			var t struct{ Name string }
			for _, o := range n.Outputs {
				if json.Unmarshal(o["as_tensor"], &t) == nil {
					root[t.Name] = u
				}
			}
		}
	}
	return out
}

// leaf is a parameter, a buffer or a constant of the program.
func (s *scope) leaf(name, parameter, buffer string, isParameter, persistent bool) {
	l, m := s.l, s.g.Tensors[name]
	c := &cell{}
	s.env[name] = c
	shape, err := m.sizes()
	if err != nil {
		l.stop("%s%s: %v", parameter, buffer, err)
	}
	k, known := kindOf(m.DType)
	if isParameter || persistent && known && k.Real() && (l.names.has(buffer, shape) || l.names.shapes == nil) {
		key := parameter + buffer
		l.names.known(key, shape)
		c.make = func() *value {
			if !known {
				l.stop("tensor %s has an element type that is not known", key)
			}
			return l.names.weight(key, shape).as(k)
		}
		return
	}
	l.names.buffer(buffer)
	c.make = func() *value {
		t, err := l.p.constant(buffer)
		if err != nil {
			panic(stopped{err})
		}
		if !slices.Equal(t.re.Shape, shape) {
			l.stop("buffer %s has shape %v in the program and %v in the archive", buffer, shape, t.re.Shape)
		}
		v := l.folded(t.re, nil)
		if t.im != nil {
			v.im = l.folded(t.im, nil)
		}
		return v
	}
	c.big = m.elements() > 1<<16
}

func (m tensorMeta) elements() int {
	shape, err := m.sizes()
	n := 1
	for _, d := range shape {
		n *= d
	}
	if err != nil {
		return 0
	}
	return n
}
