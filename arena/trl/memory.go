package trl

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	interpreterBytes = 1 << 30 // of a process that has imported everything
	hostOfGPU        = 4 << 30 // of a process whose tensors are on a GPU
)

// Memory predicts what a trial takes of this machine's memory: with a GPU, the
// interpreter and what passes through it.
func (e *Engine) Memory(ctx context.Context, t arena.Task) (int64, error) {
	s, err := e.find(ctx)
	if err != nil {
		return 0, err
	}
	need, err := e.deviceMemory(t)
	if err != nil {
		return 0, err
	}
	l := plan(s.GPUs, t.Trial.Batch, need, e.o.Replicas)
	if len(s.GPUs) > 0 {
		return int64(l.replicas) * hostOfGPU, nil
	}
	return int64(l.replicas) * (interpreterBytes + need), nil
}

// deviceMemory is what one replica's tensors take.
func (e *Engine) deviceMemory(t arena.Task) (int64, error) {
	ck, err := checkpoint.Open(t.Paths.Model)
	if err != nil {
		return 0, err
	}
	defer ck.Close()
	c, err := parseShape(ck.ConfigJSON())
	if err != nil {
		return 0, err
	}
	for _, x := range ck.Tensors() {
		n := int64(1)
		for _, d := range x.Shape {
			n *= int64(d)
		}
		c.params += n
		if len(x.Shape) == 2 {
			c.linear += n
			c.sides += int64(x.Shape[0] + x.Shape[1])
		}
	}
	return c.estimate(t.Trial), nil
}

// shape is what a model's memory depends on.
type shape struct {
	Hidden       int64 `json:"hidden_size"`
	Layers       int64 `json:"num_hidden_layers"`
	Intermediate int64 `json:"intermediate_size"`
	Vocab        int64 `json:"vocab_size"`

	params, linear, sides int64 // elements; of matrices; sum of their two sides
}

// parseShape reads a configuration; a field that the family calls otherwise stays
// zero, and the weights have to speak for it.
func parseShape(config []byte) (*shape, error) {
	var c struct {
		shape
		Text *shape `json:"text_config"`
	}
	if err := json.Unmarshal(config, &c); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "config.json")
	}
	if c.Text != nil {
		return c.Text, nil
	}
	return &c.shape, nil
}

// stateCopies are the optimizer's states in copies of what is trained.
var stateCopies = map[string]int64{"adamw": 2, "lamb": 2, "muon": 2, "lion": 1, "sgd": 1, "adafactor": 1}

// estimate is the sum of weights, gradients, states, activations and logits.
func (c *shape) estimate(t arena.Trial) int64 {
	r := t.Recipe
	width := int64(4)
	if r.Precision == "bf16" || r.Precision == "fp16" && !slices.Contains(ownParts, r.Train.Kind) {
		width = 2
	}
	weights := c.params * width
	switch r.Base {
	case "nf4", "nf4-dq":
		weights = (c.params-c.linear)*width + c.linear*9/16
	case "int8":
		weights = (c.params-c.linear)*width + c.linear*17/16
	}
	trained := c.params
	if !slices.Contains(ownParts, r.Train.Kind) {
		trained = c.sides * int64(max(r.Train.Rank, 8))
	}
	// Gradients, states, and the temporaries of an update.
	trained *= width * (2 + stateCopies[r.Optimizer.Method])
	tokens := int64(t.Batch) * int64(t.Window+1+r.Train.Virtual)
	// Per layer: the inputs of norms, projections, attention and activation, kept
	// for the way back, and as much again for adapters and temporaries.
	activations := tokens * c.Layers * (20*c.Hidden + 8*c.Intermediate) * width
	logits := tokens * c.Vocab * 4 * 3
	return weights + trained + activations + logits
}
