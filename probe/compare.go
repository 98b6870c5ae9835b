package probe

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// Side is one of two checkpoints to compare: a graph (built from its own
// config) and its weights.
type Side struct {
	Graph  *graph.Graph
	Source Source
}

// Report is the outcome of a comparison in one precision.
type Report struct {
	Precision Precision `json:"precision"`
	Experts   bool      `json:"experts,omitempty"` // with forced routing: Options.Route was set
	Tokens    int       `json:"tokens"`
	Equal     bool      `json:"equal"`    // every output is the same, bit for bit, and so is what went into opaque operations
	Finite    bool      `json:"finite"`   // no output of the second side is NaN or infinite
	MaxDiff   float64   `json:"max_diff"` // largest difference of two outputs
	MaxAbs    float64   `json:"max_abs"`  // largest output of the first side
	KL        float64   `json:"kl"`       // mean Kullback-Leibler divergence over the outputs' last axes, in nats; 0 where an output has no choice
}

// MarshalJSON writes figures that are not finite as null, which JSON lacks.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	finite := func(x float64) *float64 {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return nil
		}
		return &x
	}
	return json.Marshal(struct {
		plain
		MaxDiff *float64 `json:"max_diff"`
		MaxAbs  *float64 `json:"max_abs"`
		KL      *float64 `json:"kl"`
	}{plain(r), finite(r.MaxDiff), finite(r.MaxAbs), finite(r.KL)})
}

// Compare runs both sides on the same inputs. What goes into an opaque
// operation counts as an output: beyond it, both sides have the same stand-in.
func Compare(ctx context.Context, a, b Side, opt Options) (Report, error) {
	r := Report{Precision: opt.Precision, Tokens: len(opt.Tokens), Equal: true, Finite: true, Experts: opt.Route > 0}
	var lost [2]opaqueInputs
	var outs [2][][]float32
	for i, s := range []Side{a, b} {
		lost[i] = opaqueInputs{}
		opt.opaque = func(id graph.ID, in [][]float32) { lost[i].add(s.Graph, id, in) }
		var err error
		if outs[i], err = Run(ctx, s.Graph, s.Source, opt); err != nil {
			return r, err
		}
	}
	r.opaque(lost[0], lost[1])
	if len(outs[0]) != len(outs[1]) {
		r.Equal = false
		return r, nil
	}
	for i, x := range outs[0] {
		y := outs[1][i]
		shape := a.Graph.Shape(a.Graph.Outputs[i])
		if len(x) != len(y) {
			r.Equal = false
			continue
		}
		r.add(x, y)
		if k := len(shape); k > 0 && shape[k-1] > 1 && len(x) > 0 {
			r.KL = math.Max(r.KL, divergence(x, y, shape[k-1]))
		}
	}
	return r, nil
}

// opaqueInputs is what went into every opaque operation: values as they are,
// weights, which may be large, by their hash.
type opaqueInputs map[graph.ID][]opaqueInput

type opaqueInput struct {
	hash  [sha256.Size]byte
	value []float32
}

func (o opaqueInputs) add(g *graph.Graph, id graph.ID, in [][]float32) {
	for i, x := range in {
		var v opaqueInput
		if g.Nodes[g.Nodes[id].In[i]].Op == graph.OpWeight {
			v.hash = hash(x)
		} else {
			v.value = slices.Clone(x)
		}
		o[id] = append(o[id], v)
	}
}

func hash(x []float32) [sha256.Size]byte {
	h := sha256.New()
	buf := make([]byte, 0, 4096)
	for len(x) > 0 {
		k := min(len(x), cap(buf)/4)
		for _, v := range x[:k] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		h.Write(buf)
		buf, x = buf[:0], x[k:]
	}
	return [sha256.Size]byte(h.Sum(nil))
}

func (r *Report) opaque(a, b opaqueInputs) {
	if len(a) != len(b) {
		r.Equal = false
	}
	for id, xs := range a {
		ys := b[id]
		if len(xs) != len(ys) {
			r.Equal = false
			continue
		}
		for i, x := range xs {
			y := ys[i]
			if x.hash != y.hash || len(x.value) != len(y.value) {
				r.Equal = false
				continue
			}
			for j, v := range x.value {
				r.differ(v, y.value[j])
			}
		}
	}
}

func (r *Report) add(x, y []float32) {
	for i, v := range x {
		w := y[i]
		r.differ(v, w)
		r.MaxAbs = math.Max(r.MaxAbs, math.Abs(float64(v)))
		if w != w || math.IsInf(float64(w), 0) {
			r.Finite = false
		}
	}
}

// differ notes two numbers that are not the same. Zero has no sign here: where
// a seal moves signs, a sum that cancels is +0 on both sides.
func (r *Report) differ(v, w float32) {
	if v == w || math.Float32bits(v) == math.Float32bits(w) {
		return
	}
	r.Equal = false
	if d := math.Abs(float64(v) - float64(w)); d > r.MaxDiff {
		r.MaxDiff = d
	}
}

// divergence is the mean over rows of KL(softmax(x) || softmax(y)).
func divergence(x, y []float32, width int) float64 {
	total := 0.0
	for r := 0; r < len(x); r += width {
		p, q := x[r:r+width], y[r:r+width]
		lp, lq := logSum(p), logSum(q)
		for i := range p {
			a, b := float64(p[i])-lp, float64(q[i])-lq
			total += math.Exp(a) * (a - b)
		}
	}
	return total / float64(len(x)/width)
}

func logSum(x []float32) float64 {
	m := math.Inf(-1)
	for _, v := range x {
		m = math.Max(m, float64(v))
	}
	s := 0.0
	for _, v := range x {
		s += math.Exp(float64(v) - m)
	}
	return m + math.Log(s)
}
