package gauge_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// rule is one operation in a small network, the least freedom that the network
// must have, and moves that a wrong rule would allow.
type rule struct {
	op    graph.Op
	name  string // where one operation has several cases
	net   network
	free  func(n, m int) int // of features N and M; nil: not checked
	wrong [][]move
}

func one(id graph.ID) []graph.ID { return []graph.ID{id} }

// row and col move one slice, whole a tensor.
func row(w string, i int) []move { return []move{{w, 0, i}} }
func col(w string, i int) []move { return []move{{w, 1, i}} }
func whole(w string) []move      { return []move{{w, 0, -1}} }

func join(ms ...[]move) []move { return slices.Concat(ms...) }

// function is the case of an element-wise function that does not scale.
func function(op graph.Op) rule {
	return rule{op: op, net: func(b *bench) []graph.ID {
		return one(b.out(b.Apply(op, b.in("a", b.N))))
	}, free: nothing, wrong: [][]move{row("a", 1), whole("a"), col("out", 0), whole("out")}}
}

func nothing(int, int) int { return 0 }
func perN(n, _ int) int    { return n }

// Every network's embedding has H columns that move against their readers;
// free counts what comes on top.
var rules = slices.Concat(moreRules, []rule{
	{op: graph.OpEmbedding, net: func(b *bench) []graph.ID { return one(b.out(b.embed())) }, free: nothing,
		wrong: [][]move{row("embed", 2), col("embed", 0), col("out", 1), whole("embed")}},
	{op: graph.OpEmbedding, name: "known leaf", net: func(b *bench) []graph.ID {
		w := b.weight("embed", vocabulary, b.H)
		x := b.Embedding(w, b.TokenIDs())
		b.Mul(w, b.weight("gain", b.H))
		return []graph.ID{b.out(x), b.Linear(x, w)}
	}, wrong: [][]move{row("embed", 2), col("embed", 0), whole("embed")}},
	{op: graph.OpLinear, net: func(b *bench) []graph.ID { return one(b.out(b.in("a", b.N))) }, free: perN,
		wrong: [][]move{row("a", 0), col("a", 0), col("out", 1), row("out", 0), whole("a")}},
	{op: graph.OpLinear, name: "shared weight", net: func(b *bench) []graph.ID {
		x := b.in("a", b.N)
		w := b.weight("w", b.N, b.N)
		return one(b.out(b.Linear(b.Linear(x, w), w)))
	}, wrong: [][]move{row("w", 0), col("w", 0), row("a", 0), whole("w")}},
	{op: graph.OpMatMul, net: func(b *bench) []graph.ID {
		x, y := b.in("a", b.N), b.in("b", b.N)
		v := b.in("v", b.M)
		s := b.MatMul(x, b.Transpose(y, 1, 0))
		return []graph.ID{s, b.out(b.MatMul(b.Apply(graph.OpSoftmax, s), v))}
	}, free: func(n, m int) int { return n + m },
		wrong: [][]move{row("a", 0), row("b", 0), whole("a"), row("v", 0), join(row("a", 0), row("b", 0)), col("out", 0)}},
	{op: graph.OpAdd, net: func(b *bench) []graph.ID {
		return one(b.out(b.Add(b.in("a", b.N), b.in("b", b.N))))
	}, free: perN, wrong: [][]move{row("a", 0), row("b", 1), join(row("a", 0), col("out", 0)), whole("a")}},
	{op: graph.OpAdd, name: "bias", net: func(b *bench) []graph.ID {
		return one(b.out(b.Add(b.in("a", b.N), b.weight("bias", b.N))))
	}, free: perN, wrong: [][]move{whole("bias"), row("bias", 0), row("a", 0)}},
	{op: graph.OpAdd, name: "constant", net: func(b *bench) []graph.ID {
		return one(b.out(b.Add(b.in("a", b.N), b.Const([]float32{0.5}, 1))))
	}, free: nothing, wrong: [][]move{row("a", 0), whole("a")}},
	{op: graph.OpSub, net: func(b *bench) []graph.ID {
		return one(b.out(b.Sub(b.in("a", b.N), b.in("b", b.N))))
	}, free: perN, wrong: [][]move{row("a", 0), row("b", 1), whole("b")}},
	{op: graph.OpMul, net: func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.in("a", b.N), b.in("b", b.N))))
	}, free: func(n, _ int) int { return 2 * n }, wrong: [][]move{row("a", 0), row("b", 1), join(row("a", 0), row("b", 0))}},
	{op: graph.OpMul, name: "square", net: func(b *bench) []graph.ID {
		x := b.in("a", b.N)
		return one(b.out(b.Mul(x, x)))
	}, free: perN, wrong: [][]move{row("a", 0), col("out", 0)}},
	{op: graph.OpMul, name: "gain", net: func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.in("a", b.N), b.weight("gain", b.N))))
	}, free: func(n, _ int) int { return 2 * n }, wrong: [][]move{row("gain", 0), row("a", 0)}},
	{op: graph.OpMul, name: "broadcast column", net: func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.in("a", b.N), b.in("c", 1))))
	}, wrong: [][]move{row("a", 0), whole("c"), col("out", 0)}},
	{op: graph.OpDiv, net: func(b *bench) []graph.ID {
		return one(b.out(b.Div(b.in("a", b.N), b.in("b", b.N))))
	}, free: func(n, _ int) int { return 2 * n }, wrong: [][]move{row("a", 0), row("b", 0)}},
	{op: graph.OpAddScalar, net: func(b *bench) []graph.ID {
		return one(b.out(b.AddScalar(b.in("a", b.N), 1)))
	}, free: nothing, wrong: [][]move{row("a", 0), whole("a")}},
	{op: graph.OpAddScalar, name: "gemma gain", net: func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.in("a", b.N), b.AddScalar(b.weight("gain", b.N), 1))))
	}, free: perN, wrong: [][]move{whole("gain"), row("gain", 0)}},
	{op: graph.OpAddScalar, name: "zero", net: func(b *bench) []graph.ID {
		return one(b.out(b.AddScalar(b.in("a", b.N), 0)))
	}, free: perN, wrong: [][]move{row("a", 0)}},
	{op: graph.OpMulScalar, net: func(b *bench) []graph.ID {
		return one(b.out(b.MulScalar(b.in("a", b.N), 0.7)))
	}, free: perN, wrong: [][]move{row("a", 0), whole("out")}},
	{op: graph.OpNeg, net: func(b *bench) []graph.ID {
		return one(b.out(b.Apply(graph.OpNeg, b.in("a", b.N))))
	}, free: perN, wrong: [][]move{row("a", 0)}},
	{op: graph.OpReLU, net: func(b *bench) []graph.ID {
		return one(b.out(b.Apply(graph.OpReLU, b.in("a", b.N))))
	}, free: perN, wrong: [][]move{whole("a"), whole("out")}},
	{op: graph.OpReLU, name: "squared", net: func(b *bench) []graph.ID {
		x := b.Apply(graph.OpReLU, b.in("a", b.N))
		return one(b.out(b.Mul(x, x)))
	}, free: perN, wrong: [][]move{whole("a"), join(whole("a"), whole("out"))}},
	{op: graph.OpReLU, name: "clip", net: func(b *bench) []graph.ID {
		x := b.in("a", b.N) // clip(x,-c,c) = relu(x+c) - relu(x-c) - c
		hi := b.Apply(graph.OpReLU, b.AddScalar(x, 0.5))
		lo := b.Apply(graph.OpReLU, b.AddScalar(x, -0.5))
		return one(b.out(b.AddScalar(b.Sub(hi, lo), -0.5)))
	}, free: nothing, wrong: [][]move{whole("a")}},
	function(graph.OpSiLU), function(graph.OpGELU), function(graph.OpGELUTanh),
	function(graph.OpTanh), function(graph.OpSigmoid), function(graph.OpSoftmax),
	{op: graph.OpRMSNorm, name: "movable epsilon", net: func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.RMSNorm(b.in("a", b.N), b.eps, "eps"), b.weight("gain", b.N))))
	}, free: perN, wrong: [][]move{row("a", 0), whole("a"), whole("gain")}},
	{op: graph.OpRMSNorm, name: "fixed epsilon", net: func(b *bench) []graph.ID {
		return one(b.out(b.RMSNorm(b.in("a", b.N), 1e-3, "")))
	}, free: nothing, wrong: [][]move{row("a", 0), whole("a"), col("out", 0)}},
	{op: graph.OpRMSNorm, name: "no epsilon", net: func(b *bench) []graph.ID {
		return one(b.out(b.RMSNorm(b.in("a", b.N), 0, "")))
	}, wrong: [][]move{row("a", 0), col("out", 0), whole("out")}},
	{op: graph.OpRMSNorm, name: "two epsilons", net: func(b *bench) []graph.ID {
		x := b.RMSNorm(b.in("a", b.N), b.eps, "eps")
		return one(b.out(b.RMSNorm(b.Linear(x, b.weight("w", b.M, b.N)), 1e-3, "other")))
	}, free: nothing, wrong: [][]move{whole("a"), whole("w"), row("w", 0)}},
	{op: graph.OpSum, net: func(b *bench) []graph.ID { return one(b.out(b.Sum(b.in("a", b.N)))) },
		free: func(int, int) int { return 1 }, wrong: [][]move{row("a", 0), whole("a"), join(row("a", 0), whole("out"))}},
	{op: graph.OpTopKMask, net: func(b *bench) []graph.ID {
		x := b.in("a", b.N)
		return one(b.out(b.Mul(b.TopKMask(x, 1), b.in("b", b.N))))
	}, free: func(n, _ int) int { return n + 1 }, wrong: [][]move{whole("b"), whole("out")}},
	{op: graph.OpReshape, net: func(b *bench) []graph.ID {
		x := b.Reshape(b.in("a", 2*b.N), b.T, 2, b.N)
		return one(b.out(x))
	}, free: perN, wrong: [][]move{row("a", 0), join(row("a", 0), col("out", 0)), whole("a")}},
	{op: graph.OpTranspose, net: func(b *bench) []graph.ID {
		x := b.Transpose(b.Reshape(b.in("a", 2*b.N), b.T, 2, b.N), 1, 0, 2)
		return one(b.out(b.Transpose(x, 1, 0, 2)))
	}, free: perN, wrong: [][]move{row("a", 0), join(row("a", 0), col("out", 0))}},
	{op: graph.OpSlice, net: func(b *bench) []graph.ID {
		x := b.in("a", b.N+b.M)
		return []graph.ID{b.out(b.Slice(x, 1, 0, b.N)), b.outAs("second", b.Slice(x, 1, b.N, b.N+b.M))}
	}, free: func(n, m int) int { return n + m }, wrong: [][]move{row("a", 0), whole("a"), col("second", 0)}},
	{op: graph.OpConcat, net: func(b *bench) []graph.ID {
		return one(b.out(b.Concat(1, b.in("a", b.N), b.in("b", b.M))))
	}, free: func(n, m int) int { return n + m }, wrong: [][]move{row("a", 0), row("b", 0), join(row("b", 0), col("out", 0))}},
	{op: graph.OpConcat, name: "along tokens", net: func(b *bench) []graph.ID {
		return one(b.out(b.Concat(0, b.in("a", b.N), b.in("b", b.N))))
	}, free: perN, wrong: [][]move{row("a", 0), join(row("a", 0), col("out", 0))}},
	{op: graph.OpExpand, net: func(b *bench) []graph.ID {
		x := b.Expand(b.Reshape(b.in("a", b.N), b.T, 1, b.N), b.T, 3, b.N)
		return one(b.out(b.Reshape(x, b.T, 3*b.N)))
	}, free: perN, wrong: [][]move{row("a", 0), join(row("a", 0), col("out", 0))}},
})

// transposed turns every linear map with a square weight into one whose weight
// is stored [in,out].
func transposed(g *graph.Graph, names ...string) {
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Op == graph.OpLinear && slices.Contains(names, g.Nodes[n.In[1]].Name) {
			n.Transposed = true
		}
	}
}

func (r rule) String() string {
	if r.name == "" {
		return r.op.String()
	}
	return r.op.String() + "/" + r.name
}

// TestRules: under any exponents that the solver allows, outputs are the same,
// bit for bit.
func TestRules(t *testing.T) {
	for _, r := range rules {
		t.Run(r.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				exact(t, rt, r.net, nil)
			})
		})
	}
	t.Run("linear/transposed", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			exact(t, rt, transposedNet, func(g *graph.Graph) { transposed(g, "w", "v") })
		})
	})
}

func transposedNet(b *bench) []graph.ID {
	x := b.Linear(b.in("a", b.N), b.weight("w", b.N, b.N))
	return one(b.out(b.Apply(graph.OpReLU, b.Linear(x, b.weight("v", b.N, b.N)))))
}

// exact draws sizes, weights, tokens and exponents, and compares.
func exact(t *testing.T, rt *rapid.T, net network, edit func(*graph.Graph)) {
	dim := rapid.IntRange(1, 5)
	size := [4]int{dim.Draw(rt, "T"), dim.Draw(rt, "H"), dim.Draw(rt, "N"), dim.Draw(rt, "M")}
	seed := rapid.Uint64().Draw(rt, "seed")
	r := rand.New(rand.NewPCG(seed, 1))
	draw := func() int { return int(r.Uint32() >> 1) }
	g := net.build(t, size, 0)
	if edit != nil {
		edit(g)
	}
	sol, err := gauge.Solve(g)
	if err != nil {
		rt.Fatal(err)
	}
	w, tokens := randomWeights(g, r), tokensOf(size[0], draw)
	e := drawExponents(sol, 3, draw)
	sealed, shift := apply(t, sol, w, e)
	h := net.build(t, size, shift)
	if edit != nil {
		edit(h)
	}
	if d := differ(run(t, g, w, tokens, nil), run(t, h, sealed, tokens, nil)); d != "" {
		rt.Fatalf("sizes %v, exponents %v: %s", size, e, d)
	}
	values(t, rt, net, g, sol, w, tokens, edit, size)
}

// TestRulesHavePower: the solver finds the freedom that is there, and the
// comparison sees every wrong move: a rule that allowed it would be caught.
func TestRulesHavePower(t *testing.T) {
	for _, r := range rules {
		t.Run(r.String(), func(t *testing.T) {
			r.powerful(t)
		})
	}
}

func (r rule) powerful(t *testing.T) {
	size := [4]int{4, testH, 5, 4}
	g := r.net.build(t, size, 0)
	sol, err := gauge.Solve(g)
	if err != nil {
		t.Fatal(err)
	}
	if r.free != nil {
		if want := r.free(size[2], size[3]) + testH; sol.FreeDims != want {
			t.Errorf("%d free dimensions, want %d", sol.FreeDims, want)
		}
	}
	for seed := range uint64(3) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		draw := func() int { return int(rnd.Uint32() >> 1) }
		w, tokens := randomWeights(g, rnd), []int{2, 0, 5, 2}
		right, shift := apply(t, sol, w, drawExponents(sol, 3, draw))
		h := r.net.build(t, size, shift)
		want := run(t, g, w, tokens, nil)
		if d := differ(want, run(t, h, right, tokens, nil)); d != "" {
			t.Fatalf("the right way is not exact: %s", d)
		}
		for _, wrong := range r.wrong {
			bad := right.clone()
			for _, m := range wrong {
				m.apply(t, h, bad)
			}
			if differ(want, run(t, h, bad, tokens, nil)) == "" {
				t.Errorf("seed %d: moving %v changes nothing", seed, wrong)
			}
		}
	}
}

// TestEveryOperationHasARule keeps the table complete.
func TestEveryOperationHasARule(t *testing.T) {
	leaves := []graph.Op{graph.OpInvalid, graph.OpWeight, graph.OpConst, graph.OpTokens}
	for op := graph.Op(0); op.String() != "op?"; op++ {
		has := slices.ContainsFunc(rules, func(r rule) bool { return r.op == op })
		if !has && !slices.Contains(leaves, op) {
			t.Errorf("operation %v has no test of its rule", op)
		}
	}
}

// TestUnknownOperationPins: an operation that the solver has never heard of
// fixes everything that goes into it.
func TestUnknownOperationPins(t *testing.T) {
	net := network(func(b *bench) []graph.ID { return one(b.out(b.Apply(graph.OpReLU, b.in("a", b.N)))) })
	g := net.build(t, [4]int{2, 3, 4, 5}, 0)
	for i := range g.Nodes {
		if g.Nodes[i].Op == graph.OpReLU {
			g.Nodes[i].Op = 200
		}
	}
	sol, err := gauge.Solve(g)
	if err != nil {
		t.Fatal(err)
	}
	if sol.FreeDims != 3 { // the embedding's columns against "a"
		t.Errorf("%d free dimensions, want 3", sol.FreeDims)
	}
	if len(sol.Holes) != 1 || sol.Holes[0].Tensor != "out" {
		t.Errorf("holes %v, want out", sol.Holes)
	}
	g.Nodes[len(g.Nodes)-1].Op = graph.OpInvalid
	if _, err := gauge.Solve(g); err == nil {
		t.Error("an invalid operation is accepted")
	}
}

// TestUnreadWeight: a weight that nothing reads has no factors.
func TestUnreadWeight(t *testing.T) {
	net := network(func(b *bench) []graph.ID {
		b.weight("unread", 3, 3)
		return one(b.out(b.in("a", b.N)))
	})
	sol, err := gauge.Solve(net.build(t, [4]int{2, 3, 4, 5}, 0))
	if err != nil {
		t.Fatal(err)
	}
	if sol.FreeDims != 7 {
		t.Errorf("%d free dimensions, want 7", sol.FreeDims)
	}
}

// TestTies: two tensors that must stay equal move alike or not at all.
func TestTies(t *testing.T) {
	for _, tie := range []bool{false, true} {
		net := network(func(b *bench) []graph.ID {
			if tie {
				b.Tie("a", "c")
			}
			return []graph.ID{b.outAs("x", b.in("a", b.N)), b.outAs("y", b.in("c", b.N))}
		})
		sol, err := gauge.Solve(net.build(t, [4]int{2, 3, 4, 5}, 0))
		if err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{false: 3 + 8, true: 3 + 4}[tie]; sol.FreeDims != want {
			t.Errorf("tied %v: %d free dimensions, want %d", tie, sol.FreeDims, want)
		}
	}
}
