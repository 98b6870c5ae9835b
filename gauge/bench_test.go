package gauge_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

// memory holds weights as fp32 bytes; it is a probe.Source.
type memory map[string][]byte

func (m memory) Weight(name string) (dtype.DType, int64, bool) {
	b, ok := m[name]
	return dtype.F32, int64(len(b)), ok
}

func (m memory) ReadWeight(name string, p []byte, off int64) error {
	copy(p, m[name][off:])
	return nil
}

func (m memory) clone() memory {
	out := memory{}
	for k, v := range m {
		out[k] = append([]byte(nil), v...)
	}
	return out
}

// bench builds one small graph around an operation: values come from lookups
// and linear maps of random weights, so that their features may move, and end
// in linear maps, which may take the move back.
type bench struct {
	*graph.Builder
	T, H, N, M int // tokens, width of the embedding, features in and out
	eps        float64
}

const vocabulary = 7

func (b *bench) weight(name string, shape ...int) graph.ID { return b.Weight(name, shape...) }

// embed is the [T,H] lookup.
func (b *bench) embed() graph.ID {
	return b.Embedding(b.Weight("embed", vocabulary, b.H), b.TokenIDs())
}

// in is a value [T,n] with a free factor per feature.
func (b *bench) in(name string, n int) graph.ID {
	return b.Linear(b.embed(), b.Weight(name, n, b.H))
}

// out reads a value [...,n].
func (b *bench) out(x graph.ID) graph.ID { return b.outAs("out", x) }

func (b *bench) outAs(name string, x graph.ID) graph.ID {
	s := b.Shape(x)
	return b.Linear(x, b.Weight(name, 3, s[len(s)-1]))
}

// network is a way to build a graph; the same calls must give the same graph.
type network func(b *bench) []graph.ID

// build builds a network; eps is 2^(2·shift) times the usual.
func (f network) build(t testing.TB, size [4]int, shift int) *graph.Graph {
	t.Helper()
	b := &bench{graph.NewBuilder(size[0]), size[0], size[1], size[2], size[3], math.Ldexp(1e-3, 2*shift)}
	g, err := b.Finish(f(b)...)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// randomWeights fills every weight of a graph with normal numbers.
func randomWeights(g *graph.Graph, r *rand.Rand) memory {
	m := memory{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		if n.Op != graph.OpWeight {
			continue
		}
		size := 1
		for _, d := range n.Shape {
			size *= d
		}
		b := make([]byte, 0, 4*size)
		for range size {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(r.NormFloat64())))
		}
		m[n.Name] = b
	}
	return m
}

// drawExponents gives every class a number in [-limit, limit].
func drawExponents(sol *gauge.Solution, limit int, draw func() int) [][]int16 {
	e := make([][]int16, len(sol.Groups))
	for g := range e {
		e[g] = make([]int16, sol.Groups[g].Classes)
		for c := range e[g] {
			if sol.Groups[g].Kind == gauge.Residual && g != sol.Residual {
				continue // the seal moves one epsilon only
			}
			e[g][c] = int16(draw()%(2*limit+1) - limit)
		}
	}
	return e
}

// apply scales weights by the exponents and returns the shift of the epsilon.
func apply(t testing.TB, sol *gauge.Solution, w memory, e [][]int16) (memory, int) {
	t.Helper()
	out := w.clone()
	for i := range sol.Tensors {
		if s := seal.NewScaler(&sol.Tensors[i], dtype.F32, e, 1); s != nil {
			if err := s.Edit(0, out[sol.Tensors[i].Name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	shift := 0
	for _, m := range sol.Eps {
		shift += m.Coef * int(e[sol.Residual][0])
	}
	return out, shift
}

func run(t testing.TB, g *graph.Graph, w memory, tokens []int, watch func(graph.ID, []float32)) [][]float32 {
	t.Helper()
	out, err := probe.Run(context.Background(), g, w, probe.Options{Tokens: tokens, Workers: 1, Observe: watch})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func differ(a, b [][]float32) string {
	for i := range a {
		for j := range a[i] {
			if math.Float32bits(a[i][j]) != math.Float32bits(b[i][j]) {
				return fmt.Sprintf("output %d, element %d: %g and %g", i, j, a[i][j], b[i][j])
			}
		}
	}
	return ""
}

func tokensOf(n int, draw func() int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = draw() % vocabulary
	}
	return out
}

// move scales by 2^3 the slice with the given index along an axis of a weight;
// index -1 means the whole weight.
type move struct {
	weight      string
	axis, index int
}

func (m move) apply(t testing.TB, g *graph.Graph, w memory) {
	t.Helper()
	id, ok := g.Weights()[m.weight]
	if !ok {
		t.Fatalf("no weight %s", m.weight)
	}
	shape := g.Shape(id)
	inner := 1
	for _, d := range shape[m.axis+1:] {
		inner *= d
	}
	b := w[m.weight]
	for i := 0; i < len(b)/4; i++ {
		if m.index < 0 || i/inner%shape[m.axis] == m.index {
			x := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
			binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(8*x))
		}
	}
}
