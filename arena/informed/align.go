package informed

import (
	"context"
	"math"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Alignment is what Align found out about the victim's seal.
type Alignment struct {
	Groups  []gauge.Group // of the network
	Factors [][]float64   // signed, by group and class, in the base's order: victim = factor × base
	// PowersOfTwo says that the factors were so near to powers of two that they
	// were taken for such, and are exact.
	PowersOfTwo bool
	// Permuted holds the orders that were not the base's: the victim's p[i]
	// stands for the base's i. Keys name a tensor of the axis.
	Permuted map[string][]int
}

// Align expresses a sealed model, or a sealed fine-tune, in the gauge of its
// public base: it recovers permutations of experts, heads and channels by the
// cosines of their rows (assignment problem), and the factor of every class,
// signs included, by least squares. The idea is that of arXiv 2606.30360. The
// factors of a fine-tune are near to the seal's; if they are near to powers of
// two, they are rounded to them, and nothing of the fine-tune is lost.
func Align(ctx context.Context, m, base *Model) (*Model, *Alignment, error) {
	if base == nil {
		return nil, nil, fault.New(fault.Usage, "alignment needs the public base")
	}
	if err := alike(m, base, "base"); err != nil {
		return nil, nil, err
	}
	g, err := m.Clone().gauge()
	if err != nil {
		return nil, nil, err
	}
	f, gained := g.gains(base)
	if err := g.apply(f.inverse()); err != nil {
		return nil, nil, err
	}
	res := &Alignment{Groups: g.sol.Groups, Permuted: map[string][]int{}}
	out, err := m.Clone().gauge()
	if err != nil {
		return nil, nil, err
	}
	for _, a := range axes(g.net.Graph) {
		if ctx.Err() != nil {
			return nil, nil, fault.Wrap(fault.Interrupted, ctx.Err(), "aligning")
		}
		p, moved, err := match(g.Model, base, a)
		if err != nil {
			return nil, nil, err
		}
		if moved {
			g.permute(a, p)
			out.permute(a, p)
			res.Permuted[a.name] = p
		}
	}
	if err := g.refine(ctx, base, f, gained); err != nil {
		return nil, nil, err
	}
	res.PowersOfTwo = snap(f)
	res.Factors = f
	if err := out.apply(f.inverse()); err != nil {
		return nil, nil, err
	}
	return out.Model, res, out.sameEpsilon(base)
}

// gains estimates what can be read off without knowing anything else: the
// residual gauge from the epsilon, and from vectors that are multiplied element
// by element their classes' factors. gained names the groups with such a vector.
func (g *gauged) gains(base *Model) (f factors, gained []bool) {
	f, gained = g.still(), make([]bool, len(g.sol.Groups))
	if r := g.sol.Residual; r >= 0 {
		for _, e := range g.sol.Eps {
			v, ok := g.number(e.Key)
			b, has := base.number(e.Key)
			if ok && has && v > 0 && b > 0 && e.Coef != 0 {
				f[r][0] = math.Exp2(math.Log2(v/b) / float64(2*e.Coef))
				break
			}
		}
	}
	gain := map[string]bool{}
	for i := range g.net.Graph.Nodes {
		if n := &g.net.Graph.Nodes[i]; n.Op == graph.OpMul {
			for _, in := range n.In {
				if w := &g.net.Graph.Nodes[in]; w.Op == graph.OpWeight && len(w.Shape) == 1 {
					gain[w.Name] = true
				}
			}
		}
	}
	for i, x := range g.sol.Groups {
		if x.Kind == gauge.Residual {
			continue
		}
		f[i] = g.fit(base, i, func(t *gauge.Tensor) bool { return gain[t.Name] })
		for _, t := range g.byGroup[i] {
			gained[i] = gained[i] || gain[t.Name]
		}
	}
	return f, gained
}

// refine fits all groups in turn until nothing moves: what one group's columns
// hide of another's rows is then taken into account. Groups whose factors the
// gains have told come after the others, whose rows they see.
func (g *gauged) refine(ctx context.Context, base *Model, f factors, gained []bool) error {
	var order []int
	for _, late := range []bool{false, true} {
		for i, x := range g.sol.Groups {
			if x.Kind != gauge.Residual && gained[i] == late {
				order = append(order, i)
			}
		}
	}
	for round, step := 0, math.Inf(1); step > fitDone && round < fitRounds; round++ {
		step = 0
		for _, i := range order {
			if ctx.Err() != nil {
				return fault.Wrap(fault.Interrupted, ctx.Err(), "aligning")
			}
			back := make(factors, len(f))
			for c, v := range g.fit(base, i, func(*gauge.Tensor) bool { return true }) {
				f[i][c] *= v
				back[i] = append(back[i], 1/v)
				step = math.Max(step, math.Abs(math.Log2(math.Abs(v))))
			}
			for _, t := range g.byGroup[i] {
				scaleTensor(t, g.byName[t.Name].Data, back)
			}
		}
	}
	return nil
}

// Rounds of refinement, and the step, as log2, at which it is done.
const (
	fitRounds = 20
	fitDone   = 1e-5
)

// fit estimates, for every class of a group, the factor that takes the base's
// elements to g's. Every tensor gives a least-squares slope; their logarithms
// are averaged, weighted by how many elements agree how well.
func (g *gauged) fit(base *Model, group int, use func(*gauge.Tensor) bool) []float64 {
	n := g.sol.Groups[group].Classes
	logs, weights, signs := make([]float64, n), make([]float64, n), make([]float64, n)
	type sums struct{ vb, vv, bb, n float64 }
	g.terms(group, func(t *gauge.Tensor, ax gauge.Axis, mine []gauge.Segment) {
		if !use(t) {
			return
		}
		per := make([]sums, ax.Len)
		v, b := g.byName[t.Name].Data, base.byName[t.Name].Data
		each(t, ax, v, func(p, i int) {
			x, y, s := float64(v[i]), float64(b[i]), &per[p]
			if q := x*x + y*y; q == 0 || q-q != 0 {
				return
			}
			s.vb, s.vv, s.bb, s.n = s.vb+x*y, s.vv+x*x, s.bb+y*y, s.n+1
		})
		class := map[[2]int]sums{} // class and coefficient
		for _, s := range mine {
			for k := range s.Count {
				id := [2]int{s.First + k/s.Div, s.Coef}
				x, y := class[id], per[s.Start+k]
				class[id] = sums{x.vb + y.vb, x.vv + y.vv, x.bb + y.bb, x.n + y.n}
			}
		}
		for id, s := range class {
			if s.vb == 0 || s.bb == 0 || s.vv == 0 {
				continue
			}
			c, coef := id[0], float64(id[1])
			w := s.n * (s.vb / s.vv) * (s.vb / s.bb) // elements × squared cosine
			logs[c] += w * coef * math.Log2(math.Abs(s.vb)/s.bb)
			weights[c] += w * coef * coef
			if id[1]%2 != 0 {
				signs[c] += w * math.Copysign(1, s.vb)
			}
		}
	})
	out := make([]float64, n)
	for c := range out {
		out[c] = 1
		if weights[c] > 0 {
			out[c] = math.Exp2(logs[c] / weights[c])
			if signs[c] < 0 {
				out[c] = -out[c]
			}
		}
	}
	return out
}

// A factor is near a power of two if its logarithm is within snapWidth of a
// whole number; a seal is one of powers of two if nearly all of its factors are
// (of factors drawn otherwise, two in ten would be).
const (
	snapWidth = 0.1
	snapShare = 0.9
)

// snap rounds factors to powers of two if that is what they are.
func snap(f factors) bool {
	near, all := 0, 0
	for _, g := range f {
		for _, x := range g {
			all++
			if l := math.Log2(math.Abs(x)); math.Abs(l-math.Round(l)) <= snapWidth {
				near++
			}
		}
	}
	if all == 0 || float64(near) < snapShare*float64(all) {
		return false
	}
	for _, g := range f {
		for c, x := range g {
			g[c] = math.Copysign(math.Ldexp(1, int(math.Round(math.Log2(math.Abs(x))))), x)
		}
	}
	return true
}

// sameEpsilon takes the base's epsilons over where the fit left the last digit
// open.
func (g *gauged) sameEpsilon(base *Model) error {
	edits := map[string]any{}
	for _, e := range g.sol.Eps {
		v, ok := g.number(e.Key)
		b, has := base.number(e.Key)
		if ok && has && v != b && math.Abs(v-b) <= 1e-6*b {
			edits[e.Key] = b
		}
	}
	if len(edits) == 0 {
		return nil
	}
	return g.setConfig(edits)
}

// alignOnly is the preparation align.
func alignOnly(ctx context.Context, m, base *Model) (*Model, error) {
	out, _, err := Align(ctx, m, base)
	return out, err
}
