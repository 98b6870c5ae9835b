package seal

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

// variance begins the names of weights that are never negative.
const variance = "variance"

// grower builds a random network of values [tokens,width].
type grower struct {
	*graph.Builder
	r      *rand.Rand
	tokens int
	width  int
	pool   []graph.ID
	fresh  int
}

func (g *grower) pick() graph.ID { return g.pool[g.r.IntN(len(g.pool))] }

func (g *grower) weightOf(shape ...int) graph.ID {
	g.fresh++
	return g.Weight("w"+string(rune('A'+g.fresh/26))+string(rune('a'+g.fresh%26)), shape...)
}

// variance is a weight that is never negative: fill looks for its name.
func (g *grower) variance(shape ...int) graph.ID {
	g.fresh++
	return g.Weight(fmt.Sprintf("%s%d", variance, g.fresh), shape...)
}

func (g *grower) ids(limit int, shape ...int) graph.ID {
	g.fresh++
	return g.InputIDs("i"+string(rune('A'+g.fresh/26))+string(rune('a'+g.fresh%26)), limit, shape...)
}

// pad keeps everything at [tokens,width].
func (g *grower) column(x graph.ID) graph.ID { return g.Expand(x, g.tokens, g.width) }

// steps are the ways to go on from values x and y: every operation is in one.
var steps = map[graph.Op]func(g *grower, x, y graph.ID) graph.ID{
	graph.OpEmbedding: func(g *grower, x, y graph.ID) graph.ID {
		return g.Embedding(g.weightOf(5, g.width), g.ids(5, g.tokens))
	},
	graph.OpLinear: func(g *grower, x, y graph.ID) graph.ID {
		w := g.weightOf(g.width, g.width)
		switch g.r.IntN(4) {
		case 0:
			return g.LinearT(x, w)
		case 1:
			return g.Linear(x, g.Mul(w, g.weightOf(g.width)))
		case 2:
			return g.Linear(x, g.Transpose(w, 1, 0))
		}
		return g.Linear(x, w)
	},
	graph.OpMatMul: func(g *grower, x, y graph.ID) graph.ID {
		s := g.MatMul(x, g.Transpose(y, 1, 0))
		if g.r.IntN(2) == 0 {
			s = g.Apply(graph.OpSoftmax, s)
		}
		return g.MatMul(s, g.pick())
	},
	graph.OpConv: func(g *grower, x, y graph.ID) graph.ID {
		h := g.Reshape(g.Transpose(x, 1, 0), 1, g.width, g.tokens)
		h = g.Conv(h, g.weightOf(g.width, 1, 3), graph.Conv{Stride: []int{1}, Before: []int{2}, After: []int{0}, Dilation: []int{1}, Groups: g.width})
		h = g.Conv(h, g.weightOf(g.width, g.width, 3), graph.Conv{Stride: []int{1}, Before: []int{1}, After: []int{1}, Dilation: []int{1}, Groups: 1})
		return g.Transpose(g.Reshape(h, g.width, g.tokens), 1, 0)
	},
	graph.OpAdd: func(g *grower, x, y graph.ID) graph.ID { return g.Add(x, y) },
	graph.OpSub: func(g *grower, x, y graph.ID) graph.ID { return g.Sub(x, y) },
	graph.OpMul: func(g *grower, x, y graph.ID) graph.ID { return g.Mul(x, y) },
	graph.OpDiv: func(g *grower, x, y graph.ID) graph.ID {
		switch g.r.IntN(6) {
		case 4: // a batch norm
			v := g.Pow(g.AddScalar(g.Reshape(g.variance(g.width), 1, g.width), 1e-3), -0.5)
			return g.Mul(g.Sub(x, g.weightOf(g.width)), v)
		case 0: // a share of a sum
			e := g.Apply(graph.OpAbs, x)
			return g.Div(e, g.AddScalar(g.Sum(e), 1e-6))
		case 1: // a norm, written out
			d := g.AddScalar(g.MulScalar(g.Sum(g.Pow(x, 2)), 1/float64(g.width)), 1e-5)
			return g.Div(x, g.Pow(d, 0.5))
		case 2:
			d := g.AddScalar(g.Sum(g.Mul(x, x)), 1e-5)
			return g.Mul(x, g.Expand(g.Pow(d, -0.5), g.tokens, g.width))
		case 3:
			return g.Div(x, g.AddScalar(g.Apply(graph.OpExp, g.Clamp(y, -3, 3)), 0.5))
		}
		return g.running(x, y)
	},
	graph.OpMaximum:   func(g *grower, x, y graph.ID) graph.ID { return g.Maximum(x, y) },
	graph.OpMinimum:   func(g *grower, x, y graph.ID) graph.ID { return g.Minimum(x, y) },
	graph.OpWhere:     func(g *grower, x, y graph.ID) graph.ID { return g.Where(g.ids(2, g.tokens, 1), x, y) },
	graph.OpAddScalar: func(g *grower, x, y graph.ID) graph.ID { return g.AddScalar(x, g.r.NormFloat64()) },
	graph.OpMulScalar: func(g *grower, x, y graph.ID) graph.ID { return g.MulScalar(x, g.r.NormFloat64()) },
	graph.OpPow: func(g *grower, x, y graph.ID) graph.ID {
		p := []float64{2, 3, 0.5, 1.5, -0.5, -1}[g.r.IntN(6)]
		return g.Pow(g.AddScalar(g.Apply(graph.OpAbs, x), 0.01), p)
	},
	graph.OpClamp: func(g *grower, x, y graph.ID) graph.ID {
		bounds := [][2]float64{{-1, 2}, {0, math.Inf(1)}, {math.Inf(-1), 0}, {0.5, 3}, {-3, -2}, {math.Inf(-1), 4}}
		b := bounds[g.r.IntN(len(bounds))]
		return g.Clamp(x, b[0], b[1])
	},
	graph.OpLeakyReLU: func(g *grower, x, y graph.ID) graph.ID { return g.LeakyReLU(x, 3*g.r.Float64()) },
	graph.OpELU:       func(g *grower, x, y graph.ID) graph.ID { return g.ELU(x, 3*g.r.Float64()) },
	graph.OpExp: func(g *grower, x, y graph.ID) graph.ID {
		switch g.r.IntN(5) {
		case 0:
			return g.Apply(graph.OpExp, g.Sub(x, g.Max(x)))
		case 1: // a decay
			a := g.Apply(graph.OpNeg, g.Apply(graph.OpExp, g.weightOf(g.width)))
			return g.Apply(graph.OpExp, g.Mul(g.Apply(graph.OpSoftplus, x), a))
		case 2:
			return g.Apply(graph.OpExp, g.Minimum(x, g.weightOf()))
		case 3:
			return g.Apply(graph.OpExp, g.Sub(x, g.Maximum(y, x)))
		}
		return g.Apply(graph.OpExp, g.Clamp(x, math.Inf(-1), 1.5))
	},
	graph.OpLog: func(g *grower, x, y graph.ID) graph.ID {
		return g.Apply(graph.OpLog, g.AddScalar(g.Apply(graph.OpSoftplus, x), 1e-3))
	},
	graph.OpEqual:     func(g *grower, x, y graph.ID) graph.ID { return g.Mul(x, g.Compare(graph.OpEqual, x, y)) },
	graph.OpLess:      func(g *grower, x, y graph.ID) graph.ID { return g.Mul(x, g.Compare(graph.OpLess, x, y)) },
	graph.OpNot:       func(g *grower, x, y graph.ID) graph.ID { return g.Mul(x, g.Not(y)) },
	graph.OpAnd:       func(g *grower, x, y graph.ID) graph.ID { return g.Mul(x, g.Logical(graph.OpAnd, x, y)) },
	graph.OpOr:        func(g *grower, x, y graph.ID) graph.ID { return g.Mul(x, g.Logical(graph.OpOr, x, y)) },
	graph.OpSoftmax:   func(g *grower, x, y graph.ID) graph.ID { return g.Apply(graph.OpSoftmax, x) },
	graph.OpRMSNorm:   func(g *grower, x, y graph.ID) graph.ID { return g.RMSNorm(x, 1e-5, "") },
	graph.OpLayerNorm: func(g *grower, x, y graph.ID) graph.ID { return g.LayerNorm(x, 1e-5, "") },
	graph.OpSum:       func(g *grower, x, y graph.ID) graph.ID { return g.column(g.Sum(x)) },
	graph.OpMax:       func(g *grower, x, y graph.ID) graph.ID { return g.column(g.Max(x)) },
	graph.OpArgMax:    func(g *grower, x, y graph.ID) graph.ID { return g.Mul(y, g.ArgMax(x)) },
	graph.OpCumSum:    func(g *grower, x, y graph.ID) graph.ID { return g.CumSum(x) },
	graph.OpTopKMask:  func(g *grower, x, y graph.ID) graph.ID { return g.Mul(y, g.TopKMask(x, 1+g.r.IntN(g.width))) },
	graph.OpTopKValues: func(g *grower, x, y graph.ID) graph.ID {
		v, _ := g.TopK(x, g.width)
		return v
	},
	graph.OpTopKIndices: func(g *grower, x, y graph.ID) graph.ID {
		_, i := g.TopK(x, g.width)
		return g.Mul(y, i)
	},
	graph.OpOneHot: func(g *grower, x, y graph.ID) graph.ID {
		return g.MatMul(g.OneHot(g.ids(g.tokens, g.tokens), g.tokens), x)
	},
	graph.OpReshape: func(g *grower, x, y graph.ID) graph.ID {
		return g.Reshape(g.Transpose(x, 1, 0), g.tokens, g.width)
	},
	graph.OpTranspose: func(g *grower, x, y graph.ID) graph.ID { return g.Transpose(g.Transpose(x, 1, 0), 1, 0) },
	graph.OpSlice:     func(g *grower, x, y graph.ID) graph.ID { return g.Pad(g.Slice(x, 1, 1, g.width), 1, 0, 1) },
	graph.OpConcat: func(g *grower, x, y graph.ID) graph.ID {
		return g.Concat(1, g.Slice(x, 1, 1, g.width), g.Slice(y, 1, 0, 1))
	},
	graph.OpExpand: func(g *grower, x, y graph.ID) graph.ID { return g.Expand(g.Slice(x, 0, 0, 1), g.tokens, g.width) },
	graph.OpPad:    func(g *grower, x, y graph.ID) graph.ID { return g.Slice(g.Pad(x, 0, 1, 0), 0, 0, g.tokens) },
	graph.OpFlip:   func(g *grower, x, y graph.ID) graph.ID { return g.Flip(x, g.r.IntN(2)) },
	graph.OpIndex: func(g *grower, x, y graph.ID) graph.ID {
		switch g.r.IntN(3) {
		case 0:
			return g.Index(x, g.ids(g.tokens, g.tokens), 0)
		case 1: // experts
			w := g.Index(g.weightOf(4, g.width, g.width), g.ids(4, g.tokens), 0)
			return g.Reshape(g.MatMul(w, g.Reshape(x, g.tokens, g.width, 1)), g.tokens, g.width)
		}
		return g.Index(x, g.ids(g.width, g.width), 1)
	},
	graph.OpGather: func(g *grower, x, y graph.ID) graph.ID { return g.Gather(x, g.ids(g.width, g.tokens, g.width), 1) },
	graph.OpScatter: func(g *grower, x, y graph.ID) graph.ID {
		return g.Scatter(graph.OpScatter, x, g.ids(g.width, g.tokens, g.width), y, 1)
	},
	graph.OpScatterAdd: func(g *grower, x, y graph.ID) graph.ID {
		if g.r.IntN(2) == 0 { // all of it in one place
			n := g.tokens * g.width
			ids := g.ConstInts(make([]int, n), g.tokens, g.width)
			return g.Scatter(graph.OpScatterAdd, g.Const(make([]float32, n), g.tokens, g.width), ids, g.Maximum(y, g.Const([]float32{4})), 0)
		}
		return g.Scatter(graph.OpScatterAdd, x, g.ids(g.tokens, g.tokens, g.width), y, 0)
	},
	graph.OpOpaque: func(g *grower, x, y graph.ID) graph.ID {
		return g.Opaque("aten.mystery", false, []int{g.tokens, g.width}, x)
	},
}

// running is a weighted mean whose weights are exponentials, kept relative to
// the largest.
func (g *grower) running(k, v graph.ID) graph.ID {
	num, den, top := g.Slice(v, 0, 0, 1), graph.ID(0), g.Slice(k, 0, 0, 1)
	ones := make([]float32, g.width)
	for i := range ones {
		ones[i] = 1
	}
	den = g.Const(ones, 1, g.width)
	out := []graph.ID{num}
	for i := 1; i < g.tokens; i++ {
		key := g.Slice(k, 0, i, i+1)
		most := g.Maximum(top, key)
		e1, e2 := g.Apply(graph.OpExp, g.Sub(top, most)), g.Apply(graph.OpExp, g.Sub(key, most))
		num = g.Add(g.Mul(e1, num), g.Mul(e2, g.Slice(v, 0, i, i+1)))
		den, top = g.Add(g.Mul(e1, den), e2), most
		out = append(out, g.Div(num, den))
	}
	return g.Concat(0, out...)
}

// grow builds a network of one operation for certain and others at random.
func grow(t testing.TB, r *rand.Rand, must graph.Op) *graph.Graph {
	g := &grower{Builder: graph.NewBuilder(3 + r.IntN(3)), r: r, tokens: 3, width: 2 + r.IntN(6)}
	g.tokens = g.size()
	x := g.Embedding(g.weightOf(7, g.width), g.TokenIDs())
	g.pool = []graph.ID{x, g.Input("x", g.tokens, g.width)}
	ops := graph.Ops()
	at := r.IntN(5)
	for i := range 8 {
		op := ops[r.IntN(len(ops))]
		if i == at {
			op = must
		}
		step := steps[op]
		switch {
		case step == nil && op.Function():
			step = func(g *grower, x, _ graph.ID) graph.ID { return g.Apply(op, x) }
		case step == nil:
			continue
		}
		g.pool = append(g.pool, step(g, g.pick(), g.pick()))
	}
	out, err := g.Finish(g.pool...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (g *grower) size() int { return g.Shape(g.TokenIDs())[0] }

// TestBoundsOfEveryOperation: in random networks of all operations, no value
// exceeds its bound, nor leaves its side of zero.
func TestBoundsOfEveryOperation(t *testing.T) {
	for _, op := range graph.Ops() {
		if _, ok := steps[op]; !ok && !op.Function() {
			continue
		}
		t.Run(op.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 7))
				n := network{g: grow(t, r, op)}
				n.fill(r)
				for k, v := range n.w { // moderate: exponentials of exponentials are Inf
					for i := range v {
						n.w[k][i] = max(min(v[i], 8), -8)
					}
				}
				checkBounds(rt, n, r, 7)
			})
		})
	}
}

// fataler is a test, or one case of a property.
type fataler interface {
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// checkBounds runs a network and compares every value with its bounds.
func checkBounds(rt fataler, n network, r *rand.Rand, vocab int) {
	a := newBounder(n.g, n.bound)
	a.run()
	tokens := make([]int, n.g.Tokens)
	for i := range tokens {
		tokens[i] = r.IntN(vocab)
	}
	p := []probe.Precision{probe.FP32, probe.BF16}[r.IntN(2)]
	_, err := probe.Run(context.Background(), n.g, n, probe.Options{Tokens: tokens, Precision: p, Workers: 1,
		Observe: func(id graph.ID, x []float32) {
			within(rt, n.g, id, x, a.out[id])
			sided(rt, n.g, id, x, a.signs[id])
		}})
	if err != nil {
		rt.Fatal(err)
	}
}

func sided(rt fataler, g *graph.Graph, id graph.ID, x []float32, s sign) {
	if s.pos != s.pos || s.neg != s.neg || s.low != s.low {
		rt.Fatalf("%v: sides %+v", g.Nodes[id].Op, s)
	}
	for _, f := range x {
		v := float64(f)
		if v != v || math.Abs(v) > 1e37 {
			return
		}
		if v > 0 && math.Log2(v) > s.pos || v < 0 && math.Log2(-v) > s.neg || s.low > none && v < 0 || s.low > -126 && math.Log2(v) < s.low {
			rt.Fatalf("%v in %s: %g is outside %+v", g.Nodes[id].Op, g.Nodes[id].Scope, v, s)
		}
	}
}

// TestBoundsOfFamilies: one network of every family, with any weights.
func TestBoundsOfFamilies(t *testing.T) {
	dirs, err := filepath.Glob("../arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	seen := map[string]bool{}
	for _, d := range dirs {
		n := open(t, filepath.Base(filepath.Dir(d)))
		if seen[n.family] {
			continue
		}
		seen[n.family] = true
		t.Run(n.family, func(t *testing.T) {
			for seed := range uint64(6) {
				r := rand.New(rand.NewPCG(seed, 1))
				n.fill(r)
				checkBounds(t, n, r, 16)
			}
			for i, b := range bounds(n.g, func(string) WeightBound { return WeightBound{Max: 0, RowL2: 2, L2: 4} }) {
				x := &n.g.Nodes[i]
				if len(n.sol.Values[i]) > 0 && !x.Int && !moves(x.Op) && b.max > fp32Limit {
					t.Errorf("%v in %s moves and has no bound", x.Op, x.Scope)
				}
			}
		})
	}
}
