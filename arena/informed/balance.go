package informed

import (
	"context"
	"math"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Spread says how uneven the pairs of one kind are: the log2 of the ratio of
// their two sides' root mean squares, over all classes.
type Spread struct {
	Kind    gauge.Kind `json:"kind"`
	Classes int        `json:"classes"`
	Mean    float64    `json:"mean"`
	Std     float64    `json:"std"` // within groups: around each group's own mean
}

// Imbalance measures the pairs of every kind but the residual stream's, which
// has one side only. Classes that one side lacks are not counted.
func Imbalance(m *Model) ([]Spread, error) {
	g, err := m.gauge()
	if err != nil {
		return nil, err
	}
	var out []Spread
	for _, k := range []gauge.Kind{gauge.Norm, gauge.QK, gauge.VO, gauge.FFN} {
		s := Spread{Kind: k}
		square, total := 0.0, 0.0
		for i, x := range g.sol.Groups {
			if x.Kind != k {
				continue
			}
			var sum, sq, n float64
			for _, c := range g.sides(i) {
				if c[0].sum > 0 && c[1].sum > 0 {
					r := math.Log2(c[0].rms() / c[1].rms())
					sum, sq, n = sum+r, sq+r*r, n+1
				}
			}
			if n > 0 {
				square += sq - sum*sum/n
				total += sum
				s.Classes += int(n)
			}
		}
		if s.Classes > 0 {
			s.Mean, s.Std = total/float64(s.Classes), math.Sqrt(max(square, 0)/float64(s.Classes))
			out = append(out, s)
		}
	}
	return out, nil
}

// equalise is cross-layer equalisation: both sides of every pair get the same
// range per channel, and what the residual gauge moved goes back.
func equalise(_ context.Context, m, _ *Model) (*Model, error) {
	return balanced(m.Clone(), func(s side) float64 { return s.max }, func(gauge.Kind) bool { return true })
}

// balanced evens out the pairs of the chosen kinds by a measure of their sides.
// Norm gains are folded first, as the methods do with batch norms.
func balanced(m *Model, size func(side) float64, choose func(gauge.Kind) bool) (*Model, error) {
	g, err := m.gauge()
	if err != nil {
		return nil, err
	}
	if g.sol.FreeDims == 0 {
		return nil, fault.New(fault.Unsupported, "this %s network has no pair of factors that cancel", m.Type)
	}
	if err := g.apply(g.usualEpsilon()); err != nil {
		return nil, err
	}
	g.foldNorms()
	for round, moved := 0, true; moved && round < balanceRounds; round++ {
		moved = false
		for i, x := range g.sol.Groups {
			if x.Kind != gauge.Residual && choose(x.Kind) {
				_, step := g.evenGroup(i, size)
				moved = moved || step > balanceDone
			}
		}
	}
	return m, nil
}

// Groups that share a side (gate and up of an MLP with ReLU face the same down)
// take turns until the largest step, as log2, is small.
const (
	balanceRounds = 40
	balanceDone   = 1e-6
)

// evenGroup moves a group's classes to where both sides have the same size, and
// returns their factors and the largest step, as log2.
func (g *gauged) evenGroup(group int, size func(side) float64) (moved []float64, largest float64) {
	f := make(factors, len(g.sol.Groups))
	f[group] = g.ones(group)
	for c, s := range g.sides(group) {
		if g.sol.Groups[group].Kind == gauge.Norm && s[0].vector != s[1].vector {
			continue // a gain against its readers: it has been folded
		}
		up, down := size(s[0]), size(s[1])
		if up > 0 && down > 0 {
			x := math.Pow(down/up, 1/float64(s[0].coef+s[1].coef))
			f[group][c] = x
			largest = math.Max(largest, math.Abs(math.Log2(x)))
		}
	}
	if largest > balanceDone {
		for _, t := range g.byGroup[group] {
			scaleTensor(t, g.byName[t.Name].Data, f)
		}
	}
	return f[group], largest
}

// usualEpsilon is the factor that takes the residual gauge back: the norms'
// epsilon becomes one of the values that trained models have.
func (g *gauged) usualEpsilon() factors {
	f := make(factors, len(g.sol.Groups))
	if g.sol.Residual < 0 {
		return f
	}
	f[g.sol.Residual] = g.ones(g.sol.Residual)
	for _, e := range g.sol.Eps {
		if v, ok := g.number(e.Key); ok && v > 0 && e.Coef != 0 {
			f[g.sol.Residual][0] = math.Exp2(-float64(epsilonShift(v)) / float64(e.Coef))
			break
		}
	}
	return f
}

// epsilonShift is n for an epsilon of 4ⁿ times a usual one; where none fits
// exactly, the n that leads nearest to 1e-6.
func epsilonShift(v float64) int {
	for n := range 120 {
		for _, b := range []float64{1e-5, 1e-6, 1e-8, 1e-12} {
			if math.Ldexp(b, 2*n) == v {
				return n
			}
		}
	}
	return int(math.Round(math.Log2(v/1e-6) / 2))
}
