package seal

import (
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
)

// TestDepths: of the groups of a job, those of one layer alone stand out, in the
// whole model and in every run of layers that is not short; at most two layers,
// far from each other, lie level; the first lies nearest to the middle.
func TestDepths(t *testing.T) {
	for layers := 2; layers <= 130; layers++ {
		var groups []gauge.Group
		for l := range layers {
			groups = append(groups, gauge.Group{ID: fmt.Sprintf("norm:layers.%d.input", l), Kind: gauge.Norm, Layer: l})
			for e := range 3 {
				groups = append(groups, gauge.Group{ID: fmt.Sprintf("ffn:layers.%d.experts.%d.up", l, e), Kind: gauge.FFN, Layer: l})
			}
		}
		got := depthsOf(groups)
		norms := make([]float64, layers)
		for l := range layers {
			norms[l] = got[4*l]
			for e := range 3 {
				if got[4*l+1+e] != norms[l] {
					t.Fatalf("%d layers: expert %d of layer %d has depth %v, the layer's norm %v", layers, e, l, got[4*l+1+e], norms[l])
				}
			}
		}
		for width := 1 << (bits.Len(uint(layers)) - 2); width <= layers; width++ {
			for from := 0; from+width <= layers; from++ {
				if run := slices.Sorted(slices.Values(norms[from : from+width])); width > 1 && run[1]-run[0] < 0.33 {
					t.Fatalf("%d layers: none of layers %d to %d stands out: %v", layers, from, from+width-1, run)
				}
			}
		}
		order := slices.Sorted(slices.Values(norms))
		if order[0] != 0 || norms[0] != 1 || len(slices.Compact(order)) < layers-1 {
			t.Fatalf("%d layers: %v", layers, norms)
		}
	}
}

// TestDepthsOfEveryNth: of every second, third or fourth layer no more than half
// lie near each other.
func TestDepthsOfEveryNth(t *testing.T) {
	const window = 1.0 / 12 // a quarter of what the last tier has
	for layers := 4; layers <= 130; layers++ {
		all := depths(layers)
		for stride := 1; stride <= 4; stride++ {
			for from := range min(stride, layers) {
				var chosen []float64
				for l := from; l < layers; l += stride {
					chosen = append(chosen, all[l])
				}
				for _, low := range chosen {
					level := 0
					for _, d := range chosen {
						if d >= low && d < low+window {
							level++
						}
					}
					if level > len(chosen)/2+1 {
						t.Fatalf("%d layers, every %d. from %d: %d of %d lie within %.2f of each other: %v", layers, stride, from, level, len(chosen), window, chosen)
					}
				}
			}
		}
	}
}

// TestDepthsWithoutLayers: an exported graph may not say which layer a group is in.
func TestDepthsWithoutLayers(t *testing.T) {
	var groups []gauge.Group
	for l := range 8 {
		groups = append(groups, gauge.Group{ID: fmt.Sprintf("norm:p_%d_weight", l), Kind: gauge.Norm, Layer: -1})
	}
	groups = append(groups, gauge.Group{ID: "norm:last", Kind: gauge.Norm, Layer: -1})
	got := depthsOf(groups)
	if want := depths(8); !slices.Equal(got[:8], want) || got[8] != 1.0/tiers {
		t.Errorf("depths %v, want %v and a third", got, want)
	}
}

// TestSpread: every exponent lies in its range, outliers are apart from the
// middle, and those of less depth are never nearer.
func TestSpread(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		lo := rapid.IntRange(-130, 0).Draw(t, "lo")
		hi := rapid.IntRange(0, 130).Draw(t, "hi")
		kind := rapid.SampledFrom([]gauge.Kind{gauge.Norm, gauge.VO, gauge.FFN, gauge.QK}).Draw(t, "kind")
		classes := rapid.IntRange(0, 300).Draw(t, "classes")
		var before Outliers
		for _, depth := range []float64{0, 1.0 / 3, 0.5, 1} {
			g := Group{Kind: kind, Classes: classes}
			g.spread(depth, lo, hi)
			if from, to := g.Span(); from < lo || to > hi {
				t.Fatalf("depth %v spans %d to %d", depth, from, to)
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
				t.Fatalf("depth %v: outliers %+v around %d to %d", depth, o, middle+g.Lo, middle+g.Hi)
			}
			if depth > 0 && (o.Low < before.Low || o.High > before.High) {
				t.Fatalf("depth %v: %+v is farther out than %+v", depth, o, before)
			}
			before = o
		}
	})
}
