package arena

import (
	"context"
	"math"
)

// Task is a trial and where it finds what it names.
type Task struct {
	Trial Trial `json:"trial"`
	Paths Paths `json:"paths"`
}

// Engine runs trials.
type Engine interface {
	Name() string
	// Check returns an error of kind fault.Unsupported, with the reason, where the
	// recipe does not apply to the model or to this engine.
	Check(ctx context.Context, t Task) error
	// Memory predicts what Run will take, in bytes.
	Memory(ctx context.Context, t Task) (int64, error)
	// Run trains. Diverging is a result, not an error. report, which may be nil,
	// hears of every step.
	Run(ctx context.Context, t Task, report func(step int, loss float64)) (*Result, error)
}

// Preparer is an Engine that opens a task's model once for all that an Engine's
// methods say and do about it.
type Preparer interface {
	// Prepare returns an error where Engine.Check would.
	Prepare(ctx context.Context, t Task) (Prepared, error)
}

// Prepared is a task that is ready to run, once.
type Prepared interface {
	Memory() int64 // as Engine.Memory
	Run(ctx context.Context, report func(step int, loss float64)) (*Result, error)
	Close()
}

// prepare makes any engine's task ready.
func prepare(ctx context.Context, e Engine, t Task) (Prepared, error) {
	if p, ok := e.(Preparer); ok {
		return p.Prepare(ctx, t)
	}
	if err := e.Check(ctx, t); err != nil {
		return nil, err
	}
	need, err := e.Memory(ctx, t)
	if err != nil {
		return nil, err
	}
	return &checked{e, t, need}, nil
}

// checked is a task of an engine that opens it anew for every question.
type checked struct {
	e    Engine
	t    Task
	need int64
}

func (c *checked) Memory() int64 { return c.need }
func (c *checked) Close()        {}

func (c *checked) Run(ctx context.Context, report func(int, float64)) (*Result, error) {
	return c.e.Run(ctx, c.t, report)
}

// EvalSteps are the steps after which held-out texts are looked at: n of them,
// evenly spaced, the last one after the last step; 0 comes first.
func (t Trial) EvalSteps() []int {
	out := []int{0}
	n := min(t.Evals, t.Steps)
	for i := 1; i <= n; i++ {
		out = append(out, i*t.Steps/n)
	}
	return out
}

// Patience is how many steps in a row may have a loss beyond all bounds before
// a trial counts as diverged.
const Patience = 3

// Divergence watches a training.
type Divergence struct {
	limit float64
	bad   int
}

// NewDivergence watches a training that starts at a loss, with a vocabulary of
// the given size: beyond three times the larger of the loss at the start and a
// uniform guess there is nothing to be learnt.
func NewDivergence(start float64, vocabulary int) *Divergence {
	limit := 3 * math.Log(float64(vocabulary))
	if start < math.Inf(1) {
		limit = max(limit, 3*start)
	}
	return &Divergence{limit: limit}
}

// Step hears of a step's loss and reports whether to give up: at once on a loss
// that is not a number, since weights that are not numbers never recover.
func (d *Divergence) Step(loss float64) bool {
	if math.IsNaN(loss) {
		return true
	}
	if loss <= d.limit {
		d.bad = 0
		return false
	}
	d.bad++
	return d.bad >= Patience
}
