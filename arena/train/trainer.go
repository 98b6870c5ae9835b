package train

import (
	"math"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/tensor"
)

// TrainOptions say how an engine is trained.
type TrainOptions struct {
	Optimizer Optimizer
	LR        float64
	Schedule  Schedule // Constant if empty
	Warmup    int      // steps of linear warm-up
	Steps     int      // for the schedule
	Clip      float64  // bound of the gradients' global norm; 0: none
}

// Result is one step.
type Result struct {
	Loss float64 // before the update
	LR   float64
	Norm float64 // of all gradients, before clipping; 0 without clipping
}

// Trainer trains an engine's parameters. A loss that is infinite or undefined is
// no error: it is in the Result.
type Trainer struct {
	e      *Engine
	o      TrainOptions
	rule   rule
	step   int
	states []map[string][]float32
}

// NewTrainer starts a training.
func NewTrainer(e *Engine, o TrainOptions) (*Trainer, error) {
	r, err := o.Optimizer.rule()
	if err != nil {
		return nil, err
	}
	switch o.Schedule {
	case "":
		o.Schedule = Constant
	case Constant, Linear, Cosine:
	default:
		return nil, fault.New(fault.Usage, "unknown schedule %q", o.Schedule).WithHint("known: constant, linear, cosine")
	}
	t := &Trainer{e: e, o: o, rule: r}
	for range e.Params() {
		t.states = append(t.states, map[string][]float32{})
	}
	return t, nil
}

// Step trains on one batch.
func (t *Trainer) Step(b Batch) (Result, error) {
	loss, err := t.e.Gradients(b)
	if err != nil {
		return Result{}, err
	}
	res := Result{Loss: loss, LR: t.o.LR * t.o.Schedule.factor(t.step, t.o.Warmup, t.o.Steps)}
	params := t.e.Params()
	if t.o.Clip > 0 {
		res.Norm = float64(clip(params, float32(t.o.Clip), t.e.o.Workers))
	}
	t.step++
	for i, p := range params {
		if t.e.o.BF16 {
			dtype.RoundBF16(p.Grad)
		}
		t.rule.update(&update{p: p, lr: res.LR * p.LRScale, step: t.step, states: t.states[i], workers: t.e.o.Workers})
		if t.e.o.BF16 {
			dtype.RoundBF16(p.Data)
			for _, s := range t.states[i] {
				dtype.RoundBF16(s)
			}
		}
	}
	return res, nil
}

// StateBytes is the memory of the optimizer's states so far.
func (t *Trainer) StateBytes() int64 {
	var n int64
	for _, m := range t.states {
		for _, s := range m {
			n += 4 * int64(len(s))
		}
	}
	return n
}

// clip scales all gradients so that their norm is at most bound, as
// torch.nn.utils.clip_grad_norm_ does: squares are summed in float32, so a
// gradient beyond 2^64 has an infinite norm, which turns all finite gradients to
// zero and infinite ones to NaN; a norm of NaN turns all to NaN. It returns the
// norm.
func clip(params []*Param, bound float32, workers int) float32 {
	var sum float32
	for _, p := range params {
		n := norm(p.Grad)
		sum += n * n
	}
	total := sqrt(sum)
	coef := bound / (total + 1e-6)
	if coef >= 1 {
		return total
	}
	for _, p := range params {
		parallel(workers, len(p.Grad), len(p.Grad), func(lo, hi int) { tensor.VecScale(p.Grad[lo:hi], p.Grad[lo:hi], coef) })
	}
	return total
}

// norm is the Euclidean norm in float32.
func norm(x []float32) float32 {
	const part = 1 << 12
	var sum float32
	for len(x) > part {
		sum += tensor.VecDot(x[:part], x[:part])
		x = x[part:]
	}
	return sqrt(sum + tensor.VecDot(x, x))
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
