package seal

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
	"pgregory.net/rapid"
)

// network is a fixture's graph with random weights, as fp32.
type network struct {
	family string
	g      *graph.Graph
	sol    *gauge.Solution
	w      map[string][]float32
}

func (n network) Weight(name string) (dtype.DType, int64, bool) {
	v, ok := n.w[name]
	return dtype.F32, int64(4 * len(v)), ok
}

func (n network) ReadWeight(name string, p []byte, off int64) error {
	for i := range len(p) / 4 {
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(n.w[name][int(off)/4+i]))
	}
	return nil
}

var graphs = []string{"llama", "qwen3", "gemma2", "phi3", "mixtral", "qwen3_moe"}

func open(t testing.TB, name string) network {
	t.Helper()
	dir := filepath.Join("../arch/testdata", name)
	conf, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	h, err := safetensors.ParseFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	shapes := map[string][]int{}
	for _, x := range h.Tensors {
		shapes[x.Name] = x.Shape
	}
	m, err := arch.Build(conf, shapes, arch.Options{Tokens: 7})
	if err != nil {
		t.Fatal(err)
	}
	sol, err := gauge.Solve(m.Graph)
	if err != nil {
		t.Fatal(err)
	}
	return network{family: m.Type, g: m.Graph, sol: sol}
}

// fill draws weights of very different sizes, some of them zero.
func (n *network) fill(r *rand.Rand) {
	n.w = map[string][]float32{}
	for i := range n.g.Nodes {
		x := &n.g.Nodes[i]
		if x.Op != graph.OpWeight {
			continue
		}
		size := 1
		for _, d := range x.Shape {
			size *= d
		}
		level := math.Exp2(float64(r.IntN(17) - 10))
		v := make([]float32, size)
		for j := range v {
			if r.IntN(20) > 0 {
				v[j] = float32(r.NormFloat64() * level)
			}
			if strings.HasPrefix(x.Name, variance) {
				v[j] = max(v[j], -v[j])
			}
		}
		n.w[x.Name] = v
	}
}

// bound is a weight's WeightBound, as the tool computes it.
func (n network) bound(name string) WeightBound {
	var s dtype.Stats
	v := n.w[name]
	shape := n.g.Shape(n.g.Weights()[name])
	width := 1
	if len(shape) > 0 {
		width = shape[len(shape)-1]
	}
	for i := 0; i < len(v); i += width {
		b := make([]byte, 4*width)
		dtype.FromFloat32(dtype.F32, b, v[i:i+width])
		s.Row(dtype.F32, b)
	}
	if !s.Finite() {
		inf := math.Inf(-1)
		return WeightBound{Max: inf, RowL2: inf, L2: inf}
	}
	w := WeightBound{Max: float64(s.Max + 1), RowL2: math.Log2(s.MaxRowSumSq) / 2, L2: math.Log2(s.SumSq) / 2}
	w.Least, w.NonNegative = Least(v)
	return w
}

// within checks one value; masked scores, the lowest float, are left out.
func within(rt fataler, g *graph.Graph, id graph.ID, x []float32, b bound) {
	if math.IsNaN(b.max) || math.IsNaN(b.l1) || math.IsNaN(b.l2) {
		rt.Fatalf("%v in %s: bound %v", g.Nodes[id].Op, g.Nodes[id].Scope, b)
	}
	width := 1
	if shape := g.Shape(id); len(shape) > 0 {
		width = shape[len(shape)-1]
	}
	for r := 0; r < len(x); r += width {
		top, l1, l2 := 0.0, 0.0, 0.0
		for _, v := range x[r : r+width] {
			a := math.Abs(float64(v))
			if a > 1e37 || a != a {
				return
			}
			top, l1, l2 = max(top, a), l1+a, l2+a*a
		}
		if math.Log2(top) > b.max || math.Log2(l1) > b.l1 || math.Log2(l2)/2 > b.l2 {
			rt.Fatalf("%v in %s: max 2^%.2f, L1 2^%.2f, L2 2^%.2f; bounds %+v", g.Nodes[id].Op, g.Nodes[id].Scope, math.Log2(top), math.Log2(l1), math.Log2(l2)/2, b)
		}
	}
}

// drawFacts invents figures for every tensor of a network.
func drawFacts(rt *rapid.T, n network) Facts {
	f := Facts{Graph: n.g, Solution: n.sol, Tensors: map[string]TensorFacts{}, Eps: map[string]float64{}}
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "facts"), 2))
	types := []dtype.DType{dtype.BF16, dtype.F16, dtype.F32, dtype.I8}
	common := types[r.IntN(3)]
	for _, t := range n.sol.Tensors {
		d := common
		if r.IntN(30) == 0 {
			d = types[r.IntN(4)]
		}
		x := TensorFacts{DType: d, Any: r.IntN(20) > 0, Max: r.IntN(14) - 10, Subnormal: r.IntN(20) == 0}
		x.Min = x.Max - r.IntN(20)
		x.MinNormal16, x.Has16 = max(x.Min, fp16MinNormal), len(t.Shape) == 1
		x.Bound = WeightBound{Max: float64(x.Max + 1), RowL2: float64(x.Max + 4), L2: float64(x.Max + 6)}
		f.Tensors[t.Name] = x
	}
	for range n.g.Nodes {
		f.Observed = append(f.Observed, float64(r.IntN(16)-6))
	}
	for _, e := range n.sol.Eps {
		f.Eps[e.Key] = 1e-5
	}
	return f
}

// TestAllocate: for any figures, every exponent that can be drawn keeps every
// element and every activation within what the profile promises.
func TestAllocate(t *testing.T) {
	for _, name := range graphs {
		full := open(t, name)
		merged := full
		merged.sol = full.sol.Merge(func(t *gauge.Tensor) int { return 4 })
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				p := rapid.SampledFrom([]Profile{Portable, Strong, Max}).Draw(rt, "profile")
				n := full
				if p != Max {
					n = merged
				}
				f := drawFacts(rt, n)
				r := Request{Profile: p, Bound: rapid.SampledFrom([]int{0, 1, 3, 6, 20}).Draw(rt, "bound")}
				if p == Portable && r.Bound == 0 {
					r.Bound = 6
				}
				out, err := Allocate(f, r)
				if err != nil {
					rt.Fatal(err)
				}
				for i, g := range out.Groups {
					lo, hi := g.Span()
					if out.Why[i] == "" || len(g.Offsets) == 0 || g.Lo > g.Hi || lo > hi {
						rt.Fatalf("group %+v: %q", g, out.Why[i])
					}
					if r.Bound > 0 && (lo < -r.Bound || hi > r.Bound) {
						rt.Fatalf("group %+v exceeds the bound %d", g, r.Bound)
					}
				}
				extremes(rt, f, r, out)
			})
		})
	}
}

// extremes evaluates tensors and values with classes at either end of their
// ranges, at random.
func extremes(rt *rapid.T, f Facts, r Request, out *Ranges) {
	rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "ends"), 3))
	for range 4 {
		e := make([][]int16, len(out.Groups))
		for i, g := range out.Groups {
			off := g.Offsets[rnd.IntN(len(g.Offsets))]
			e[i] = make([]int16, g.Classes)
			for c := range e[i] {
				e[i][c] = int16(off + []int{g.Lo, g.Hi}[rnd.IntN(2)])
			}
			g.placeOutliers(e[i], rnd.IntN)
		}
		for i := range f.Solution.Tensors {
			t := &f.Solution.Tensors[i]
			x := f.Tensors[t.Name]
			if msg := fits(t, x, e, r, out.Growth); msg != "" {
				rt.Fatalf("%s: %s", t.Name, msg)
			}
		}
		for i, s := range f.Solution.Values {
			if r.Profile != Portable || moves(f.Graph.Nodes[i].Op) {
				continue
			}
			if _, hi := reach(s, out.Groups); hi > 0 && float64(hi)+f.Observed[i] > fp16Activation {
				rt.Fatalf("node %d (%v): 2^%g may grow by 2^%d", i, f.Graph.Nodes[i].Op, f.Observed[i], hi)
			}
		}
	}
}

// fits says what is wrong with a tensor under some exponents, "" if nothing.
func fits(t *gauge.Tensor, x TensorFacts, e [][]int16, r Request, growth bool) string {
	lo, hi := 0, 0
	for _, ax := range t.Terms {
		l, h := math.MaxInt, math.MinInt
		for _, v := range ax.Exponents(e) {
			l, h = min(l, v), max(h, v)
		}
		lo, hi = lo+l, hi+h
	}
	if !x.DType.Scalable() && (lo != 0 || hi != 0) {
		return "moves, but its type cannot be scaled"
	}
	if !x.Any || !x.DType.Scalable() {
		return ""
	}
	small, large := normalRange(x.DType)
	switch {
	case lo < 0 && (x.Subnormal || x.Min+lo < small):
		return fmt.Sprintf("2^%d times 2^%d becomes subnormal", x.Min, lo)
	case hi > 0 && x.Max+hi > large-1:
		return fmt.Sprintf("2^%d times 2^%d overflows", x.Max, hi)
	case r.Profile != Portable:
		return ""
	case hi > 0 && x.Max+hi > fp16Max:
		return "leaves fp16's range"
	case len(t.Shape) >= 2 && growth && lo < 0:
		return fmt.Sprintf("a matrix shrinks by 2^%d", lo)
	case len(t.Shape) >= 2 && lo < -r.Bound/2:
		return fmt.Sprintf("a matrix shrinks by 2^%d", lo)
	}
	return ""
}

// reach returns how far a value may move under the groups' ranges.
func reach(s gauge.Shift, groups []Group) (lo, hi int) {
	for _, sigs := range s {
		l, h := math.MaxInt, math.MinInt
		for _, sig := range sigs {
			x, y := 0, 0
			for _, f := range sig {
				a, b := groups[f.Group].Span()
				a, b = a*f.Coef, b*f.Coef
				x, y = x+min(a, b), y+max(a, b)
			}
			l, h = min(l, x), max(h, y)
		}
		lo, hi = lo+l, hi+h
	}
	return lo, hi
}
