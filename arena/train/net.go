package train

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Operations beyond the graph's, made by adapters and by fusion.
const (
	opSwiGLU    graph.Op = 128 + iota // gate, up: SiLU(gate)·up
	opRotary                          // x, cos, sin: x·cos + (-x₂, x₁)·sin
	opAttention                       // q, k, v: softmax(scale·q·kᵀ within the mask)·v
	opLayerNorm                       // x, gain and perhaps bias: (x - mean)/deviation·gain + bias
	opScan                            // decay, in: s[t] = decay[t]·s[t-1] + in[t] along the first axis
	opDoRAScale                       // W, A, B, m: m / ‖W + s·B·A‖ by rows; gradient in m only
)

// node is an operation of the network that is trained.
type node struct {
	graph.Node
	batched bool     // depends on the tokens: has a leading batch axis
	grad    bool     // a trained parameter is below it
	param   *Param   // OpWeight
	transB  bool     // OpMatMul: the second operand is read transposed
	extents [][2]int // opAttention: the columns that each row sees
}

// net is the network as a list of nodes in evaluation order.
type net struct {
	nodes  []node
	out    graph.ID
	tokens int
	rows   int // of the output, for a sequence: mostly one for each token
	prefix int // virtual tokens before the sequence
	params []*Param
	byName map[string]graph.ID
	alias  map[string]string // tensors that are another one
	head   string            // the tensor that makes the output

	skipped []string // what the adapters could not sit on
}

// newNet copies a graph, with the adapters that t asks for in it.
func newNet(g *graph.Graph, t Trainable) (*net, error) {
	rows, vocab, err := logits(g)
	if err != nil {
		return nil, err
	}
	n := &net{tokens: g.Tokens, rows: rows, byName: map[string]graph.ID{}, alias: map[string]string{}}
	for _, tie := range g.Ties() {
		n.alias[tie[1]] = tie[0]
	}
	ad, err := newAdapters(n, g, t)
	if err != nil {
		return nil, err
	}
	n.head = ad.headName()
	if ad.embed[n.head] {
		n.alias[headTensor] = n.head
	}
	at := make([]graph.ID, len(g.Nodes))
	for i := range g.Nodes {
		old := g.Nodes[i]
		if old.Op == graph.OpWeight {
			at[i] = n.weight(old.Name, old.Shape)
			n.nodes[at[i]].param.Trained = ad.trains(n.nodes[at[i]].Name)
			continue
		}
		old.In = slices.Clone(old.In)
		for j, in := range old.In {
			old.In[j] = at[in]
		}
		at[i] = ad.apply(graph.ID(i), old)
	}
	n.out = at[g.Outputs[0]]
	if len(n.shape(n.out)) != 2 {
		n.out = n.add(graph.Node{Op: graph.OpReshape, In: []graph.ID{n.out}, Shape: []int{rows, vocab}, Layer: -1})
	}
	return n, ad.finish()
}

// logits are the sizes of a graph's first output, [rows, vocabulary] but for axes
// of length 1 before them.
func logits(g *graph.Graph) (rows, vocab int, err error) {
	var s []int
	if len(g.Outputs) > 0 {
		s = g.Shape(g.Outputs[0])
	}
	k := len(s)
	if k < 2 || s[k-1] < 2 || count(s[:k-2]) != 1 || g.Nodes[g.Outputs[0]].Int {
		return 0, 0, fault.New(fault.Unsupported, "the network's first output, of shape %v, is not [tokens, vocabulary]", s).
			WithHint("what is trained is a model of language")
	}
	return s[k-2], s[k-1], nil
}

func (n *net) add(x graph.Node) graph.ID {
	n.nodes = append(n.nodes, node{Node: x})
	return graph.ID(len(n.nodes) - 1)
}

// weight is the leaf of a parameter, the same for the same name and for those tied
// to it.
func (n *net) weight(name string, shape []int) graph.ID {
	name = n.tensor(name)
	if id, ok := n.byName[name]; ok {
		return id
	}
	id := n.add(graph.Node{Op: graph.OpWeight, Name: name, Shape: slices.Clone(shape), Layer: -1})
	p := &Param{Name: name, Shape: n.nodes[id].Shape, LRScale: 1}
	n.nodes[id].param = p
	n.params = append(n.params, p)
	n.byName[name] = id
	return id
}

// tensor is the name under which a checkpoint's tensor is kept here.
func (n *net) tensor(name string) string {
	if first, ok := n.alias[name]; ok {
		return first
	}
	return name
}

func (n *net) shape(id graph.ID) []int { return n.nodes[id].Shape }

func (n *net) binary(op graph.Op, x, y graph.ID, like graph.Node) graph.ID {
	s, ok := graph.Broadcast(n.shape(x), n.shape(y))
	if !ok {
		panic(fmt.Sprintf("train: %v of %v and %v", op, n.shape(x), n.shape(y)))
	}
	return n.add(graph.Node{Op: op, In: []graph.ID{x, y}, Shape: s, Scope: like.Scope, Layer: like.Layer})
}

func (n *net) linear(x, w graph.ID, like graph.Node) graph.ID {
	s := slices.Clone(n.shape(x))
	s[len(s)-1] = n.shape(w)[0]
	return n.add(graph.Node{Op: graph.OpLinear, In: []graph.ID{x, w}, Shape: s, Scope: like.Scope, Layer: like.Layer})
}

func (n *net) unary(op graph.Op, x graph.ID, s float64, like graph.Node) graph.ID {
	return n.add(graph.Node{Op: op, In: []graph.ID{x}, Shape: n.shape(x), Scalar: s, Scope: like.Scope, Layer: like.Layer})
}

// finish drops what the output does not need, fuses, and marks what depends on
// the tokens and what needs a gradient.
func (n *net) finish(fused bool) {
	if fused {
		n.fuse()
	}
	n.sweep()
	for i := range n.nodes {
		x := &n.nodes[i]
		x.batched = x.Op == graph.OpTokens || x.Op == graph.OpInput
		x.grad = x.Op == graph.OpWeight && x.param.Trained
		for j, in := range x.In {
			x.batched = x.batched || n.nodes[in].batched
			x.grad = x.grad || n.nodes[in].grad && passes(&x.Node, j)
		}
	}
}

// passes reports whether a value has a derivative in its input j: integers, truth
// values and what chooses among elements have none.
func passes(x *graph.Node, j int) bool {
	switch x.Op {
	case graph.OpTopKMask:
		return false
	case opDoRAScale:
		return j == 3
	case graph.OpWhere:
		return j != 0
	case graph.OpScatter, graph.OpScatterAdd:
		return j != 1
	case graph.OpEmbedding, graph.OpIndex, graph.OpGather:
		return j == 0
	}
	return !x.Int
}

// check refuses what cannot be computed. It knows only what the output needs.
func (n *net) check() error {
	for i := range n.nodes {
		if x := &n.nodes[i]; x.Op == graph.OpOpaque {
			return fault.New(fault.Unsupported, "operation %s in %s cannot be trained: it has no rule here", x.Name, x.Scope).
				WithHint("attack the model with another engine, which runs its own code")
		}
	}
	if !n.nodes[n.out].batched {
		return fault.New(fault.Unsupported, "the network's output does not depend on its inputs")
	}
	if n.prefix > 0 && n.rows != n.tokens {
		return fault.New(fault.Unsupported, "a soft prompt in a network of %d tokens with %d rows of logits", n.tokens, n.rows)
	}
	return nil
}

// sweep removes nodes that the output does not reach.
func (n *net) sweep() {
	live := make([]bool, len(n.nodes))
	live[n.out] = true
	for i := len(n.nodes) - 1; i >= 0; i-- {
		if live[i] {
			for _, in := range n.nodes[i].In {
				live[in] = true
			}
		}
	}
	to := make([]graph.ID, len(n.nodes))
	kept := n.nodes[:0]
	n.params = n.params[:0]
	for i := range live {
		if !live[i] {
			continue
		}
		x := n.nodes[i]
		x.In = slices.Clone(x.In)
		for j, in := range x.In {
			x.In[j] = to[in]
		}
		to[i] = graph.ID(len(kept))
		kept = append(kept, x)
		if x.param != nil {
			n.params = append(n.params, x.param)
			n.byName[x.Name] = to[i]
		}
	}
	n.nodes, n.out = kept, to[n.out]
}
