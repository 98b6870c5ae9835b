package pt2

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// userInput is what a caller of the program hands over.
type userInput struct {
	name   string // in the program
	public string // of the model's argument
	m      tensorMeta
}

// inputs gives every placeholder of the program its value.
func (s *scope) inputs() {
	l := s.l
	users := s.declared()
	limits := s.limits(users)
	tokens, n := "", 0
	for _, u := range users {
		if k, ok := kindOf(u.m.DType); ok && k == fold.Int && (u.public == "input_ids" || len(users) == 1) {
			tokens, n = u.name, 1
			for _, d := range s.shape(u.name) {
				n *= d
			}
		}
	}
	l.b = graph.NewBuilder(n)
	for _, u := range users {
		k, ok := kindOf(u.m.DType)
		if !ok {
			l.stop("input %s has an element type that is not known", u.public)
		}
		shape := s.shape(u.name)
		v := &value{kind: k, shape: shape}
		switch limit := limits[u.name]; {
		case u.name == tokens:
			l.vocab = limit
			v.id = l.b.TokenIDs(shape...)
		case k.Real():
			v.id = l.b.Input(u.public, shape...)
		case limit == 0: // a mask
			v.id = l.b.InputIDs(u.public, 2, shape...)
		default:
			v.id = l.b.InputIDs(u.public, limit, shape...)
		}
		s.env[u.name] = &cell{v: v}
	}
}

// declared reads the program's signature: it makes leaves of parameters, buffers
// and constants, and returns what is left for the caller.
func (s *scope) declared() (users []userInput) {
	l := s.l
	for _, spec := range l.p.json.GraphModule.Signature.Inputs {
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
					users = append(users, userInput{t.Name, t.Name, s.g.Tensors[t.Name]})
				}
			}
		}
	}
	// Torch 2.5 puts the name of **kw before those of what it collects.
	if slices.ContainsFunc(users, func(u userInput) bool { return !strings.HasPrefix(u.name, "kw_") }) {
		return users
	}
	for i := range users {
		users[i].public = strings.TrimPrefix(users[i].name, "kw_")
	}
	return users
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
func (s *scope) limits(users []userInput) map[string]int {
	root := map[string]string{}
	for _, u := range users {
		root[u.name] = u.name
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
