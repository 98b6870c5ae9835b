package neuroseal

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/onnx"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/quant"
	"github.com/neuroseal/neuroseal/seal"
)

// Progress is told how far a long operation has come. Its methods are called
// from several goroutines at once.
type Progress interface {
	Stage(name string, total int64) // a new stage of total bytes begins
	Add(n int64)                    // n more bytes are done
}

type silent struct{}

func (silent) Stage(string, int64) {}
func (silent) Add(int64)           {}

func orSilent(p Progress) Progress {
	if p == nil {
		return silent{}
	}
	return p
}

// model is an open checkpoint with its network.
type model struct {
	path  string
	graph string // file that describes the network; "": config, or the model's own
	ck    *checkpoint.Checkpoint
	net   *arch.Model
	conf  []byte
	opt   arch.Options
	quant *quant.Set  // quantised weights; nil: none
	onnx  *onnx.Model // the same file, where it is open already

	nested *quant.Nested // ck is one with double quantisation, shown with plain scales; nil: it is not

	eps map[string]string // metadata keys by the config keys of the norms' epsilons; only of GGUF

	tap     *tap                                      // measures weights as they are read; nil: nothing does
	edit    func(checkpoint.Tensor) checkpoint.Editor // applied to weights as they are read; nil: none
	mu      sync.Mutex
	editors map[string]checkpoint.Editor
}

// openModel opens a checkpoint and builds its forward pass.
func openModel(path string, opt arch.Options) (*model, error) { return openWith(path, "", opt) }

func (m *model) build() (err error) {
	if !gguf.Is(m.path) {
		if err = m.unnest(); err != nil {
			return err
		}
		if m.quant, err = quant.Open(m.ck); err != nil {
			return err
		}
	}
	net, err := m.network()
	m.net = net
	if err != nil {
		return err
	}
	if note := m.nestedNote(); note != "" {
		net.Warn = append(net.Warn, note)
	}
	for name := range net.Graph.Weights() {
		if m.quant.Weight(name) != nil {
			continue
		}
		if t, _ := m.ck.Tensor(name); !t.Scalable() {
			return fault.New(fault.Unsupported, "tensor %s is %v: only bf16, fp16, fp32 and fp64 weights can be sealed", name, t.DType).
				WithHint("seal the checkpoint before it is quantised")
		}
	}
	return nil
}

// network writes the forward pass: from the config, or from the model's own graph.
func (m *model) network() (*arch.Model, error) {
	if gguf.Is(m.path) {
		return m.fromGGUF()
	}
	if m.graph != "" {
		return exported(m.graph, m.ck, m.shapes(), m.opt)
	}
	if onnx.Is(m.path) {
		return m.fromONNX()
	}
	return arch.Build(quant.Plain(m.conf), m.shapes(), m.opt)
}

// Weight and ReadWeight make a model a probe.Source.
func (m *model) Weight(name string) (dtype.DType, int64, bool) {
	if w := m.quant.Weight(name); w != nil {
		return dtype.F32, w.Size(), true
	}
	t, ok := m.ck.Tensor(name)
	if t.Format != nil {
		return dtype.F32, 4 * t.Elements(), ok
	}
	return t.DType, t.Size, ok
}

func (m *model) ReadWeight(name string, p []byte, off int64) error {
	if w := m.quant.Weight(name); w != nil {
		return w.Read(storedBytes{m}, p, off)
	}
	t, _ := m.ck.Tensor(name)
	if t.Format != nil {
		return m.readNumbers(t, p, off)
	}
	if err := m.readStored(name, p, off); err != nil {
		return err
	}
	m.tap.take(t, off, p, nil)
	return nil
}

// readStored reads a tensor that stands in the file.
func (m *model) readStored(name string, p []byte, off int64) error {
	t, ok := m.ck.Tensor(name)
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	if err := m.ck.ReadAt(t, p, off); err != nil || m.edit == nil {
		return err
	}
	m.mu.Lock()
	ed, ok := m.editors[name]
	if !ok {
		if m.editors == nil {
			m.editors = map[string]checkpoint.Editor{}
		}
		ed = m.edit(t)
		m.editors[name] = ed
	}
	m.mu.Unlock()
	if ed == nil {
		return nil
	}
	return ed.Edit(elementAt(t, off), p)
}

// epsilons returns the values of the config keys that a residual gauge moves.
func (m *model) epsilons(keys []gauge.EpsMove) (map[string]float64, error) {
	out := map[string]float64{}
	if len(keys) == 0 {
		return out, nil // an ONNX model has no config
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(arch.PlainJSON(m.conf), &raw); err != nil {
		return nil, err
	}
	for _, k := range keys {
		var v float64
		if err := json.Unmarshal(raw[k.Key], &v); err != nil {
			return nil, fmt.Errorf("config.json: %s: %w", k.Key, err)
		}
		out[k.Key] = v
	}
	return out, nil
}

// routes is in how many further runs every expert is computed. A network that
// computes all of them, and weighs out what was not chosen, needs none.
func (m *model) routes() int {
	indexed := func(n graph.Node) bool { return n.Op == graph.OpTopKIndices || n.Op == graph.OpArgMax }
	if !slices.ContainsFunc(m.net.Graph.Nodes, indexed) {
		return 0
	}
	return probe.Routes(m.net.Graph)
}

// tokens are the probe's input: the start token, then ids spread over the
// vocabulary; none where the network reads no tokens.
func (m *model) tokens() []int {
	g := m.net.Graph
	if g.Tokens == 0 {
		return []int{}
	}
	var c struct {
		BOS any `json:"bos_token_id"`
	}
	start := -1
	if json.Unmarshal(arch.PlainJSON(m.conf), &c) == nil {
		if f, ok := c.BOS.(float64); ok {
			start = int(f)
		}
	}
	return probe.Tokens(g.Tokens, probe.Vocabulary(g), start)
}

// blockOf is the length of the blocks on which factors are constant along an
// input axis of the given width: the largest power of two, from 64 up to most,
// that divides it, so that no quantiser's block of 64 … most mixes two factors;
// where 64 does not divide it, the whole axis.
func blockOf(width, most int) int {
	for b := most; b >= 64; b /= 2 {
		if width%b == 0 {
			return b
		}
	}
	return width
}

// restrict applies a profile's blocks to the solution.
func restrict(sol *gauge.Solution, p seal.Profile) *gauge.Solution {
	if p == seal.Max {
		return sol
	}
	// Portable's blocks fit every usual quantiser. Strong's fit NF4 and its like,
	// whose scales are F32 and whose blocks have 64 elements: of smaller blocks
	// there are more, and what an attacker may train at one learning rate is less.
	most := 256
	if p == seal.Strong {
		most = 64
	}
	return sol.Merge(func(t *gauge.Tensor) int { return blockOf(t.Shape[t.Input], most) })
}

// coverage is the share of all parameters whose element some factor may move,
// given which groups move.
func coverage(sol *gauge.Solution, total int64, moves func(group int) bool) float64 {
	touched := 0.0
	for i := range sol.Tensors {
		touched += covered(&sol.Tensors[i], moves)
	}
	if total == 0 {
		return 0
	}
	return touched / float64(total)
}

// covered counts a tensor's elements that move: all but those that no term
// reaches.
func covered(t *gauge.Tensor, moves func(group int) bool) float64 {
	size := 1.0
	for _, n := range t.Shape {
		size *= float64(n)
	}
	still := 1.0
	for _, ax := range t.Terms {
		free := make([]bool, ax.Len)
		n := 0
		for _, s := range ax.Segments {
			if !moves(s.Group) {
				continue
			}
			for i := s.Start; i < s.Start+s.Count; i++ {
				if !free[i] {
					free[i] = true
					n++
				}
			}
		}
		still *= 1 - float64(n)/float64(ax.Len)
	}
	return size * (1 - still)
}

func parameters(ck *checkpoint.Checkpoint) int64 {
	var n int64
	for _, t := range ck.Tensors() {
		n += t.Elements()
	}
	return n
}
