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
