package onnx

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// The messages of onnx.proto3 (ONNX IR version 13), as far as they say what is
// computed. Tensors hold where their data lies.

type modelProto struct {
	ir        int64
	producer  string
	opsets    map[string]int64
	graph     *graphProto
	functions map[functionKey]*functionProto
}

type functionKey struct{ domain, name, overload string }

type graphProto struct {
	nodes           []*nodeProto
	tensors         []*tensorProto
	inputs, outputs []valueProto
	values          []valueProto
	sparse          int // sparse initialisers
}

type functionProto struct {
	key             functionKey
	inputs, outputs []string
	nodes           []*nodeProto
	opsets          map[string]int64
	defaults        []*attrProto
}

type nodeProto struct {
	op, domain, overload, name string
	in, out                    []string
	attrs                      []*attrProto
}

type attrProto struct {
	name, ref string
	kind      int64 // AttributeType
	f         float64
	i         int64
	s         string
	t         *tensorProto
	g         *graphProto
	floats    []float64
	ints      []int64
	strings   []string
}

type valueProto struct {
	name  string
	elem  int64 // data type; 0: not a tensor, or not given
	shape []dimProto
	known bool // a shape is given
}

type dimProto struct {
	n     int64
	param string
}

type tensorProto struct {
	name     string
	dims     []int64
	elem     int64
	raw      *field // raw_data
	typed    *field // float_data and the like: packed values
	split    bool   // typed values in several pieces: the writer did not pack them
	external map[string]string
	outside  bool // data_location is EXTERNAL
}

// parser builds the messages; objects and their text are counted.
type parser struct{ *wireReader }

const objectCost = 256 // bytes that a node or tensor takes, estimated

func (p *parser) model(s span) (*modelProto, error) {
	m := &modelProto{opsets: map[string]int64{}, functions: map[functionKey]*functionProto{}}
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			m.ir = int64(f.val)
		case 2:
			m.producer, err = p.text(f)
		case 7:
			if m.graph != nil {
				return malformed(f.span.off, "a second graph")
			}
			m.graph, err = p.graph(f.span)
		case 8:
			err = p.opset(f.span, m.opsets)
		case 25:
			var fn *functionProto
			if fn, err = p.function(f.span); err == nil {
				m.functions[fn.key] = fn
			}
		}
		return err
	})
	return m, err
}

func (p *parser) opset(s span, into map[string]int64) error {
	domain, version := "", int64(0)
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			domain, err = p.text(f)
		case 2:
			version = int64(f.val)
		}
		return err
	})
	into[domain] = version
	return err
}

func (p *parser) graph(s span) (*graphProto, error) {
	g := &graphProto{}
	err := p.fields(s, func(f field) error {
		switch f.num {
		case 1:
			n, err := p.node(f.span)
			g.nodes = append(g.nodes, n)
			return err
		case 5:
			t, err := p.tensor(f.span)
			g.tensors = append(g.tensors, t)
			return err
		case 11, 12, 13:
			v, err := p.value(f.span)
			switch f.num {
			case 11:
				g.inputs = append(g.inputs, v)
			case 12:
				g.outputs = append(g.outputs, v)
			default:
				g.values = append(g.values, v)
			}
			return err
		case 15:
			g.sparse++
		}
		return nil
	})
	return g, err
}

func (p *parser) function(s span) (*functionProto, error) {
	fn := &functionProto{opsets: map[string]int64{}}
	if err := p.spend(objectCost); err != nil {
		return nil, err
	}
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			fn.key.name, err = p.text(f)
		case 4:
			err = p.appendText(&fn.inputs, f)
		case 5:
			err = p.appendText(&fn.outputs, f)
		case 7:
			var n *nodeProto
			n, err = p.node(f.span)
			fn.nodes = append(fn.nodes, n)
		case 9:
			err = p.opset(f.span, fn.opsets)
		case 10:
			fn.key.domain, err = p.text(f)
		case 11:
			var a *attrProto
			a, err = p.attr(f.span)
			fn.defaults = append(fn.defaults, a)
		case 13:
			fn.key.overload, err = p.text(f)
		}
		return err
	})
	return fn, err
}

func (p *parser) appendText(to *[]string, f field) error {
	s, err := p.text(f)
	*to = append(*to, s)
	return err
}

func (p *parser) node(s span) (*nodeProto, error) {
	n := &nodeProto{}
	if err := p.spend(objectCost); err != nil {
		return nil, err
	}
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			err = p.appendText(&n.in, f)
		case 2:
			err = p.appendText(&n.out, f)
		case 3:
			n.name, err = p.text(f)
		case 4:
			n.op, err = p.text(f)
		case 5:
			var a *attrProto
			a, err = p.attr(f.span)
			n.attrs = append(n.attrs, a)
		case 7:
			n.domain, err = p.text(f)
		case 8:
			n.overload, err = p.text(f)
		}
		return err
	})
	return n, err
}

func (p *parser) attr(s span) (*attrProto, error) {
	a := &attrProto{}
	if err := p.spend(objectCost); err != nil {
		return nil, err
	}
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			a.name, err = p.text(f)
		case 2:
			a.f = float64(math.Float32frombits(uint32(f.val)))
		case 3:
			a.i = int64(f.val)
		case 4:
			a.s, err = p.text(f)
		case 5:
			a.t, err = p.tensor(f.span)
		case 6:
			a.g, err = p.graph(f.span)
		case 7:
			err = p.floats(f, &a.floats)
		case 8:
			err = p.varints(f, &a.ints)
		case 9:
			err = p.appendText(&a.strings, f)
		case 20:
			a.kind = int64(f.val)
		case 21:
			a.ref, err = p.text(f)
		}
		return err
	})
	return a, err
}

// floats appends the numbers of a field that may be packed.
func (p *parser) floats(f field, out *[]float64) error {
	if f.wire == protowire.Fixed32Type {
		*out = append(*out, float64(math.Float32frombits(uint32(f.val))))
		return p.spend(8)
	}
	for s := f.span; s.off < s.end; {
		v, next, err := p.fixed(s, protowire.Fixed32Type)
		if err != nil {
			return err
		}
		if err := p.spend(8); err != nil {
			return err
		}
		*out = append(*out, float64(math.Float32frombits(uint32(v))))
		s.off = next
	}
	return nil
}

func (p *parser) value(s span) (valueProto, error) {
	v := valueProto{}
	if err := p.spend(objectCost / 2); err != nil {
		return v, err
	}
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			v.name, err = p.text(f)
		case 2:
			err = p.fields(f.span, func(f field) error {
				if f.num != 1 { // anything but a tensor
					return nil
				}
				return p.tensorType(f.span, &v)
			})
		}
		return err
	})
	return v, err
}

func (p *parser) tensorType(s span, v *valueProto) error {
	return p.fields(s, func(f field) error {
		switch f.num {
		case 1:
			v.elem = int64(f.val)
		case 2:
			v.known = true
			return p.fields(f.span, func(f field) error {
				if f.num != 1 {
					return nil
				}
				d := dimProto{n: -1}
				err := p.fields(f.span, func(f field) (err error) {
					switch f.num {
					case 1:
						d.n = int64(f.val)
					case 2:
						d.param, err = p.text(f)
					}
					return err
				})
				v.shape = append(v.shape, d)
				if err != nil {
					return err
				}
				return p.spend(32)
			})
		}
		return nil
	})
}

func (p *parser) tensor(s span) (*tensorProto, error) {
	t := &tensorProto{}
	if err := p.spend(objectCost); err != nil {
		return nil, err
	}
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			err = p.varints(f, &t.dims)
		case 2:
			t.elem = int64(f.val)
		case 4, 5, 7, 10, 11:
			t.split = t.split || t.typed != nil || f.wire != protowire.BytesType
			t.typed = &f
		case 8:
			t.name, err = p.text(f)
		case 9:
			t.split = t.split || t.raw != nil || f.wire != protowire.BytesType
			t.raw = &f
		case 13:
			err = p.entry(f.span, t)
		case 14:
			t.outside = f.val == 1
		}
		return err
	})
	return t, err
}

// entry reads one key and value of external_data.
func (p *parser) entry(s span, t *tensorProto) error {
	var key, val string
	err := p.fields(s, func(f field) (err error) {
		switch f.num {
		case 1:
			key, err = p.text(f)
		case 2:
			val, err = p.text(f)
		}
		return err
	})
	if t.external == nil {
		t.external = map[string]string{}
	}
	t.external[key] = val
	return err
}
