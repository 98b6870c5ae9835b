package seal

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// TensorFacts is what range analysis knows about a stored tensor.
type TensorFacts struct {
	DType       dtype.DType
	Any         bool // some element is finite and not zero
	Max, Min    int  // binary exponents of the largest and smallest such element
	Subnormal   bool // some element is subnormal in its own type
	MinNormal16 int  // smallest exponent that is normal in fp16; vectors only
	Has16       bool // MinNormal16 is set
	Bound       WeightBound
	// Room is what the stored scales of a quantised weight allow, whose other
	// figures are those of its numbers in fp32; nil for one of single elements.
	Room *Room
}

// Facts is the input of range analysis.
type Facts struct {
	Graph    *graph.Graph
	Solution *gauge.Solution // after Merge, if the profile has blocks
	Tensors  map[string]TensorFacts
	Observed []float64 // per node: log2 of the largest element seen; nil: not run
	Eps      map[string]float64
	Growing  []graph.ID // values that must not shrink
	Kept     []graph.ID // values that the runtime keeps in a type of its user's choice: they must not move
}

// Request is what the user asked for.
type Request struct {
	Profile Profile
	Bound   int                      // largest exponent; 0: the profile's own choice
	Select  func(g gauge.Group) bool // groups to move; nil: all
}

// Ranges is the result of range analysis.
type Ranges struct {
	Groups []Group
	Growth bool     // no matrix shrinks: survives quantisers with fp16 scales
	Why    []string // per group: what keeps its range from being wider
}

// Figures behind the constants: docs of the seal's profiles; DESIGN's tables.
const (
	innerWide      = 80 // strong, max: value/output and up/down
	normFar        = 60 // strong, max: norms upwards; the squares of gradients stay within fp32
	normNear       = 30 // strong, max: norms downwards
	queryKeyWide   = 38 // strong, max: query/key
	residualWide   = 40 // strong, max: residual gauge
	fp32Limit      = 120
	squareLimit    = 62 // a norm squares and sums its input in fp32
	valueFloor     = -60
	fp16Max        = 15
	fp16MinNormal  = -14
	fp16Activation = 14 // two bits of margin below fp16's largest number
	valueFloor16   = -10
)

// constraint limits how far a tensor or a value may move.
type constraint struct {
	what   string
	lo, hi int
	shift  gauge.Shift
}

// allocator narrows the groups' ranges until every constraint holds.
type allocator struct {
	lo, hi []int
	rigid  []bool // one exponent for all: lo == hi
	why    []string
}

// Allocate chooses the widest ranges that the profile allows and under which
// no weight loses a bit and no value leaves the range that the profile
// promises. For strong and max, the bounds on values hold for every input;
// portable's come from running the network.
func Allocate(f Facts, r Request) (*Ranges, error) {
	out, err := allocate(f, r, true)
	if err != nil || r.Profile != Portable || moved(out.Groups) {
		return out, err
	}
	// Without norms to shrink and a residual stream to raise, nothing can grow
	// on both sides of a pair (Gemma): allow a small shrink instead, and say so.
	return allocate(f, r, false)
}

func moved(gs []Group) bool {
	return slices.ContainsFunc(gs, func(g Group) bool { return !g.Fixed() })
}

func allocate(f Facts, r Request, growth bool) (*Ranges, error) {
	if r.Profile == Portable && f.Observed == nil {
		return nil, fmt.Errorf("range analysis needs the network's activations")
	}
	a := start(f.Solution, r, growth)
	cs, err := constraints(f, r, growth)
	if err != nil {
		return nil, err
	}
	for changed := true; changed; {
		changed = false
		for i := range cs {
			if a.enforce(&cs[i]) {
				changed = true
			}
		}
	}
	out := &Ranges{Growth: growth, Why: a.why}
	depth := depthsOf(f.Solution.Groups)
	for i, g := range f.Solution.Groups {
		q := Group{ID: g.ID, Kind: g.Kind, Layer: g.Layer, Classes: g.Classes, Offsets: []int{0}}
		q.Lo, q.Hi = a.lo[i], a.hi[i]
		if a.rigid[i] {
			q.Offsets, q.Lo, q.Hi = []int{a.lo[i]}, 0, 0
		} else if r.Profile != Portable {
			q.spread(depth[i], a.lo[i], a.hi[i])
		}
		out.Groups = append(out.Groups, q)
	}
	return out, nil
}

// start gives every group the widest range that its kind may have.
func start(s *gauge.Solution, r Request, growth bool) *allocator {
	n := len(s.Groups)
	a := &allocator{lo: make([]int, n), hi: make([]int, n), rigid: make([]bool, n), why: make([]string, n)}
	for i, g := range s.Groups {
		a.rigid[i] = g.Kind == gauge.Residual
		switch {
		case g.Classes == 0:
			a.why[i] = "a quantisation block spans it and something that cannot move"
			continue
		case r.Select != nil && !r.Select(g):
			a.why[i] = "not selected"
			continue
		case g.Kind == gauge.Residual && i != s.Residual:
			a.why[i] = "a second epsilon"
			continue
		}
		a.lo[i], a.hi[i] = widest(g.Kind, r, growth)
		a.why[i] = "the profile's own limit"
		if r.Bound > 0 && (a.hi[i] == r.Bound || a.lo[i] == -r.Bound) {
			a.why[i] = "--scale"
		}
	}
	return a
}

func widest(k gauge.Kind, r Request, growth bool) (lo, hi int) {
	if r.Profile == Portable {
		b := r.Bound
		switch {
		case k == gauge.Residual:
			return b, b
		case k == gauge.Norm && growth:
			return -max(b-1, 1), -1
		}
		return -b, b
	}
	clip := func(n int) int {
		if r.Bound > 0 {
			return min(n, r.Bound)
		}
		return n
	}
	switch k {
	case gauge.Residual:
		return clip(residualWide), clip(residualWide)
	case gauge.VO, gauge.FFN:
		// Activations behind a softmax or a gate have long tails towards zero:
		// they only grow.
		return 0, clip(innerWide)
	case gauge.Norm:
		return -clip(normNear), clip(normFar)
	}
	return -clip(queryKeyWide), clip(queryKeyWide)
}

// enforce narrows contributors until c holds; it reports whether it did.
func (a *allocator) enforce(c *constraint) bool {
	changed := false
	for {
		lo, hi, low, high := a.extent(c.shift)
		switch {
		case lo < c.lo && low >= 0:
			a.narrow(low, c)
		case hi > c.hi && high >= 0:
			a.narrow(high, c)
		default:
			return changed
		}
		changed = true
	}
}

// narrow moves one end of a group's range, the one that is encoded with it,
// towards zero: 2g is the low end of group g, 2g+1 the high end.
func (a *allocator) narrow(end int, c *constraint) {
	g := end / 2
	a.why[g] = c.what
	if end%2 == 0 {
		a.lo[g] += step(a.lo[g])
	} else {
		a.hi[g] += step(a.hi[g])
	}
	if a.rigid[g] {
		if end%2 == 0 {
			a.hi[g] = a.lo[g]
		} else {
			a.lo[g] = a.hi[g]
		}
	}
	if a.lo[g] > a.hi[g] {
		if end%2 == 0 {
			a.hi[g] = a.lo[g]
		} else {
			a.lo[g] = a.hi[g]
		}
	}
}

// step is one towards zero.
func step(e int) int {
	if e < 0 {
		return 1
	}
	return -1
}

// extent returns how far a shift can reach, and which end of which group
// contributes most to either side (-1: none does).
func (a *allocator) extent(s gauge.Shift) (lo, hi, low, high int) {
	low, high = -1, -1
	worstLo, worstHi := 0, 0
	for _, sigs := range s {
		l, h := math.MaxInt, math.MinInt
		var sl, sh []gauge.Factor
		for _, sig := range sigs {
			x, y := 0, 0
			for _, f := range sig {
				p, q := f.Coef*a.lo[f.Group], f.Coef*a.hi[f.Group]
				x, y = x+min(p, q), y+max(p, q)
			}
			if x < l {
				l, sl = x, sig
			}
			if y > h {
				h, sh = y, sig
			}
		}
		lo, hi = lo+l, hi+h
		for _, f := range sl {
			p, q := f.Coef*a.lo[f.Group], f.Coef*a.hi[f.Group]
			if e := min(p, q); e < worstLo {
				worstLo, low = e, end(f, p < q)
			}
		}
		for _, f := range sh {
			p, q := f.Coef*a.lo[f.Group], f.Coef*a.hi[f.Group]
			if e := max(p, q); e > worstHi {
				worstHi, high = e, end(f, p > q)
			}
		}
	}
	return lo, hi, low, high
}

// end encodes the low or the high end of a factor's group. Where both ends are
// equal either will do.
func end(f gauge.Factor, lowEnd bool) int {
	if lowEnd {
		return 2 * f.Group
	}
	return 2*f.Group + 1
}
