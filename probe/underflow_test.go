package probe_test

import (
	"context"
	"math"
	"testing"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/probe"
)

// TestUnderflowDecidesTies shows the one way in which powers of two that cancel
// may still cost a last bit: products that underflow to zero before sealing and
// not after it, beside a product that lies exactly between two floats. It
// takes weights that are subnormal in fp32.
func TestUnderflowDecidesTies(t *testing.T) {
	const width = 256 // tiny products in every lane of the kernels
	for _, c := range []struct {
		tiny float64
		same bool
	}{{-0x1p-130, false}, {-0x1p-90, true}} {
		b := graph.NewBuilder(1)
		x := b.Embedding(b.Weight("embed.weight", 1, width), b.TokenIDs())
		g, err := b.Finish(b.Linear(b.Linear(x, b.Weight("up.weight", 1, width)), b.Weight("down.weight", 1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		embed, up := make([]float32, width), make([]float32, width)
		for i := range width {
			embed[i], up[i] = 0x1p-30, float32(c.tiny)
		}
		embed[width-1], up[width-1] = 1+0x1p-23, 1.5 // 1.5 + 1.5 units in the last place
		w := weights{g, map[string][]float32{"embed.weight": embed, "up.weight": up, "down.weight": {1}}}
		s := w.clone()
		s.scale(t, "up.weight", 0, 1, []int{50})
		s.scale(t, "down.weight", 1, -1, []int{50})
		r, err := probe.Compare(context.Background(), probe.Side{Graph: g, Source: w}, probe.Side{Graph: g, Source: s}, probe.Options{Tokens: []int{0}})
		if err != nil {
			t.Fatal(err)
		}
		if r.Equal != c.same || r.MaxDiff > math.Exp2(-23) {
			t.Errorf("weights of %g: %+v", c.tiny, r)
		}
	}
}
