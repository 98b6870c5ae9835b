package graph

import "slices"

// Prune removes the nodes that no output depends on: readers of exchange
// formats leave them behind. Token ids stay, so that a run still takes them.
func (g *Graph) Prune() {
	live := make([]bool, len(g.Nodes))
	for _, o := range g.Outputs {
		live[o] = true
	}
	for i := len(g.Nodes) - 1; i >= 0; i-- {
		live[i] = live[i] || g.Nodes[i].Op == OpTokens
		if live[i] {
			for _, in := range g.Nodes[i].In {
				live[in] = true
			}
		}
	}
	to := make([]ID, len(g.Nodes))
	var kept []Node
	for i, n := range g.Nodes {
		if !live[i] {
			continue
		}
		n.In = slices.Clone(n.In)
		for j, in := range n.In {
			n.In[j] = to[in]
		}
		to[i] = ID(len(kept))
		kept = append(kept, n)
	}
	g.Nodes = kept
	g.Outputs = slices.Clone(g.Outputs)
	for i, o := range g.Outputs {
		g.Outputs[i] = to[o]
	}
	for _, m := range []map[string]ID{g.weights, g.inputs} {
		for name, id := range m {
			if !live[id] {
				delete(m, name)
			} else {
				m[name] = to[id]
			}
		}
	}
	g.ties = slices.DeleteFunc(g.ties, func(t [2]string) bool {
		_, a := g.weights[t[0]]
		_, b := g.weights[t[1]]
		return !a && !b
	})
}
