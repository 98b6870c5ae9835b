package probe_test

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// reads counts what a run reads of every tensor, in bytes.
type reads struct {
	weights
	bytes map[string]int
	most  int // largest single read
}

func (r *reads) ReadWeight(name string, p []byte, off int64) error {
	if r.bytes == nil {
		r.bytes = map[string]int{}
	}
	r.bytes[name] += len(p)
	r.most = max(r.most, len(p))
	return r.weights.ReadWeight(name, p, off)
}

// TestReadsWhatItNeeds: of experts, tables and embeddings only the rows that
// are chosen, each a run at a time, also where a checkpoint stores every expert
// by itself and the graph joins them.
func TestReadsWhatItNeeds(t *testing.T) {
	const n, out, in = 8, 16, 32
	b := graph.NewBuilder(2)
	x := b.Embedding(b.Weight("embed", 100, in), b.TokenIDs())
	var parts []graph.ID
	for i := range n {
		parts = append(parts, b.Reshape(b.Weight("expert"+string(rune('0'+i)), out, in), 1, out, in))
	}
	fused := b.Concat(0, parts...)
	chosen := b.Index(fused, b.ConstInts([]int{3, 5}, 2), 0)
	y := b.Reshape(b.MatMul(chosen, b.Reshape(x, 2, in, 1)), 2, out)
	z := b.Slice(b.Weight("positions", 50, out), 0, 4, 6)
	g, err := b.Finish(b.Add(y, z))
	if err != nil {
		t.Fatal(err)
	}
	r := &reads{weights: weights{g, map[string][]float32{"embed": normals(100 * in), "positions": normals(50 * out)}}}
	for i := range n {
		r.values["expert"+string(rune('0'+i))] = normals(out*in + 1)[:out*in]
	}
	if _, err := probe.Run(context.Background(), g, r, probe.Options{Tokens: []int{7, 7}}); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"embed": 4 * in, "expert3": 4 * out * in, "expert5": 4 * out * in, "positions": 4 * 2 * out}
	if len(r.bytes) != len(want) {
		t.Errorf("read %v, want %v", r.bytes, want)
	}
	for k, v := range want {
		if r.bytes[k] != v {
			t.Errorf("%s: %d bytes read, want %d", k, r.bytes[k], v)
		}
	}
}

// TestIntegersAreNotRounded: bf16 has no 1001, an index must.
func TestIntegersAreNotRounded(t *testing.T) {
	b := graph.NewBuilder(1)
	table := make([]float32, 2002)
	table[1001] = 1
	id := b.AddScalar(b.AddScalar(b.TokenIDs(), 1), 0)
	g, err := b.Finish(id, b.Embedding(b.Const(table, 2002, 1), id), b.Index(b.Const(table, 2002, 1), id, 0))
	if err != nil {
		t.Fatal(err)
	}
	out, err := probe.Run(context.Background(), g, weights{g: g}, probe.Options{Tokens: []int{1000}, Precision: probe.BF16})
	if err != nil || out[0][0] != 1001 || out[1][0] != 1 || out[2][0] != 1 {
		t.Errorf("%v, %v", out, err)
	}
}

// TestOpaque: a run goes on behind an unknown operation, and a difference in
// what goes into it is seen although it changes no output.
func TestOpaque(t *testing.T) {
	b := graph.NewBuilder(3)
	x := b.Embedding(b.Weight("embed", 9, 4), b.TokenIDs())
	y := b.Opaque("aten.mystery", false, []int{3, 4}, b.Linear(x, b.Weight("w", 4, 4)), b.Weight("state", 5))
	z := b.Opaque("aten.mystery", true, []int{3}, x)
	g, err := b.Finish(b.Linear(y, b.Weight("out", 2, 4)), b.Embedding(b.Weight("two", 2, 2), z))
	if err != nil {
		t.Fatal(err)
	}
	w := weights{g, map[string][]float32{"embed": normals(36), "w": normals(16), "state": normals(5), "out": normals(8), "two": normals(4)}}
	compare := func(v weights) probe.Report {
		r, err := probe.Compare(context.Background(), probe.Side{Graph: g, Source: w}, probe.Side{Graph: g, Source: v}, probe.Options{Tokens: []int{1, 2, 3}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := compare(w.clone()); !r.Equal || !r.Finite || r.MaxAbs == 0 {
		t.Errorf("the same network: %+v", r)
	}
	for _, name := range []string{"w", "state", "out"} {
		v := w.clone()
		v.values[name][0] *= 2
		if compare(v).Equal {
			t.Errorf("a changed %s goes unseen", name)
		}
	}
}

// TestInputs: made-up inputs are the same in every run, differ from each other
// and take every value of a small range; given ones are checked.
func TestInputs(t *testing.T) {
	b := graph.NewBuilder(0)
	g, err := b.Finish(b.Input("pixels", 40, 50), b.Input("mel", 40, 50), b.InputIDs("types", 2, 6), b.InputIDs("ids", 7, 7))
	if err != nil {
		t.Fatal(err)
	}
	run := func(o probe.Options) ([][]float32, error) {
		return probe.Run(context.Background(), g, weights{g: g}, o)
	}
	x, err := run(probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	y, _ := run(probe.Options{})
	for i := range x {
		if !slices.Equal(x[i], y[i]) {
			t.Errorf("input %d differs from run to run", i)
		}
	}
	sum, squares := 0.0, 0.0
	for _, v := range x[0] {
		sum, squares = sum+float64(v), squares+float64(v*v)
	}
	if n := float64(len(x[0])); math.Abs(sum/n) > 0.1 || math.Abs(squares/n-1) > 0.1 {
		t.Errorf("mean %g, mean square %g", sum/n, squares/n)
	}
	if slices.Equal(x[0], x[1]) {
		t.Error("two inputs are the same")
	}
	ids := slices.Clone(x[3])
	slices.Sort(ids)
	if !slices.Equal(ids, []float32{0, 1, 2, 3, 4, 5, 6}) || x[2][0] != 1 || !slices.Contains(x[2], 0) {
		t.Errorf("integers %v, %v", x[2], x[3])
	}
	for _, bad := range []map[string][]float32{{"types": {0, 1, 2, 0, 0, 0}}, {"types": {0.5, 0, 0, 0, 0, 0}}, {"pixels": {1}}} {
		if _, err := run(probe.Options{Inputs: bad}); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	given := map[string][]float32{"ids": {6, 5, 4, 3, 2, 1, 0}}
	if out, err := run(probe.Options{Inputs: given}); err != nil || !slices.Equal(out[3], given["ids"]) {
		t.Errorf("%v, %v", out, err)
	}
}

// TestRoutes: all forced routings together choose every place of every choice,
// and each chosen one counts.
func TestRoutes(t *testing.T) {
	const tokens, experts, k = 3, 29, 4
	b := graph.NewBuilder(tokens)
	x := b.Embedding(b.Weight("embed", 9, 8), b.TokenIDs())
	score := b.Linear(x, b.Weight("router", experts, 8))
	masked := b.Where(b.Compare(graph.OpLess, score, b.Const([]float32{0})), b.Const([]float32{-math.MaxFloat32}), score)
	values, indices := b.TopK(masked, k)
	mask := b.TopKMask(score, 2)
	switched := b.ArgMax(b.Slice(score, 1, 0, 5))
	last := b.ArgMax(b.Reshape(b.TokenIDs(), 1, tokens)) // no router: the end of a text
	g, err := b.Finish(values, indices, mask, switched, last)
	if err != nil {
		t.Fatal(err)
	}
	w := weights{g, map[string][]float32{"embed": normals(72), "router": normals(experts * 8)}}
	run := func(route int) [][]float32 {
		out, err := probe.Run(context.Background(), g, w, probe.Options{Tokens: []int{1, 5, 2}, Route: route})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	routes := probe.Routes(g)
	if routes != 3 { // 29 places, 12 at a time
		t.Errorf("%d routes", routes)
	}
	free := run(0)
	seen, ones := map[float32]bool{}, map[float32]bool{}
	for route := 1; route <= routes; route++ {
		out := run(route)
		for i, v := range out[1] {
			seen[v] = true
			if s := out[0][i]; s == 0 || math.Abs(float64(s)) > 1e3 {
				t.Errorf("route %d: place %v is chosen with a value of %v", route, v, s)
			}
		}
		for _, v := range out[3] {
			ones[v] = true
		}
		if slices.Contains(out[2], 0) {
			t.Errorf("route %d: the mask leaves out a place", route)
		}
		if out[4][0] != free[4][0] {
			t.Error("a choice among integers is forced")
		}
	}
	if len(seen) != experts || len(ones) != 5 {
		t.Errorf("%d of %d, %d of 5 places chosen", len(seen), experts, len(ones))
	}
	plain := graph.NewBuilder(0)
	if h, _ := plain.Finish(plain.Input("x", 2)); probe.Routes(h) != 0 {
		t.Error("a network without routers has routes")
	}
}

// TestVocabulary: token ids fit the smallest table that they index.
func TestVocabulary(t *testing.T) {
	b := graph.NewBuilder(4)
	ids := b.TokenIDs(1, 4)
	x := b.Embedding(b.Weight("embed", 50, 2), ids)
	y := b.Index(b.Weight("pairs", 20, 2), b.Reshape(ids, 4), 0)
	g, err := b.Finish(x, y)
	if err != nil {
		t.Fatal(err)
	}
	if n := probe.Vocabulary(g); n != 20 {
		t.Errorf("%d ids", n)
	}
}

// TestErrors: what cannot be run is an error that says so.
func TestErrors(t *testing.T) {
	build := func(f func(b *graph.Builder) graph.ID) (*graph.Graph, weights) {
		b := graph.NewBuilder(2)
		g, err := b.Finish(f(b))
		if err != nil {
			t.Fatal(err)
		}
		return g, weights{g, map[string][]float32{"w": normals(8)}}
	}
	for _, c := range []struct {
		want string
		f    func(b *graph.Builder) graph.ID
	}{
		{"vocabulary", func(b *graph.Builder) graph.ID { return b.Embedding(b.Weight("w", 4, 2), b.TokenIDs()) }},
		{"index 9 of an axis of 4", func(b *graph.Builder) graph.ID { return b.Index(b.Weight("w", 4, 2), b.TokenIDs(), 0) }},
		{"index 9", func(b *graph.Builder) graph.ID { return b.OneHot(b.TokenIDs(), 5) }},
		{"index 9", func(b *graph.Builder) graph.ID { return b.Gather(b.Input("x", 4), b.TokenIDs(), 0) }},
		{"tensor absent", func(b *graph.Builder) graph.ID { return b.Add(b.Weight("absent", 2), b.TokenIDs()) }},
		{"32 bytes", func(b *graph.Builder) graph.ID { return b.Add(b.Weight("w", 9), b.Const([]float32{1})) }},
	} {
		g, w := build(c.f)
		_, err := probe.Run(context.Background(), g, w, probe.Options{Tokens: []int{1, 9}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	g, w := build(func(b *graph.Builder) graph.ID { return b.Add(b.TokenIDs(), b.TokenIDs()) })
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := probe.Run(ctx, g, w, probe.Options{Tokens: []int{1, 2}}); !errors.Is(err, context.Canceled) || fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v", err)
	}
}
