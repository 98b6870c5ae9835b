package train

import (
	"context"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// Compiled is a network that is ready to be loaded and trained. It takes no memory
// that grows with the batch.
type Compiled struct {
	e *Engine
	c *compiler
}

// Compile compiles a graph for training.
func Compile(g *graph.Graph, o Options) (*Compiled, error) {
	if o.Batch < 1 {
		return nil, fault.New(fault.Usage, "a batch of %d sequences", o.Batch)
	}
	o.Workers = max(o.Workers, 1)
	n, err := newNet(g, o.Trainable)
	if err != nil {
		return nil, err
	}
	if err := n.quantise(o.Base); err != nil {
		return nil, err
	}
	n.finish(!o.Unfused)
	if err := n.check(); err != nil {
		return nil, err
	}
	if err := n.countable(o.Batch); err != nil {
		return nil, err
	}
	e := &Engine{net: n, o: o, vocab: n.shape(n.out)[1]}
	e.limit = n.tokenLimit(e.vocab)
	limit := headFloats
	if o.Unfused || o.BF16 { // every value by itself
		limit = 0
	}
	c := compile(n, o.Batch, o.Workers, e.loss, limit)
	e.prog, e.leaf, e.tokens, e.inputs = &c.p, c.leaf, c.tokens, c.inputs
	return &Compiled{e, c}, nil
}

// Memory returns what the engine and a training of it take: no more, but for what
// the heap's collector leaves and a few rows for each goroutine.
func (c *Compiled) Memory(t TrainOptions) (Memory, error) { return t.plan(c.e.Params(), c.e.Memory()) }

// TextOnly returns an error if batches need more than tokens and a target for each
// of them.
func (c *Compiled) TextOnly() error {
	for i := range c.e.net.nodes {
		if x := &c.e.net.nodes[i]; x.Op == graph.OpInput && !x.Int {
			return fault.New(fault.Unsupported, "the network reads %s of %v, which texts do not have", x.Name, x.Shape)
		}
	}
	if n := c.e.net; n.rows != n.tokens {
		return fault.New(fault.Unsupported, "the network has %d rows of logits for %d tokens", n.rows, n.tokens)
	}
	return nil
}

// Load reads the weights and allocates the rest. It may be called once.
func (c *Compiled) Load(ctx context.Context, src probe.Source) (*Engine, error) {
	e := c.e
	e.src = src
	rows := e.o.Batch * e.net.rows
	e.targets, e.losses = make([]int32, rows), make([]float64, rows)
	e.tokens.data = make([]float32, e.tokens.size)
	for _, b := range e.inputs {
		b.data = make([]float32, b.size)
	}
	if err := e.net.sameTies(src); err != nil {
		return nil, err
	}
	asStored := e.net.asStored()
	for _, p := range e.net.params {
		if p.Adapter {
			p.Data = make([]float32, p.size())
			continue
		}
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Interrupted, ctx.Err(), "loading weights")
		}
		if err := p.load(src, asStored[p] && p.base == ""); err != nil {
			return nil, err
		}
		e.settle(p)
	}
	e.start(e.o.Seed)
	for _, p := range e.Params() {
		p.Grad = make([]float32, p.size())
		c.c.leafG[p].data = p.Grad
	}
	e.prog.allocate()
	return e, nil
}
