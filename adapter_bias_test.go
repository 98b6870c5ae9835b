package neuroseal

import (
	"testing"

	"github.com/neuroseal/neuroseal/adapter"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
)

// TestAdapterBiasSide: what an adapter adds to a module's output takes the
// outputs' factors. A factor of the whole weight may be its inputs': it is taken
// only where it is the residual stream's, and the weight writes to the stream.
func TestAdapterBiasSide(t *testing.T) {
	c := &conversion{
		man: &manifest.Manifest{Groups: []manifest.Group{{ID: "residual", Kind: string(gauge.Residual), Classes: 1}, {ID: "x", Kind: string(gauge.VO), Classes: 1}}},
		e:   [][]int16{{40}, {3}}, neg: [][]bool{nil, nil},
	}
	piece := adapter.Piece{Name: "p.lora_B.bias", Of: "p.weight", Shape: []int{2}, Follows: []int{0}, Partner: []int{-1, 1}, Role: adapter.Added}
	for _, tt := range []struct {
		name    string
		group   int
		coef    int
		e       int16
		refused bool
	}{
		{"writes the residual stream", 0, 1, 40, false},
		{"reads the residual stream", 0, -1, 40, true},
		{"of another group", 1, 1, 3, true},
		{"does not move", 1, 1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.e[tt.group][0] = tt.e
			w := &gauge.Tensor{Name: "p.weight", Shape: []int{2, 3}, Terms: []gauge.Axis{
				{Len: 1, Segments: []gauge.Segment{{Count: 1, Group: tt.group, Div: 1, Coef: tt.coef}}}}}
			got, err := c.terms(piece, w)
			if refused := fault.KindOf(err) == fault.Unsupported && err != nil; refused != tt.refused || !refused && err != nil {
				t.Fatalf("%v", err)
			}
			if err == nil && len(got.Terms) != 1 {
				t.Errorf("%d terms, not the one of the whole weight", len(got.Terms))
			}
		})
	}
}
