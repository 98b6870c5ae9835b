// Package seal turns the gauge freedom of a network into a seal: it chooses
// how far each group of classes may move (profiles and range analysis), draws
// the exponents from a key, and rescales tensors exactly.
package seal

import (
	"fmt"
	"math/bits"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/keys"
)

// Method is how factors are chosen.
type Method string

// The methods. Static and Dynamic are those of the original Python tool: real
// factors, not exact. Gauge draws powers of two.
const (
	Gauge   Method = "gauge"
	Static  Method = "static"
	Dynamic Method = "dynamic"
)

// Profile says where a sealed model promises to be exact.
type Profile string

// The profiles of method gauge.
const (
	Portable Profile = "portable" // bf16, fp32, fp16, and later block quantisation by others
	Strong   Profile = "strong"   // bf16 and fp32; later quantisation with F32 scales
	Max      Profile = "max"      // bf16 and fp32 inference only
)

// Group is a group of classes with the range that its exponents are drawn
// from: one of Offsets for the whole group, plus Lo … Hi for each class; but
// some classes, chosen by the key, are outliers.
type Group struct {
	ID      string     `json:"id"`
	Kind    gauge.Kind `json:"kind"`
	Layer   int        `json:"layer"`
	Classes int        `json:"classes"`
	Offsets []int      `json:"offsets"`
	Lo      int        `json:"lo"`
	Hi      int        `json:"hi"`

	Outliers Outliers `json:"outliers,omitzero"`
	Signs    bool     `json:"signs,omitzero"` // classes are negative, too, as the key decides
	Draw     int      `json:"draw,omitzero"`  // number of draws that were thrown away: see Redraw
}

// Outliers are classes far from the rest of their group: Count of them have
// the exponent Low and as many High. No learning rate suits both them and the
// rest, whichever side of a pair one looks at.
type Outliers struct {
	Count int `json:"count"`
	Low   int `json:"low"`
	High  int `json:"high"`
}

// Fixed reports whether the group's classes all stay where they are.
func (g Group) Fixed() bool {
	return g.Classes == 0 || !g.Signs && g.Lo == 0 && g.Hi == 0 && g.Outliers == Outliers{} && len(g.Offsets) == 1 && g.Offsets[0] == 0
}

// Span returns the smallest and largest exponent that a class can get.
func (g Group) Span() (lo, hi int) {
	lo, hi = g.Offsets[0], g.Offsets[0]
	for _, o := range g.Offsets {
		lo, hi = min(lo, o), max(hi, o)
	}
	lo, hi = lo+g.Lo, hi+g.Hi
	if o := g.Outliers; o.Count > 0 {
		lo, hi = min(lo, o.Low), max(hi, o.High)
	}
	return lo, hi
}

// Plan is everything about a seal but its key: with the key, it determines
// every exponent.
type Plan struct {
	Groups  []Group
	Tensors []gauge.Tensor // only those that move
}

// Limits on what a plan read from a manifest may hold.
const (
	maxClasses  = 1 << 28
	maxExponent = 2000
	maxDraws    = 1000
)

// Validate checks a plan that came from outside: every index in range, every
// exponent bounded, every segment inside its tensor.
func (p *Plan) Validate() error {
	total := 0
	ids := make(map[string]bool, len(p.Groups))
	for _, g := range p.Groups {
		if g.Classes < 0 || g.Classes > maxClasses-total {
			return fmt.Errorf("group %q: %d classes", g.ID, g.Classes)
		}
		total += g.Classes
		if ids[g.ID] {
			return fmt.Errorf("group %q appears twice", g.ID)
		}
		if g.Draw < 0 || g.Draw > maxDraws {
			return fmt.Errorf("group %q: draw %d", g.ID, g.Draw)
		}
		ids[g.ID] = true
		if len(g.Offsets) == 0 || g.Lo > g.Hi || g.Lo < -maxExponent || g.Hi > maxExponent {
			return fmt.Errorf("group %q: range %d to %d with %d offsets", g.ID, g.Lo, g.Hi, len(g.Offsets))
		}
		if o := g.Outliers; o.Count < 0 || o.Count > g.Classes/2 || o.Low > o.High || o.Low < -maxExponent || o.High > maxExponent {
			return fmt.Errorf("group %q: %d outliers at %d and %d among %d classes", g.ID, o.Count, o.Low, o.High, g.Classes)
		}
		for _, o := range g.Offsets {
			if o < -maxExponent || o > maxExponent {
				return fmt.Errorf("group %q: offset %d", g.ID, o)
			}
		}
	}
	for i := range p.Tensors {
		if err := p.validateTensor(&p.Tensors[i]); err != nil {
			return fmt.Errorf("tensor %q: %w", p.Tensors[i].Name, err)
		}
	}
	return nil
}

func (p *Plan) validateTensor(t *gauge.Tensor) error {
	columns := 0
	for _, ax := range t.Terms {
		if slices.Contains(ax.Axes, len(t.Shape)-1) {
			columns++
		}
		if columns > 1 {
			return fmt.Errorf("two terms along the last axis")
		}
		n, last := 1, -1
		for _, a := range ax.Axes {
			if a <= last || a >= len(t.Shape) {
				return fmt.Errorf("axes %v of a tensor of rank %d", ax.Axes, len(t.Shape))
			}
			hi, lo := bits.Mul64(uint64(n), uint64(t.Shape[a]))
			if hi != 0 || lo > 1<<40 {
				return fmt.Errorf("axes %v are too long", ax.Axes)
			}
			n, last = int(lo), a
		}
		if n != ax.Len {
			return fmt.Errorf("axes %v hold %d elements, not %d", ax.Axes, n, ax.Len)
		}
		for _, s := range ax.Segments {
			switch {
			case s.Start < 0 || s.Count < 1 || s.Start > ax.Len-s.Count:
				return fmt.Errorf("segment at %d of %d elements, axis of %d", s.Start, s.Count, ax.Len)
			case s.Group < 0 || s.Group >= len(p.Groups):
				return fmt.Errorf("segment names group %d of %d", s.Group, len(p.Groups))
			case s.Div < 1 || s.First < 0 || s.First > p.Groups[s.Group].Classes-1-(s.Count-1)/s.Div:
				return fmt.Errorf("segment names class %d+%d/%d of %d", s.First, s.Count-1, s.Div, p.Groups[s.Group].Classes)
			case s.Coef < -8 || s.Coef > 8:
				return fmt.Errorf("segment has coefficient %d", s.Coef)
			}
		}
	}
	return nil
}

// Exponents draws the exponent of every class of every group from the key.
// Each group depends on the key, its id, its size and its range only.
// Specified in spec/derivation.md, with vectors in testkit.
func (p *Plan) Exponents(key keys.SealKey) [][]int16 {
	out := make([][]int16, len(p.Groups))
	for i, g := range p.Groups {
		out[i] = g.exponents(key)
	}
	return out
}

func (g Group) exponents(key keys.SealKey) []int16 {
	s := key.Stream(g.stream())
	off := g.Offsets[s.Intn(len(g.Offsets))]
	e := make([]int16, g.Classes)
	for c := range e {
		e[c] = int16(off + g.Lo + s.Intn(g.Hi-g.Lo+1))
	}
	g.placeOutliers(e, s.Intn)
	return e
}

// placeOutliers chooses the outliers: the first places of a shuffle.
func (g Group) placeOutliers(e []int16, below func(n int) int) {
	o := g.Outliers
	if o.Count == 0 {
		return
	}
	at := make([]int32, len(e))
	for i := range at {
		at[i] = int32(i)
	}
	for i := range 2 * o.Count {
		j := i + below(len(at)-i)
		at[i], at[j] = at[j], at[i]
		e[at[i]] = int16(o.High)
		if i < o.Count {
			e[at[i]] = int16(o.Low)
		}
	}
}
