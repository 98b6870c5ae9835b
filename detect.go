package neuroseal

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Detection is what the weights themselves tell about a seal, without manifest
// and key.
type Detection struct {
	Sealed   bool     `json:"sealed"`
	Evidence []string `json:"evidence"`
	// StaticScale estimates the factor of the original tool's method, assuming
	// that both sides of its pairs were alike before; 0: none suspected.
	StaticScale float64 `json:"static_scale,omitempty"`
}

// Refuse is the error of Lock for a checkpoint whose weights tell of a seal.
func (d Detection) Refuse(path string) error {
	return fault.New(fault.AlreadySealed, "%s looks sealed: %s", path, d).
		WithHint("if the original is like this, repeat with --allow-sealed")
}

func (d Detection) String() string { return strings.Join(d.Evidence, "; ") }

// Thresholds, as log2. Ordinary training leaves both sides of a pair within a
// factor of 8 of each other (scaled initialisation of output projections is
// the largest known cause; a fused projection hides a little more), gains within 2^7 of one, and the rows of a matrix
// within a factor of 2 of each other.
const (
	imbalanceLimit = 6
	gainLimit      = 10
	rowSpreadLimit = 2.5
)

// detect looks for the traces that a seal leaves.
func detect(sol *gauge.Solution, m *model, stats map[string]*dtype.Stats) Detection {
	d := Detection{Evidence: []string{}}
	d.epsilon(sol, m)
	d.imbalance(sol, stats)
	d.gains(sol, stats)
	d.spread(sol, stats)
	d.Sealed = len(d.Evidence) > 0
	if len(d.Evidence) > 0 && !strings.Contains(d.Evidence[0], "pairs differ") {
		d.StaticScale = 0 // other traces: not the original tool's
	}
	return d
}

func (d *Detection) add(format string, args ...any) {
	d.Evidence = append(d.Evidence, fmt.Sprintf(format, args...))
}

// epsilon: a norm's epsilon that is a usual one times a power of four.
func (d *Detection) epsilon(sol *gauge.Solution, m *model) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(arch.PlainJSON(m.conf), &raw) != nil {
		return
	}
	for _, e := range sol.Eps {
		var v float64
		if json.Unmarshal(raw[e.Key], &v) != nil {
			continue
		}
		if n, base := usualEpsilon(v); n > 0 {
			d.add("%s is %g, which is %g × 4^%d", e.Key, v, base, n)
		} else if v > 1e-2 {
			d.add("%s is %g; usual values are below 1e-4", e.Key, v)
		}
	}
}

// usualEpsilon splits v into a usual epsilon times 4^n, n >= 0; base 0 when it
// cannot.
func usualEpsilon(v float64) (n int, base float64) {
	for n := range 120 {
		for _, b := range []float64{1e-5, 1e-6, 1e-8, 1e-12} {
			if math.Ldexp(b, 2*n) == v || math.Ldexp(float64(float32(b)), 2*n) == v { // GGUF's are fp32
				return n, b
			}
		}
	}
	return 0, 0
}

// imbalance: one side of all pairs of a kind far larger than the other.
func (d *Detection) imbalance(sol *gauge.Solution, stats map[string]*dtype.Stats) {
	type sides struct{ up, down float64 }
	per := make([]sides, len(sol.Groups))
	seen := make([]sides, len(sol.Groups))
	for i := range sol.Tensors {
		t := &sol.Tensors[i]
		s := stats[t.Name]
		if len(t.Shape) < 2 || s == nil || !s.Finite() {
			continue
		}
		level := math.Log2(s.SumSq/float64(s.N)) / 2
		for g, coef := range groupsOf(t) {
			if coef > 0 {
				per[g].up += level
				seen[g].up++
			} else {
				per[g].down += level
				seen[g].down++
			}
		}
	}
	byKind := map[gauge.Kind][]float64{}
	for g, k := range sol.Groups {
		if (k.Kind == gauge.VO || k.Kind == gauge.FFN) && seen[g].up > 0 && seen[g].down > 0 {
			byKind[k.Kind] = append(byKind[k.Kind], per[g].up/seen[g].up-per[g].down/seen[g].down)
		}
	}
	for _, k := range []gauge.Kind{gauge.VO, gauge.FFN} {
		x := byKind[k]
		if len(x) == 0 {
			continue
		}
		slices.Sort(x)
		if mid := x[len(x)/2]; math.Abs(mid) > imbalanceLimit {
			d.add("the two sides of %s pairs differ by 2^%.1f in size", k, mid)
			if mid > 0 && (d.StaticScale == 0 || k == gauge.VO) {
				d.StaticScale = math.Exp2(mid / 2)
			}
		}
	}
}

// groupsOf lists the groups that move a tensor, with the sign of their
// coefficient.
func groupsOf(t *gauge.Tensor) map[int]int {
	out := map[int]int{}
	for _, ax := range t.Terms {
		for _, s := range ax.Segments {
			out[s.Group] = s.Coef
		}
	}
	return out
}

// gains: a norm's gain far from one.
func (d *Detection) gains(sol *gauge.Solution, stats map[string]*dtype.Stats) {
	n, worst := 0, 0.0
	for i := range sol.Tensors {
		t := &sol.Tensors[i]
		s := stats[t.Name]
		if len(t.Shape) != 1 || s == nil || !s.Finite() || !isGain(sol, t) || strings.HasSuffix(t.Name, ".bias") { // a bias has no usual size
			continue
		}
		if level := math.Log2(s.SumSq/float64(s.N)) / 2; math.Abs(level) > gainLimit {
			n++
			if math.Abs(level) > math.Abs(worst) {
				worst = level
			}
		}
	}
	if n > 0 {
		d.add("%d norm gains are far from one, up to 2^%.1f", n, worst)
	}
}

// isGain reports whether a vector belongs to a norm group.
func isGain(sol *gauge.Solution, t *gauge.Tensor) bool {
	for g := range groupsOf(t) {
		if sol.Groups[g].Kind == gauge.Norm {
			return true
		}
	}
	return false
}

// spread: rows of many matrices that differ by large factors.
func (d *Detection) spread(sol *gauge.Solution, stats map[string]*dtype.Stats) {
	wide, all := 0, 0
	for i := range sol.Tensors {
		t := &sol.Tensors[i]
		s := stats[t.Name]
		if len(t.Shape) < 2 || s == nil || s.Rows < 4 || !varies(t, 0) {
			continue
		}
		all++
		if s.StdLogRow() > rowSpreadLimit {
			wide++
		}
	}
	if wide > 1 && wide*4 >= all {
		d.add("the rows of %d of %d matrices differ by large factors", wide, all)
	}
}

// varies reports whether a term of the tensor runs along an axis.
func varies(t *gauge.Tensor, axis int) bool {
	for _, ax := range t.Terms {
		if slices.Contains(ax.Axes, axis) {
			return true
		}
	}
	return false
}
