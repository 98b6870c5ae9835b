package train

import (
	"fmt"
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
	table map[string]bool // weights that are looked up: positions, types and kinds of tokens too
	norms map[string]bool // gains and biases of norms
	head  graph.ID        // the node that makes the output
	bias  map[graph.ID]graph.ID
	after map[graph.ID]func(graph.ID) graph.ID // what is added to a node's result
	done  map[string]bool                      // weights with an adapter

	prompted string // the embedding that virtual tokens are put into
	err      error
}

// headTensor names the output head of a checkpoint that stores none of its own.
const headTensor = "lm_head.weight"

func newAdapters(n *net, g *graph.Graph, t Trainable) (*adapters, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	a := &adapters{n: n, g: g, t: t, embed: map[string]bool{}, table: map[string]bool{}, norms: normWeights(g), head: -1, bias: biases(g), after: map[graph.ID]func(graph.ID) graph.ID{}, done: map[string]bool{}}
	for i := range g.Nodes {
		x := &g.Nodes[i]
		switch {
		case x.Op == graph.OpEmbedding && g.Nodes[x.In[0]].Op == graph.OpWeight:
			name := g.Nodes[x.In[0]].Name
			a.table[name] = true
			a.embed[name] = a.embed[name] || tokensOf(g, x.In[1])
		case x.Op == graph.OpLinear && logitsLike(g, x.Shape):
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

// logitsLike reports whether a linear map may make the output.
func logitsLike(g *graph.Graph, shape []int) bool {
	k := len(shape)
	return k >= 2 && count(shape[:k-2]) == 1 && (k == 2 || shape[k-1] == last(g.Shape(g.Outputs[0])))
}

func last(shape []int) int { return shape[len(shape)-1] }

// tokensOf reports whether ids are the tokens, perhaps in another shape.
func tokensOf(g *graph.Graph, id graph.ID) bool {
	for g.Nodes[id].Op == graph.OpReshape {
		id = g.Nodes[id].In[0]
	}
	return g.Nodes[id].Op == graph.OpTokens
}

// normWeights names the vectors that norms are multiplied by, or by one more than,
// and those that are added then.
func normWeights(g *graph.Graph) map[string]bool {
	out, normed := map[string]bool{}, make([]bool, len(g.Nodes))
	for i := range g.Nodes {
		x := &g.Nodes[i]
		switch x.Op {
		case graph.OpRMSNorm, graph.OpLayerNorm:
			normed[i] = true
		case graph.OpMul, graph.OpAdd:
			for j, in := range x.In {
				w := &g.Nodes[in]
				if w.Op == graph.OpAddScalar {
					w = &g.Nodes[w.In[0]]
				}
				if normed[x.In[1-j]] && w.Op == graph.OpWeight && len(w.Shape) == 1 {
					out[w.Name], normed[i] = true, true
				}
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
	return a.n.tensor(a.weight(a.head))
}

// weight names the tensor that a linear map multiplies by; "" if it is computed.
func (a *adapters) weight(id graph.ID) string {
	if w := &a.g.Nodes[a.g.Nodes[id].In[1]]; w.Op == graph.OpWeight {
		return w.Name
	}
	return ""
}

// module returns the tensor after which the module of a linear map is named. A
// head that shares the embedding's tensor is a module of its own.
func (a *adapters) module(id graph.ID) string {
	name := a.weight(id)
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
		all := slices.Contains(a.t.Modules, AllLinear) && name != a.headName() && !a.table[name]
		ok = all || matches(a.t.Modules, name)
	case Norms:
		ok = a.norms[name] || len(a.g.Shape(a.g.Weights()[name])) == 1 && strings.Contains(name, "norm")
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
	if a.err != nil {
		return a.err
	}
	a.n.skipped = a.skipped()
	if a.found == 0 && len(a.n.skipped) > 0 {
		return fault.New(fault.Usage, "training %s: %s", a.t.Kind, a.n.skipped[0]).
			WithHint("adapters sit on linear maps and, for %s, on embeddings", LoRA)
	}
	if a.found == 0 {
		return fault.New(fault.Usage, "training %s: nothing in this network matches %q", a.t.Kind, a.t.Modules).
			WithHint("patterns match tensor names, such as model.layers.*.self_attn.v_proj.weight")
	}
	for _, p := range a.n.params {
		p.Hidden = len(p.Shape) == 2 && !a.table[p.Name] && p.Name != a.headName()
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
		if a.weight(id) == "" || !a.t.adapts() || !a.selects(id) {
			break
		}
		a.found++
		a.done[a.weight(id)] = true
		return a.linear(id, x)
	case graph.OpEmbedding:
		y := a.n.add(x)
		name := a.n.nodes[x.In[0]].Name
		if a.n.nodes[x.In[0]].param == nil {
			return y
		}
		if a.t.Kind == LoRA && matches(a.t.Modules, name) {
			a.found++
			a.done[name] = true
			return a.embedding(x, name, y)
		}
		if a.t.Kind == SoftPrompt && tokensOf(a.g, a.g.Nodes[id].In[1]) {
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

// adapts reports whether a kind puts adapters on modules.
func (t Trainable) adapts() bool {
	return slices.Contains([]Kind{LoRA, DoRA, IA3, Residual}, t.Kind)
}

// skipped says of which weights, other than vectors, that Modules name there is no
// adapter, and why.
func (a *adapters) skipped() []string {
	var out []string
	if !a.t.adapts() {
		return nil
	}
	for i := range a.g.Nodes {
		w := &a.g.Nodes[i]
		if w.Op != graph.OpWeight || len(w.Shape) < 2 || a.done[w.Name] || !matches(a.t.Modules, w.Name) {
			continue
		}
		for j := range a.g.Nodes {
			if x := &a.g.Nodes[j]; slices.Contains(x.In, graph.ID(i)) {
				out = append(out, fmt.Sprintf("tensor %s of %v has no %s adapter: it goes into %v, not into a linear map", w.Name, w.Shape, a.t.Kind, x.Op))
				break
			}
		}
	}
	return out
}
