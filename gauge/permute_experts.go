package gauge

import (
	"reflect"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// mixture is experts that are branches of the graph, each with weights of its
// own: they read one element each of a value's axis (the router's weights), do
// the same, and are added up. Exchanging their weights is a permutation of that
// axis.
type mixture struct {
	value   graph.ID
	at      int // the axis
	layer   int
	tensors [][]string // per weight of an expert: that of each
}

func (m mixture) axis(p *permuter) sequence { return p.axes[m.value][m.at] }

// mixtures finds all of them, and notes the slices by which they read the axis.
func (p *permuter) mixtures(o PermuteOptions) []mixture {
	shares := map[axisOf][]graph.ID{} // per place of the axis, the slice that reads it
	var order []axisOf
	for i := range p.g.Nodes {
		n := &p.g.Nodes[i]
		if n.Op != graph.OpSlice || n.End != n.Start+1 || !p.s.live[i] {
			continue
		}
		k := axisOf{n.In[0], n.Axis}
		if shares[k] == nil {
			shares[k] = make([]graph.ID, p.g.Shape(k.id)[k.axis])
			order = append(order, k)
		}
		shares[k][n.Start] = graph.ID(i)
	}
	b := &branches{g: p.g, live: p.s.live, class: o.Class}
	var out []mixture
	for _, k := range order {
		list := shares[k]
		if len(list) < 2 || slices.Contains(list, 0) {
			continue
		}
		if tensors := b.alike(list); tensors != nil {
			m := mixture{value: k.id, at: k.axis, tensors: tensors, layer: p.g.Nodes[k.id].Layer}
			for _, id := range list {
				p.branch[id] = true
			}
			out = append(out, m)
		}
	}
	return out
}

// branches compares parts of a graph.
type branches struct {
	g     *graph.Graph
	live  []bool
	class func(string) string
	users [][]graph.ID
	tied  map[graph.ID]bool
}

func (b *branches) prepare() {
	if b.users != nil {
		return
	}
	b.users, b.tied = make([][]graph.ID, len(b.g.Nodes)), map[graph.ID]bool{}
	for i := range b.g.Nodes {
		for _, in := range b.g.Nodes[i].In {
			if b.live[i] {
				b.users[in] = append(b.users[in], graph.ID(i))
			}
		}
	}
	for _, o := range b.g.Outputs {
		b.users[o] = append(b.users[o], -1)
	}
	for _, t := range b.g.Ties() {
		b.tied[b.g.Weights()[t[0]]], b.tied[b.g.Weights()[t[1]]] = true, true
	}
}

// alike demands that what is done with each slice is the same but for the
// weights, that nothing else reads what is computed on the way, and that the
// results are added up. It returns the weights, or nil.
func (b *branches) alike(slice []graph.ID) [][]string {
	b.prepare()
	var ends []graph.ID
	for _, id := range slice {
		end, ok := b.end(id)
		if !ok {
			return nil
		}
		ends = append(ends, end)
	}
	if !b.added(ends) {
		return nil
	}
	var weights []graph.ID // of the first
	var tensors [][]string
	for i := 1; i < len(ends); i++ {
		c := &comparison{branches: b, slice: [2]graph.ID{slice[0], slice[i]}, pair: map[graph.ID]graph.ID{}, back: map[graph.ID]graph.ID{}}
		if !c.same(ends[0], ends[i]) || !c.closed(ends[0], ends[i]) {
			return nil
		}
		if i == 1 {
			weights = c.weights
			tensors = make([][]string, len(weights))
			for j, w := range weights {
				tensors[j] = []string{b.g.Nodes[w].Name}
			}
		}
		for j, w := range weights {
			tensors[j] = append(tensors[j], b.g.Nodes[c.pair[w]].Name)
		}
	}
	if len(tensors) == 0 {
		return nil
	}
	return tensors
}

// end follows a slice through its only readers to what is added up.
func (b *branches) end(id graph.ID) (graph.ID, bool) {
	for range 8 {
		if len(b.users[id]) != 1 || b.users[id][0] < 0 {
			return 0, false
		}
		u := b.users[id][0]
		if b.g.Nodes[u].Op == graph.OpAdd {
			return id, true
		}
		id = u
	}
	return 0, false
}

// added reports whether values are summands of one sum, each once.
func (b *branches) added(ends []graph.ID) bool {
	top := ends[0]
	for len(b.users[top]) == 1 && b.users[top][0] >= 0 && b.g.Nodes[b.users[top][0]].Op == graph.OpAdd {
		top = b.users[top][0]
	}
	times := map[graph.ID]int{}
	list := []graph.ID{top}
	for len(list) > 0 {
		id := list[len(list)-1]
		list = list[:len(list)-1]
		n := &b.g.Nodes[id]
		if n.Op == graph.OpAdd && (id == top || len(b.users[id]) == 1) {
			list = append(list, n.In...)
			continue
		}
		times[id]++
	}
	for _, e := range ends {
		if times[e] != 1 || !slices.Equal(b.g.Shape(e), b.g.Shape(top)) {
			return false
		}
	}
	return true
}

// comparison goes through two branches side by side.
type comparison struct {
	*branches
	slice      [2]graph.ID
	pair, back map[graph.ID]graph.ID // what differs: first branch to second, and second to first
	weights    []graph.ID
}

func (c *comparison) same(x, y graph.ID) bool {
	if x == y {
		return true
	}
	if z, ok := c.pair[x]; ok {
		return z == y
	}
	if _, ok := c.back[y]; ok {
		return false
	}
	n, m := &c.g.Nodes[x], &c.g.Nodes[y]
	if n.Op != m.Op || n.Int || len(n.In) != len(m.In) || !slices.Equal(n.Shape, m.Shape) {
		return false
	}
	c.pair[x], c.back[y] = y, x
	if x == c.slice[0] || y == c.slice[1] {
		return x == c.slice[0] && y == c.slice[1]
	}
	switch n.Op {
	case graph.OpWeight:
		if c.tied[x] || c.tied[y] || c.class(n.Name) == "" || c.class(n.Name) != c.class(m.Name) {
			return false
		}
		c.weights = append(c.weights, x)
		return true
	case graph.OpTokens, graph.OpInput, graph.OpOpaque:
		return false
	}
	a, b := *n, *m
	a.In, b.In, a.Scope, b.Scope, a.Layer, b.Layer = nil, nil, "", "", 0, 0
	if !reflect.DeepEqual(a, b) {
		return false
	}
	for i := range n.In {
		if !c.same(n.In[i], m.In[i]) {
			return false
		}
	}
	return true
}

// closed reports whether only the branches themselves read what they compute.
func (c *comparison) closed(x, y graph.ID) bool {
	inside := func(m map[graph.ID]graph.ID, end graph.ID) bool {
		for id := range m {
			for _, u := range c.users[id] {
				if _, ok := m[u]; !ok && id != end {
					return false
				}
			}
		}
		return true
	}
	return inside(c.pair, x) && inside(c.back, y)
}
