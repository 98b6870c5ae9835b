package neuroseal

import (
	"context"
	"math"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

// measured is what range analysis is told of stored tensors, by name.
type measured struct {
	stats    map[string]*dtype.Stats
	normal16 map[string]int       // of vectors: the smallest exponent that is normal in fp16
	room     map[string]seal.Room // of tensors in blocks: what their scales allow
}

func newMeasured() *measured {
	return &measured{stats: map[string]*dtype.Stats{}, normal16: map[string]int{}, room: map[string]seal.Room{}}
}

// forget drops what is known of a tensor.
func (m *measured) forget(name string) {
	delete(m.stats, name)
	delete(m.normal16, name)
	delete(m.room, name)
}

// facts turns statistics into the input of range analysis. Those of a tensor in
// blocks are of the numbers that it stands for.
func (m *measured) facts(ck *checkpoint.Checkpoint) map[string]seal.TensorFacts {
	out := map[string]seal.TensorFacts{}
	for _, t := range ck.Tensors() {
		f := seal.TensorFacts{DType: t.DType, Bound: seal.WeightBound{Max: math.Inf(-1), RowL2: math.Inf(-1), L2: math.Inf(-1)}}
		if s := m.stats[t.Name]; s != nil && s.Finite() {
			f.Any, f.Max, f.Min, f.Subnormal = true, s.Max, s.Min, s.Subnormal
			f.Bound = seal.WeightBound{
				Max: float64(s.Max + 1), RowL2: math.Log2(s.MaxRowSumSq) / 2, L2: math.Log2(s.SumSq) / 2,
			}
			f.MinNormal16, f.Has16 = m.normal16[t.Name]
		}
		if room, ok := m.room[t.Name]; ok {
			f.DType, f.Room = dtype.F32, &room
		}
		out[t.Name] = f
	}
	return out
}

// figures are those of a run of a tensor's elements.
type figures struct {
	stats    dtype.Stats
	normal16 int
	has16    bool
	room     seal.Room // of blocks only
	blocks   bool
}

// figuresOf measures a chunk of whole rows, or a part of one row, that begins
// with element start. numbers is what a chunk of blocks stands for, where that is
// known already.
func figuresOf(t checkpoint.Tensor, start int64, buf, numbers []byte) (f figures) {
	if t.Format != nil {
		f.blocks = true
		f.room.Lo, f.room.Hi = t.Format.Room(buf)
		f.stats = blockStats(t, start, buf, numbers)
		return f
	}
	f.stats = statsOf(t, start, buf)
	if len(t.Shape) <= 1 {
		f.normal16, f.has16 = dtype.MinExpAtLeast(t.DType, buf, -14)
	}
	return f
}

// statsOf returns the statistics of a chunk.
func statsOf(t checkpoint.Tensor, start int64, buf []byte) (s dtype.Stats) {
	if t.Format != nil {
		return blockStats(t, start, buf, nil)
	}
	width := len(buf)
	if k := len(t.Shape); k > 1 {
		width = t.Shape[k-1] * t.DType.Bits() / 8
	}
	for len(buf) > 0 { // a row longer than the chunk counts as several
		n := min(width, len(buf))
		s.Row(t.DType, buf[:n])
		buf = buf[n:]
	}
	return s
}

// gatherer collects figures of several tensors at once.
type gatherer struct {
	mu sync.Mutex
	*measured
}

func newGatherer() *gatherer { return &gatherer{measured: newMeasured()} }

// add takes the figures of a tensor's next elements.
func (g *gatherer) add(name string, f figures) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats[name]
	if s == nil {
		s = &dtype.Stats{}
		g.stats[name] = s
	}
	s.Merge(f.stats)
	if old, had := g.normal16[name]; f.has16 && (!had || f.normal16 < old) {
		g.normal16[name] = f.normal16
	}
	if f.blocks {
		if old, had := g.room[name]; had {
			f.room = f.room.Meet(old)
		}
		g.room[name] = f.room
	}
}

// scan reads every float tensor once and measures it.
func (m *model) scan(ctx context.Context, p Progress) (*measured, error) {
	g := newGatherer()
	return g.measured, m.gather(ctx, g, measurable, p)
}

// measurable tells the tensors that have statistics.
func measurable(t checkpoint.Tensor) bool { return t.Scalable() }

// scanBytes is how much scan reads.
func (m *model) scanBytes() int64 { return m.bytesOf(measurable) }

func (m *model) bytesOf(want func(checkpoint.Tensor) bool) (n int64) {
	for _, t := range m.ck.Tensors() {
		if want(t) {
			n += t.Size
		}
	}
	return n
}

// gather reads the tensors that want accepts and measures them.
func (m *model) gather(ctx context.Context, g *gatherer, want func(checkpoint.Tensor) bool, p Progress) error {
	p.Stage("reading weights", m.bytesOf(want))
	return m.ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		g.add(t.Name, figuresOf(t, start, buf, nil))
		p.Add(int64(len(buf)))
		return nil
	})
}

// observe runs the network on a few tokens and returns the log2 of the largest
// finite element of every value that a seal may move: what weights that are
// infinite or not a number lead to stays that, whatever its factor.
func (m *model) observe(ctx context.Context, sol *gauge.Solution, p Progress) ([]float64, error) {
	return m.activations(ctx, m.lastMoved(sol), p)
}

// lastMoved is the last value that a seal may move and that is computed. What
// only rearranges it is no larger.
func (m *model) lastMoved(sol *gauge.Solution) (last graph.ID) {
	for i, s := range sol.Values {
		if op := m.net.Graph.Nodes[i].Op; len(s) > 0 && op != graph.OpWeight && op != graph.OpNeg && !op.Move() {
			last = graph.ID(i)
		}
	}
	return last
}

// activations is observe up to a value; 0: to the end.
func (m *model) activations(ctx context.Context, last graph.ID, p Progress) ([]float64, error) {
	g := m.net.Graph
	out := make([]float64, len(g.Nodes))
	for i := range out {
		out[i] = math.Inf(-1)
	}
	var total int64
	for name, id := range g.Weights() {
		if _, size, ok := m.Weight(name); ok && (id <= last || last == 0) {
			total += size
		}
	}
	for route := range m.routes() + 1 {
		p.Stage("measuring activations", total)
		_, err := probe.Run(ctx, g, m, probe.Options{
			Tokens: m.tokens(), Precision: probe.FP32, Last: last, Route: route, Progress: p.Add,
			Observe: func(id graph.ID, x []float32) { out[id] = max(out[id], probe.LogMax(x)) },
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
