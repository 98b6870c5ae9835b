package specimen

import (
	"encoding/json"
	"math"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// use says what a network does with a vector, perhaps in another shape.
type use struct {
	gain  bool // multiplies
	less  bool // multiplies once 1 is added
	added bool
	mixes bool // convolves every channel by itself
}

// usesOf looks at every weight's readers.
func usesOf(g *graph.Graph) map[graph.ID]use {
	of := make([]graph.ID, len(g.Nodes)) // the weight that a value is, in any shape
	out := map[graph.ID]use{}
	for i := range g.Nodes {
		n := &g.Nodes[i]
		of[i] = -1
		switch n.Op {
		case graph.OpWeight:
			of[i] = graph.ID(i)
		case graph.OpReshape, graph.OpExpand, graph.OpTranspose, graph.OpSlice:
			of[i] = of[n.In[0]]
		}
		for k, in := range n.In {
			w := of[in]
			if w < 0 {
				continue
			}
			u := out[w]
			switch n.Op {
			case graph.OpMul:
				u.gain = true
			case graph.OpAddScalar:
				u.less = u.less || n.Scalar == 1
			case graph.OpAdd:
				u.added = true
			case graph.OpConv:
				u.mixes = u.mixes || k == 1 && n.Conv.Groups > 1
			}
			out[w] = u
		}
	}
	return out
}

// steps are the bounds of the time step of a state space model.
type steps struct{ Min, Max, Floor, Scale float64 }

func stepsOf(conf []byte) (steps, error) {
	c := struct {
		Min   float64 `json:"time_step_min"`
		Max   float64 `json:"time_step_max"`
		Floor float64 `json:"time_step_floor"`
		Scale float64 `json:"time_step_scale"`
	}{0.001, 0.1, 1e-4, 1}
	if err := json.Unmarshal(conf, &c); err != nil {
		return steps{}, fault.Wrap(fault.Unsupported, err, "config.json")
	}
	if !(c.Min > 0 && c.Min <= c.Max && c.Max < 1e3) {
		return steps{}, fault.New(fault.Unsupported, "config.json: time steps from %g to %g", c.Min, c.Max)
	}
	return steps(c), nil
}

// recurrent sets the laws of what recurrences have by their own: in state space
// models decays 1, 2, 3, … and time steps that softplus turns into ones between
// the bounds; it reports whether a tensor is one of those. The names are those of
// transformers' modules.
func (s steps) recurrent(l *law, name string, shape []int) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch {
	case last == "A_log":
		width := float64(shape[len(shape)-1])
		l.by = func(j, _ float64) float64 { return math.Log(1 + math.Mod(j, width)) }
	case last == "D" && len(shape) == 1:
		l.value = 1
	case last == "dt_bias", strings.HasSuffix(name, ".dt_proj.bias"):
		lo, hi := math.Log(s.Min), math.Log(s.Max)
		l.by = func(_, u float64) float64 {
			dt := max(math.Exp(lo+u*(hi-lo)), s.Floor)
			return dt + math.Log(-math.Expm1(-dt))
		}
	case strings.HasSuffix(name, ".dt_proj.weight"):
		bound := s.Scale / math.Sqrt(float64(shape[len(shape)-1]))
		l.by = func(_, u float64) float64 { return (2*u - 1) * bound }
	default:
		return false
	}
	return true
}

// weighs sets the laws of RWKV's weights of time, which differ from channel to
// channel and from layer to layer, and are not drawn; it reports whether a tensor
// is one of those.
func weighs(l *law, name string, shape []int, layer, layers int) bool {
	n := float64(count(shape))
	depth, rest := float64(layer)/float64(max(layers-1, 1)), 1-float64(layer)/float64(max(layers, 1))
	mix := func(power, plus float64) func(j, _ float64) float64 {
		return func(j, _ float64) float64 { return math.Pow(j/n, power) + plus }
	}
	switch last := name[strings.LastIndexByte(name, '.')+1:]; {
	case last == "time_decay":
		l.by = func(j, _ float64) float64 { return -5 + 8*math.Pow(j/max(n-1, 1), 0.7+1.3*depth) }
	case last == "time_first":
		l.by = func(j, _ float64) float64 { return math.Log(0.3) + (math.Mod(j+1, 3)-1)/2 }
	case last == "time_mix_key", last == "time_mix_receptance" && strings.Contains(name, "feed_forward"):
		l.by = mix(rest, 0)
	case last == "time_mix_value":
		l.by = mix(rest, 0.3*depth)
	case last == "time_mix_receptance":
		l.by = mix(rest/2, 0)
	default:
		return false
	}
	return true
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
