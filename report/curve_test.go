package report

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestThin: what is left was measured, is in order, has both ends and the
// extremes' neighbourhood, and of every gap its first point.
func TestThin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 10), 0, 400).Draw(t, "losses")
		holes := rapid.SliceOfN(rapid.IntRange(0, 400), 0, 4).Draw(t, "holes")
		n := rapid.IntRange(3, 60).Draw(t, "n")
		var all []dot
		for i, v := range values {
			if slices.Contains(holes, i) {
				v = math.NaN()
			}
			all = append(all, dot{i + 1, v})
		}
		got := thin(all, n)
		if len(got) > n+len(holes) || len(all) > 0 && len(got) == 0 {
			t.Fatalf("%d of %d points with n = %d", len(got), len(all), n)
		}
		last := 0
		for _, d := range got {
			if d.step <= last {
				t.Fatalf("step %d after %d", d.step, last)
			}
			last = d.step
			if want := all[d.step-1].loss; want != d.loss && finite(want) {
				t.Fatalf("step %d: %v, measured %v", d.step, d.loss, want)
			}
		}
		good := slices.DeleteFunc(slices.Clone(all), func(d dot) bool { return !finite(d.loss) })
		kept := slices.DeleteFunc(slices.Clone(got), func(d dot) bool { return !finite(d.loss) })
		if len(good) > 0 && (kept[0] != good[0] || kept[len(kept)-1] != good[len(good)-1]) {
			t.Fatal("an end is missing")
		}
		if len(good) < len(all) && len(kept) == len(got) {
			t.Fatal("the gaps are gone")
		}
	})
}

// TestThinKeepsSpike: a spike of one step stays visible.
func TestThinKeepsSpike(t *testing.T) {
	all := make([]dot, 1000)
	for i := range all {
		all[i] = dot{i + 1, 3}
	}
	all[611].loss = 9
	if got := thin(all, 40); !slices.Contains(got, dot{612, 9}) {
		t.Error("the spike is gone")
	}
}
