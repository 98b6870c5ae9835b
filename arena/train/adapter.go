package train

import (
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// adapters rewrites nodes as they are copied into a net.
type adapters struct {
	n     *net
	g     *graph.Graph
	t     Trainable
	found int
	embed map[string]bool // weights that are looked up by tokens
	head  graph.ID        // the node that makes the output
	bias  map[graph.ID]graph.ID
	after map[graph.ID]func(graph.ID) graph.ID // what is added to a node's result
}

// headTensor names the output head of a checkpoint that stores none of its own.
const headTensor = "lm_head.weight"

func newAdapters(n *net, g *graph.Graph, t Trainable) (*adapters, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	a := &adapters{n: n, g: g, t: t, embed: map[string]bool{}, head: -1, bias: biases(g), after: map[graph.ID]func(graph.ID) graph.ID{}}
	for i := range g.Nodes {
		x := &g.Nodes[i]
		if x.Op == graph.OpEmbedding {
			a.embed[g.Nodes[x.In[0]].Name] = true
		}
		if x.Op == graph.OpLinear && len(x.Shape) == 2 {
			a.head = graph.ID(i) // the last one
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

// biases returns, for linear maps, the node that adds their bias.
func biases(g *graph.Graph) map[graph.ID]graph.ID {
	out, uses := map[graph.ID]graph.ID{}, g.Uses()
	for i := range g.Nodes {
		x := &g.Nodes[i]
		if x.Op != graph.OpAdd {
			continue
		}
		for j, in := range x.In {
			b := &g.Nodes[x.In[1-j]]
			if g.Nodes[in].Op == graph.OpLinear && uses[in] == 1 && b.Op == graph.OpWeight && len(b.Shape) == 1 {
				out[in] = graph.ID(i)
			}
		}
	}
	return out
}

// headName is the tensor that makes the output.
func (a *adapters) headName() string {
	if a.head < 0 {
		return ""
	}
	return a.n.tensor(a.g.Nodes[a.g.Nodes[a.head].In[1]].Name)
}

// module returns the tensor after which the module of a linear map is named. A
// head that shares the embedding's tensor is a module of its own.
func (a *adapters) module(id graph.ID) string {
	name := a.g.Nodes[a.g.Nodes[id].In[1]].Name
	if a.embed[name] {
		return headTensor
	}
	return name
}

// trains reports whether a tensor of the checkpoint is trained itself.
func (a *adapters) trains(name string) bool {
	ok := false
	switch a.t.Kind {
	case Full:
		ok = true
	case Tensors:
		all := slices.Contains(a.t.Modules, AllLinear) && name != a.headName() && !a.embed[name]
		ok = all || matches(a.t.Modules, name)
	case Norms:
		ok = len(a.g.Shape(a.g.Weights()[name])) == 1 && strings.Contains(name, "norm")
	case Embeddings:
		ok = a.embed[name]
	case Head:
		ok = name == a.headName()
	}
	if ok {
		a.found++
	}
	return ok
}

// selects reports whether Modules name a linear map.
func (a *adapters) selects(id graph.ID) bool {
	return slices.Contains(a.t.Modules, AllLinear) && id != a.head || matches(a.t.Modules, a.module(id))
}

func (a *adapters) finish() error {
	if a.found == 0 {
		return fault.New(fault.Usage, "training %s: nothing in this network matches %q", a.t.Kind, a.t.Modules).
			WithHint("patterns match tensor names, such as model.layers.*.self_attn.v_proj.weight")
	}
	for _, p := range a.n.params {
		p.Hidden = len(p.Shape) == 2 && !a.embed[p.Name] && p.Name != a.headName()
	}
	return nil
}

// apply copies a node whose inputs are remapped, with what is added to it; id is
// its place in the graph.
func (a *adapters) apply(id graph.ID, x graph.Node) graph.ID {
	y := a.adapt(id, x)
	if f := a.after[id]; f != nil {
		return f(y)
	}
	return y
}

func (a *adapters) adapt(id graph.ID, x graph.Node) graph.ID {
	switch x.Op {
	case graph.OpLinear:
		name := a.n.nodes[x.In[1]].Name
		if name == "" || !slices.Contains([]Kind{LoRA, DoRA, IA3, Residual}, a.t.Kind) || !a.selects(id) {
			break
		}
		if !(a.t.Kind == Residual) && x.Transposed {
			break // no PEFT method reads Conv1D weights the same way
		}
		a.found++
		return a.linear(id, x)
	case graph.OpEmbedding:
		y := a.n.add(x)
		name := a.n.nodes[x.In[0]].Name
		if a.t.Kind == LoRA && matches(a.t.Modules, name) {
			a.found++
			return a.embedding(x, name, y)
		}
		if a.t.Kind == SoftPrompt {
			a.found++
			return a.prompt(x, y)
		}
		return y
	}
	return a.n.add(x)
}

func (a *adapters) scale() float64 {
	if a.t.RSLoRA {
		return a.t.Alpha / math.Sqrt(float64(a.t.Rank))
	}
	return a.t.Alpha / float64(a.t.Rank)
}
