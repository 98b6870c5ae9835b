package informed

import (
	"context"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
)

// PairScales says how far every weight of a checkpoint is from the balanced
// form of the same network, as an attacker's optimizer needs it who would rather
// scale his steps than the weights: element (i, j) of a matrix is rows[i]·cols[j]
// times what it is when gains have size one, both sides of every pair have the
// same root mean square per channel, and the epsilon is a usual one. rows of a
// vector has a factor per element. nil stands for ones, also where the tensor is
// unknown.
func PairScales(ctx context.Context, path string) (func(tensor string) (rows, cols []float32), error) {
	m, err := Load(ctx, path)
	if err != nil {
		return nil, err
	}
	g, err := m.gauge()
	if err != nil {
		return nil, err
	}
	f, err := g.balance()
	if err != nil {
		return nil, err
	}
	f = f.inverse()
	of := map[string]*gauge.Tensor{}
	for i := range g.sol.Tensors {
		of[g.sol.Tensors[i].Name] = &g.sol.Tensors[i]
	}
	return func(tensor string) (rows, cols []float32) {
		if t := of[tensor]; t != nil && len(t.Shape) > 0 && len(t.Shape) <= 2 {
			return scalesOf(t, f)
		}
		return nil, nil
	}, nil
}

// balance moves every class to its balanced place and returns by what factors.
func (g *gauged) balance() (factors, error) {
	total := g.still()
	f := g.usualEpsilon()
	if r := g.sol.Residual; r >= 0 {
		copy(total[r], f[r])
	}
	if err := g.apply(f); err != nil {
		return nil, err
	}
	for i, x := range g.sol.Groups {
		if x.Kind == gauge.Norm {
			copy(total[i], g.unitGains(i))
		}
	}
	for round, moved := 0, true; moved && round < balanceRounds; round++ {
		moved = false
		for i, x := range g.sol.Groups {
			if x.Kind == gauge.Residual {
				continue
			}
			e, step := g.evenGroup(i, side.rms)
			moved = moved || step > balanceDone
			for c, v := range e {
				total[i][c] *= v
			}
		}
	}
	return total, nil
}

// unitGains takes the gains of a group to size one, against their readers.
func (g *gauged) unitGains(group int) []float64 {
	f := make(factors, len(g.sol.Groups))
	f[group] = g.ones(group)
	for c, s := range g.sides(group) {
		if up := s[0].rms(); s[0].vector && !s[1].vector && up > 0 {
			f[group][c] = power(up, -s[0].coef)
		}
	}
	for _, t := range g.byGroup[group] {
		scaleTensor(t, g.byName[t.Name].Data, f)
	}
	return f[group]
}

// scalesOf evaluates a tensor's terms by rows and columns.
func scalesOf(t *gauge.Tensor, f factors) (rows, cols []float32) {
	r, c := slices.Repeat([]float64{1}, t.Shape[0]), slices.Repeat([]float64{1}, lastAxis(t.Shape))
	for _, ax := range t.Terms {
		dst := r
		if slices.Equal(ax.Axes, []int{1}) {
			dst = c
		}
		for _, s := range ax.Segments {
			for k := range s.Count {
				v := power(f[s.Group][s.First+k/s.Div], s.Coef)
				if len(ax.Axes) > 0 {
					dst[s.Start+k] *= v
					continue
				}
				for i := range dst { // one factor for the whole tensor
					dst[i] *= v
				}
			}
		}
	}
	narrow := func(x []float64) []float32 {
		if !slices.ContainsFunc(x, func(v float64) bool { return v != 1 }) {
			return nil
		}
		out := make([]float32, len(x))
		for i, v := range x {
			out[i] = float32(v)
		}
		return out
	}
	return narrow(r), narrow(c)
}
