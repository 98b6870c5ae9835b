package informed

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// axis is a set of n equal things whose order a network does not see: channels
// of an MLP, heads, experts.
type axis struct {
	name  string // of the tensor that it is named after
	n     int
	vote  []part     // at[i]: rows or columns of a weight; they tell which is which
	carry []part     // what moves along
	whole [][]string // whole[k][i]: tensors that belong to i; for each k, of one shape
}

// axes lists the orders that a network leaves open, those of outer things
// first: experts, key/value heads, the query heads of each, channels of MLPs.
func axes(g *graph.Graph) []axis {
	t := newTracer(g)
	out := t.experts()
	layers := attentions(g)
	for _, a := range layers {
		out = append(out, a.kvAxis())
	}
	for _, a := range layers {
		out = append(out, a.queryAxes()...)
	}
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Op == graph.OpLinear && !n.Transposed {
			if a, ok := t.channels(graph.ID(i), n); ok {
				out = append(out, a)
			}
		}
	}
	return slices.DeleteFunc(out, func(a axis) bool { return a.n < 2 })
}

// channels is the hidden axis of an MLP: every element that a linear map reads
// is computed from the same row of one or more others, and nothing else is.
func (t *tracer) channels(id graph.ID, l *graph.Node) (axis, bool) {
	w := &t.g.Nodes[l.In[1]]
	a := axis{name: w.Name, n: w.Shape[1]}
	src := t.pull(l.In[0])
	if w.Op != graph.OpWeight || len(t.readers[l.In[1]]) > 1 || !t.private(id) {
		return a, false
	}
	a.vote = append(a.vote, part{w.Name, 1, singles(nil, a.n)})
	for _, s := range src {
		n := &t.g.Nodes[s.leaf]
		p := part{at: singles(s.idx, a.n)}
		if p.at == nil {
			return a, false
		}
		switch {
		case n.Op == graph.OpLinear && !n.Transposed && t.g.Nodes[n.In[1]].Op == graph.OpWeight && len(t.readers[n.In[1]]) == 1:
			p.tensor = t.g.Nodes[n.In[1]].Name
			a.vote = append(a.vote, p)
		case n.Op == graph.OpWeight && len(n.Shape) == 1:
			p.tensor = n.Name
			a.carry = append(a.carry, p)
		default:
			return a, false
		}
	}
	return a, len(a.vote) > 1
}

// singles lists places one by one, nil: all in order; it returns nil if a place
// comes twice or is missing.
func singles(idx []int32, n int) [][]int {
	out := make([][]int, n)
	met := map[int32]bool{}
	for i := range out {
		k := int32(i)
		if idx != nil {
			k = idx[i]
		}
		if k < 0 || met[k] {
			return nil
		}
		met[k] = true
		out[i] = []int{int(k)}
	}
	return out
}

// kvAxis is the order of key/value heads; their query heads move along.
func (a attention) kvAxis() axis {
	groups := a.kvHeads()
	x := axis{name: a.o.tensor, n: len(groups)}
	first := func(p part) part {
		q := part{tensor: p.tensor, axis: p.axis}
		for _, g := range groups {
			q.at = append(q.at, p.at[g[0]])
		}
		return q
	}
	all := func(p part) part {
		q := part{tensor: p.tensor, axis: p.axis}
		for _, g := range groups {
			var at []int
			for _, h := range g {
				at = append(at, p.at[h]...)
			}
			q.at = append(q.at, at)
		}
		return q
	}
	for _, p := range slices.Concat(a.k, a.v) {
		x.vote = append(x.vote, first(p))
	}
	for _, p := range append(slices.Clone(a.q), a.o) {
		x.carry = append(x.carry, all(p))
	}
	return x
}

// queryAxes is the order of the query heads that share a key/value head.
func (a attention) queryAxes() []axis {
	var out []axis
	for k, g := range a.kvHeads() {
		x := axis{name: fmt.Sprintf("%s#%d", a.o.tensor, k), n: len(g)}
		for _, p := range append(slices.Clone(a.q), a.o) {
			q := part{tensor: p.tensor, axis: p.axis}
			for _, h := range g {
				q.at = append(q.at, p.at[h])
			}
			x.vote = append(x.vote, q)
		}
		out = append(out, x)
	}
	return out
}

// experts finds sparse mixtures: values that are multiplied by one element of a
// router's result and then added up.
func (t *tracer) experts() []axis {
	var out []axis
	at := map[graph.ID]int{} // by router
	for i := range t.g.Nodes {
		n := &t.g.Nodes[i]
		if n.Op != graph.OpMul || t.g.Nodes[n.In[1]].Op != graph.OpSlice {
			continue
		}
		src := t.pull(n.In[1], graph.OpSoftmax)
		if len(src) == 0 || len(src[0].idx) != 1 || t.g.Nodes[src[0].leaf].Op != graph.OpLinear {
			continue
		}
		router := &t.g.Nodes[src[0].leaf]
		k, ok := at[src[0].leaf]
		if !ok {
			k = len(out)
			at[src[0].leaf] = k
			name, n := t.g.Nodes[router.In[1]].Name, router.Shape[len(router.Shape)-1]
			out = append(out, axis{name: name, n: n, vote: []part{{name, 0, singles(nil, n)}}})
		}
		for j, w := range t.weightsBetween(n.In[0], router.In[0]) {
			if j == len(out[k].whole) {
				out[k].whole = append(out[k].whole, make([]string, out[k].n))
			}
			out[k].whole[j][src[0].idx[0]] = w
		}
	}
	return slices.DeleteFunc(out, func(a axis) bool {
		return len(a.whole) == 0 || slices.ContainsFunc(a.whole, func(w []string) bool { return slices.Contains(w, "") })
	})
}

// weightsBetween lists the weights that lead from one value to a later one.
func (t *tracer) weightsBetween(to, from graph.ID) []string {
	met := map[graph.ID]bool{from: true}
	var found []graph.ID
	var visit func(graph.ID)
	visit = func(id graph.ID) {
		if met[id] {
			return
		}
		met[id] = true
		if t.g.Nodes[id].Op == graph.OpWeight {
			found = append(found, id)
		}
		for _, in := range t.g.Nodes[id].In {
			visit(in)
		}
	}
	visit(to)
	slices.Sort(found)
	var out []string
	for _, id := range found {
		out = append(out, t.g.Nodes[id].Name)
	}
	return out
}

// permute puts thing p[i] of every axis's order where i stands.
func (m *Model) permute(a axis, p []int) {
	for _, x := range slices.Concat(a.vote, a.carry) {
		m.byName[x.tensor].permute(x, p)
	}
	for _, names := range a.whole {
		old := make([][]float32, len(names))
		for i, n := range names {
			old[i] = m.byName[n].Data
		}
		for i, n := range names {
			m.byName[n].Data = old[p[i]]
		}
	}
}

func (t *Tensor) permute(x part, p []int) {
	old := slices.Clone(t.Data)
	for i, to := range x.at {
		for k, row := range to {
			from := x.at[p[i]][k]
			if x.axis == 0 {
				n := rowWidth(t)
				copy(t.Data[row*n:(row+1)*n], old[from*n:])
				continue
			}
			width := t.Shape[1]
			for r := 0; r < len(old); r += width {
				t.Data[r+row] = old[r+from]
			}
		}
	}
}
