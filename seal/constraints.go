package seal

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// constraints lists what every stored tensor, every value and every epsilon
// allows.
func constraints(f Facts, r Request, growth bool) ([]constraint, error) {
	var cs []constraint
	for i := range f.Solution.Tensors {
		t := &f.Solution.Tensors[i]
		if len(t.Terms) == 0 {
			continue
		}
		facts, ok := f.Tensors[t.Name]
		if !ok {
			return nil, fmt.Errorf("range analysis has no figures for tensor %s", t.Name)
		}
		lo, hi := facts.limits(r, len(t.Shape) >= 2, growth)
		what := fmt.Sprintf("%s: exponents %d to %d in %v", t.Name, facts.Min, facts.Max, facts.DType)
		if r := facts.Room; r != nil {
			what = fmt.Sprintf("%s: its scales have room for 2^%d to 2^%d", t.Name, r.Lo, r.Hi)
		}
		cs = append(cs, constraint{what, lo, hi, tensorShift(t)})
	}
	cs = append(cs, values(f, r)...)
	cs = append(cs, f.growing()...)
	cs = append(cs, f.kept()...)
	for _, e := range f.Solution.Eps {
		limit := int((fp32Limit - math.Log2(max(f.Eps[e.Key], math.SmallestNonzeroFloat64))) / 2)
		s := gauge.Shift{{{{Group: f.Solution.Residual, Coef: e.Coef}}}}
		cs = append(cs, constraint{"config key " + e.Key, 0, limit, s})
	}
	return cs, nil
}

// tiny is the exponent below which an element's products with ordinary values
// come near the end of fp32's range.
const tiny = -100

// limits returns by how much a tensor's elements may move without loss.
func (t TensorFacts) limits(r Request, matrix, growth bool) (lo, hi int) {
	if !t.DType.Scalable() {
		return 0, 0
	}
	if !t.Any {
		return -maxExponent, maxExponent
	}
	emin, emax := normalRange(t.DType)
	lo, hi = emin-t.Min, emax-1-t.Max
	switch {
	case t.Room != nil && t.Min >= tiny:
		// The numbers themselves are computed in fp32 from codes and scales.
		lo, hi = t.Room.Lo, min(t.Room.Hi, hi)
	case t.Subnormal && t.DType == dtype.F16:
		lo = 0 // sums are fp32: growing is exact
	case t.Subnormal || t.DType != dtype.F16 && t.Min < tiny:
		// Products with such an element underflow before sealing, and would no
		// longer after it, or on hardware that flushes subnormals.
		return 0, 0
	}
	if r.Profile == Portable {
		hi = min(hi, fp16Max-t.Max)
		switch {
		case matrix && growth:
			lo = max(lo, 0)
		case matrix:
			lo = max(lo, -r.Bound/2)
		case t.Has16:
			lo = max(lo, fp16MinNormal-t.MinNormal16)
		}
	}
	return min(lo, 0), max(hi, 0)
}

// normalRange returns the exponents of a type's smallest and largest binades.
func normalRange(d dtype.DType) (lo, hi int) {
	switch d {
	case dtype.F16:
		return -14, 15
	case dtype.F64:
		return -1022, 1023
	}
	return -126, 127
}

// tensorShift lists, per term, the combinations of groups in its elements.
func tensorShift(t *gauge.Tensor) gauge.Shift {
	var s gauge.Shift
	for _, ax := range t.Terms {
		s = append(s, signatures(ax))
	}
	return s
}

func signatures(ax gauge.Axis) [][]gauge.Factor {
	var out [][]gauge.Factor
	add := func(sig []gauge.Factor) {
		if !slices.ContainsFunc(out, func(o []gauge.Factor) bool { return slices.Equal(o, sig) }) {
			out = append(out, sig)
		}
	}
	// Segments start and end at a few places; between two of them nothing changes.
	cuts := []int{0, ax.Len}
	for _, s := range ax.Segments {
		cuts = append(cuts, s.Start, s.Start+s.Count)
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	active := ax.Segments
	for _, at := range cuts[:len(cuts)-1] {
		var sig []gauge.Factor
		for _, s := range active {
			if s.Start <= at && at < s.Start+s.Count {
				sig = append(sig, gauge.Factor{Group: s.Group, Coef: s.Coef})
			}
		}
		add(sig)
	}
	return out
}

// values limits every activation that moves.
func values(f Facts, r Request) []constraint {
	var cs []constraint
	var b []bound
	if r.Profile != Portable {
		b = bounds(f.Graph, func(name string) WeightBound { return f.Tensors[name].Bound })
	}
	squared := map[graph.ID]bool{}
	for i := range f.Graph.Nodes {
		if n := &f.Graph.Nodes[i]; n.Op == graph.OpRMSNorm || n.Op == graph.OpLayerNorm {
			squared[n.In[0]] = true
		}
	}
	for i, s := range f.Solution.Values {
		n := &f.Graph.Nodes[i]
		if len(s) == 0 || n.Int || moves(n.Op) {
			continue
		}
		c := constraint{lo: valueFloor, shift: s}
		if r.Profile == Portable {
			c.lo, c.hi = valueFloor16, floor(fp16Activation-f.Observed[i])
			c.what = fmt.Sprintf("%v in %s: activations up to 2^%.1f", n.Op, n.Scope, f.Observed[i])
		} else {
			c.hi = floor(fp32Limit - b[i].max)
			c.what = fmt.Sprintf("%v in %s: activations bounded by 2^%.1f", n.Op, n.Scope, b[i].max)
			if squared[graph.ID(i)] {
				if h := floor(squareLimit - b[i].l2); h < c.hi {
					c.hi = h
					c.what = fmt.Sprintf("%v in %s: its squares are bounded by 2^%.1f", n.Op, n.Scope, 2*b[i].l2)
				}
			}
		}
		cs = append(cs, c)
	}
	return cs
}

// moves reports whether an operation only rearranges what an earlier one, that
// is limited itself, has computed.
func moves(o graph.Op) bool {
	return o == graph.OpWeight || o == graph.OpNeg || o.Move()
}

func floor(x float64) int {
	switch {
	case x != x || x < 0:
		return 0
	case x > maxExponent:
		return maxExponent
	}
	return int(x)
}
