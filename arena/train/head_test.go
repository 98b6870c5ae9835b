package train

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
)

func TestHeadRows(t *testing.T) {
	for _, c := range []struct{ rows, vocab, limit, want int }{
		{512, 49152, 8 << 20, 171}, {512, 4096, 8 << 20, 512}, {7, 100, 100, 1}, {7, 100, 50, 1}, {7, 100, 250, 3},
	} {
		if got := headRows(c.rows, c.vocab, c.limit); got != c.want {
			t.Errorf("%v: %d", c, got)
		}
	}
}

// TestHeadInParts: loss and gradients are those of the whole, for a head of its
// own and for one that is the embedding too, trained or not.
func TestHeadInParts(t *testing.T) {
	defer func(old int) { headFloats = old }(headFloats)
	graphs := map[string]*graph.Graph{"own": tiny(t, decoder), "tied": tinyTied(t)}
	for name, g := range graphs {
		for _, kind := range []Kind{Full, Embeddings, Head} {
			t.Run(fmt.Sprintf("%s/%s", name, kind), func(t *testing.T) {
				b := batchOf(rand.New(rand.NewPCG(4, 4)), 2, testT, testV)
				run := func(limit, workers int) (*Engine, float64) {
					headFloats = limit
					e, err := New(context.Background(), g, memory{g, 1, 0.6}, Options{Batch: 2, Workers: workers, Trainable: Trainable{Kind: kind}})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := e.Gradients(b); err != nil { // what is left of one step must not show in the next
						t.Fatal(err)
					}
					plain, err := e.Loss(b)
					if err != nil {
						t.Fatal(err)
					}
					loss, err := e.Gradients(b)
					if err != nil || loss != plain {
						t.Fatalf("loss %v, with gradients %v, %v", plain, loss, err)
					}
					return e, loss
				}
				whole, want := run(1<<20, 1)
				for _, workers := range []int{1, 3} {
					parts, got := run(3*testV, workers)
					if math.Abs(got-want) > 1e-6 {
						t.Fatalf("loss %v, of the whole %v", got, want)
					}
					for i, p := range parts.Params() {
						for j, v := range whole.Params()[i].Grad {
							if math.Abs(float64(p.Grad[j]-v)) > 1e-5*(1+math.Abs(float64(v))) {
								t.Fatalf("%s: gradient %v, of the whole %v", p.Name, p.Grad[j], v)
							}
						}
					}
				}
			})
		}
	}
}

// tinyTied has the embedding as its head.
func tinyTied(t testing.TB) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(testT)
	b.Scope("model", 0)
	w := b.Weight("embed.weight", testV, testD)
	g, err := b.Finish(b.Linear(b.Apply(graph.OpSiLU, b.Embedding(w, b.TokenIDs())), w))
	if err != nil {
		t.Fatal(err)
	}
	return g
}
