//go:build interop

package interop_test

import (
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// TestLegacy: what the original Python tool did to a bf16 model is taken back,
// as exactly as its rounding allows.
func TestLegacy(t *testing.T) {
	s := need(t)
	const variant, password = "llama-plain", "correct horse"
	locks := map[string]struct{ lock, unlock []string }{
		"password":        {[]string{"--password", password}, []string{"--legacy-v2", "--password", password}},
		"password, scale": {[]string{"--password", password, "--scale", "7.5"}, []string{"--legacy-v2", "--password", password, "--scale", "7.5"}},
		"static":          {nil, []string{"--legacy-static", "100"}},
	}
	for name, l := range locks {
		t.Run(name, func(t *testing.T) {
			src := s.folder(variant, "bf16")
			locked, back := filepath.Join(t.TempDir(), "locked"), filepath.Join(t.TempDir(), "back")
			if _, err := s.runPython(append([]string{"legacy.py", src, locked}, l.lock...)...); err != nil {
				t.Fatal(err)
			}
			s.neuroseal(t, append([]string{"unlock", locked, back, "-q"}, l.unlock...)...)
			if worst, _ := restored(t, src, locked, false); worst < 1 {
				t.Fatalf("the lock changed weights by %g only", worst)
			}
			worst, exact := restored(t, src, back, true)
			// Two roundings, each to half a unit of bf16's 8 bits.
			if !(worst <= 1.0/128) {
				t.Errorf("an element differs by %g of its value", worst)
			}
			if exact < 0.6 {
				t.Errorf("only %.0f%% of the elements are exact", 100*exact)
			}
			s.report.Legacy = append(s.report.Legacy, legacyRow{name, worst, exact})
		})
	}
}

// restored returns the largest relative difference of an element of two
// checkpoints, and the share of equal ones among those that the original tool
// scales. others demands that all other tensors are the same.
func restored(t *testing.T, a, b string, others bool) (worst, exact float64) {
	t.Helper()
	left, right := tensors(t, a), tensors(t, b)
	if len(left) != len(right) {
		t.Fatalf("%d tensors and %d", len(left), len(right))
	}
	same, all := 0, 0
	for name, x := range left {
		scaled := false
		for _, part := range []string{"v_proj", "o_proj", "up_proj", "down_proj"} {
			scaled = scaled || strings.HasSuffix(name, part+".weight")
		}
		for i, v := range x {
			w := right[name][i]
			switch {
			case !scaled && others && v != w:
				t.Fatalf("%s[%d] was %g and is %g", name, i, v, w)
			case scaled:
				all++
				if v == w {
					same++
				} else {
					worst = math.Max(worst, math.Abs(float64(w-v)/float64(v)))
				}
			}
		}
	}
	if all == 0 {
		t.Fatal("no tensor that the original tool scales")
	}
	return worst, float64(same) / float64(all)
}

// tensors reads a small checkpoint as float32.
func tensors(t *testing.T, dir string) map[string][]float32 {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	out := map[string][]float32{}
	for _, x := range ck.Tensors() {
		data := make([]byte, x.Size)
		if err := ck.ReadAt(x, data, 0); err != nil {
			t.Fatal(err)
		}
		out[x.Name] = make([]float32, len(data)*8/x.DType.Bits())
		dtype.ToFloat32(x.DType, out[x.Name], data)
	}
	return out
}
