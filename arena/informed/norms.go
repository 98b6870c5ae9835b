package informed

import (
	"context"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// norm is a gain that is multiplied on a norm's result and read by linear maps
// alone.
type norm struct {
	gain    string
	plus    float32 // the constant added to the stored gain: 1 in Gemma, else 0
	readers []string
}

// norms lists the gains that can be folded. A reader that is tied to another
// tensor, or used twice, cannot take a gain without losing that.
func norms(g *graph.Graph) []norm {
	uses := g.Uses()
	tied := map[string]bool{}
	for _, t := range g.Ties() {
		tied[t[0]], tied[t[1]] = true, true
	}
	readers := make([][]graph.ID, len(g.Nodes))
	for i := range g.Nodes {
		for _, in := range g.Nodes[i].In {
			readers[in] = append(readers[in], graph.ID(i))
		}
	}
	var out []norm
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Op == graph.OpMul && !isOutput(g, graph.ID(i)) {
			x, ok := gainOf(g, n, uses)
			for _, r := range readers[i] {
				l := &g.Nodes[r]
				if l.Op != graph.OpLinear || l.In[0] != graph.ID(i) {
					ok = false
					break
				}
				w := &g.Nodes[l.In[1]]
				ok = ok && w.Op == graph.OpWeight && uses[l.In[1]] == 1 && !tied[w.Name] && !l.Transposed
				x.readers = append(x.readers, w.Name)
			}
			if ok && len(x.readers) > 0 {
				out = append(out, x)
			}
		}
	}
	return out
}

func isOutput(g *graph.Graph, id graph.ID) bool {
	for _, o := range g.Outputs {
		if o == id {
			return true
		}
	}
	return false
}

// gainOf reads a product of a norm and a stored vector, plus a constant or not.
func gainOf(g *graph.Graph, n *graph.Node, uses []int32) (norm, bool) {
	for k := range 2 {
		if g.Nodes[n.In[k]].Op != graph.OpRMSNorm {
			continue
		}
		x, at := norm{}, n.In[1-k]
		if a := &g.Nodes[at]; a.Op == graph.OpAddScalar {
			x.plus = float32(a.Scalar)
			if uses[at] != 1 {
				return x, false
			}
			at = a.In[0]
		}
		w := &g.Nodes[at]
		x.gain = w.Name
		return x, w.Op == graph.OpWeight && len(w.Shape) == 1 && uses[at] == 1
	}
	return norm{}, false
}

// foldNorms multiplies every gain that can be folded into its readers' columns,
// leaves the gain at one, and returns how many there were.
func (g *gauged) foldNorms() int {
	all := norms(g.net.Graph)
	for _, n := range all {
		gain := g.byName[n.gain].Data
		for _, r := range n.readers {
			w := g.byName[r].Data
			for len(w) > 0 {
				for j, v := range gain {
					w[j] = float32(float64(w[j]) * (float64(v) + float64(n.plus)))
				}
				w = w[len(gain):]
			}
		}
		for j := range gain {
			gain[j] = 1 - n.plus
		}
	}
	return len(all)
}

// foldOnly is the preparation fold-norms.
func foldOnly(_ context.Context, m, _ *Model) (*Model, error) {
	m = m.Clone()
	g, err := m.gauge()
	if err != nil {
		return nil, err
	}
	if g.foldNorms() == 0 {
		return nil, fault.New(fault.Unsupported, "no norm gain of this %s network is read by linear maps alone", m.Type)
	}
	return m, nil
}
