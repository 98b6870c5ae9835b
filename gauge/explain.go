package gauge

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// why names the operation that fixes a weight.
func (a *assembly) why(l int) string {
	for _, p := range a.leaves[l].scale {
		for _, r := range p.v {
			for _, t := range r.ts {
				if q := a.sys.piece(t.v); q.bound && q.why(t.v) >= 0 {
					return a.explain(int(q.why(t.v)))
				}
			}
		}
	}
	return "every factor is fixed by what reads it"
}

// explain says why the operation at a node fixes what goes into it; nodes from
// their number on are the reasons of finish.
func (a *assembly) explain(node int) string {
	switch node - len(a.g.Nodes) {
	case atOutput:
		return "its scale would reach the output"
	case byTie:
		return "tied to another tensor that cannot move"
	case byNothing:
		return "nothing that reaches an output reads it"
	}
	n := &a.g.Nodes[node]
	at := ""
	if n.Scope != "" {
		at = " in " + n.Scope
	}
	switch n.Op {
	case graph.OpAddScalar:
		return fmt.Sprintf("used as %g + w%s: the constant does not scale", n.Scalar, at)
	case graph.OpSoftmax:
		return "its scale would reach the softmax" + at
	case graph.OpRMSNorm, graph.OpLayerNorm:
		return "the norm" + at + " needs one scale over its whole input, and its epsilon is fixed"
	case graph.OpAdd, graph.OpSub, graph.OpMaximum, graph.OpMinimum:
		verb := map[graph.Op]string{graph.OpAdd: "added to", graph.OpSub: "subtracted from or by"}[n.Op]
		if verb == "" {
			verb = "compared with"
		}
		return verb + " a value that cannot move" + at
	case graph.OpEqual, graph.OpLess:
		return "compared with a value that cannot move" + at
	case graph.OpWhere:
		return "stands in for a value that cannot move" + at
	case graph.OpScatter, graph.OpScatterAdd:
		return "written into a value that cannot move" + at
	case graph.OpClamp:
		return fmt.Sprintf("clipped to [%g, %g]%s: the bounds do not scale", n.Min, n.Max, at)
	case graph.OpPow:
		return fmt.Sprintf("raised to the power %g%s, which is not exact under a factor", n.Scalar, at)
	case graph.OpSlice, graph.OpIndex:
		return fmt.Sprintf("a part that nothing reads, after %v%s", n.Op, at)
	case graph.OpOpaque:
		return fmt.Sprintf("goes into %s%s, of which nothing is known here", n.Name, at)
	}
	if n.Op.Function() || n.Op == graph.OpELU {
		return fmt.Sprintf("goes into %v%s, which does not scale", n.Op, at)
	}
	return fmt.Sprintf("fixed by %v%s", n.Op, at)
}
