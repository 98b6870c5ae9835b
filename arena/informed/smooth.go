package informed

import (
	"context"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

const (
	smoothAlpha  = 0.5 // SmoothQuant's default
	smoothTokens = 64  // of calibration
)

// smoothquant divides what a linear map reads by max|x|^α / max|w|^(1-α) per
// channel and multiplies the map's columns by it: norm → linear as in the
// paper, v → o and up → down as in llm-compressor's mappings. The largest
// inputs come from a calibration run. The tools' lower bound of 1e-5 on the
// factors is left out: it would spare the widest seals. Queries and keys meet
// no linear map, and the residual stream is no channel: both stay as they are.
func smoothquant(ctx context.Context, m, _ *Model) (*Model, error) {
	m = m.Clone()
	inputs, err := calibrate(ctx, m)
	if err != nil {
		return nil, err
	}
	g, err := m.gauge()
	if err != nil {
		return nil, err
	}
	// Gains come last: their readers' columns show their true size only when the
	// rows of v and up have been evened out.
	done := 0
	for _, gains := range []bool{false, true} {
		for i, x := range g.sol.Groups {
			if x.Kind != gauge.Residual && (x.Kind == gauge.Norm) == gains {
				done += g.smoothGroup(i, inputs)
			}
		}
	}
	if done == 0 {
		return nil, fault.New(fault.Unsupported, "no linear map of this %s network reads a channel that may be scaled", m.Type)
	}
	return m, nil
}

// calibrate returns, per weight of a linear map, the largest size of each
// element of its input over a few tokens. Every expert sees every token.
func calibrate(ctx context.Context, m *Model) (map[string][]float64, error) {
	net, err := m.network(smoothTokens)
	if err != nil {
		return nil, err
	}
	readers := map[graph.ID][]string{}
	for i := range net.Graph.Nodes {
		if n := &net.Graph.Nodes[i]; n.Op == graph.OpLinear {
			if w := &net.Graph.Nodes[n.In[1]]; w.Op == graph.OpWeight {
				readers[n.In[0]] = append(readers[n.In[0]], w.Name)
			}
		}
	}
	out := map[string][]float64{}
	_, err = probe.Run(ctx, net.Graph, m, probe.Options{
		Tokens: probe.Tokens(smoothTokens, net.Vocab, -1),
		Observe: func(id graph.ID, x []float32) {
			if len(readers[id]) == 0 {
				return
			}
			top := make([]float64, lastAxis(net.Graph.Shape(id)))
			for i, v := range x {
				top[i%len(top)] = math.Max(top[i%len(top)], math.Abs(float64(v)))
			}
			for _, name := range readers[id] {
				out[name] = slices.Clone(top)
			}
		},
	})
	return out, err
}

// smoothGroup smooths a group's classes and returns how many there were. It
// keeps the inputs' sizes up to date: two groups may meet in one (gate and up
// of an MLP with ReLU).
func (g *gauged) smoothGroup(group int, inputs map[string][]float64) int {
	n := g.sol.Groups[group].Classes
	xmax, wmax, coef := make([]float64, n), make([]float64, n), make([]int, n)
	columns := func(visit func(name string, place, class, coef int)) {
		g.terms(group, func(t *gauge.Tensor, ax gauge.Axis, mine []gauge.Segment) {
			if x := inputs[t.Name]; !slices.Equal(ax.Axes, []int{t.Input}) || len(x) != ax.Len {
				return
			}
			for _, s := range mine {
				for k := range s.Count {
					visit(t.Name, s.Start+k, s.First+k/s.Div, s.Coef)
				}
			}
		})
	}
	per := map[string][]side{}
	g.terms(group, func(t *gauge.Tensor, ax gauge.Axis, _ []gauge.Segment) {
		if slices.Equal(ax.Axes, []int{t.Input}) {
			per[t.Name] = places(t, ax, g.byName[t.Name].Data)
		}
	})
	columns(func(name string, p, c, k int) {
		xmax[c] = math.Max(xmax[c], inputs[name][p])
		wmax[c] = math.Max(wmax[c], per[name][p].max)
		coef[c] = k
	})
	f, done := make(factors, len(g.sol.Groups)), 0
	f[group] = g.ones(group)
	for c := range n {
		if xmax[c] > 0 && wmax[c] > 0 && coef[c] != 0 {
			s := math.Pow(xmax[c], smoothAlpha) / math.Pow(wmax[c], 1-smoothAlpha)
			f[group][c] = math.Pow(s, 1/float64(coef[c]))
			done++
		}
	}
	columns(func(name string, p, c, k int) { inputs[name][p] /= power(f[group][c], k) })
	for _, t := range g.byGroup[group] {
		scaleTensor(t, g.byName[t.Name].Data, f)
	}
	return done
}
