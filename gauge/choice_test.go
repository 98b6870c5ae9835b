package gauge_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

const expertsN, expertsK = 4, 2

// router chooses K of the experts for every token, [T,K].
func (b *bench) router(name string, x graph.ID) graph.ID {
	_, ids := b.TopK(b.Apply(graph.OpSoftmax, b.Linear(x, b.weight(name, expertsN, b.H))), expertsK)
	return ids
}

// best is the one expert that a router ranks highest, [T,1].
func (b *bench) best(name string) graph.ID {
	return b.ArgMax(b.Linear(b.embed(), b.weight(name, expertsN, b.H)))
}

// pick looks a stack of weights up by ids [T,K] and returns one per token and
// choice, [T·K,…].
func (b *bench) pick(w, ids graph.ID) graph.ID {
	return b.Index(w, b.Reshape(ids, b.T*expertsK), 0)
}

// batched multiplies every row of x [S,in] by a matrix of its own [S,out,in].
func (b *bench) batched(x, w graph.ID) graph.ID {
	s := b.Shape(w)
	y := b.MatMul(w, b.Reshape(x, s[0], s[2], 1))
	return b.Reshape(y, s[0], s[1])
}

// repeated is x [T,H] once per choice, [T·K,H].
func (b *bench) repeated(x graph.ID) graph.ID {
	s := b.Shape(x)
	return b.Reshape(b.Expand(b.Reshape(x, s[0], 1, s[1]), s[0], expertsK, s[1]), s[0]*expertsK, s[1])
}

// gathered adds the choices of every token up, [T,n].
func (b *bench) gathered(x graph.ID) graph.ID {
	n := b.Shape(x)[1]
	y := b.Transpose(b.Reshape(x, b.T, expertsK, n), 0, 2, 1)
	return b.Reshape(b.Sum(y), b.T, n)
}

// mixture is a layer of experts as fused kernels compute it. Its ids for the
// second half may differ from the first's.
func (b *bench) mixture(first, second graph.ID) graph.ID {
	x := b.repeated(b.embed())
	up := b.weight("up", expertsN, b.N, b.H)
	down := b.weight("down", expertsN, b.H, b.N)
	h := b.Apply(graph.OpReLU, b.batched(x, b.pick(up, first)))
	return b.gathered(b.batched(h, b.pick(down, second)))
}

// Per expert, N features of up move against down, and down's H rows against the
// output; the routers' rows are pinned.
var mixtures = []rule{
	{name: "experts", net: func(b *bench) []graph.ID {
		ids := b.router("router", b.embed())
		return one(b.out(b.mixture(ids, ids)))
	}, free: func(n, _ int) int { return expertsN*n + testH }, wrong: [][]move{whole("up"), whole("down"),
		{{"up", 1, 0}}, {{"down", 2, 0}}, {{"up", 1, 0}, {"down", 2, 0}}, {{"down", 0, 1}}}},
	{name: "fused gate and bias", net: func(b *bench) []graph.ID {
		ids := b.router("router", b.embed())
		x := b.repeated(b.embed())
		w := b.weight("up", expertsN, b.H, 2*b.N) // stored [in,out]
		y := b.MatMul(b.Reshape(x, b.T*expertsK, 1, b.H), b.pick(w, ids))
		y = b.Add(b.Reshape(y, b.T*expertsK, 2*b.N), b.pick(b.weight("bias", expertsN, 2*b.N), ids))
		even, odd := make([]int, b.N), make([]int, b.N)
		for i := range even {
			even[i], odd[i] = 2*i, 2*i+1
		}
		h := b.Mul(b.Apply(graph.OpSiLU, b.Index(y, b.ConstInts(even, b.N), 1)), b.Index(y, b.ConstInts(odd, b.N), 1))
		z := b.batched(h, b.pick(b.weight("down", expertsN, b.H, b.N), ids))
		p := b.Apply(graph.OpSigmoid, b.in("p", expertsK))
		return one(b.out(b.gathered(b.Mul(z, b.Reshape(p, b.T*expertsK, 1)))))
	}, free: func(n, _ int) int { return expertsN*n + testH }, wrong: [][]move{whole("up"), whole("bias"),
		{{"up", 2, 0}}, {{"up", 2, 1}}, {{"bias", 1, 1}}, {{"down", 0, 0}}, {{"up", 2, 1}, {"down", 2, 0}}}},
	{name: "two routers", net: func(b *bench) []graph.ID {
		return one(b.out(b.mixture(b.router("router", b.embed()), b.router("other", b.embed()))))
	}, free: func(n, _ int) int { return n + testH }, wrong: [][]move{{{"up", 0, 0}, {"down", 0, 0}}, {{"up", 0, 1}}}},
	{name: "one router, other places", net: func(b *bench) []graph.ID {
		ids := b.router("router", b.embed())
		return one(b.out(b.mixture(ids, b.Flip(ids, 1))))
	}, free: func(n, _ int) int { return n + testH }, wrong: [][]move{{{"up", 0, 0}}, {{"down", 0, 1}}}},
	{name: "moved there and back", net: func(b *bench) []graph.ID {
		ids := b.router("router", b.embed())
		ids = b.Clamp(ids, 0, expertsN-1)
		return one(b.out(b.mixture(ids, b.Flip(b.Flip(ids, 1), 1))))
	}, free: func(n, _ int) int { return expertsN*n + testH }},
	{name: "choices mixed", net: func(b *bench) []graph.ID {
		// Features of different choices of one token meet in a sum before down.
		ids := b.router("router", b.embed())
		x := b.batched(b.repeated(b.embed()), b.pick(b.weight("up", expertsN, b.N, b.H), ids))
		return one(b.out(b.gathered(x)))
	}, free: perN, wrong: [][]move{{{"up", 0, 0}}, {{"up", 1, 0}}}},
	{name: "norm over experts' features", net: func(b *bench) []graph.ID {
		ids := b.router("router", b.embed())
		x := b.batched(b.repeated(b.embed()), b.pick(b.weight("up", expertsN, b.N, b.H), ids))
		x = b.Mul(b.RMSNorm(x, 0, ""), b.pick(b.weight("gain", expertsN, b.N), ids))
		z := b.batched(x, b.pick(b.weight("down", expertsN, b.H, b.N), ids))
		return one(b.out(b.gathered(z)))
	}, free: func(n, _ int) int { return expertsN*(n+1) + testH }, wrong: [][]move{
		{{"up", 1, 0}}, {{"gain", 0, 1}}, {{"gain", 1, 0}}, {{"down", 0, 1}}}},
	{name: "attention over choices", net: func(b *bench) []graph.ID {
		// Scores between the choices of all tokens: every expert meets every other.
		ids := b.router("router", b.embed())
		q := b.batched(b.repeated(b.embed()), b.pick(b.weight("up", expertsN, b.N, b.H), ids))
		k := b.batched(b.repeated(b.embed()), b.pick(b.weight("key", expertsN, b.N, b.H), ids))
		return []graph.ID{b.MatMul(q, b.Transpose(k, 1, 0)), b.outAs("second", b.embed())}
	}, free: perN, wrong: [][]move{{{"up", 0, 1}}, {{"up", 1, 0}}, {{"key", 0, 0}}}},
	{name: "shared after", net: func(b *bench) []graph.ID {
		ids := b.router("router", b.embed())
		x := b.batched(b.repeated(b.embed()), b.pick(b.weight("up", expertsN, b.N, b.H), ids))
		return one(b.out(b.Linear(x, b.weight("w", b.N, b.N))))
	}, free: twicePerN, wrong: [][]move{{{"up", 0, 1}}, {{"up", 1, 0}}, col("w", 0)}},
	{name: "best expert", net: func(b *bench) []graph.ID {
		scores := b.Linear(b.embed(), b.weight("router", expertsN, b.H))
		ids := b.Reshape(b.ArgMax(scores), b.T)
		h := b.batched(b.embed(), b.Index(b.weight("up", expertsN, b.N, b.H), ids, 0))
		return one(b.out(b.batched(h, b.Index(b.weight("down", expertsN, b.H, b.N), ids, 0))))
	}, free: func(n, _ int) int { return expertsN*n + testH + 1 }, wrong: [][]move{
		{{"up", 1, 0}}, whole("up"), whole("down"), {{"down", 2, 0}}}},
	{name: "two maxima joined", net: func(b *bench) []graph.ID {
		ids := b.Concat(1, b.best("router"), b.best("other"))
		return one(b.out(b.mixture(ids, ids)))
	}, free: func(n, _ int) int { return expertsN*n + testH + 2 }, wrong: [][]move{
		{{"up", 1, 0}}, {{"down", 2, 0}}, {{"up", 1, 0}, {"down", 2, 0}}}},
	{name: "joined, and the first alone", net: func(b *bench) []graph.ID {
		// The first of the joined ids must not speak for the second.
		first := b.best("router")
		ids := b.Concat(1, first, b.best("other"))
		return one(b.out(b.mixture(ids, b.Concat(1, first, first))))
	}, free: func(n, _ int) int { return n + testH + 2 }, wrong: [][]move{{{"up", 0, 0}, {"down", 0, 0}}}},
	{name: "joined, and the first expanded", net: func(b *bench) []graph.ID {
		first := b.best("router")
		ids := b.Concat(1, first, b.best("other"))
		return one(b.out(b.mixture(ids, b.Expand(first, b.T, expertsK))))
	}, free: func(n, _ int) int { return n + testH + 2 }, wrong: [][]move{{{"up", 0, 0}, {"down", 0, 0}}}},
	{name: "experts unrolled", net: func(b *bench) []graph.ID {
		w, v := b.weight("up", expertsN, b.N, b.H), b.weight("down", expertsN, b.H, b.N)
		bias := b.weight("bias", expertsN, b.N)
		var y graph.ID
		for e := range expertsN {
			at := func(w graph.ID, shape ...int) graph.ID { return b.Reshape(b.Slice(w, 0, e, e+1), shape...) }
			h := b.Linear(b.embed(), at(w, b.N, b.H))
			h = b.Apply(graph.OpReLU, b.Add(h, at(bias, b.N)))
			if h = b.Linear(h, at(v, b.H, b.N)); e > 0 {
				h = b.Add(y, h)
			}
			y = h
		}
		return one(b.out(y))
	}, free: func(n, _ int) int { return expertsN*n + testH }, wrong: [][]move{
		{{"up", 1, 0}}, {{"bias", 0, 1}}, {{"down", 2, 0}}, {{"down", 0, 0}}}},
}

const testH = 3 // width of the embedding in the tests of power

// TestChoices: experts keep factors of their own exactly as long as everything
// that meets depends on the same choice, and what is allowed is exact.
func TestChoices(t *testing.T) {
	for _, r := range mixtures {
		t.Run(r.name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { exact(t, rt, r.net, nil) })
			r.powerful(t)
		})
	}
}

// TestTokensDoNotMatter: what is free does not depend on how many tokens a
// graph reads. One token is the trap: its rotary angles are zero.
func TestTokensDoNotMatter(t *testing.T) {
	nets := map[string]network{"rotary": func(b *bench) []graph.ID {
		var tables [2][]float32
		for i := range 2 * b.T {
			tables[0] = append(tables[0], float32([]int{8, 4, 1, 3}[i/2%4])/8)
			tables[1] = append(tables[1], float32([]int{0, 5, 7, 2}[i/2%4])/8)
		}
		cos, sin := b.Const(tables[0], b.T, 2), b.Const(tables[1], b.T, 2)
		turn := func(x graph.ID) graph.ID {
			l, r := b.Slice(x, 1, 0, 2), b.Slice(x, 1, 2, 4)
			return b.Concat(1, b.Sub(b.Mul(l, cos), b.Mul(r, sin)), b.Add(b.Mul(r, cos), b.Mul(l, sin)))
		}
		return []graph.ID{b.MatMul(turn(b.in("q", 4)), b.Transpose(turn(b.in("k", 4)), 1, 0)), b.outAs("second", b.embed())}
	}}
	for _, r := range mixtures {
		nets[r.name] = r.net
	}
	for name, net := range nets {
		for tokens, want := 6, -1; tokens > 0; tokens-- {
			sol, err := gauge.Solve(net.build(t, [4]int{tokens, testH, 5, 4}, 0))
			if err != nil {
				t.Fatal(err)
			}
			if want >= 0 && sol.FreeDims != want {
				t.Errorf("%s: %d free dimensions with %d tokens, %d with more", name, sol.FreeDims, tokens, want)
			}
			want = sol.FreeDims
			if name == "rotary" && want != 2+testH {
				t.Errorf("%d free dimensions, want one per rotary pair and the embedding's", want)
			}
		}
	}
}

// TestChains: squares and cubes make fractions; classes take the factors that
// keep all exponents whole.
func TestChains(t *testing.T) {
	square := func(b *bench, x graph.ID) graph.ID { return b.Mul(x, x) }
	cube := func(b *bench, x graph.ID) graph.ID { return b.Mul(b.Mul(x, x), x) }
	relu := func(b *bench, x graph.ID) graph.ID { return b.Apply(graph.OpReLU, x) }
	for _, c := range []struct {
		name string
		net  network
		coef map[string][]int // coefficients of a's classes in rows or columns
	}{
		{"squared ReLU", func(b *bench) []graph.ID { return one(b.out(square(b, relu(b, b.in("a", b.N))))) },
			map[string][]int{"a": {1}, "out": {-2}}},
		{"power of ReLU", func(b *bench) []graph.ID { return one(b.out(b.Pow(relu(b, b.in("a", b.N)), 3))) },
			map[string][]int{"a": {1}, "out": {-3}}},
		{"halves", func(b *bench) []graph.ID {
			x := cube(b, b.in("a", b.N))
			return one(b.out(b.Add(x, square(b, b.in("b", b.N)))))
		}, map[string][]int{"a": {2}, "b": {3}, "out": {-6}}},
		{"thirds", func(b *bench) []graph.ID {
			x := square(b, b.in("a", b.N))
			return one(b.out(b.Add(x, cube(b, b.in("b", b.N)))))
		}, map[string][]int{"a": {3}, "b": {2}, "out": {-6}}},
		{"root", func(b *bench) []graph.ID { return one(b.out(b.Pow(b.Apply(graph.OpAbs, b.in("a", b.N)), 0.5))) },
			map[string][]int{"a": {2}, "out": {-1}}},
		{"root of root", func(b *bench) []graph.ID {
			return one(b.out(b.Pow(b.Pow(b.Apply(graph.OpAbs, b.in("a", b.N)), 0.5), -0.5)))
		}, map[string][]int{"a": {4}, "out": {1}}},
		{"root inside", func(b *bench) []graph.ID {
			x := b.Pow(b.Apply(graph.OpAbs, b.in("a", b.N)), 0.5)
			return one(b.out(square(b, x)))
		}, map[string][]int{"a": {2}, "out": {-2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sol, err := gauge.Solve(c.net.build(t, [4]int{4, 3, 5, 4}, 0))
			if err != nil {
				t.Fatal(err)
			}
			if sol.FreeDims != 5+3 {
				t.Errorf("%d free dimensions", sol.FreeDims)
			}
			for _, tensor := range sol.Tensors {
				want, ok := c.coef[tensor.Name]
				if !ok {
					continue
				}
				var got []int
				for _, ax := range tensor.Terms {
					for _, s := range ax.Segments {
						if sol.Groups[s.Group].ID == "ffn:a" {
							got = append(got, s.Coef)
						}
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%s: coefficients %v, want %v", tensor.Name, got, want)
				}
			}
			rapid.Check(t, func(rt *rapid.T) { exact(t, rt, c.net, nil) })
		})
	}
}
