package probe_test

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

// bench builds small networks of one operation.
type bench struct {
	*graph.Builder
	t       *rapid.T
	n, m, k int // lengths of axes
}

func (b *bench) real(name string, shape ...int) graph.ID { return b.Input(name, shape...) }

// away keeps values from where a function is steep or undefined.
func (b *bench) away(x graph.ID) graph.ID { return b.AddScalar(b.Apply(graph.OpAbs, x), 0.25) }

func (b *bench) draw(name string, lo, hi int) int { return rapid.IntRange(lo, hi).Draw(b.t, name) }

// opCases has at least one network for every operation but the leaves.
var opCases = map[graph.Op]func(b *bench) []graph.ID{
	graph.OpEmbedding: func(b *bench) []graph.ID {
		w, ids := b.Weight("w", 5, b.n), b.InputIDs("ids", 5, b.m, b.k)
		moved := b.Reshape(b.Concat(0, b.Slice(w, 0, 2, 5), b.Slice(w, 0, 0, 2)), 5, b.n)
		return []graph.ID{b.Embedding(w, ids), b.Embedding(moved, ids), b.Embedding(b.real("x", 5, b.n), b.ArgMax(b.real("y", b.m, 5)))}
	},
	graph.OpLinear: func(b *bench) []graph.ID {
		x, w, v := b.real("x", b.k, b.n), b.Weight("w", b.m, b.n), b.Weight("v", b.n, b.m)
		computed := b.Mul(w, b.Weight("gain", b.n))
		two := b.Concat(0, w, b.Weight("u", 2, b.n))
		return []graph.ID{b.Linear(x, w), b.LinearT(x, v), b.Linear(x, b.Transpose(v, 1, 0)), b.Linear(x, computed),
			b.Linear(x, two), b.LinearT(x, b.Reshape(w, b.n, b.m)), b.Linear(w, w), b.Linear(b.real("long", 40, b.n), two)}
	},
	graph.OpMatMul: func(b *bench) []graph.ID {
		e := b.Weight("experts", 4, b.n, b.m)
		ids := b.InputIDs("ids", 4, b.k)
		return []graph.ID{b.MatMul(b.real("x", 2, b.k, b.n), b.real("y", 2, b.n, b.m)),
			b.MatMul(b.Index(e, ids, 0), b.real("z", b.k, b.m, 1)), b.MatMul(b.real("u", b.k, 1, b.n), b.Index(e, ids, 0)),
			b.MatMul(b.real("long", 150, b.n), b.real("v", b.n, b.m))}
	},
	graph.OpConv: func(b *bench) []graph.ID {
		var out []graph.ID
		for axes := 1; axes <= 3; axes++ {
			groups := b.draw("groups", 1, 3)
			c := graph.Conv{Groups: groups}
			x, w := []int{b.k, groups * b.n}, []int{groups * b.m, b.n}
			for range axes {
				c.Stride = append(c.Stride, b.draw("stride", 1, 3))
				c.Dilation = append(c.Dilation, b.draw("dilation", 1, 2))
				c.Before, c.After = append(c.Before, b.draw("before", 0, 3)), append(c.After, b.draw("after", 0, 2))
				w = append(w, b.draw("kernel", 1, 3))
				x = append(x, b.draw("length", 5, 7))
			}
			name := string(rune('a' + axes))
			out = append(out, b.Conv(b.real(name, x...), b.Weight("w"+name, w...), c))
		}
		return out
	},
	graph.OpAdd:     two((*graph.Builder).Add),
	graph.OpSub:     two((*graph.Builder).Sub),
	graph.OpMul:     two((*graph.Builder).Mul),
	graph.OpMaximum: two((*graph.Builder).Maximum),
	graph.OpMinimum: two((*graph.Builder).Minimum),
	graph.OpDiv: func(b *bench) []graph.ID {
		return []graph.ID{b.Div(b.real("x", b.n, b.m), b.away(b.real("y", b.n, 1))), b.Div(b.InputIDs("i", 9, b.n), b.away(b.real("z", b.n)))}
	},
	graph.OpEqual: compare(graph.OpEqual),
	graph.OpLess:  compare(graph.OpLess),
	graph.OpAnd:   logical(graph.OpAnd),
	graph.OpOr:    logical(graph.OpOr),
	graph.OpNot:   func(b *bench) []graph.ID { return []graph.ID{b.Not(b.InputIDs("x", 2, b.n, b.m))} },
	graph.OpWhere: func(b *bench) []graph.ID {
		c := b.InputIDs("c", 2, b.k, b.n, 1)
		return []graph.ID{b.Where(c, b.real("x", b.n, b.m), b.real("y", 1, b.m)), b.Where(c, b.real("z", b.k, 1, b.m), b.Const([]float32{-3}))}
	},
	graph.OpAddScalar: func(b *bench) []graph.ID { return []graph.ID{b.AddScalar(b.real("x", b.n), 0.7)} },
	graph.OpMulScalar: func(b *bench) []graph.ID { return []graph.ID{b.MulScalar(b.real("x", b.n), -0.7)} },
	graph.OpPow: func(b *bench) []graph.ID {
		x := b.real("x", b.n, b.m)
		out := []graph.ID{b.Pow(x, 2), b.Pow(x, 3), b.Pow(x, -1)}
		for _, p := range []float64{0.5, -0.5, 1.5, 2.0 / 3, -1.25, 0.3} {
			out = append(out, b.Pow(b.away(x), p))
		}
		return out
	},
	graph.OpClamp: func(b *bench) []graph.ID {
		x := b.real("x", b.n, b.m)
		return []graph.ID{b.Clamp(x, -0.5, 1), b.Clamp(x, 0, math.Inf(1)), b.Clamp(x, math.Inf(-1), -0.25)}
	},
	graph.OpLeakyReLU: func(b *bench) []graph.ID { return []graph.ID{b.LeakyReLU(b.real("x", b.n, b.m), 0.3)} },
	graph.OpELU:       func(b *bench) []graph.ID { return []graph.ID{b.ELU(b.real("x", b.n, b.m), 1.3)} },
	graph.OpLog:       func(b *bench) []graph.ID { return []graph.ID{b.Apply(graph.OpLog, b.away(b.real("x", b.n, b.m)))} },
	graph.OpSoftmax:   row(func(b *bench, x graph.ID) graph.ID { return b.Apply(graph.OpSoftmax, x) }),
	graph.OpRMSNorm:   row(func(b *bench, x graph.ID) graph.ID { return b.RMSNorm(x, 1e-3, "") }),
	graph.OpLayerNorm: row(func(b *bench, x graph.ID) graph.ID { return b.LayerNorm(x, 1e-3, "") }),
	graph.OpSum:       row(func(b *bench, x graph.ID) graph.ID { return b.Sum(x) }),
	graph.OpMax:       row(func(b *bench, x graph.ID) graph.ID { return b.Max(x) }),
	graph.OpArgMax:    row(func(b *bench, x graph.ID) graph.ID { return b.ArgMax(x) }),
	graph.OpCumSum: func(b *bench) []graph.ID {
		return []graph.ID{b.CumSum(b.real("x", b.n, b.m)), b.CumSum(b.InputIDs("i", 3, b.n, b.m))}
	},
	graph.OpTopKMask:    row(func(b *bench, x graph.ID) graph.ID { return b.TopKMask(x, b.draw("k", 1, b.m)) }),
	graph.OpTopKValues:  topk(0),
	graph.OpTopKIndices: topk(1),
	graph.OpOneHot:      func(b *bench) []graph.ID { return []graph.ID{b.OneHot(b.InputIDs("i", b.k, b.n, b.m), b.k)} },
	graph.OpReshape: func(b *bench) []graph.ID {
		return []graph.ID{b.Reshape(b.real("x", b.n, b.m, b.k), b.k*b.n, b.m)}
	},
	graph.OpTranspose: func(b *bench) []graph.ID {
		x := b.real("x", b.n, b.m, b.k, 2)
		return []graph.ID{b.Transpose(x, 2, 0, 3, 1), b.Transpose(x, 0, 2, 1, 3), b.Transpose(b.Weight("w", b.n, b.m), 1, 0)}
	},
	graph.OpSlice: func(b *bench) []graph.ID {
		x := b.real("x", b.n+2, b.m+3)
		return []graph.ID{b.Slice(x, 0, 1, b.n+1), b.Slice(x, 1, 2, b.m+2), b.Slice(b.Weight("w", 4, b.m+1), 1, 1, b.m+1)}
	},
	graph.OpConcat: func(b *bench) []graph.ID {
		x, y := b.real("x", b.n, b.m, b.k), b.real("y", b.n, 2, b.k)
		return []graph.ID{b.Concat(1, x, y, x), b.Concat(1, b.Weight("w", b.n, 2), b.Weight("v", b.n, 1))}
	},
	graph.OpExpand: func(b *bench) []graph.ID {
		return []graph.ID{b.Expand(b.real("x", 1, b.n, 1, b.m), 2, b.n, b.k, b.m)}
	},
	graph.OpPad: func(b *bench) []graph.ID {
		x := b.real("x", b.n, b.m)
		return []graph.ID{b.Pad(x, 0, b.draw("before", 0, 2), b.draw("after", 0, 2)), b.Pad(x, 1, 2, 1)}
	},
	graph.OpFlip: func(b *bench) []graph.ID {
		x := b.real("x", b.n, b.m)
		return []graph.ID{b.Flip(x, 0), b.Flip(x, 1)}
	},
	graph.OpIndex: func(b *bench) []graph.ID {
		ids, w := b.InputIDs("i", 3, b.k, 2), b.Weight("w", 3, b.n, b.m)
		return []graph.ID{b.Index(b.real("x", b.n, 3, b.m), ids, 1), b.Index(b.real("y", b.n, 3), ids, 1), b.Index(w, ids, 0),
			b.Index(b.Transpose(w, 2, 0, 1), ids, 1), b.AddScalar(b.Index(w, b.ConstInts([]int{2, 0}, 2), 0), 1)}
	},
	graph.OpGather: func(b *bench) []graph.ID {
		return []graph.ID{b.Gather(b.real("x", b.n+1, 3, b.m), b.InputIDs("i", 3, b.n, 4, b.m), 1),
			b.Gather(b.real("y", b.n, 3), b.InputIDs("j", 3, b.n, b.k), 1)}
	},
	graph.OpScatter:    scatters(graph.OpScatter),
	graph.OpScatterAdd: scatters(graph.OpScatterAdd),
}

func two(f func(b *graph.Builder, x, y graph.ID) graph.ID) func(b *bench) []graph.ID {
	return func(b *bench) []graph.ID {
		x, y := b.real("x", b.k, b.n, b.m), b.real("y", b.n, 1)
		return []graph.ID{f(b.Builder, x, b.real("same", b.k, b.n, b.m)), f(b.Builder, x, y), f(b.Builder, y, x),
			f(b.Builder, b.real("tail", b.m), x), f(b.Builder, b.real("p", b.n, 1, b.m), b.real("q", 1, b.k, 1)),
			f(b.Builder, x, b.Weight("w", b.m)), f(b.Builder, b.Const([]float32{0.3}), x)}
	}
}

func compare(op graph.Op) func(b *bench) []graph.ID {
	return func(b *bench) []graph.ID {
		return []graph.ID{b.Compare(op, b.InputIDs("x", 3, b.n, b.m), b.InputIDs("y", 3, b.m)), b.Compare(op, b.real("z", b.n), b.Const([]float32{0}))}
	}
}

func logical(op graph.Op) func(b *bench) []graph.ID {
	return func(b *bench) []graph.ID {
		return []graph.ID{b.Logical(op, b.InputIDs("x", 2, b.n, b.m), b.InputIDs("y", 3, b.m))}
	}
}

func row(f func(b *bench, x graph.ID) graph.ID) func(b *bench) []graph.ID {
	return func(b *bench) []graph.ID {
		return []graph.ID{f(b, b.real("x", b.n, b.k, b.m)), f(b, b.real("y", b.m))}
	}
}

func topk(which int) func(b *bench) []graph.ID {
	return row(func(b *bench, x graph.ID) graph.ID {
		v, i := b.TopK(x, b.draw("k", 1, b.m))
		return []graph.ID{v, i}[which]
	})
}

func scatters(op graph.Op) func(b *bench) []graph.ID {
	return func(b *bench) []graph.ID {
		return []graph.ID{b.Scatter(op, b.real("x", b.n+1, 3, b.m), b.InputIDs("i", 3, b.n, 4, b.m), b.real("s", b.n, 4, b.m), 1)}
	}
}

// functions are the parameterless ones that need no case of their own.
func functions() map[graph.Op]func(b *bench) []graph.ID {
	out := map[graph.Op]func(b *bench) []graph.ID{}
	for _, op := range graph.Ops() {
		if _, has := opCases[op]; op.Function() && !has {
			out[op] = func(b *bench) []graph.ID { return []graph.ID{b.Apply(op, b.MulScalar(b.real("x", b.n, b.m), 3))} }
		}
	}
	return out
}

// leaves draws weights and inputs for a graph.
func leaves(g *graph.Graph, r *rand.Rand) (w weights, inputs map[string][]float32, all map[graph.ID][]float64) {
	w = weights{g, map[string][]float32{}}
	inputs, all = map[string][]float32{}, map[graph.ID][]float64{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Op != graph.OpWeight && n.Op != graph.OpInput {
			continue
		}
		total := 1
		for _, d := range n.Shape {
			total *= d
		}
		x := make([]float32, total)
		for j := range x {
			if n.Int {
				x[j] = float32(r.IntN(n.K))
			} else {
				x[j] = float32(r.NormFloat64())
			}
			all[graph.ID(i)] = append(all[graph.ID(i)], float64(x[j]))
		}
		if n.Op == graph.OpWeight {
			w.values[n.Name] = x
		} else {
			inputs[n.Name] = x
		}
	}
	return w, inputs, all
}

// TestOperations compares every operation with a naive evaluation in float64.
func TestOperations(t *testing.T) {
	cases := functions()
	for op, c := range opCases {
		cases[op] = c
	}
	untested := []graph.Op{graph.OpWeight, graph.OpConst, graph.OpTokens, graph.OpInput, graph.OpOpaque}
	for _, op := range graph.Ops() {
		c, ok := cases[op]
		if !ok {
			if !slices.Contains(untested, op) {
				t.Errorf("operation %v has no test of its evaluation", op)
			}
			continue
		}
		t.Run(op.String(), func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) { operation(rt, op, c) })
		})
	}
}

func operation(rt *rapid.T, op graph.Op, c func(b *bench) []graph.ID) {
	dim := rapid.IntRange(1, 9)
	b := &bench{graph.NewBuilder(0), rt, dim.Draw(rt, "n"), dim.Draw(rt, "m"), dim.Draw(rt, "k")}
	out := c(b)
	g, err := b.Finish(out...)
	if err != nil {
		rt.Fatal(err)
	}
	if !slices.ContainsFunc(g.Nodes, func(n graph.Node) bool { return n.Op == op }) {
		rt.Fatalf("the network has no %v", op)
	}
	w, inputs, all := leaves(g, rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 5)))
	got, err := probe.Run(context.Background(), g, w, probe.Options{Inputs: inputs})
	if err != nil {
		rt.Fatal(err)
	}
	want := naive(g, all)
	for i, o := range g.Outputs {
		if len(got[i]) != len(want[o]) {
			rt.Fatalf("output %d: %d elements, want %d of %v", i, len(got[i]), len(want[o]), g.Shape(o))
		}
		for j, v := range got[i] {
			x := want[o][j]
			if math.IsInf(x, 0) && float64(v) == x {
				continue
			}
			if d := math.Abs(float64(v) - x); !(d <= 2e-5*(1+math.Abs(x))) {
				rt.Fatalf("output %d, element %d of %v: %v, want %v", i, j, g.Shape(o), v, x)
			}
		}
	}
}
