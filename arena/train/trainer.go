package train

import (
	"math"
	"path"

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

	// Rates multiply the learning rate of single parameters. The first that
	// matches counts.
	Rates []Rate

	// Scales gives, for Pair, the factors of a tensor of the checkpoint: element
	// (i, j) is rows[i]·cols[j] times its balanced value. Powers of two make the
	// balanced training exact. Nil stands for ones. A vector has columns only;
	// several matrices in one tensor may have factors of their own.
	Scales func(name string) (rows, cols []float32)
}

// Rate is the learning rate of some parameters, as a multiple.
type Rate struct {
	Pattern string // as in Trainable.Modules; matches a parameter's name or an adapter's module
	Factor  float64
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
	e       *Engine
	o       TrainOptions
	rule    rule
	step    int
	rates   []float64
	coords  []*coords // RowCol, Pair
	states  []map[string][]float32
	scratch []float32
	wide    []float64
}

// NewTrainer starts a training from where the engine stands: after another one,
// call Engine.Reset first to start anew.
func NewTrainer(e *Engine, o TrainOptions) (*Trainer, error) {
	if o.Schedule == "" {
		o.Schedule = Constant
	}
	r, rates, err := o.check(e.Params())
	if err != nil {
		return nil, err
	}
	if o.Optimizer.Method == Pair && o.Scales == nil {
		return nil, fault.New(fault.Usage, "optimizer %s: no scales given", Pair)
	}
	t := &Trainer{e: e, o: o, rule: r, rates: rates}
	if _, ok := r.(balanced); ok {
		if t.coords, err = e.balance(o); err != nil {
			return nil, err
		}
	}
	var scratch, wide int
	for _, p := range e.Params() {
		need := r.needs(p)
		states := map[string][]float32{}
		for _, x := range need.states {
			states[x.name] = make([]float32, x.n)
		}
		t.states = append(t.states, states)
		scratch, wide = max(scratch, need.scratch), max(wide, need.wide)
	}
	t.scratch, t.wide = make([]float32, scratch), make([]float64, wide)
	return t, nil
}

// check returns the rule, and the multiple of the learning rate of each parameter.
func (o TrainOptions) check(params []*Param) (rule, []float64, error) {
	r, err := o.Optimizer.rule()
	if err != nil {
		return nil, nil, err
	}
	switch o.Schedule {
	case "", Constant, Linear, Cosine:
	default:
		return nil, nil, fault.New(fault.Usage, "unknown schedule %q", o.Schedule).WithHint("known: constant, linear, cosine")
	}
	rates := make([]float64, len(params))
	used := make([]bool, len(o.Rates))
	for i, p := range params {
		rates[i] = p.LRScale
		for k, x := range o.Rates {
			if patterns := []string{x.Pattern}; matches(patterns, p.Name) || p.module != "" && matches(patterns, p.module) {
				rates[i] *= x.Factor
				used[k] = true
				break
			}
		}
	}
	for k, x := range o.Rates {
		if _, err := path.Match(x.Pattern, ""); err != nil {
			return nil, nil, fault.New(fault.Usage, "rate of %q: %v", x.Pattern, err)
		}
		if !used[k] {
			return nil, nil, fault.New(fault.Usage, "rate of %q: no trained parameter is left for this pattern", x.Pattern).
				WithHint("the first pattern that matches counts")
		}
	}
	return r, rates, nil
}

// Step trains on one batch.
func (t *Trainer) Step(b Batch) (Result, error) {
	loss, err := t.e.Gradients(b)
	if err != nil {
		return Result{}, err
	}
	t.e.touched = true
	res := Result{Loss: loss, LR: t.o.LR * t.o.Schedule.factor(t.step, t.o.Warmup, t.o.Steps)}
	params := t.e.Params()
	for i, c := range t.coords {
		c.times(params[i].Grad, t.e.o.Workers)
	}
	if t.o.Clip > 0 {
		res.Norm = float64(clip(params, float32(t.o.Clip), t.e.o.Workers))
	}
	t.step++
	for i, p := range params {
		t.update(i, p, res.LR)
	}
	return res, nil
}

func (t *Trainer) update(i int, p *Param, lr float64) {
	u := update{p: p, lr: lr * t.rates[i], step: t.step, states: t.states[i], workers: t.e.o.Workers, scratch: t.scratch, wide: t.wide}
	if t.coords != nil {
		u.coords = t.coords[i]
	}
	if !t.e.o.BF16 {
		t.rule.update(&u)
		return
	}
	dtype.RoundBF16(p.Grad)
	t.rule.update(&u)
	dtype.RoundBF16(p.Data)
	for _, s := range u.states {
		dtype.RoundBF16(s)
	}
}

// StateBytes is the memory of the optimizer's states.
func (t *Trainer) StateBytes() int64 { return t.Memory().States }

// Memory returns what the engine and the training of it take.
func (t *Trainer) Memory() Memory {
	m := t.e.Memory()
	for _, states := range t.states {
		for _, s := range states {
			m.States += 4 * int64(len(s))
		}
	}
	for _, c := range t.coords {
		m.States += 8 * int64(len(c.rows)+len(c.cols))
	}
	m.Scratch = 4*int64(len(t.scratch)) + 8*int64(len(t.wide))
	return m
}

// plan adds to m what a training would take.
func (o TrainOptions) plan(params []*Param, m Memory) (Memory, error) {
	r, _, err := o.check(params)
	if err != nil {
		return Memory{}, err
	}
	var scratch, wide int
	for _, p := range params {
		need := r.needs(p)
		for _, x := range need.states {
			m.States += 4 * int64(x.n)
		}
		if _, ok := r.(balanced); ok {
			m.States += coordBytes(p)
		}
		scratch, wide = max(scratch, need.scratch), max(wide, need.wide)
	}
	m.Scratch = 4*int64(scratch) + 8*int64(wide)
	return m, nil
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
