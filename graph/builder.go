package graph

import (
	"fmt"
	"slices"
)

// Builder appends nodes to a graph and infers their shapes. The first mistake
// is kept and returned by Finish; later calls do nothing harmful.
type Builder struct {
	g     Graph
	scope string
	layer int
	err   error

	resolve  func(name string, shape []int) (ID, bool)
	resolved map[string]ID
}

// NewBuilder starts a graph that reads the given number of tokens.
func NewBuilder(tokens int) *Builder {
	return &Builder{g: Graph{Tokens: tokens, weights: map[string]ID{}, inputs: map[string]ID{}}, layer: -1}
}

// Scope sets the module path and block of the nodes that follow.
func (b *Builder) Scope(path string, layer int) { b.scope, b.layer = path, layer }

// Finish returns the graph with the given outputs, or the first mistake.
func (b *Builder) Finish(outputs ...ID) (*Graph, error) {
	if b.err != nil {
		return nil, b.err
	}
	b.g.Outputs = outputs
	return &b.g, nil
}

func (b *Builder) fail(format string, args ...any) ID {
	if b.err == nil {
		b.err = fmt.Errorf("building graph at %s: %s", b.scope, fmt.Sprintf(format, args...))
	}
	return b.add(Node{Op: OpInvalid, Shape: []int{0}})
}

func (b *Builder) add(n Node) ID {
	n.Scope, n.Layer = b.scope, b.layer
	b.g.Nodes = append(b.g.Nodes, n)
	return ID(len(b.g.Nodes) - 1)
}

func (b *Builder) shape(id ID) []int { return b.g.Nodes[id].Shape }

// Shape returns the shape of a value built so far.
func (b *Builder) Shape(id ID) []int { return slices.Clone(b.shape(id)) }

// Resolve makes Weight ask f first, for checkpoints that store weights under
// other names or otherwise laid out: f returns a value of the given shape that it
// has built from leaves, or false for a leaf of that name.
func (b *Builder) Resolve(f func(name string, shape []int) (ID, bool)) {
	b.resolve, b.resolved = f, map[string]ID{}
}

// Weight is a leaf that holds the checkpoint's tensor of that name, or what
// Resolve's function has made of others. Asking for the same name again returns
// the same value.
func (b *Builder) Weight(name string, shape ...int) ID {
	if b.resolve == nil {
		return b.Leaf(name, shape...)
	}
	id, ok := b.resolved[name]
	if !ok {
		if id, ok = b.resolve(name, shape); !ok {
			id = b.Leaf(name, shape...)
		}
		b.resolved[name] = id
	}
	if !slices.Equal(b.shape(id), shape) {
		// What follows may rely on the shape that it has asked for.
		b.fail("weight %s of shape %v used with shape %v", name, b.shape(id), shape)
		return b.add(Node{Op: OpInvalid, Shape: slices.Clone(shape)})
	}
	return id
}

// Leaf is Weight without what Resolve's function makes of it.
func (b *Builder) Leaf(name string, shape ...int) ID {
	if id, ok := b.g.weights[name]; ok {
		if !slices.Equal(b.shape(id), shape) {
			return b.fail("weight %s used with shapes %v and %v", name, b.shape(id), shape)
		}
		return id
	}
	id := b.add(Node{Op: OpWeight, Name: name, Shape: slices.Clone(shape)})
	b.g.weights[name] = id
	return id
}

// Tie declares that two weights hold the same values and must keep doing so.
func (b *Builder) Tie(first, second string) { b.g.ties = append(b.g.ties, [2]string{first, second}) }

// Const is a leaf with fixed values.
func (b *Builder) Const(data []float32, shape ...int) ID {
	if size(shape) != len(data) {
		return b.fail("constant of shape %v with %d values", shape, len(data))
	}
	return b.add(Node{Op: OpConst, Data: data, Shape: slices.Clone(shape)})
}

// ConstInts is a leaf with fixed integers.
func (b *Builder) ConstInts(data []int, shape ...int) ID {
	f := make([]float32, len(data))
	for i, v := range data {
		if v < -maxInt || v > maxInt {
			return b.fail("constant integer %d does not fit", v)
		}
		f[i] = float32(v)
	}
	id := b.Const(f, shape...)
	b.g.Nodes[id].Int = true
	return id
}

// maxInt is the largest integer that float32 holds with all its neighbours.
const maxInt = 1 << 24

// TokenIDs is the leaf of token ids: [T], or the given shape of T elements.
func (b *Builder) TokenIDs(shape ...int) ID {
	if len(shape) == 0 {
		shape = []int{b.g.Tokens}
	}
	if size(shape) != b.g.Tokens {
		return b.fail("token ids of shape %v in a graph of %d tokens", shape, b.g.Tokens)
	}
	return b.add(Node{Op: OpTokens, Shape: slices.Clone(shape), Int: true})
}

// Input is a leaf of real numbers that are not tokens: pixels, mel frames.
// Asking for the same name again returns the same leaf.
func (b *Builder) Input(name string, shape ...int) ID { return b.input(Node{Name: name}, shape) }

// InputIDs is a leaf of integers in [0,limit): the decoder's tokens, token types.
func (b *Builder) InputIDs(name string, limit int, shape ...int) ID {
	if limit < 1 {
		return b.fail("input %s of integers below %d", name, limit)
	}
	return b.input(Node{Name: name, Int: true, K: limit}, shape)
}

func (b *Builder) input(n Node, shape []int) ID {
	if id, ok := b.g.inputs[n.Name]; ok {
		if !slices.Equal(b.shape(id), shape) {
			return b.fail("input %s used with shapes %v and %v", n.Name, b.shape(id), shape)
		}
		return id
	}
	n.Op, n.Shape = OpInput, slices.Clone(shape)
	id := b.add(n)
	b.g.inputs[n.Name] = id
	return id
}

func size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
