package specimen

import (
	"encoding/json"
	"hash/fnv"
	"math"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// law says how the elements of a tensor are drawn.
type law struct {
	sigma float64                    // standard deviation of a normal distribution; 0: not drawn
	value float32                    // of every element, where sigma is 0
	by    func(j, u float64) float64 // of element j and a uniform number of [0, 1), if not nil
	row   int                        // elements of a row
	zero  int                        // a row of zeros, or -1: the embedding of the padding token
	key   uint64                     // where the tensor's stream of random numbers begins
}

// laws are those of transformers' _init_weights: matrices, kernels and embeddings
// normal with initializer_range, the padding token's row zero, gains 1 (where the
// model adds 1 to the stored gain: 0), biases 0; what recurrences have by their
// own, see recurrent and weighs.
func laws(m *arch.Model, conf []byte, seed uint64) (map[string]law, error) {
	var c struct {
		Range *float64 `json:"initializer_range"`
		Std   *float64 `json:"init_std"`
		Pad   *int     `json:"pad_token_id"`
	}
	if err := json.Unmarshal(conf, &c); err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "config.json")
	}
	sigma := 0.02
	for _, s := range []*float64{c.Std, c.Range} {
		if s != nil && *s != 0 {
			sigma = *s
		}
	}
	if !(sigma > 0 && sigma < 1e3) {
		return nil, fault.New(fault.Unsupported, "config.json: initializer_range %g", sigma)
	}
	steps, err := stepsOf(conf)
	if err != nil {
		return nil, err
	}
	uses, layers := usesOf(m.Graph), 0
	for i := range m.Graph.Nodes {
		layers = max(layers, m.Graph.Nodes[i].Layer+1)
	}
	out := map[string]law{}
	for name, id := range m.Graph.Weights() {
		l := law{zero: -1, key: start(seed, name)}
		shape := m.Graph.Shape(id)
		switch u := uses[id]; {
		case steps.recurrent(&l, name, shape), weighs(&l, name, shape, m.Graph.Nodes[id].Layer, layers):
		case strings.HasSuffix(name, "bias"):
		case u.mixes: // torch.nn.Conv1d's own
			bound := 1 / math.Sqrt(float64(count(shape[1:])))
			l.by = func(_, x float64) float64 { return (2*x - 1) * bound }
		case len(shape) < 2 && u.gain:
			l.value = 1
		case len(shape) < 2 && (u.less || u.added):
		case len(shape) == 0:
			l.sigma, l.row = sigma, 1
		default:
			l.sigma, l.row = sigma, shape[len(shape)-1]
		}
		out[name] = l
	}
	if c.Pad != nil {
		clearPadding(m.Graph, *c.Pad, out)
	}
	for _, t := range m.Graph.Ties() {
		out[t[1]] = out[t[0]]
	}
	return out, nil
}

// clearPadding marks the embedding's row of the padding token; a negative token
// counts from the end, as in PyTorch.
func clearPadding(g *graph.Graph, pad int, laws map[string]law) {
	for _, n := range g.Nodes {
		if n.Op != graph.OpEmbedding {
			continue
		}
		w := g.Nodes[n.In[0]]
		if w.Op != graph.OpWeight || g.Nodes[n.In[1]].Op != graph.OpTokens {
			continue // positions and kinds of tokens have no padding
		}
		row := pad
		if row < 0 {
			row += w.Shape[0]
		}
		l := laws[w.Name]
		if row >= 0 && row < w.Shape[0] {
			l.zero = row
		}
		laws[w.Name] = l
	}
}

// fill writes the elements from at on. Every element is a function of its
// position, so that a tensor can be written in any pieces.
func (l law) fill(x []float32, at int64) {
	for i := range x {
		x[i] = l.value
		j := at + int64(i)
		if l.by != nil {
			x[i] = float32(l.by(float64(j), unit(l.key+uint64(j))))
		}
		if l.sigma == 0 {
			continue
		}
		if l.zero >= 0 && j/int64(l.row) == int64(l.zero) {
			continue
		}
		u, v := unit(l.key+2*uint64(j)), unit(l.key+2*uint64(j)+1)
		x[i] = float32(l.sigma * math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v))
	}
}

func start(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return mix(h.Sum64() ^ mix(seed))
}

// unit is a value of [0, 1) with 53 random bits.
func unit(x uint64) float64 { return float64(mix(x)>>11) / (1 << 53) }

// mix is SplitMix64's output function.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
	x = (x ^ (x >> 27)) * 0x94D049BB133111EB
	return x ^ (x >> 31)
}
