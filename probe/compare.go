package probe

import (
	"context"
	"encoding/json"
	"math"

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
	Experts   bool      `json:"experts,omitempty"` // every expert took part; set by the caller
	Tokens    int       `json:"tokens"`
	Equal     bool      `json:"equal"`    // every output is the same, bit for bit
	Finite    bool      `json:"finite"`   // no output of the second side is NaN or infinite
	MaxDiff   float64   `json:"max_diff"` // largest difference of two outputs
	MaxAbs    float64   `json:"max_abs"`  // largest output of the first side
	KL        float64   `json:"kl"`       // mean Kullback-Leibler divergence of the next token, in nats
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

// Compare runs both sides on the same tokens.
func Compare(ctx context.Context, a, b Side, opt Options) (Report, error) {
	r := Report{Precision: opt.Precision, Tokens: len(opt.Tokens), Equal: true, Finite: true}
	x, err := Run(ctx, a.Graph, a.Source, opt)
	if err != nil {
		return r, err
	}
	y, err := Run(ctx, b.Graph, b.Source, opt)
	if err != nil {
		return r, err
	}
	for i := range x {
		r.add(x[i], y[i])
		shape := a.Graph.Shape(a.Graph.Outputs[i])
		r.KL = math.Max(r.KL, divergence(x[i], y[i], shape[len(shape)-1]))
	}
	return r, nil
}

func (r *Report) add(x, y []float32) {
	for i, v := range x {
		w := y[i]
		if math.Float32bits(v) != math.Float32bits(w) {
			r.Equal = false
		}
		if d := math.Abs(float64(v) - float64(w)); d > r.MaxDiff {
			r.MaxDiff = d
		}
		r.MaxAbs = math.Max(r.MaxAbs, math.Abs(float64(v)))
		if w != w || math.IsInf(float64(w), 0) {
			r.Finite = false
		}
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

// Tokens returns n token ids that are spread over the vocabulary, the first of
// them the given start token if it is valid.
func Tokens(n, vocab, start int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = int((uint64(i)*2654435761 + 12345) % uint64(vocab))
	}
	if n > 0 && start >= 0 && start < vocab {
		out[0] = start
	}
	return out
}
