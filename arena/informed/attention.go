package informed

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// part is a set of elements along one axis of a tensor that belong to a head:
// for head h of a list, at[h] are rows of a weight, elements of a bias, or
// columns of a weight.
type part struct {
	tensor string
	axis   int
	at     [][]int
}

// attention is one attention layer, found in the graph: a softmax of a product
// of two values, times a third, read by a linear map.
type attention struct {
	heads, dim int
	q, k, v    []part // weights and biases, per query head
	o          part   // columns of the output projection
}

// attentions finds all attention layers of a graph of one token.
func attentions(g *graph.Graph) []attention {
	t := newTracer(g)
	var out []attention
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Op == graph.OpLinear && !n.Transposed {
			if a, ok := t.attention(n); ok {
				out = append(out, a)
			}
		}
	}
	return out
}

func (t *tracer) attention(l *graph.Node) (attention, bool) {
	var a attention
	w := &t.g.Nodes[l.In[1]]
	src := t.pull(l.In[0])
	if len(src) != 1 || w.Op != graph.OpWeight {
		return a, false
	}
	mix := &t.g.Nodes[src[0].leaf]
	if mix.Op != graph.OpMatMul || t.g.Nodes[mix.In[0]].Op != graph.OpSoftmax || len(mix.Shape) != 3 {
		return a, false
	}
	scores := t.pull(t.g.Nodes[mix.In[0]].In[0])
	if len(scores) != 1 || t.g.Nodes[scores[0].leaf].Op != graph.OpMatMul {
		return a, false
	}
	product := &t.g.Nodes[scores[0].leaf]
	a.heads, a.dim = mix.Shape[0], mix.Shape[2]
	a.v = t.parts(mix.In[1], a.heads)
	a.q, a.k = t.parts(product.In[0], a.heads), t.parts(product.In[1], a.heads)
	a.o = part{tensor: w.Name, axis: 1, at: make([][]int, a.heads)}
	for h := range a.o.at {
		a.o.at[h] = slices.Repeat([]int{-1}, a.dim)
	}
	for col, e := range src[0].idx {
		a.o.at[int(e)/a.dim][int(e)%a.dim] = col
	}
	return a, len(a.v) > 0 && len(a.q) > 0 && len(a.k) > 0
}

// parts returns the weights that a value [heads,1,dim] is projected by, and
// their biases, head by head. What all heads share (gains of q and k norms) is
// left out. Of a rotation, which mixes two channels, the channel's own source
// comes first and counts.
func (t *tracer) parts(id graph.ID, heads int) []part {
	var out []part
	met := map[graph.ID]bool{}
	for _, s := range t.pull(id, graph.OpRMSNorm) {
		n := &t.g.Nodes[s.leaf]
		name := n.Name
		switch {
		case met[s.leaf]:
			continue
		case n.Op == graph.OpLinear && t.g.Nodes[n.In[1]].Op == graph.OpWeight && !n.Transposed:
			name = t.g.Nodes[n.In[1]].Name
		case n.Op != graph.OpWeight:
			continue
		}
		met[s.leaf] = true
		p := part{tensor: name, at: make([][]int, heads)}
		dim := len(s.idx) / heads
		for h := range heads {
			for _, e := range s.idx[h*dim : (h+1)*dim] {
				p.at[h] = append(p.at[h], int(e))
			}
		}
		if n.Op == graph.OpWeight && heads > 1 && slices.Equal(p.at[0], p.at[heads-1]) && !t.vectorOfOneHead(n, dim) {
			continue
		}
		out = append(out, p)
	}
	return out
}

// vectorOfOneHead tells the bias of a single key/value head, which all query
// heads read, from a gain that works on every head: gains are multiplied.
func (t *tracer) vectorOfOneHead(n *graph.Node, dim int) bool {
	id := t.g.Weights()[n.Name]
	for _, r := range t.readers[id] {
		if t.g.Nodes[r].Op != graph.OpAdd {
			return false
		}
	}
	return n.Shape[0] == dim
}

// kvHeads groups the query heads by the key/value head that they read.
func (a attention) kvHeads() [][]int {
	var out [][]int
	at := map[int]int{}
	for h := range a.heads {
		row := a.v[0].at[h][0]
		if _, ok := at[row]; !ok {
			at[row] = len(out)
			out = append(out, nil)
		}
		out[at[row]] = append(out[at[row]], h)
	}
	return out
}
