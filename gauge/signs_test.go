package gauge_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// negate flips the signs of weights: neg holds the classes of every group that
// are negative.
func negate(sol *gauge.Solution, w memory, neg [][]bool) memory {
	out := w.clone()
	for _, t := range sol.Tensors {
		st := make([]int, len(t.Shape))
		n := 1
		for a := len(t.Shape) - 1; a >= 0; a-- {
			st[a] = n
			n *= t.Shape[a]
		}
		for _, ax := range t.Terms {
			flip := ax.Negative(neg)
			for i := range n {
				at := 0
				for _, a := range ax.Axes {
					at = at*t.Shape[a] + i/st[a]%t.Shape[a]
				}
				if flip[at] {
					b := out[t.Name][4*i:]
					binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)^1<<31)
				}
			}
		}
	}
	return out
}

// unequal is differ, for which zero has no sign.
func unequal(a, b [][]float32) bool {
	for i := range a {
		for j, x := range a[i] {
			if y := b[i][j]; x != y && (x == x || y == y) {
				return true
			}
		}
	}
	return false
}

// TestSigns: signs that the solver allows change no output by a bit.
func TestSigns(t *testing.T) {
	for _, r := range rules {
		t.Run(r.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { signsExact(t, rt, r.net) })
		})
	}
	t.Run("random graphs", func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			plan := rapid.SliceOfN(rapid.Uint32(), 1, 14).Draw(rt, "plan")
			signsExact(t, rt, func(b *bench) []graph.ID { return random(b, plan) })
		})
	})
}

func signsExact(t *testing.T, rt *rapid.T, net network) {
	dim := rapid.IntRange(1, 5)
	size := [4]int{dim.Draw(rt, "T"), dim.Draw(rt, "H"), dim.Draw(rt, "N"), dim.Draw(rt, "M")}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
	g := net.build(t, size, 0)
	sol, err := gauge.Solve(g)
	if err != nil {
		rt.Fatal(err)
	}
	w, tokens := randomWeights(g, r), tokensOf(size[0], func() int { return int(r.Uint32() >> 1) })
	neg := make([][]bool, len(sol.Groups))
	for i, group := range sol.Groups {
		if group.Flip {
			neg[i] = make([]bool, group.Classes)
			for c := range neg[i] {
				neg[i][c] = r.Uint32()&1 != 0
			}
		}
	}
	if unequal(run(t, g, w, tokens, nil), run(t, g, negate(sol, w, neg), tokens, nil)) {
		rt.Fatalf("sizes %v, signs %v of %v: outputs differ", size, neg, sol.Groups)
	}
}

// signRule is a network with a group that stands for the rows of "a", and
// whether these may be negative.
type signRule struct {
	name string
	flip bool
	net  network
}

var signRules = []signRule{
	{"linear", true, func(b *bench) []graph.ID { return one(b.out(b.in("a", b.N))) }},
	{"add", true, func(b *bench) []graph.ID { return one(b.out(b.Add(b.in("a", b.N), b.in("b", b.N)))) }},
	{"mul", true, func(b *bench) []graph.ID { return one(b.out(b.Mul(b.in("a", b.N), b.in("b", b.N)))) }},
	{"square", true, func(b *bench) []graph.ID { return one(b.out(b.Pow(b.in("a", b.N), 2))) }},
	{"relu of a square", true, func(b *bench) []graph.ID {
		return one(b.out(b.Apply(graph.OpReLU, b.Pow(b.in("a", b.N), 2))))
	}},
	{"cube", true, func(b *bench) []graph.ID { return one(b.out(b.Pow(b.in("a", b.N), 3))) }},
	{"sum", true, func(b *bench) []graph.ID { return one(b.out(b.Sum(b.in("a", b.N)))) }},
	{"cumulative sum", true, func(b *bench) []graph.ID { return one(b.out(b.CumSum(b.in("a", b.N)))) }},
	{"scores", true, func(b *bench) []graph.ID {
		s := b.MatMul(b.in("a", b.N), b.Transpose(b.in("b", b.N), 1, 0))
		return []graph.ID{b.Apply(graph.OpSoftmax, s)}
	}},
	{"where, zeros", true, func(b *bench) []graph.ID { return one(b.out(b.masked(b.in("a", b.N), 0))) }},
	{"numerator", true, func(b *bench) []graph.ID { return one(b.out(b.Div(b.in("a", b.N), b.in("b", b.N)))) }},
	{"relu", false, func(b *bench) []graph.ID { return one(b.out(b.Apply(graph.OpReLU, b.in("a", b.N)))) }},
	{"leaky relu", false, func(b *bench) []graph.ID { return one(b.out(b.LeakyReLU(b.in("a", b.N), 0.1))) }},
	{"abs", false, func(b *bench) []graph.ID { return one(b.out(b.Apply(graph.OpAbs, b.in("a", b.N)))) }},
	{"clamp", false, func(b *bench) []graph.ID { return one(b.out(b.Clamp(b.in("a", b.N), 0, math.Inf(1)))) }},
	{"maximum", false, func(b *bench) []graph.ID { return one(b.out(b.Maximum(b.in("a", b.N), b.in("b", b.N)))) }},
	{"max", false, func(b *bench) []graph.ID { return one(b.out(b.Max(b.in("a", b.N)))) }},
	{"square root of a square", false, func(b *bench) []graph.ID {
		return one(b.out(b.Pow(b.Pow(b.in("a", b.N), 2), 0.5)))
	}},
	{"norm", false, func(b *bench) []graph.ID { return one(b.out(b.RMSNorm(b.in("a", b.N), 0, ""))) }},
	{"layer norm", false, func(b *bench) []graph.ID { return one(b.out(b.LayerNorm(b.in("a", b.N), 0, ""))) }},
	{"top-k", false, func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.TopKMask(b.in("a", b.N), 2), b.in("b", b.N))))
	}},
	{"argmax", false, func(b *bench) []graph.ID {
		return one(b.Index(b.weight("table", b.N, 3), b.ArgMax(b.in("a", b.N)), 0))
	}},
	{"less", false, func(b *bench) []graph.ID {
		return one(b.out(b.Where(b.Compare(graph.OpLess, b.in("a", b.N), b.in("b", b.N)), b.in("c", b.N), b.in("d", b.N))))
	}},
	{"where, infinities", false, func(b *bench) []graph.ID {
		return one(b.out(b.Apply(graph.OpReLU, b.Apply(graph.OpNeg, b.masked(b.in("a", b.N), float32(math.Inf(-1)))))))
	}},
}

// masked puts a constant in every second place.
func (b *bench) masked(x graph.ID, with float32) graph.ID {
	s := b.Shape(x)
	cond := make([]float32, s[1])
	for i := range cond {
		cond[i] = float32(i % 2)
	}
	return b.Where(b.Compare(graph.OpEqual, b.Const(cond, len(cond)), b.Const([]float32{1}, 1)), x, b.Const([]float32{with}, 1))
}

// TestSignsHavePower: the solver allows the signs that are there, and where it
// does not, they change the outputs.
func TestSignsHavePower(t *testing.T) {
	for _, r := range signRules {
		t.Run(r.name, func(t *testing.T) {
			g := r.net.build(t, [4]int{4, testH, 5, 4}, 0)
			sol, err := gauge.Solve(g)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(sol.Groups, func(x gauge.Group) bool { return x.ID == string(x.Kind)+":a" })
			if i < 0 {
				t.Fatalf("no group of a: %v", sol.Groups)
			}
			if sol.Groups[i].Flip != r.flip {
				t.Errorf("flip %v, want %v", sol.Groups[i].Flip, r.flip)
			}
			differs := false
			for seed := range uint64(5) {
				w := randomWeights(g, rand.New(rand.NewPCG(seed, 2)))
				neg := make([][]bool, len(sol.Groups))
				neg[i] = make([]bool, sol.Groups[i].Classes)
				for c := range neg[i] {
					neg[i][c] = c%2 == 0
				}
				tokens := []int{2, 0, 5, 2}
				differs = differs || unequal(run(t, g, w, tokens, nil), run(t, g, negate(sol, w, neg), tokens, nil))
			}
			if differs == r.flip {
				t.Errorf("outputs differ: %v", differs)
			}
		})
	}
}
