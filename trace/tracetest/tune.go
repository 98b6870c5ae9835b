package tracetest

import (
	"context"
	"math"
	"math/rand/v2"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/demo/text"
)

// Tuning is a fine-tuning, on generated log lines, of a model whose tokens are
// bytes.
type Tuning struct {
	What   train.Trainable
	Method train.Method
	LR     float64
	Steps  int
	Clip   float64 // bound of the gradients' norm; 0: none
	Seed   uint64
}

// Loss is the mean loss of a batch before and after a training, in nats per
// byte, on text that was not trained on.
type Loss struct{ Before, After float64 }

const (
	window = 64
	batch  = 4
)

// Tune trains a model and puts the trained weights, adapters merged, in their
// place. Weights that have become infinite or not a number stay that.
func (m *Model) Tune(ctx context.Context, t Tuning) (Loss, error) {
	shapes := map[string][]int{}
	for _, x := range m.Tensors {
		shapes[x.Name] = x.Shape
	}
	net, err := arch.Build(m.Config, shapes, arch.Options{Tokens: window})
	if err != nil {
		return Loss{}, err
	}
	e, err := train.New(ctx, net.Graph, m, train.Options{Batch: batch, Workers: 2, Trainable: t.What, Seed: t.Seed})
	if err != nil {
		return Loss{}, err
	}
	tr, err := train.NewTrainer(e, train.TrainOptions{
		Optimizer: train.Optimizer{Method: t.Method}, LR: t.LR, Schedule: train.Linear, Warmup: t.Steps / 10, Steps: t.Steps, Clip: t.Clip,
	})
	if err != nil {
		return Loss{}, err
	}
	seen := text.Generate("logs", 7, 200_000)
	unseen := text.Generate("logs", 8, 8_000)
	random := rand.New(rand.NewPCG(t.Seed, 2))
	var out Loss
	if out.Before, err = heldout(e, unseen); err != nil {
		return out, err
	}
	for range t.Steps {
		if err := context.Cause(ctx); err != nil {
			return out, err
		}
		if _, err := tr.Step(windows(seen, func() int { return random.IntN(len(seen) - window - 1) })); err != nil {
			return out, err
		}
	}
	if out.After, err = heldout(e, unseen); err != nil {
		return out, err
	}
	for i := range m.Tensors {
		if w, _, ok := e.Weights(m.Tensors[i].Name); ok {
			m.Tensors[i].Data = w
		}
	}
	return out, nil
}

// windows makes a batch of which every byte predicts the next.
func windows(t []byte, next func() int) (b train.Batch) {
	for range batch {
		at := next()
		for i := range window {
			b.Tokens = append(b.Tokens, int32(t[at+i]))
			b.Targets = append(b.Targets, int32(t[at+i+1]))
		}
	}
	return b
}

// heldout is the loss over some windows.
func heldout(e *train.Engine, t []byte) (float64, error) {
	sum, n := 0.0, 0
	for at := 0; at+(batch*window)+1 < len(t) && n < 8; n++ {
		l, err := e.Loss(windows(t, func() int { at += window; return at - window }))
		if err != nil {
			return math.NaN(), err
		}
		sum += l
	}
	return sum / float64(n), nil
}
