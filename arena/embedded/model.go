package embedded

import (
	"context"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/informed"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// model is an open checkpoint and its network at a trial's length.
type model struct {
	path string
	ck   *checkpoint.Checkpoint
	net  *arch.Model
}

func open(path string, t arena.Trial) (*model, error) {
	ck, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	net, err := arch.Build(ck.ConfigJSON(), ck.Shapes(), arch.Options{Tokens: t.Window + t.Recipe.Train.Virtual, AllowUnsealed: true})
	if err != nil {
		ck.Close()
		return nil, err
	}
	return &model{path: path, ck: ck, net: net}, nil
}

func (m *model) close() { m.ck.Close() }

// options says what a trial trains.
func (m *model) options(t arena.Trial, workers int) (train.Options, error) {
	r := t.Recipe
	o := train.Options{Batch: t.Batch, Workers: workers, Seed: t.Seed, Base: r.Base, Trainable: train.Trainable{
		Kind: train.Kind(r.Train.Kind), Modules: r.Train.Modules, Rank: r.Train.Rank, Alpha: r.Train.Alpha,
		RSLoRA: r.Train.RSLoRA, Ratio: r.Train.Ratio, FeedForward: r.Train.FeedForward, Virtual: r.Train.Virtual,
	}}
	switch r.Precision {
	case "", "fp32":
	case "bf16":
		o.BF16 = true
	default:
		return o, fault.New(fault.Unsupported, "recipe %s: the embedded engine does not train in %s", r.Name, r.Precision)
	}
	if len(r.Train.Options) > 0 {
		return o, fault.New(fault.Unsupported, "recipe %s: train.options are PEFT's", r.Name)
	}
	return o, nil
}

// trainOptions says how it trains.
func trainOptions(t arena.Trial) (train.TrainOptions, error) {
	r := t.Recipe
	s := train.Schedule(r.Schedule)
	if s == "" {
		s = train.Linear
	}
	o := r.Optimizer
	return train.TrainOptions{
		LR: t.LR, Schedule: s, Steps: t.Steps, Warmup: int(r.Warmup * float64(t.Steps)), Clip: r.Clip,
		Optimizer: train.Optimizer{Method: train.Method(o.Method), Beta1: o.Beta1, Beta2: o.Beta2, Eps: o.Eps,
			WeightDecay: o.WeightDecay, Momentum: o.Momentum},
	}, nil
}

// scales are the balanced scales of every weight, for the optimizer that takes
// its steps in balanced coordinates; nil for all others.
func (m *model) scales(ctx context.Context, r arena.Recipe) (func(string) (rows, cols []float32), error) {
	if r.Optimizer.Method != string(train.Pair) {
		return nil, nil
	}
	return informed.PairScales(ctx, m.path)
}
