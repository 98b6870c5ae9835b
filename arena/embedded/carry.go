package embedded

import (
	"context"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/informed"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// carries reports whether a recipe trains the public base and carries what it
// learned over to the model.
func carries(r arena.Recipe) bool { return r.Method != "" && r.Method != arena.Train }

// carryMemory bounds the models in memory while weights are carried over, in
// multiples of the checkpoint's size: three models in float32, which is twice
// bf16, and the result.
const carryMemory = 8

// trained is the folder that is trained.
func trained(t arena.Task) string {
	if carries(t.Trial.Recipe) {
		return t.Paths.Base
	}
	return t.Paths.Model
}

// carry fine-tunes the public base, adds what it learned to the model in the
// recipe's way, and evaluates that.
func (r *run) carry(ctx context.Context) error {
	victim, err := informed.Load(ctx, r.t.Paths.Model)
	if err != nil {
		return err
	}
	if err := r.evalModel(ctx, victim, 0); err != nil {
		return err
	}
	evals := r.res.Evals
	r.res.Evals = nil
	if err := r.train(ctx); err != nil {
		return err
	}
	r.res.Evals = evals
	if r.res.Status != arena.Done {
		return nil // nothing to carry over
	}
	base, err := informed.Load(ctx, r.t.Paths.Base)
	if err != nil {
		return err
	}
	donor := base.Clone()
	for _, t := range donor.Tensors() {
		if w, _, ok := r.e.Weights(t.Name); ok {
			copy(t.Data, w)
		}
	}
	merged, err := r.merge(ctx, victim, base, donor)
	if err != nil {
		return err
	}
	return r.evalModel(ctx, merged, r.t.Trial.Steps)
}

func (r *run) merge(ctx context.Context, victim, base, donor *informed.Model) (*informed.Model, error) {
	rec := r.t.Trial.Recipe
	if rec.Method == arena.Transplant {
		return informed.Transplant(victim, base, donor)
	}
	o := informed.MergeOptions{Seed: r.t.Trial.Seed}
	if rec.Weight > 0 {
		o.Weights = []float64{1, rec.Weight}
	}
	if rec.Density > 0 {
		o.Densities = []float64{rec.Density}
	}
	method := map[arena.Method]string{arena.TaskArithmetic: informed.TaskArithmetic, arena.TIES: informed.TIES, arena.DARE: informed.DARELinear}[rec.Method]
	return informed.Merge(ctx, method, victim, base, []*informed.Model{donor}, o)
}

// evalModel adds the held-out losses of a model in memory.
func (r *run) evalModel(ctx context.Context, m *informed.Model, step int) error {
	net, err := m.Build(arch.Options{Tokens: r.t.Trial.Window, AllowUnsealed: true})
	if err != nil {
		return fault.Wrap(fault.Unsupported, err, "evaluating the merged model")
	}
	e, err := train.New(ctx, net.Graph, m, train.Options{Batch: r.t.Trial.Batch, Workers: r.workers,
		Trainable: train.Trainable{Kind: train.Norms}})
	if err != nil {
		return err
	}
	was := r.e
	defer func() { r.e = was }()
	r.e = e
	r.targetE, r.retainE = evalWindows(r.tx.target, r.t.Trial), evalWindows(r.tx.retained, r.t.Trial)
	return r.eval(step)
}
