package probe

import (
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/elementwise"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Tokens returns n token ids that are spread over the vocabulary, the first of
// them the given start token if it is valid.
func Tokens(n, vocab, start int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = int((uint64(i)*prime + 12345) % uint64(vocab))
	}
	if n > 0 && start >= 0 && start < vocab {
		out[0] = start
	}
	return out
}

// Vocabulary returns how many token ids the graph can read: the length of the
// shortest axis that they index.
func Vocabulary(g *graph.Graph) int {
	limit := 1 << 16 // where they index nothing
	found := false
	ids := make([]bool, len(g.Nodes))
	read := func(n int) {
		if !found || n < limit {
			limit, found = n, true
		}
	}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		switch {
		case n.Op == graph.OpTokens:
			ids[i] = true
		case n.Op == graph.OpEmbedding && ids[n.In[1]]:
			read(g.Shape(n.In[0])[0])
		case n.Op == graph.OpIndex && ids[n.In[1]]:
			read(g.Shape(n.In[0])[n.Axis])
		case n.Op == graph.OpOneHot && ids[n.In[0]]:
			read(n.K)
		case n.Op.Move():
			ids[i] = ids[n.In[0]]
		}
	}
	return limit
}

// prime spreads consecutive numbers over any range that is not a multiple of it.
const prime = 2654435761

func numbers(x []int) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(v)
	}
	return out
}

// input returns the values of an input that is not tokens.
func (r *runner) input(n *graph.Node) ([]float32, error) {
	x, ok := r.opt.Inputs[n.Name]
	if !ok {
		return r.round(n, made(n)), nil
	}
	if len(x) != count(n.Shape) {
		return nil, fault.New(fault.Usage, "input %s has %d values, its shape %v wants %d", n.Name, len(x), n.Shape, count(n.Shape))
	}
	for _, v := range x {
		if !n.Int {
			break
		}
		if _, err := place(v, n.K); err != nil {
			return nil, fmt.Errorf("input %s: %w", n.Name, err)
		}
	}
	return r.round(n, slices.Clone(x)), nil
}

// made makes an input up from its name. Integers start with the largest, so
// that in a mask the first place, which every later one may need, counts.
func made(n *graph.Node) []float32 {
	out := make([]float32, count(n.Shape))
	if !n.Int {
		normal(out, n.Name, 0)
		return out
	}
	for i := range out {
		out[i] = float32((uint64(i)*prime + uint64(n.K-1)) % uint64(n.K))
	}
	return out
}

// standIn makes up the result of an operation that nobody here knows: the same
// in every run, whatever goes in, so that what follows can be compared.
func standIn(id graph.ID, n *graph.Node) []float32 {
	out := make([]float32, count(n.Shape))
	normal(out, n.Name, uint64(id))
	if n.Int { // truth values, and indices of whatever has two elements
		for i, v := range out {
			out[i] = elementwise.Truth(v > 0)
		}
	}
	return out
}

// normal fills x with numbers from a normal distribution, by name.
func normal(x []float32, name string, seed uint64) {
	h := fnv.New64a()
	h.Write([]byte(name))
	r := rand.New(rand.NewPCG(h.Sum64(), seed))
	for i := range x {
		// Box-Muller, so that the values are this file's and not a library's.
		a, b := 1-r.Float64(), r.Float64()
		x[i] = float32(math.Sqrt(-2*math.Log(a)) * math.Cos(2*math.Pi*b))
	}
}
