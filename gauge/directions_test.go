package gauge_test

import (
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// TestDirections: x of x/‖x‖ is found where that is an output, and nowhere else.
func TestDirections(t *testing.T) {
	length := func(b *graph.Builder, x graph.ID) graph.ID { return b.Pow(b.Sum(b.Pow(x, 2)), 0.5) }
	for _, c := range []struct {
		name  string
		net   func(b *graph.Builder, x, y graph.ID) graph.ID
		found bool
	}{
		{"written out", func(b *graph.Builder, x, _ graph.ID) graph.ID { return b.Div(x, length(b, x)) }, true},
		{"expanded", func(b *graph.Builder, x, _ graph.ID) graph.ID {
			return b.Reshape(b.Div(x, b.Expand(b.Pow(b.Sum(b.Mul(x, x)), 0.5), 3, 4)), 12)
		}, true},
		{"norm", func(b *graph.Builder, x, _ graph.ID) graph.ID { return b.MulScalar(b.RMSNorm(x, 0, ""), 0.5) }, true},
		{"not the end", func(b *graph.Builder, x, y graph.ID) graph.ID { return b.Mul(b.Div(x, length(b, x)), y) }, false},
		{"epsilon", func(b *graph.Builder, x, _ graph.ID) graph.ID { return b.RMSNorm(x, 1e-6, "") }, false},
		{"another's length", func(b *graph.Builder, x, y graph.ID) graph.ID { return b.Div(x, length(b, y)) }, false},
		{"sum", func(b *graph.Builder, x, _ graph.ID) graph.ID { return b.Div(x, b.Sum(x)) }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := graph.NewBuilder(3)
			x := b.Linear(b.Embedding(b.Weight("table", 5, 4), b.TokenIDs()), b.Weight("projection", 4, 4))
			y := b.Input("y", 3, 4)
			g, err := b.Finish(c.net(b, x, y))
			if err != nil {
				t.Fatal(err)
			}
			found := gauge.Directions(g)
			if slices.Contains(found, x) != c.found || len(found) > 1 {
				t.Errorf("%v, want x (%d): %v", found, x, c.found)
			}
			sol, err := gauge.Solve(g)
			if err != nil {
				t.Fatal(err)
			}
			if reach := sol.Reaching(found); c.found != (len(reach) > 0) {
				t.Errorf("%d groups reach it", len(reach))
			}
		})
	}
}
