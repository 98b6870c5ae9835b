package seal

import "fmt"

// growing keeps from shrinking what a runtime quantises by scales that it finds
// each time: runtimes keep these scales above a smallest one, below which codes
// would change.
func (f Facts) growing() []constraint {
	var cs []constraint
	for _, id := range f.Growing {
		if s := f.Solution.Values[id]; len(s) > 0 {
			what := fmt.Sprintf("activations in %s, which the runtime quantises, must not shrink", f.Graph.Nodes[id].Scope)
			cs = append(cs, constraint{what: what, lo: 0, hi: maxExponent, shift: s})
		}
	}
	return cs
}
