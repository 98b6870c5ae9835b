package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// look is attention without rotary positions: queries from one sequence, keys
// and values from the same or another one.
type look struct {
	heads, kv, dim int // kv: heads of keys and values
	scale          float64
	q, k, v, o     string // names of the projections, below the module's
	biasQ, biasK   bool
	biasV, biasO   bool
	add            []graph.ID // added to the scores: masks, position biases
}

// looker is a look whose heads share a width and whose projections have biases.
func (m *model) looker(width, heads int, q, k, v, o string) look {
	l := look{heads: heads, kv: heads, dim: max(width/heads, 1), q: q, k: k, v: v, o: o,
		biasQ: true, biasK: true, biasV: true, biasO: true}
	if width%heads != 0 {
		m.failf("config.json: a width of %d is not a multiple of %d attention heads", width, heads)
	}
	if w := m.widest(); heads*l.dim > w {
		m.failf("config.json: %d attention heads of %d elements, but no tensor of the checkpoint is wider than %d", heads, l.dim, w)
		l.heads, l.kv, l.dim = 1, 1, 1
	}
	l.scale = 1 / math.Sqrt(float64(l.dim))
	return l
}

// masked is the same look with more terms on its scores.
func (l look) masked(terms ...graph.ID) look {
	l.add = append(append([]graph.ID{}, l.add...), terms...)
	return l
}

// look attends from x [S,·] to y [T,·]; the result is [S,width of x].
func (m *model) look(x, y graph.ID, name string, l look) graph.ID {
	out := m.Shape(x)[1]
	q := m.linear(x, name+l.q, l.heads*l.dim, l.biasQ)
	k := m.linear(y, name+l.k, l.kv*l.dim, l.biasK)
	v := m.linear(y, name+l.v, l.kv*l.dim, l.biasV)
	return m.linear(m.gaze(q, k, v, l), name+l.o, out, l.biasO)
}

// gaze computes softmax(q kᵀ) v from projected q [S,·], k and v [T,·].
func (m *model) gaze(q, k, v graph.ID, l look) graph.ID {
	return m.meet(m.heads(q, l.heads, l.heads), m.heads(k, l.kv, l.heads), m.heads(v, l.kv, l.heads), l)
}

// meet is gaze on heads [all,S,dim] and [all,T,dim]; the result is [S,all·dim].
func (m *model) meet(q, k, v graph.ID, l look) graph.ID {
	p := m.MatMul(q, m.Transpose(k, 0, 2, 1))
	if l.scale != 1 {
		p = m.MulScalar(p, l.scale)
	}
	for _, a := range l.add {
		p = m.Add(p, a)
	}
	o := m.Transpose(m.MatMul(m.Apply(graph.OpSoftmax, p), v), 1, 0, 2)
	return m.Reshape(o, m.Shape(q)[1], l.heads*l.dim)
}

// heads turns [T,n·dim] into [all,T,dim]; of all heads, all/n share one.
func (m *model) heads(x graph.ID, n, all int) graph.ID {
	s := m.Shape(x)
	t, dim := s[0], s[1]/n
	x = m.Transpose(m.Reshape(x, t, n, dim), 1, 0, 2)
	if n == all {
		return x
	}
	return m.Reshape(m.Expand(m.Reshape(x, n, 1, t, dim), n, all/n, t, dim), all, t, dim)
}

// causal is added to scores [t,t]: a token sees itself and what stands before.
func (m *model) causal(t int) graph.ID {
	d := make([]float32, t*t)
	for i := range t {
		for j := i + 1; j < t; j++ {
			d[i*t+j] = -math.MaxFloat32
		}
	}
	return m.Const(d, t, t)
}

// layerNorm normalises, multiplies by a gain and adds a bias. Some published
// checkpoints name the two gamma and beta, as TensorFlow did.
func (m *model) affineNorm(x graph.ID, name string, eps float64, epsKey string) graph.ID {
	gain, bias := ".weight", ".bias"
	if m.has(name + ".gamma") {
		gain, bias = ".gamma", ".beta"
	}
	s := m.Shape(x)
	dim := s[len(s)-1]
	return m.Add(m.Mul(m.LayerNorm(x, eps, epsKey), m.Weight(name+gain, dim)), m.Weight(name+bias, dim))
}

// function is an activation.
type function func(graph.ID) graph.ID

// function reads the name of an activation, of more kinds than a graph has
// operations for.
func (m *model) function(key, def string) function { return m.named(key, m.text(key, def)) }

func (m *model) named(key, name string) function {
	switch name {
	case "quick_gelu":
		return func(x graph.ID) graph.ID {
			return m.Mul(x, m.Apply(graph.OpSigmoid, m.MulScalar(x, 1.702)))
		}
	case "gelu":
		return m.apply(graph.OpGELU)
	case "gelu_new", "gelu_pytorch_tanh", "gelu_fast":
		return m.apply(graph.OpGELUTanh)
	case "relu":
		return m.apply(graph.OpReLU)
	case "silu", "swish":
		return m.apply(graph.OpSiLU)
	case "tanh":
		return m.apply(graph.OpTanh)
	}
	m.failf("config.json: %s %q is not supported", key, name)
	return m.apply(graph.OpTanh)
}

func (m *model) apply(op graph.Op) function {
	return func(x graph.ID) graph.ID { return m.Apply(op, x) }
}

// perceptron is two linear maps with an activation between.
func (m *model) perceptron(x graph.ID, up, down string, dim int, act function) graph.ID {
	out := m.Shape(x)[1]
	return m.linear(act(m.linear(x, up, dim, true)), down, out, true)
}

// prefix returns the first of the prefixes under which the checkpoint has a
// tensor of that name, the first of all if it has none.
func (m *model) prefix(name string, prefixes ...string) string {
	for _, p := range prefixes {
		if m.has(p + name) {
			return p
		}
	}
	return prefixes[0]
}

// depth reads the number of layers and refuses more than there are tensors,
// before anything of that size is built.
func (m *model) depth(key string, def int) int {
	n := m.dim(key, def)
	if n > len(m.shapes) {
		m.failf("config.json: %s is %d, but the checkpoint holds %d tensors", key, n, len(m.shapes))
		return 1
	}
	return n
}

// epsilon reads an epsilon; "" for the key that moves it where the config does
// not name it.
func (m *model) epsilon(key string, def float64) (float64, string) {
	if !m.config.has(key) {
		return m.number(key, def), ""
	}
	return m.number(key, def), key
}

// class is the name of the class that wrote the checkpoint, "" when unknown.
func (m *model) class() string {
	var names []string
	m.get("architectures", &names)
	if len(names) == 0 {
		return ""
	}
	return names[0]
}

// positions looks n rows of a position table up, from the given one on. It is
// a lookup and no slice, because longer texts read the other rows.
func (m *model) positions(name string, rows, dim, from, n int) graph.ID {
	at := make([]int, n)
	for i := range at {
		at[i] = from + i
	}
	return m.Embedding(m.Weight(name, rows, dim), m.ConstInts(at, n))
}

// logits applies the head, or, when the checkpoint has none, the embedding it
// is tied to.
func (m *model) logits(x graph.ID, head, embed string, vocab int, tie bool) graph.ID {
	m.Scope(head, -1)
	head += ".weight"
	width := m.Shape(x)[1]
	if !m.has(head) {
		if !tie {
			m.failf("%s is missing, and config.json does not tie it to %s", head, embed)
		}
		return m.Linear(x, m.Weight(embed, vocab, width))
	}
	w := m.Weight(head, vocab, width)
	if tie {
		// Runtimes differ in which of the two they load: keep them alike.
		m.Weight(embed, vocab, width)
		m.Tie(embed, head)
	}
	return m.Linear(x, w)
}

// labels returns the number of rows of a stored classifier: its config may
// count them in several ways.
func (m *model) labels(name string) int {
	if s := m.shapes[name+".weight"]; len(s) == 2 {
		return max(s[0], 1)
	}
	return 1
}

// first is the first row of x, [1,·].
func (m *model) first(x graph.ID) graph.ID { return m.Slice(x, 0, 0, 1) }
