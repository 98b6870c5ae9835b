package seal

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// contextLimit is the longest sequence, as log2, for which sums over tokens
// are bounded. The graph itself is built for a few tokens only.
const contextLimit = 20

// fewTokens is the shortest graph in which a recurrence can be told from other
// sums of products.
const fewTokens = 4

// scan follows a recurrence that is unrolled over the tokens.
type scan struct {
	depth   int  // sums behind each other, each of a product with the one before
	product bool // the value is a product of the last of these sums
	grown   bool // the bound allows for the longest sequence already
}

// scan returns by how much a sum over the graph's few tokens may grow over the
// longest sequence, as log2. A state decays, or is projected, from step to
// step, so that it grows with the number of steps and not faster.
func (a *bounder) scan(id graph.ID, n *graph.Node) float64 {
	s := a.behind(n)
	t := a.g.Tokens
	grow := 0.0
	if t >= fewTokens && s.depth >= t-1 && !s.grown {
		s.grown = true
		grow = max(contextLimit-math.Log2(float64(t)), 0)
	}
	a.scans[id] = s
	return grow
}

// behind joins what is known of a node's operands. Whatever is not listed, a
// linear map or a norm, starts anew.
func (a *bounder) behind(n *graph.Node) (s scan) {
	sum := n.Op == graph.OpAdd || n.Op == graph.OpSub
	product := n.Op == graph.OpMul || n.Op == graph.OpMatMul
	if !sum && !product && n.Op != graph.OpMulScalar && n.Op != graph.OpNeg && n.Op != graph.OpWhere && !n.Op.Move() {
		return s
	}
	for _, in := range n.In {
		x := a.scans[in]
		if sum && x.product {
			x.depth, x.product = x.depth+1, false
		}
		s.depth, s.product, s.grown = max(s.depth, x.depth), s.product || x.product, s.grown || x.grown
	}
	s.product = s.product || product
	return s
}

// length is log2 of an axis' length; of the tokens' axis, that of the longest
// sequence.
func (a *bounder) length(n int) float64 {
	l := math.Log2(float64(n))
	if n > 1 && n == a.g.Tokens {
		return max(l, contextLimit)
	}
	return l
}
