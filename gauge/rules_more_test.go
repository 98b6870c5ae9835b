package gauge_test

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

func fixed(k int) func(int, int) int { return func(int, int) int { return k } }

// zeros is a constant that no factor changes.
func (b *bench) zeros(shape ...int) graph.ID {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return b.Const(make([]float32, n), shape...)
}

// places is a constant of n ids below limit, in no particular order.
func (b *bench) places(n, limit int) graph.ID {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = (limit - 1 + 2*i) % limit
	}
	return b.ConstInts(ids, n)
}

// frames is a value [1,n,T] for convolutions, pixels back to [T,…].
func (b *bench) frames(name string, n int) graph.ID {
	return b.Reshape(b.Transpose(b.in(name, n), 1, 0), 1, n, b.T)
}

func (b *bench) slide(x, w graph.ID, groups int) graph.ID {
	k := b.Shape(w)[2]
	return b.Conv(x, w, graph.Conv{Stride: []int{1}, Before: []int{k - 1}, After: []int{0}, Dilation: []int{1}, Groups: groups})
}

func (b *bench) unslide(x graph.ID) graph.ID {
	s := b.Shape(x)
	return b.Transpose(b.Reshape(x, s[1], s[2]), 1, 0)
}

// bent is an operation that pins, on positive values.
func bent(op graph.Op) rule {
	r := function(op)
	r.net = func(b *bench) []graph.ID {
		return one(b.out(b.Apply(op, b.AddScalar(b.Apply(graph.OpAbs, b.in("a", b.N)), 0))))
	}
	r.wrong = [][]move{whole("a"), col("out", 0), whole("out")}
	return r
}

// unary is a network of one operation on a value.
func unary(op graph.Op, name string, free func(int, int) int, f func(b *bench, x graph.ID) graph.ID, wrong ...[]move) rule {
	return rule{op: op, name: name, net: func(b *bench) []graph.ID {
		return one(b.out(f(b, b.in("a", b.N))))
	}, free: free, wrong: wrong}
}

// dyadic is a network of one operation on two values.
func dyadic(op graph.Op, name string, free func(int, int) int, f func(b *bench, x, y graph.ID) graph.ID, wrong ...[]move) rule {
	return rule{op: op, name: name, net: func(b *bench) []graph.ID {
		return one(b.out(f(b, b.in("a", b.N), b.in("b", b.N))))
	}, free: free, wrong: wrong}
}

func twicePerN(n, _ int) int { return 2 * n }

var moreRules = []rule{
	{op: graph.OpInput, net: func(b *bench) []graph.ID {
		x := b.Linear(b.Input("pixels", b.T, b.N), b.weight("a", b.M, b.N))
		return []graph.ID{b.out(x), b.outAs("second", b.embed())}
	}, free: func(_, m int) int { return m }, wrong: [][]move{row("a", 0), col("a", 0), whole("a")}},
	{op: graph.OpOneHot, net: func(b *bench) []graph.ID {
		x := b.Linear(b.OneHot(b.TokenIDs(), vocabulary), b.weight("a", b.N, vocabulary))
		return []graph.ID{b.out(x), b.outAs("second", b.embed())}
	}, free: perN, wrong: [][]move{row("a", 0), col("a", 2), whole("a")}},

	// Convolutions.
	{op: graph.OpConv, net: func(b *bench) []graph.ID {
		return one(b.out(b.unslide(b.slide(b.frames("a", b.N), b.weight("k", b.M, b.N, 2), 1))))
	}, free: func(n, m int) int { return n + m }, wrong: [][]move{row("a", 0), row("k", 0), col("k", 0), whole("k"), {{"k", 2, 1}}}},
	{op: graph.OpConv, name: "groups", net: func(b *bench) []graph.ID {
		return one(b.out(b.unslide(b.slide(b.frames("a", 2*b.N), b.weight("k", 2*b.M, b.N, 2), 2))))
	}, free: func(n, m int) int { return 2*n + 2*m }, wrong: [][]move{row("a", 0), row("k", 0), col("k", 0), whole("k")}},
	{op: graph.OpConv, name: "depthwise", net: func(b *bench) []graph.ID {
		return one(b.out(b.unslide(b.slide(b.frames("a", b.N), b.weight("k", 2*b.N, 1, 3), b.N))))
	}, free: func(n, _ int) int { return 3 * n }, wrong: [][]move{row("a", 0), row("k", 0), whole("k"), {{"k", 2, 2}}}},
	{op: graph.OpConv, name: "shared weight", net: func(b *bench) []graph.ID {
		w := b.weight("k", b.N, b.N, 2)
		return one(b.out(b.unslide(b.slide(b.slide(b.frames("a", b.N), w, 1), w, 1))))
	}, wrong: [][]move{row("k", 0), col("k", 0), whole("k"), row("a", 0)}},
	{op: graph.OpConv, name: "computed weight, groups", net: func(b *bench) []graph.ID {
		w := b.MulScalar(b.weight("k", 2*b.M, b.N, 2), 0.7)
		return one(b.out(b.unslide(b.slide(b.frames("a", 2*b.N), w, 2))))
	}, free: func(n, m int) int { return 2*n + 2*m }, wrong: [][]move{row("a", 0), row("k", 0), col("k", 0), {{"k", 2, 1}}}},
	{op: graph.OpConv, name: "factor per position", net: func(b *bench) []graph.ID {
		x := b.Mul(b.frames("a", b.N), b.weight("p", b.T))
		return one(b.out(b.unslide(b.slide(x, b.weight("k", b.M, b.N, 2), 1))))
	}, free: func(n, m int) int { return n + m + 1 }, wrong: [][]move{row("p", 0), row("k", 0), row("a", 0)}},

	// Element by element.
	dyadic(graph.OpMaximum, "", perN, func(b *bench, x, y graph.ID) graph.ID { return b.Maximum(x, y) }, whole("a"), whole("b")),
	dyadic(graph.OpMinimum, "", perN, func(b *bench, x, y graph.ID) graph.ID { return b.Minimum(x, y) }, whole("a"), whole("b")),
	unary(graph.OpMaximum, "zero", perN, func(b *bench, x graph.ID) graph.ID { return b.Maximum(b.zeros(1), x) }, whole("a")),
	unary(graph.OpMaximum, "constant", nothing, func(b *bench, x graph.ID) graph.ID {
		return b.Maximum(b.Const([]float32{0.5}, 1), x)
	}, whole("a"), whole("out")),
	{op: graph.OpWhere, net: func(b *bench) []graph.ID {
		cond := b.Compare(graph.OpLess, b.in("c", b.N), b.zeros(1))
		return one(b.out(b.Where(cond, b.in("a", b.N), b.in("b", b.N))))
	}, free: twicePerN, wrong: [][]move{whole("a"), whole("b"), join(whole("a"), row("out", 0))}},
	unary(graph.OpWhere, "zero", perN, func(b *bench, x graph.ID) graph.ID {
		return b.Where(b.Compare(graph.OpLess, x, b.zeros(1)), b.zeros(1), x)
	}, whole("a")),
	unary(graph.OpWhere, "constant", nothing, func(b *bench, x graph.ID) graph.ID {
		return b.Where(b.Compare(graph.OpLess, x, b.zeros(1)), b.Const([]float32{1}, 1), x)
	}, whole("a"), whole("out")),
	unary(graph.OpAdd, "zeros", perN, func(b *bench, x graph.ID) graph.ID { return b.Add(x, b.zeros(b.T, b.N)) }, row("a", 0)),
	unary(graph.OpSub, "from zeros", perN, func(b *bench, x graph.ID) graph.ID { return b.Sub(b.zeros(b.N), x) }, row("a", 0)),
	unary(graph.OpPow, "2", perN, pow(2), row("a", 0), whole("a")),
	unary(graph.OpPow, "3", perN, pow(3), row("a", 0)),
	unary(graph.OpPow, "-1", perN, pow(-1), row("a", 0)),
	unary(graph.OpPow, "-2", perN, pow(-2), row("a", 0)),
	unary(graph.OpPow, "1/2", perN, pow(0.5), row("a", 0)),
	unary(graph.OpPow, "-1/2", perN, pow(-0.5), row("a", 0)),
	unary(graph.OpPow, "0", perN, pow(0)),
	unary(graph.OpPow, "1/3", nothing, pow(1.0/3), whole("a")),
	unary(graph.OpClamp, "from zero", perN, clamp(0, math.Inf(1)), whole("a")),
	unary(graph.OpClamp, "to zero", perN, clamp(math.Inf(-1), 0), whole("a")),
	unary(graph.OpClamp, "", nothing, clamp(-0.3, 0.4), whole("a"), whole("out")),
	unary(graph.OpClamp, "above", nothing, clamp(math.Inf(-1), 0.4), whole("a"), whole("out")),
	unary(graph.OpAbs, "", perN, func(b *bench, x graph.ID) graph.ID { return b.Apply(graph.OpAbs, x) }, row("a", 0)),
	unary(graph.OpLeakyReLU, "", perN, func(b *bench, x graph.ID) graph.ID { return b.LeakyReLU(x, 0.1) }, row("a", 0)),
	unary(graph.OpELU, "", nothing, func(b *bench, x graph.ID) graph.ID { return b.ELU(x, 0.8) }, whole("a"), whole("out")),
	function(graph.OpSoftplus), function(graph.OpExp), function(graph.OpSin), function(graph.OpCos), function(graph.OpErf),
	bent(graph.OpLog), bent(graph.OpFloor), bent(graph.OpRound),
	dyadic(graph.OpLess, "", perN, func(b *bench, x, y graph.ID) graph.ID { return b.Compare(graph.OpLess, x, y) }, join(whole("a"), whole("a"), whole("a")), join(whole("b"), whole("b"), whole("b"))),
	unary(graph.OpLess, "zero", perN, func(b *bench, x graph.ID) graph.ID { return b.Compare(graph.OpLess, x, b.zeros(1)) }),
	unary(graph.OpEqual, "largest", fixed(1), func(b *bench, x graph.ID) graph.ID {
		return b.Compare(graph.OpEqual, x, b.Expand(b.Max(x), b.T, b.N))
	}, row("a", 1)),
	unary(graph.OpNot, "", perN, func(b *bench, x graph.ID) graph.ID { return b.Not(b.Apply(graph.OpReLU, x)) }),
	dyadic(graph.OpAnd, "", twicePerN, func(b *bench, x, y graph.ID) graph.ID {
		return b.Logical(graph.OpAnd, b.Apply(graph.OpReLU, x), b.Apply(graph.OpReLU, y))
	}),
	dyadic(graph.OpOr, "", twicePerN, func(b *bench, x, y graph.ID) graph.ID {
		return b.Logical(graph.OpOr, b.Apply(graph.OpReLU, x), b.Apply(graph.OpReLU, y))
	}),

	// Along the last axis.
	{op: graph.OpLayerNorm, name: "movable epsilon", net: func(b *bench) []graph.ID {
		return one(b.out(b.Mul(b.LayerNorm(b.in("a", b.N), b.eps, "eps"), b.weight("gain", b.N))))
	}, free: perN, wrong: [][]move{row("a", 0), whole("a"), whole("gain")}},
	{op: graph.OpLayerNorm, name: "fixed epsilon", net: func(b *bench) []graph.ID {
		return one(b.out(b.LayerNorm(b.in("a", b.N), 1e-3, "")))
	}, free: nothing, wrong: [][]move{row("a", 0), whole("a"), col("out", 0)}},
	{op: graph.OpLayerNorm, name: "no epsilon", net: func(b *bench) []graph.ID {
		// With one feature only there is nothing but the mean.
		return one(b.out(b.LayerNorm(b.in("a", b.N+1), 0, "")))
	}, free: fixed(1), wrong: [][]move{row("a", 0), col("out", 0), whole("out")}},
	unary(graph.OpMax, "", fixed(1), func(b *bench, x graph.ID) graph.ID { return b.Max(x) }, whole("a")),
	unary(graph.OpArgMax, "", fixed(1), func(b *bench, x graph.ID) graph.ID { return b.OneHot(b.ArgMax(x), b.N) }, row("a", 1)),
	unary(graph.OpCumSum, "", fixed(1), func(b *bench, x graph.ID) graph.ID { return b.CumSum(x) }, row("a", 0), whole("a")),
	unary(graph.OpTopKValues, "", fixed(1), func(b *bench, x graph.ID) graph.ID {
		v, _ := b.TopK(x, (b.N+1)/2)
		return v
	}, row("a", 0), whole("a")),
	unary(graph.OpTopKIndices, "", fixed(1), func(b *bench, x graph.ID) graph.ID {
		_, ids := b.TopK(x, (b.N+1)/2)
		return b.OneHot(ids, b.N)
	}, row("a", 1)),

	// Moves.
	unary(graph.OpPad, "features", perN, func(b *bench, x graph.ID) graph.ID { return b.Pad(x, 1, 1, 2) }, row("a", 0)),
	unary(graph.OpPad, "tokens", perN, func(b *bench, x graph.ID) graph.ID { return b.Pad(x, 0, 1, 2) }, row("a", 0)),
	unary(graph.OpFlip, "", perN, func(b *bench, x graph.ID) graph.ID { return b.Flip(x, 1) }, row("a", 0)),
	unary(graph.OpConcat, "zeros", perN, func(b *bench, x graph.ID) graph.ID {
		return b.Concat(1, b.zeros(b.T, 2), x, b.zeros(b.T, 1))
	}, row("a", 0)),
	unary(graph.OpConcat, "zeros first token", perN, func(b *bench, x graph.ID) graph.ID {
		return b.Concat(0, b.zeros(1, b.N), x)
	}, row("a", 0)),
	unary(graph.OpIndex, "features", fixed(3), func(b *bench, x graph.ID) graph.ID { // 4, 1 and 3 of 5
		return b.Index(x, b.places(3, b.N), 1)
	}, row("a", 1), join(row("a", 1), col("out", 0))),
	unary(graph.OpIndex, "tokens", perN, func(b *bench, x graph.ID) graph.ID { return b.Index(x, b.places(3, b.T), 0) }, row("a", 0)),
	unary(graph.OpIndex, "computed", func(n, _ int) int { return n + 1 }, func(b *bench, x graph.ID) graph.ID {
		return b.Index(x, b.Reshape(b.ArgMax(b.in("c", b.T)), b.T), 0)
	}, row("a", 0)),
	{op: graph.OpIndex, name: "rows of a table", net: func(b *bench) []graph.ID {
		return []graph.ID{b.out(b.Index(b.weight("table", vocabulary, b.N), b.TokenIDs(), 0)), b.outAs("second", b.embed())}
	}, free: perN, wrong: [][]move{row("table", 2), col("table", 0), whole("table")}},
	{op: graph.OpIndex, name: "positions", net: func(b *bench) []graph.ID {
		w := b.weight("table", 9, b.N)
		return one(b.out(b.Add(b.Index(w, b.places(b.T, 9), 0), b.in("a", b.N))))
	}, free: perN, wrong: [][]move{row("table", 8), col("table", 0), whole("table")}},
	{op: graph.OpIndex, name: "all rows of a weight", net: func(b *bench) []graph.ID {
		w := b.Index(b.weight("w", b.N, b.H), b.places(2*b.N+1, b.N), 0)
		return one(b.out(b.Linear(b.embed(), w)))
	}, free: perN, wrong: [][]move{row("w", 0), col("w", 0), whole("w")}},
	{op: graph.OpSlice, name: "positions", net: func(b *bench) []graph.ID {
		w := b.Slice(b.weight("table", 9, b.N), 0, 0, b.T)
		return one(b.out(b.Add(w, b.in("a", b.N))))
	}, free: perN, wrong: [][]move{row("table", 0), col("table", 0), whole("table")}},
	{op: graph.OpSlice, name: "positions, stacked", net: func(b *bench) []graph.ID {
		w := b.Slice(b.weight("table", 1, 9, b.N), 1, 0, b.T)
		return one(b.out(b.Mul(b.Reshape(w, b.T, b.N), b.in("a", b.N))))
	}, free: twicePerN, wrong: [][]move{{{"table", 1, 0}}, {{"table", 2, 0}}, whole("table")}},
	{op: graph.OpSlice, name: "halves of a weight", net: func(b *bench) []graph.ID {
		w := b.weight("w", b.N+b.M, b.H)
		x, y := b.Linear(b.embed(), b.Slice(w, 0, 0, b.N)), b.Linear(b.embed(), b.Slice(w, 0, b.N, b.N+b.M))
		return []graph.ID{b.out(x), b.outAs("second", y)}
	}, free: func(n, m int) int { return n + m }, wrong: [][]move{row("w", 0), col("w", 0), whole("w")}},
	unary(graph.OpSlice, "rest unread", perN, func(b *bench, _ graph.ID) graph.ID {
		return b.Slice(b.in("wide", b.N+3), 1, 0, b.N)
	}, row("wide", 0), col("out", 0)),
	dyadic(graph.OpGather, "", fixed(2), func(b *bench, x, y graph.ID) graph.ID {
		_, ids := b.TopK(y, (b.N+1)/2)
		return b.Gather(x, ids, 1)
	}, whole("a"), join(row("a", 0), row("a", 1))),
	dyadic(graph.OpScatter, "", fixed(2), func(b *bench, x, y graph.ID) graph.ID {
		v, ids := b.TopK(y, (b.N+1)/2)
		return b.Scatter(graph.OpScatter, x, ids, b.Mul(v, b.weight("gain", 1)), 1)
	}, whole("a"), whole("gain")),
	dyadic(graph.OpScatter, "into zeros", fixed(2), func(b *bench, x, y graph.ID) graph.ID {
		_, ids := b.TopK(y, (b.N+1)/2)
		return b.Scatter(graph.OpScatter, b.zeros(b.T, b.N), ids, b.Slice(x, 1, 0, (b.N+1)/2), 1)
	}, row("a", 0), whole("a")),
	unary(graph.OpScatter, "of zeros", perN, func(b *bench, x graph.ID) graph.ID {
		_, ids := b.TopK(b.Apply(graph.OpSigmoid, b.in("c", b.N)), 1)
		return b.Scatter(graph.OpScatter, x, ids, b.zeros(b.T, 1), 1)
	}, row("a", 0)),
	dyadic(graph.OpScatterAdd, "", fixed(2), func(b *bench, x, y graph.ID) graph.ID {
		v, ids := b.TopK(y, (b.N+1)/2)
		return b.Scatter(graph.OpScatterAdd, x, ids, b.Mul(v, b.weight("gain", 1)), 1)
	}, whole("a"), whole("gain")),
	dyadic(graph.OpOpaque, "", nothing, func(b *bench, x, y graph.ID) graph.ID {
		return b.Opaque("mystery", false, []int{b.T, b.N}, x, y)
	}, col("out", 0), whole("out")),
}

func pow(p float64) func(*bench, graph.ID) graph.ID {
	return func(b *bench, x graph.ID) graph.ID { return b.Pow(b.Apply(graph.OpAbs, x), p) }
}

func clamp(lo, hi float64) func(*bench, graph.ID) graph.ID {
	return func(b *bench, x graph.ID) graph.ID { return b.Clamp(x, lo, hi) }
}
