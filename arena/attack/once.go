package attack

import (
	"context"
	"fmt"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Once trains one model once, with a recipe's only learning rate and seed 1.
func Once(ctx context.Context, model string, r arena.Recipe, suite *arena.Suite, target, retained string, e arena.Engine) (*arena.Result, error) {
	if len(r.Prepare) > 0 || r.Method != "" && r.Method != arena.Train {
		return nil, fault.New(fault.Usage, "recipe %s does more than train: it needs a run folder", r.Name).
			WithHint("name a folder as OUT")
	}
	if target == "" {
		target = DefaultTarget
	}
	if retained == "" {
		retained = DefaultRetained
	}
	digest, err := digestOf(ctx, model)
	if err != nil {
		return nil, err
	}
	p := arena.Paths{Model: model, Target: target, Retained: retained, Tokenizer: model}
	tt, rt, err := arena.OpenTexts(ctx, p)
	if err != nil {
		return nil, err
	}
	t := arena.NewTrial(e.Name(), r, suite, arena.Sealed, r.Rates.Only[0], 1)
	t.Model, t.Target, t.Retained = digest, tt.Digest, rt.Digest
	var out *arena.Result
	err = arena.Local(e, 1, arena.FreeMemory(), nil)(ctx, []arena.Task{{Trial: t, Paths: p}}, func(r *arena.Result) error { out = r; return nil })
	if err != nil {
		return nil, err
	}
	if out == nil {
		return nil, fmt.Errorf("the training ended without a result")
	}
	return out, nil
}
