package seal

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// Least returns log2 of the smallest of a weight's numbers, -Inf for zero; ok is
// false where one is negative or not a number. WeightBound takes both.
func Least(w []float32) (least float64, ok bool) {
	m := math.Inf(1)
	for _, x := range w {
		v := float64(x)
		if !(v >= 0) {
			return 0, false
		}
		m = min(m, v)
	}
	return math.Log2(m), true
}

// Roots lists the weights to whose numbers a constant is added before a power
// is taken: the stored variances of batch norms. Their Least tells how small what
// is divided by can be.
func Roots(g *graph.Graph) []string {
	var out []string
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Op != graph.OpPow {
			continue
		}
		for n.Op == graph.OpPow || n.Op == graph.OpAddScalar || n.Op == graph.OpReshape || n.Op == graph.OpExpand {
			n = &g.Nodes[n.In[0]]
		}
		if n.Op == graph.OpWeight {
			out = append(out, n.Name)
		}
	}
	return out
}
