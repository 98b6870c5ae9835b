package gauge_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// values checks Solution.Values: with one exponent for all classes of a group,
// every element of every value moves by one of the sums that its shift lists.
func values(t *testing.T, rt *rapid.T, net network, g *graph.Graph, sol *gauge.Solution, w memory, tokens []int, edit func(*graph.Graph), size [4]int) {
	perGroup := make([]int, len(sol.Groups))
	e := make([][]int16, len(sol.Groups))
	for i, gr := range sol.Groups {
		if gr.Kind != gauge.Residual || i == sol.Residual {
			perGroup[i] = 1 + i%3
		}
		e[i] = make([]int16, gr.Classes)
		for c := range e[i] {
			e[i][c] = int16(perGroup[i])
		}
	}
	sealed, shift := apply(t, sol, w, e)
	h := net.build(t, size, shift)
	if edit != nil {
		edit(h)
	}
	before := map[graph.ID][]float32{}
	run(t, g, w, tokens, func(id graph.ID, x []float32) { before[id] = append([]float32(nil), x...) })
	run(t, h, sealed, tokens, func(id graph.ID, x []float32) {
		allowed := sums(sol.Values[id], perGroup)
		for i, v := range x {
			u := before[id][i]
			if u == 0 || u != u || math.IsInf(float64(u), 0) {
				continue
			}
			fu, eu := math.Frexp(float64(u))
			fv, ev := math.Frexp(float64(v))
			if fu != fv || !allowed[ev-eu] {
				rt.Fatalf("%v: element %d moved from %g to %g; its shift allows %v", g.Nodes[id].Op, i, u, v, allowed)
			}
		}
	})
}

// sums lists the exponents that a shift allows.
func sums(s gauge.Shift, perGroup []int) map[int]bool {
	out := map[int]bool{0: true}
	for _, sigs := range s {
		next := map[int]bool{}
		for base := range out {
			for _, sig := range sigs {
				n := base
				for _, f := range sig {
					n += f.Coef * perGroup[f.Group]
				}
				next[n] = true
			}
		}
		out = next
	}
	return out
}

// TestRandomGraphs: whatever operations are put together, what the solver
// allows is exact.
func TestRandomGraphs(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.Uint32(), 1, 14).Draw(rt, "plan")
		exact(t, rt, func(b *bench) []graph.ID { return random(b, plan) }, nil)
	})
}

// random grows a network by one operation on values [T,N] per number.
func random(b *bench, plan []uint32) []graph.ID {
	r := rand.New(rand.NewPCG(uint64(len(plan)), 3))
	pool := []graph.ID{b.in("a", b.N), b.in("b", b.N)}
	products := 0
	for i, p := range plan {
		x, y := pool[int(p>>8)%len(pool)], pool[int(p>>16)%len(pool)]
		name := string(rune('A'+i)) + "weight"
		kind := int(p) % 16
		if kind == 3 || kind == 4 {
			if products++; products > 3 { // keep magnitudes in range
				kind = 0
			}
		}
		var z graph.ID
		switch kind {
		case 0:
			z = b.Linear(x, b.weight(name, b.N, b.N))
		case 1:
			z = b.Add(x, y)
		case 2:
			z = b.Sub(x, y)
		case 3:
			z = b.Mul(x, y)
		case 4:
			z = b.Div(x, y)
		case 5:
			z = b.Mul(x, b.weight(name, b.N))
		case 6:
			z = b.Add(x, b.weight(name, b.N))
		case 7:
			z = b.Apply(graph.OpReLU, x)
		case 8:
			z = b.Apply([]graph.Op{graph.OpSiLU, graph.OpGELU, graph.OpTanh, graph.OpSoftmax}[int(p>>24)%4], x)
		case 9:
			z = b.RMSNorm(x, b.eps, "eps")
		case 10:
			z = b.Apply(graph.OpNeg, b.MulScalar(x, 0.3))
		case 11:
			k := 1 + int(p>>20)%b.N
			if k == b.N {
				z = x
				break
			}
			z = b.Concat(1, b.Slice(x, 1, k, b.N), b.Slice(y, 1, 0, k))
		case 12:
			z = b.MatMul(b.Apply(graph.OpSoftmax, b.MatMul(x, b.Transpose(y, 1, 0))), pool[r.IntN(len(pool))])
		case 13:
			z = b.Mul(x, b.TopKMask(y, 1+int(p>>20)%b.N))
		case 14:
			z = b.Expand(b.Sum(x), b.T, b.N)
		default:
			z = b.AddScalar(x, 0.5)
		}
		pool = append(pool, z)
	}
	last := pool[len(pool)-1]
	return []graph.ID{b.out(last), b.outAs("second", pool[len(pool)/2])}
}
