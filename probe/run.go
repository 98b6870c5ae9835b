// Package probe runs a computation graph on a small input and compares two
// checkpoints by it. Weights are streamed from disk as they are used, so that
// memory stays bounded by the activations and by what one layer reads,
// whatever the model's size. The order of every sum is fixed: two runs that
// differ only by powers of two that cancel give the same bits.
package probe

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Precision is the type to which every result is rounded.
type Precision string

// The precisions. Sums are fp32 in all of them, as on the usual hardware.
const (
	FP32 Precision = "fp32"
	BF16 Precision = "bf16"
	FP16 Precision = "fp16"
)

// Source is where the weights of a graph come from.
type Source interface {
	// Weight returns a tensor's type and its size in bytes.
	Weight(name string) (d dtype.DType, size int64, ok bool)
	// ReadWeight fills p from the tensor's data at the given byte offset.
	ReadWeight(name string, p []byte, off int64) error
}

// Options of a run.
type Options struct {
	Tokens    []int // token ids; as many as the graph was built for
	Precision Precision

	// Inputs are the values of the graph's other inputs by name, in C order. An
	// input without values gets made-up ones, always the same: real numbers that
	// are about normally distributed, integers spread over their range.
	Inputs map[string][]float32

	// Route, from 1 to Routes, overrides what the network's routers choose, so
	// that all of these runs together choose everything. 0: they choose freely.
	Route int

	Workers  int                       // goroutines; 0: one per CPU
	Last     graph.ID                  // stop after this node; 0: run to the end
	Observe  func(graph.ID, []float32) // sees every computed value
	Progress func(bytes int64)         // weight bytes read

	opaque func(id graph.ID, in [][]float32) // sees what goes into an opaque operation
}

// runner is the state of one run.
type runner struct {
	ctx  context.Context
	g    *graph.Graph
	src  Source
	opt  Options
	uses []int32
	vals [][]float32 // values in memory, until their last use

	// Values that are read from the checkpoint only where they are used.
	runs  map[graph.ID][]run    // they stand there as they are
	later map[graph.ID]struct{} // moves of such values
	held  []graph.ID            // of later, those now in memory
}

// Run evaluates g and returns its outputs.
func Run(ctx context.Context, g *graph.Graph, src Source, opt Options) ([][]float32, error) {
	if len(opt.Tokens) != g.Tokens {
		return nil, fmt.Errorf("probe: %d tokens for a graph of %d", len(opt.Tokens), g.Tokens)
	}
	r := &runner{ctx: ctx, g: g, src: src, opt: opt, uses: g.Uses(), vals: make([][]float32, len(g.Nodes)),
		runs: map[graph.ID][]run{}, later: map[graph.ID]struct{}{}}
	layer := -1
	for i := range g.Nodes {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Interrupted, ctx.Err(), "probe")
		}
		n := &g.Nodes[i]
		if n.Layer != layer {
			r.drop()
			layer = n.Layer
		}
		if err := r.eval(graph.ID(i), n); err != nil {
			return nil, fmt.Errorf("%v in %s: %w", n.Op, n.Scope, err)
		}
		for _, in := range n.In {
			if r.uses[in]--; r.uses[in] == 0 {
				r.vals[in] = nil
			}
		}
		if opt.Last > 0 && graph.ID(i) == opt.Last {
			return nil, nil
		}
	}
	out := make([][]float32, len(g.Outputs))
	for i, o := range g.Outputs {
		var err error
		if out[i], err = r.operand(o); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// drop forgets moved weights: the next layer needs others, and what it needs
// again it reads again.
func (r *runner) drop() {
	for _, id := range r.held {
		r.vals[id] = nil
	}
	r.held = r.held[:0]
}

// eval computes one node, or notes how to do so where it is used.
func (r *runner) eval(id graph.ID, n *graph.Node) error {
	if ok, err := r.stored(id, n); ok || err != nil {
		return err
	}
	if r.movedWeight(n) {
		r.later[id] = struct{}{}
		return nil
	}
	_, err := r.compute(id, n)
	return err
}

// compute evaluates one node and keeps its value.
func (r *runner) compute(id graph.ID, n *graph.Node) (out []float32, err error) {
	switch n.Op {
	case graph.OpConst:
		out = n.Data
	case graph.OpTokens:
		out = numbers(r.opt.Tokens)
	case graph.OpInput:
		out, err = r.input(n)
	case graph.OpEmbedding:
		out, err = r.embedding(n)
	case graph.OpLinear:
		out, err = r.linear(n)
	case graph.OpMatMul:
		out, err = r.matmul(n)
	case graph.OpConv:
		out, err = r.conv(n)
	default:
		var in [][]float32
		if in, err = r.operands(n); err == nil {
			out, err = r.apply(id, n, in)
		}
	}
	if err != nil {
		return nil, err
	}
	r.vals[id] = out
	if r.opt.Observe != nil {
		r.opt.Observe(id, out)
	}
	return out, nil
}

// operand returns a value in memory, reading or computing it now if it is one
// that waits for its use.
func (r *runner) operand(id graph.ID) ([]float32, error) {
	n := &r.g.Nodes[id]
	if v := r.vals[id]; v != nil {
		return v, nil
	}
	if runs, ok := r.runs[id]; ok {
		return r.load(runs, count(n.Shape))
	}
	if _, ok := r.later[id]; ok {
		r.held = append(r.held, id)
		return r.compute(id, n)
	}
	if n.Op == graph.OpConst {
		return n.Data, nil
	}
	if count(n.Shape) == 0 {
		return []float32{}, nil
	}
	return nil, fmt.Errorf("its operand %v of %s is not there", n.Op, n.Scope)
}

func (r *runner) operands(n *graph.Node) ([][]float32, error) {
	in := make([][]float32, len(n.In))
	for i, id := range n.In {
		var err error
		if in[i], err = r.operand(id); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// apply evaluates an operation whose operands are in memory.
func (r *runner) apply(id graph.ID, n *graph.Node, in [][]float32) (out []float32, err error) {
	switch {
	case n.Op == graph.OpReshape:
		return in[0], nil
	case n.Op == graph.OpOpaque:
		if r.opt.opaque != nil {
			r.opt.opaque(id, in)
		}
		return r.round(n, standIn(id, n)), nil
	case n.Op.Move():
		return r.move(n, in)
	case n.Op == graph.OpScatter || n.Op == graph.OpScatterAdd:
		out, err = r.scatter(n, in)
	case n.Op == graph.OpWhere:
		return r.where(n, in), nil
	case len(n.In) == 2:
		out, err = r.binary(n, in[0], in[1])
	default:
		if out = unary(n, in[0]); out == nil {
			out, err = r.along(n, in[0])
		}
	}
	if err != nil {
		return nil, err
	}
	return r.round(n, out), nil
}

// round brings a fresh result to the run's precision. Integers stay.
func (r *runner) round(n *graph.Node, x []float32) []float32 {
	if !n.Int {
		r.toPrecision(x)
	}
	return x
}

func (r *runner) toPrecision(x []float32) {
	switch r.opt.Precision {
	case BF16:
		dtype.RoundBF16(x)
	case FP16:
		dtype.RoundF16(x)
	}
}

// parallel runs jobs 0 … n-1 on the run's workers, each with its own state.
func (r *runner) parallel(n int, worker func() func(int) error) error {
	workers := r.opt.Workers
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	var g errgroup.Group
	for range min(workers, n) {
		g.Go(func() error {
			do := worker()
			for {
				i := int(next.Add(1)) - 1
				if i >= n || r.ctx.Err() != nil {
					return nil
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// LogMax returns log2 of the largest finite element's size; -Inf when there is
// none but zeros.
func LogMax(x []float32) float64 {
	var m float32
	for _, v := range x {
		if v < 0 {
			v = -v
		}
		if v > m && v <= math.MaxFloat32 {
			m = v
		}
	}
	return math.Log2(float64(m))
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
