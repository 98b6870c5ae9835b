package train

import (
	"context"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/tensor"
)

// Options of an engine.
type Options struct {
	Batch     int // sequences per step
	Workers   int // goroutines; 0: one
	Trainable Trainable
	Seed      uint64 // of the adapters' initial values
	BF16      bool   // round every value, gradient, weight and state to bfloat16
	Base      string // format of the frozen linear maps: NF4, NF4DQ, Int8; empty: as they are

	// Unfused compiles the graph operation by operation: slower, to compare.
	Unfused bool
}

// Batch is the data of one step: Batch sequences one after another, each as long
// as the graph's (less its virtual tokens).
type Batch struct {
	Tokens  []int32
	Targets []int32 // for each row of logits the token that should come; negative: not counted

	// Inputs are the graph's further inputs by name, each [Batch, …] with the
	// input's own axes. Integers that are left out are zeros.
	Inputs map[string][]float32
}

// Engine computes the loss of a network and its gradients in what is trained.
// Its methods must not be called from several goroutines at once.
type Engine struct {
	net     *net
	prog    *program
	o       Options
	vocab   int
	limit   int // token ids are below it
	targets []int32
	counted int
	train   bool // the loss leaves its gradient
	losses  []float64

	src     probe.Source
	tokens  *buf
	inputs  map[string]*buf
	leaf    map[*Param]*buf
	touched bool // the adapters are not as they start
}

// Memory is what an engine takes at most, in bytes.
type Memory struct {
	Weights   int64 // the checkpoint's tensors and the adapters, as float32; frozen matrices in BF16 take half
	Gradients int64
	Buffers   int64 // activations and their gradients, tokens, constants
	States    int64 // of the optimizer
	Scratch   int64 // of the optimizer, within a step
}

// Total is the sum.
func (m Memory) Total() int64 { return m.Weights + m.Gradients + m.Buffers + m.States + m.Scratch }

// New compiles a graph for training and loads its weights. Reset reads from src
// again.
func New(ctx context.Context, g *graph.Graph, src probe.Source, o Options) (*Engine, error) {
	c, err := Compile(g, o)
	if err != nil {
		return nil, err
	}
	return c.Load(ctx, src)
}

// Estimate returns what an engine with these options and a training of it take,
// without weights being read: see Compiled.Memory.
func Estimate(g *graph.Graph, o Options, t TrainOptions) (Memory, error) {
	c, err := Compile(g, o)
	if err != nil {
		return Memory{}, err
	}
	return c.Memory(t)
}

// start gives the adapters their first values.
func (e *Engine) start(seed uint64) {
	for _, p := range e.net.params {
		if p.init != nil {
			p.init(p, seed, func(name string) []float32 { return e.param(name).floats() })
			e.settle(p)
		}
	}
	e.touched = false
}

// Reset puts all trained parameters back to where New had them with this seed:
// tensors of the checkpoint are read again, adapters start anew. It takes no
// memory. Trainers of this engine must not be used any more.
func (e *Engine) Reset(seed uint64) error {
	for _, p := range e.Params() {
		clear(p.Grad)
		if p.Adapter {
			continue
		}
		if err := p.load(e.src, false); err != nil {
			return err
		}
		e.settle(p)
	}
	e.start(seed)
	return nil
}

// mostValues is more values than any machine holds, and few enough for their
// bytes, and sums and products over them, to be counted.
const mostValues = 1 << 44

// countable refuses sizes of which not even the prediction would be right.
func (n *net) countable(batch int) error {
	total := 0.0
	for i := range n.nodes {
		x := 1.0
		for _, d := range n.nodes[i].Shape {
			x *= float64(d)
		}
		if n.nodes[i].batched {
			x *= float64(batch)
		}
		total += x
	}
	if total > mostValues {
		return fault.New(fault.Usage, "a batch of %d sequences of %d tokens: %.3g values in the network, at most %.3g can be computed with",
			batch, n.tokens, total, float64(mostValues)).WithHint("take fewer or shorter sequences, or a smaller rank")
	}
	return nil
}

// Memory returns what the engine takes.
func (e *Engine) Memory() Memory {
	m := Memory{Buffers: 4*int64(e.prog.arena) + 4*int64(e.tokens.size) + 12*int64(e.o.Batch*e.net.rows)}
	for _, b := range e.inputs {
		m.Buffers += 4 * int64(b.size)
	}
	for i := range e.net.nodes {
		m.Buffers += 4 * int64(len(e.net.nodes[i].Data))
	}
	for _, p := range e.net.params {
		m.Weights += 4 * int64(p.size())
		if p.Trained {
			m.Gradients += 4 * int64(p.size())
		}
	}
	return m
}

// Params returns the trained parameters in the order of the network.
func (e *Engine) Params() []*Param {
	var out []*Param
	for _, p := range e.net.params {
		if p.Trained {
			out = append(out, p)
		}
	}
	return out
}

// Skipped says of which tensors that Trainable names there is no adapter, and why.
func (e *Engine) Skipped() []string { return slices.Clone(e.net.skipped) }

// Tokens is the length of the sequences of a batch.
func (e *Engine) Tokens() int { return e.net.tokens - e.net.prefix }

// Loss returns the mean cross-entropy of a batch's targets, in nats. As in PEFT,
// the last virtual token of a soft prompt predicts the first token.
func (e *Engine) Loss(b Batch) (float64, error) {
	if err := e.set(b); err != nil {
		return 0, err
	}
	e.train = false
	e.exec(0, e.prog.forward)
	return e.mean(), e.prog.trouble.take()
}

// Gradients returns the loss and leaves its gradients in the parameters.
func (e *Engine) Gradients(b Batch) (float64, error) {
	if err := e.set(b); err != nil {
		return 0, err
	}
	e.train = true
	e.exec(0, len(e.prog.instrs))
	return e.mean(), e.prog.trouble.take()
}

func (e *Engine) exec(lo, hi int) {
	for i := lo; i < hi; i++ {
		in := &e.prog.instrs[i]
		in.run()
		if e.o.BF16 {
			for _, b := range in.writes {
				if !b.exact {
					dtype.RoundBF16(b.f())
				}
			}
		}
	}
}

// loss computes each row's cross-entropy and, in training, the gradient of their
// mean.
func (e *Engine) loss(first int, x, g []float32) bool {
	scale := 1 / float32(e.counted)
	parallel(e.o.Workers, len(x)/e.vocab, len(x), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			in, out, row := x[i*e.vocab:(i+1)*e.vocab], g[i*e.vocab:(i+1)*e.vocab], first+i
			e.losses[row] = 0
			switch t := int(e.targets[row]); {
			case t < 0:
				clear(out)
			case e.train:
				copy(out, in)
				e.losses[row] = tensor.CrossEntropyRow(out, t, scale)
			default:
				e.losses[row] = tensor.LossRow(out, in, t)
			}
		}
	})
	return e.train
}

func (e *Engine) mean() float64 {
	sum := 0.0
	for _, l := range e.losses {
		sum += l
	}
	return sum / float64(e.counted)
}
