// Package probe runs a computation graph on a few tokens and compares two
// checkpoints by it. Weights are streamed from disk as they are used, so that
// memory stays bounded by the activations of a few tokens, whatever the
// model's size. The order of every sum is fixed: two runs that differ only by
// powers of two that cancel give the same bits.
package probe

import (
	"context"
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/tensor"
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
	Workers   int                         // goroutines; 0: one per CPU
	Last      graph.ID                    // stop after this node; 0: run to the end
	Observe   func(graph.ID, []float32)   // sees every computed value
	Progress  func(bytes int64)           // weight bytes read
	Read      func(name string, b []byte) // sees every chunk of a streamed weight
}

// runner is the state of one run.
type runner struct {
	ctx  context.Context
	g    *graph.Graph
	src  Source
	opt  Options
	vals [][]float32
	uses []int32
}

// Run evaluates g and returns its outputs.
func Run(ctx context.Context, g *graph.Graph, src Source, opt Options) ([][]float32, error) {
	if len(opt.Tokens) != g.Tokens {
		return nil, fmt.Errorf("probe: %d tokens for a graph of %d", len(opt.Tokens), g.Tokens)
	}
	r := &runner{ctx: ctx, g: g, src: src, opt: opt, vals: make([][]float32, len(g.Nodes)), uses: g.Uses()}
	for i := range g.Nodes {
		if ctx.Err() != nil {
			return nil, fault.Wrap(fault.Interrupted, ctx.Err(), "probe")
		}
		n := &g.Nodes[i]
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
		out[i] = r.vals[o]
	}
	return out, nil
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

// round brings a fresh result to the run's precision.
func (r *runner) round(x []float32) []float32 {
	switch r.opt.Precision {
	case BF16:
		dtype.RoundBF16(x)
	case FP16:
		dtype.RoundF16(x)
	}
	return x
}

// whole loads a small weight (a vector, a bias) as float32.
func (r *runner) whole(n *graph.Node) ([]float32, error) {
	d, size, ok := r.src.Weight(n.Name)
	if !ok || !d.Scalable() {
		return nil, fmt.Errorf("tensor %s: cannot be read as numbers (%v)", n.Name, d)
	}
	count := count(n.Shape)
	if size != int64(count)*int64(d.Bits()/8) {
		return nil, fmt.Errorf("tensor %s: %d bytes for %v of %v", n.Name, size, n.Shape, d)
	}
	buf := make([]byte, size)
	if err := r.read(n.Name, buf, 0); err != nil {
		return nil, err
	}
	out := make([]float32, count)
	dtype.ToFloat32(d, out, buf)
	return r.round(out), nil
}

func (r *runner) read(name string, p []byte, off int64) error {
	if err := r.src.ReadWeight(name, p, off); err != nil {
		return err
	}
	if r.opt.Progress != nil {
		r.opt.Progress(int64(len(p)))
	}
	return nil
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// eval computes one node.
func (r *runner) eval(id graph.ID, n *graph.Node) error {
	var out []float32
	var err error
	switch n.Op {
	case graph.OpWeight, graph.OpTokens:
		return nil // read where they are used
	case graph.OpConst:
		out = n.Data
	case graph.OpEmbedding:
		out, err = r.embedding(n)
	case graph.OpLinear:
		out, err = r.linear(n)
	default:
		var in [][]float32
		if in, err = r.inputs(n); err == nil {
			out, err = r.compute(n, in)
		}
	}
	if err != nil {
		return err
	}
	r.vals[id] = out
	if r.opt.Observe != nil {
		r.opt.Observe(id, out)
	}
	return nil
}

// inputs gathers the operands; weights among them are loaded whole.
func (r *runner) inputs(n *graph.Node) ([][]float32, error) {
	in := make([][]float32, len(n.In))
	for i, id := range n.In {
		in[i] = r.vals[id]
		if w := &r.g.Nodes[id]; w.Op == graph.OpWeight {
			var err error
			if in[i], err = r.whole(w); err != nil {
				return nil, err
			}
		}
	}
	return in, nil
}

// compute evaluates an operation whose operands are in memory.
func (r *runner) compute(n *graph.Node, in [][]float32) ([]float32, error) {
	switch n.Op {
	case graph.OpReshape:
		return in[0], nil
	case graph.OpTranspose, graph.OpSlice, graph.OpExpand:
		return gather(r.g.Shape(n.In[0]), n, in[0]), nil
	case graph.OpConcat:
		return r.concat(n, in), nil
	case graph.OpAdd, graph.OpSub, graph.OpMul, graph.OpDiv:
		return r.round(r.binary(n, in[0], in[1])), nil
	case graph.OpMatMul:
		return r.round(r.matmul(n, in[0], in[1])), nil
	}
	width := 1
	if k := len(n.Shape); k > 0 {
		width = r.g.Shape(n.In[0])[k-1]
	}
	out, err := rowwise(n, in[0], width)
	if err != nil {
		return nil, err
	}
	return r.round(out), nil
}

// rowwise evaluates element-wise functions and those along the last axis.
func rowwise(n *graph.Node, x []float32, width int) ([]float32, error) {
	out := make([]float32, len(x))
	switch n.Op {
	case graph.OpAddScalar:
		for i, v := range x {
			out[i] = v + float32(n.Scalar)
		}
	case graph.OpMulScalar:
		for i, v := range x {
			out[i] = v * float32(n.Scalar)
		}
	case graph.OpNeg:
		for i, v := range x {
			out[i] = -v
		}
	case graph.OpReLU:
		for i, v := range x {
			out[i] = max(v, 0)
		}
	case graph.OpSiLU:
		tensor.SiLU(out, x)
	case graph.OpGELU:
		tensor.GELU(out, x)
	case graph.OpGELUTanh:
		tensor.GELUTanh(out, x)
	case graph.OpTanh:
		tensor.Tanh(out, x)
	case graph.OpSigmoid:
		tensor.Sigmoid(out, x)
	case graph.OpSoftmax:
		copy(out, x)
		tensor.Softmax(out, len(x)/width, width)
	case graph.OpRMSNorm:
		tensor.RMSNorm(out, x, len(x)/width, width, n.Scalar, nil)
	case graph.OpSum:
		return sum(x, width), nil
	case graph.OpTopKMask:
		topK(out, x, width, n.K)
	default:
		return nil, fmt.Errorf("no rule to compute it")
	}
	return out, nil
}

func sum(x []float32, width int) []float32 {
	out := make([]float32, len(x)/width)
	for i := range out {
		for _, v := range x[i*width : (i+1)*width] {
			out[i] += v
		}
	}
	return out
}

// topK marks the k largest of each row; of equals, the first.
func topK(out, x []float32, width, k int) {
	for r := 0; r < len(x); r += width {
		row, mark := x[r:r+width], out[r:r+width]
		for range k {
			best := -1
			for i, v := range row {
				if mark[i] == 0 && (best < 0 || v > row[best]) {
					best = i
				}
			}
			mark[best] = 1
		}
	}
}
