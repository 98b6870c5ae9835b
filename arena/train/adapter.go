package train

import (
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/tensor"
)

// adapters rewrites nodes as they are copied into a net.
type adapters struct {
	n     *net
	t     Trainable
	seed  uint64
	found int
	embed map[string]bool // weights that are looked up by tokens
	head  string          // the weight that makes the output
}

func newAdapters(n *net, g *graph.Graph, t Trainable, seed uint64) (*adapters, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	a := &adapters{n: n, t: t, seed: seed, embed: map[string]bool{}}
	for i := range g.Nodes {
		x := &g.Nodes[i]
		if x.Op == graph.OpEmbedding {
			a.embed[g.Nodes[x.In[0]].Name] = true
		}
		if x.Op == graph.OpLinear && len(x.Shape) == 2 {
			a.head = g.Nodes[x.In[1]].Name // the last one is the head
		}
	}
	if t.Kind == SoftPrompt {
		if t.Virtual >= g.Tokens {
			return nil, fault.New(fault.Usage, "%d virtual tokens in a graph of %d", t.Virtual, g.Tokens).
				WithHint("build the graph for the virtual tokens and the sequence together")
		}
		n.prefix = t.Virtual
	}
	return a, nil
}

// trains reports whether a tensor of the checkpoint is trained itself.
func (a *adapters) trains(g *graph.Graph, name string) bool {
	ok := false
	switch a.t.Kind {
	case Full:
		ok = true
	case Tensors:
		ok = a.selects(name)
	case Norms:
		ok = len(g.Shape(g.Weights()[name])) == 1 && strings.Contains(name, "norm")
	case Embeddings:
		ok = a.embed[name]
	case Head:
		ok = name == a.head
	}
	if ok {
		a.found++
	}
	return ok
}

// selects reports whether Modules name the tensor.
func (a *adapters) selects(name string) bool {
	if slices.Contains(a.t.Modules, AllLinear) && name != a.head && !a.embed[name] {
		return true
	}
	return matches(a.t.Modules, name)
}

func (a *adapters) finish() error {
	if a.found == 0 {
		return fault.New(fault.Usage, "training %s: nothing in this network matches %q", a.t.Kind, a.t.Modules).
			WithHint("patterns match tensor names, such as model.layers.*.self_attn.v_proj.weight")
	}
	for _, p := range a.n.params {
		p.Hidden = len(p.Shape) == 2 && !a.embed[p.Name] && p.Name != a.head
	}
	return nil
}

// apply copies a node whose inputs are remapped, with what is added to it.
func (a *adapters) apply(x graph.Node) graph.ID {
	switch x.Op {
	case graph.OpLinear:
		name := a.n.nodes[x.In[1]].Name
		if name == "" || !slices.Contains([]Kind{LoRA, DoRA, IA3, Residual}, a.t.Kind) || !a.selects(name) {
			break
		}
		if !(a.t.Kind == Residual) && x.Transposed {
			break // no PEFT method reads Conv1D weights the same way
		}
		a.found++
		return a.linear(x, name)
	case graph.OpEmbedding:
		id := a.n.add(x)
		name := a.n.nodes[x.In[0]].Name
		if a.t.Kind == LoRA && matches(a.t.Modules, name) {
			a.found++
			return a.embedding(x, name, id)
		}
		if a.t.Kind == SoftPrompt {
			a.found++
			return a.prompt(x, id)
		}
		return id
	}
	return a.n.add(x)
}

// leaf adds a trained parameter.
func (a *adapters) leaf(name string, fill func(x []float32), shape ...int) graph.ID {
	id := a.n.weight(name, shape)
	p := a.n.nodes[id].param
	p.Trained, p.Adapter = true, true
	p.init = func(p *Param, _ func(string) []float32) {
		p.Data = make([]float32, p.size())
		if fill != nil {
			fill(p.Data)
		}
	}
	return id
}

func ones(x []float32) {
	for i := range x {
		x[i] = 1
	}
}

func (a *adapters) scale() float64 {
	if a.t.RSLoRA {
		return a.t.Alpha / math.Sqrt(float64(a.t.Rank))
	}
	return a.t.Alpha / float64(a.t.Rank)
}

// linear adds an adapter to y = W·x.
func (a *adapters) linear(x graph.Node, name string) graph.ID {
	n, module := a.n, strings.TrimSuffix(name, ".weight")
	in, out := n.shape(x.In[1])[1], x.Shape[len(x.Shape)-1]
	switch a.t.Kind {
	case IA3:
		if matches(a.t.FeedForward, name) {
			x.In[0] = n.binary(graph.OpMul, x.In[0], a.leaf(module+".ia3_l", ones, in), x)
			return n.add(x)
		}
		return n.binary(graph.OpMul, n.add(x), a.leaf(module+".ia3_l", ones, out), x)
	case Residual:
		y := n.add(x)
		down := a.leaf(module+".adapter_down", func(w []float32) {
			uniform(w, a.seed, module+".adapter_down", 1/math.Sqrt(float64(out)))
		}, a.t.Rank, out)
		up := a.leaf(module+".adapter_up", nil, out, a.t.Rank)
		h := n.unary(graph.OpReLU, n.linear(y, down, x), 0, x)
		return n.binary(graph.OpAdd, y, n.linear(h, up, x), x)
	}
	wa := a.leaf(module+".lora_A", func(w []float32) { uniform(w, a.seed, module+".lora_A", 1/math.Sqrt(float64(in))) }, a.t.Rank, in)
	wb := a.leaf(module+".lora_B", nil, out, a.t.Rank)
	a.plus(wb)
	base := n.add(x)
	delta := n.linear(n.unary(graph.OpMulScalar, n.linear(x.In[0], wa, x), a.scale(), x), wb, x)
	y := n.binary(graph.OpAdd, base, delta, x)
	if a.t.Kind == LoRA {
		return y
	}
	m := a.leaf(module+".lora_magnitude", nil, out)
	n.nodes[m].param.init = func(p *Param, weight func(string) []float32) {
		p.Data = rowNorms(weight(name), out, in)
	}
	s := n.add(graph.Node{Op: opDoRAScale, In: []graph.ID{x.In[1], wa, wb, m}, Shape: []int{out}, Scalar: a.scale(), Scope: x.Scope, Layer: x.Layer})
	return n.binary(graph.OpMul, y, s, x)
}

// plus gives B its own learning rate.
func (a *adapters) plus(b graph.ID) {
	if a.t.Ratio > 0 {
		a.n.nodes[b].param.LRScale = a.t.Ratio
	}
}

// embedding adds s·B·A[token]; as in PEFT, A starts at zero and B normal. A is
// kept transposed, [V, r].
func (a *adapters) embedding(x graph.Node, name string, base graph.ID) graph.ID {
	n, module := a.n, strings.TrimSuffix(name, ".weight")
	w := n.shape(x.In[0])
	wa := a.leaf(module+".lora_embedding_A", nil, w[0], a.t.Rank)
	wb := a.leaf(module+".lora_embedding_B", func(d []float32) { normal(d, a.seed, module+".lora_embedding_B", 1) }, w[1], a.t.Rank)
	a.plus(wb)
	h := n.add(graph.Node{Op: graph.OpEmbedding, In: []graph.ID{wa, x.In[1]}, Shape: []int{x.Shape[0], a.t.Rank}, Scope: x.Scope, Layer: x.Layer})
	return n.binary(graph.OpAdd, base, n.linear(n.unary(graph.OpMulScalar, h, a.scale(), x), wb, x), x)
}

// prompt puts virtual tokens in place of the first embeddings. They start, as
// PEFT's do from text, as rows of the embedding, of tokens that the seed chooses.
func (a *adapters) prompt(x graph.Node, base graph.ID) graph.ID {
	n, v := a.n, a.t.Virtual
	name, w := n.nodes[x.In[0]].Name, n.shape(x.In[0])
	p := a.leaf("prompt_embeddings", nil, v, w[1])
	n.nodes[p].param.init = func(p *Param, weight func(string) []float32) {
		p.Data = make([]float32, v*w[1])
		table, at := weight(name), start(a.seed, p.Name)
		for i := range v {
			row := int(unit(at+uint64(i)) * float64(w[0]))
			copy(p.Data[i*w[1]:(i+1)*w[1]], table[row*w[1]:])
		}
	}
	rest := n.add(graph.Node{Op: graph.OpSlice, In: []graph.ID{base}, Shape: []int{x.Shape[0] - v, w[1]}, Start: v, End: x.Shape[0], Scope: x.Scope, Layer: -1})
	return n.add(graph.Node{Op: graph.OpConcat, In: []graph.ID{p, rest}, Shape: x.Shape, Scope: x.Scope, Layer: -1})
}

func rowNorms(w []float32, rows, cols int) []float32 {
	out := make([]float32, rows)
	for i := range out {
		row := w[i*cols : (i+1)*cols]
		out[i] = float32(math.Sqrt(float64(tensor.VecDot(row, row))))
	}
	return out
}
