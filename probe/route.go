package probe

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// Routes returns in how many runs with Options.Route = 1, 2, … every place of
// every top-k choice is chosen at least once; 0 when the graph chooses nothing.
//
// In such a run row r of a choice of k among n takes, instead of the largest,
// the k consecutive places that begin at ((Route-1)·rows + r)·k modulo n. A mask
// takes all places at once. Where a chosen value is zero or not finite, because
// an earlier choice has ruled its place out, the row's largest size stands in
// for it, so that what was chosen counts in the result.
func Routes(g *graph.Graph) int {
	rounds := 0
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if !routed(g, n) {
			continue
		}
		rounds = max(rounds, 1)
		if n.Op != graph.OpTopKMask && count(n.Shape) > 0 {
			shape := g.Shape(n.In[0])
			width, taken := shape[len(shape)-1], count(n.Shape)
			rounds = max(rounds, (width+taken-1)/taken)
		}
	}
	return rounds
}

// routed reports whether a node chooses by values that the network computes. A
// choice among integers (the last token's place) is no router's.
func routed(g *graph.Graph, n *graph.Node) bool {
	switch n.Op {
	case graph.OpTopKMask, graph.OpTopKValues, graph.OpTopKIndices, graph.OpArgMax:
		return !g.Nodes[n.In[0]].Int
	}
	return false
}

// choice evaluates a top-k operation or an argmax on one row.
func (r *runner) choice(n *graph.Node) (func(i int, out, x []float32), error) {
	k := n.K
	if n.Op == graph.OpArgMax {
		k = 1
	}
	forced := r.opt.Route > 0 && routed(r.g, n)
	rows := count(n.Shape) / max(k, 1)
	places := func(i int, x []float32) []int {
		if !forced {
			return largest(x, k)
		}
		out := make([]int, k)
		for j := range out {
			out[j] = (((r.opt.Route-1)*rows+i)*k + j) % len(x)
		}
		return out
	}
	switch {
	case n.Op == graph.OpTopKMask && forced:
		return func(_ int, out, _ []float32) {
			for i := range out {
				out[i] = 1
			}
		}, nil
	case n.Op == graph.OpTopKMask:
		return func(i int, out, x []float32) {
			for _, p := range places(i, x) {
				out[p] = 1
			}
		}, nil
	case n.Op == graph.OpTopKValues:
		return func(i int, out, x []float32) {
			for j, p := range places(i, x) {
				out[j] = x[p]
				if forced && (x[p] == 0 || math.Abs(float64(x[p])) > excluded) {
					out[j] = top(x)
				}
			}
		}, nil
	}
	return func(i int, out, x []float32) {
		for j, p := range places(i, x) {
			out[j] = float32(p)
		}
	}, nil
}

// excluded is the size from which a score is one that rules a place out, such
// as the lowest float.
const excluded = 1e30

// top is the largest size in a row of what is not ruled out.
func top(x []float32) float32 {
	var m float32
	for _, v := range x {
		if a := float32(math.Abs(float64(v))); a < excluded && a > m {
			m = a
		}
	}
	return m
}
