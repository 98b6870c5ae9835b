package gauge

import "github.com/neuroseal/neuroseal/graph"

// Directions lists the values of which a network returns nothing but the
// direction, x/‖x‖: the projected features of CLIP and its like. A factor of the
// whole of x is free, since no output shows it; but the model's classes have
// other methods that return x itself (get_image_features).
func Directions(g *graph.Graph) []graph.ID {
	var out []graph.ID
	for _, id := range g.Outputs {
		n := &g.Nodes[id]
		for n.Op == graph.OpMulScalar || n.Op == graph.OpReshape || n.Op == graph.OpSlice || n.Op == graph.OpIndex {
			n = &g.Nodes[n.In[0]]
		}
		if x, ok := divided(g, n); ok {
			out = append(out, x)
		}
	}
	return out
}

// divided matches x/‖x‖, written out or as a norm without epsilon and gain.
func divided(g *graph.Graph, n *graph.Node) (graph.ID, bool) {
	node := func(id graph.ID) *graph.Node {
		n := &g.Nodes[id]
		for n.Op == graph.OpExpand || n.Op == graph.OpClamp || n.Op == graph.OpReshape {
			n = &g.Nodes[n.In[0]]
		}
		return n
	}
	switch n.Op {
	case graph.OpRMSNorm:
		return n.In[0], n.Scalar == 0
	case graph.OpDiv:
		x := n.In[0]
		root := node(n.In[1])
		if root.Op != graph.OpPow || root.Scalar != 0.5 {
			return 0, false
		}
		sum := node(root.In[0])
		if sum.Op != graph.OpSum {
			return 0, false
		}
		s := node(sum.In[0])
		return x, s.Op == graph.OpPow && s.Scalar == 2 && s.In[0] == x || s.Op == graph.OpMul && s.In[0] == x && s.In[1] == x
	}
	return 0, false
}

// Reaching returns the groups that move some of the values.
func (s *Solution) Reaching(values []graph.ID) map[int]bool {
	out := map[int]bool{}
	for _, id := range values {
		for _, summand := range s.Values[id] {
			for _, sig := range summand {
				for _, f := range sig {
					if f.Coef != 0 {
						out[f.Group] = true
					}
				}
			}
		}
	}
	return out
}
