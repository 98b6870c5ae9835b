package seal

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
)

// TestTiers: of the groups of a job, those of one layer alone stand out, in the
// whole model and in every run of layers that is not short.
func TestTiers(t *testing.T) {
	for layers := 2; layers <= 130; layers++ {
		var groups []gauge.Group
		for l := range layers {
			groups = append(groups, gauge.Group{ID: fmt.Sprintf("norm:layers.%d.input", l), Kind: gauge.Norm, Layer: l})
			for e := range 3 {
				groups = append(groups, gauge.Group{ID: fmt.Sprintf("ffn:layers.%d.experts.%d.up", l, e), Kind: gauge.FFN, Layer: l})
			}
		}
		got := tiersOf(groups)
		norms := make([]int, layers)
		for l := range layers {
			norms[l] = got[4*l]
			for e := range 3 {
				if got[4*l+1+e] != norms[l] {
					t.Fatalf("%d layers: expert %d of layer %d has tier %d, the layer's norm %d", layers, e, l, got[4*l+1+e], norms[l])
				}
			}
		}
		for width := 1 << (bits.Len(uint(layers)) - 2); width <= layers; width++ {
			for from := 0; from+width <= layers; from++ {
				run := norms[from : from+width]
				least := slices.Min(run)
				if n := count(run, least); n != 1 {
					t.Fatalf("%d layers: %d of layers %d to %d have tier %d: %v", layers, n, from, from+width-1, least, run)
				}
			}
		}
		if least := slices.Min(norms); least != 0 {
			t.Fatalf("%d layers: nothing is farthest out: %v", layers, norms)
		}
	}
}

func count(s []int, x int) (n int) {
	for _, y := range s {
		if x == y {
			n++
		}
	}
	return n
}

// TestTiersWithoutLayers: an exported graph may not say which layer a group is in.
func TestTiersWithoutLayers(t *testing.T) {
	var groups []gauge.Group
	for l := range 8 {
		groups = append(groups, gauge.Group{ID: fmt.Sprintf("norm:p_%d_weight", l), Kind: gauge.Norm, Layer: -1})
	}
	groups = append(groups, gauge.Group{ID: "norm:last", Kind: gauge.Norm, Layer: -1})
	if got, want := tiersOf(groups), []int{2, 2, 2, 1, 2, 2, 2, 0, 1}; !slices.Equal(got, want) {
		t.Errorf("tiers %v, want %v", got, want)
	}
}

// TestSpread: every exponent lies in its range, outliers are apart from the
// middle, and a lower tier's are never nearer.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.IntRange(-130, 0).Draw(t, "lo")
		hi := rapid.IntRange(0, 130).Draw(t, "hi")
		kind := rapid.SampledFrom([]gauge.Kind{gauge.Norm, gauge.VO, gauge.FFN, gauge.QK}).Draw(t, "kind")
		classes := rapid.IntRange(0, 300).Draw(t, "classes")
		var before Outliers
		for tier := range tiers {
			g := Group{Kind: kind, Classes: classes}
			g.spread(tier, lo, hi)
			if from, to := g.Span(); from < lo || to > hi {
				t.Fatalf("tier %d spans %d to %d", tier, from, to)
			}
			o := g.Outliers
			if o.Count == 0 {
				if classes > 1 && (hi-lo)/2 >= outlierGap {
					t.Fatalf("no outliers")
				}
				continue
			}
			middle := g.Offsets[0]
			if middle+g.Lo-o.Low < outlierGap/2 || o.High-middle-g.Hi < outlierGap/2 {
				t.Fatalf("tier %d: outliers %+v around %d to %d", tier, o, middle+g.Lo, middle+g.Hi)
			}
			if tier > 0 && (o.Low < before.Low || o.High > before.High) {
				t.Fatalf("tier %d: %+v is farther out than %+v", tier, o, before)
			}
			before = o
		}
	})
}
