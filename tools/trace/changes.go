package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena/specimen"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/trace/tracetest"
)

// change is what became of a leaked copy.
type change struct {
	what   string
	expect expectation
	// make writes the changed checkpoint to *dst, or names another one there; ""
	// where the change does not apply.
	make func(ctx context.Context, s *study, sealed string, leaker int, dst *string) (note string, err error)
}

// changes are made one after the other.
var changes = []change{
	{"nothing", theLeaker, func(_ context.Context, _ *study, sealed string, _ int, dst *string) (string, error) {
		*dst = sealed
		return "", nil
	}},
	{"bf16 to fp16", theLeaker, edit(func(m *tracetest.Model) { m.As(dtype.F16) })},
	{"30% pruned, the smallest", theLeaker, edit(func(m *tracetest.Model) { m.Prune(0.3, true, 0) })},
	{"30% pruned, at random", theLeaker, edit(func(m *tracetest.Model) { m.Prune(0.3, false, 1) })},
	{"NF4", theLeaker, nf4},
	{"GGUF, Q4_K", theLeaker, q4k},
	{"full fine-tuning, AdamW 1e-3", theLeaker, tune(full, train.AdamW, 1e-3)},
	{"full fine-tuning, LAMB 3e-2", theLeaker, tune(full, train.LAMB, 3e-2)},
	{"full fine-tuning, balanced AdamW 1e-2", theLeaker, tune(full, train.RowCol, 1e-2)},
	{"full fine-tuning, balanced AdamW 1e-1", theLeaker, tune(full, train.RowCol, 1e-1)},
	{"LoRA r=16 on all linear, AdamW 5e-3, merged", theLeaker, tune(lora, train.AdamW, 5e-3)},
	{"IA3 on k, v, down, AdamW 1e-1, merged", theLeaker, tune(ia3, train.AdamW, 1e-1)},
	{"balanced AdamW 1e-2, pruned 30%, NF4", theLeaker, tunedNF4},
	{"averaged with another partner's copy", both, average},
	{"undone in half of the layers", open, halfUndone},
	{"undone (undo --no-key)", nobody, undone},
	{"the original", nobody, func(_ context.Context, s *study, _ string, _ int, dst *string) (string, error) {
		*dst = s.model.path
		return "", nil
	}},
	{"the original, fine-tuned, AdamW 1e-3", nobody, originalTuned},
	{"random weights of the same shape", nobody, unrelated},
	{"a copy that is not registered", nobody, func(ctx context.Context, s *study, _ string, _ int, dst *string) (_ string, err error) {
		*dst, _, err = s.seal(ctx, registered+1)
		return "", err
	}},
}

// edit loads the copy, changes it, and writes it.
func edit(f func(m *tracetest.Model)) func(context.Context, *study, string, int, *string) (string, error) {
	return func(_ context.Context, _ *study, sealed string, _ int, dst *string) (string, error) {
		m, err := tracetest.Load(sealed)
		if err != nil {
			return "", err
		}
		f(m)
		return "", m.Write(*dst)
	}
}

func nf4(_ context.Context, _ *study, sealed string, _ int, dst *string) (string, error) {
	m, err := tracetest.Load(sealed)
	if err != nil {
		return "", err
	}
	return "", m.WriteNF4(*dst)
}

func q4k(_ context.Context, s *study, sealed string, _ int, dst *string) (string, error) {
	if s.model.name != "wide" {
		*dst = ""
		return "", nil
	}
	m, err := tracetest.Load(sealed)
	if err != nil {
		return "", err
	}
	*dst += ".gguf"
	return "", m.WriteQ4K(*dst)
}

var (
	full = train.Trainable{Kind: train.Full}
	lora = train.Trainable{Kind: train.LoRA, Modules: []string{train.AllLinear}, Rank: 16, Alpha: 32}
	ia3  = train.Trainable{Kind: train.IA3, Modules: []string{"k_proj", "v_proj", "down_proj", "w2"}, FeedForward: []string{"down_proj", "w2"}}
)

// steps of every fine-tuning, of 256 tokens each. Gradients are not clipped: the
// norm of a sealed model's is not finite.
const steps = 40

// tune fine-tunes the copy and stores it as it was stored.
func tune(what train.Trainable, method train.Method, lr float64) func(context.Context, *study, string, int, *string) (string, error) {
	return func(ctx context.Context, _ *study, sealed string, leaker int, dst *string) (string, error) {
		m, note, err := tuned(ctx, sealed, what, method, lr, leaker)
		if err != nil {
			return "", err
		}
		return note, m.Write(*dst)
	}
}

func tuned(ctx context.Context, dir string, what train.Trainable, method train.Method, lr float64, seed int) (*tracetest.Model, string, error) {
	m, err := tracetest.Load(dir)
	if err != nil {
		return nil, "", err
	}
	before, err := tracetest.Load(dir)
	if err != nil {
		return nil, "", err
	}
	l, err := m.Tune(ctx, tracetest.Tuning{What: what, Method: method, LR: lr, Steps: steps, Seed: uint64(seed)})
	if err != nil {
		return nil, "", err
	}
	return m, fmt.Sprintf("%s, loss %s", share(m.Changed(before)), nats(l.After)), nil
}

// share writes a relative change.
func share(x float64) string {
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0) || x > 1e3:
		return "> 1000%"
	case x < 0.001:
		return "< 0.1%"
	}
	return fmt.Sprintf("%.2g%%", 100*x)
}

func nats(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "NaN"
	}
	return fmt.Sprintf("%.2f", x)
}

func tunedNF4(ctx context.Context, _ *study, sealed string, leaker int, dst *string) (string, error) {
	m, note, err := tuned(ctx, sealed, full, train.RowCol, 1e-2, leaker)
	if err != nil {
		return "", err
	}
	m.Prune(0.3, true, 0)
	return note, m.WriteNF4(*dst)
}

func average(ctx context.Context, s *study, sealed string, leaker int, dst *string) (string, error) {
	other, _, err := s.seal(ctx, partner(leaker))
	if err != nil {
		return "", err
	}
	a, err := tracetest.Load(sealed)
	if err != nil {
		return "", err
	}
	b, err := tracetest.Load(other)
	if err != nil {
		return "", err
	}
	if err := a.Average(b); err != nil {
		return "", err
	}
	return "", a.Write(*dst)
}

func undone(ctx context.Context, _ *study, sealed string, _ int, dst *string) (string, error) {
	_, err := neuroseal.Undo(ctx, neuroseal.UndoOptions{Source: sealed, Output: *dst})
	return "", err
}

// halfUndone takes the layers with an even number from the undone copy.
func halfUndone(ctx context.Context, s *study, sealed string, leaker int, dst *string) (string, error) {
	whole := filepath.Join(s.work, "undone")
	if _, err := undone(ctx, s, sealed, leaker, &whole); err != nil {
		return "", err
	}
	a, err := tracetest.Load(sealed)
	if err != nil {
		return "", err
	}
	b, err := tracetest.Load(whole)
	if err != nil {
		return "", err
	}
	a.Take(b, func(name string) bool {
		return strings.Contains(name, "layers.0.") || strings.Contains(name, "layers.2.") || !strings.Contains(name, "layers.")
	})
	if err := os.RemoveAll(whole); err != nil {
		return "", err
	}
	return "", a.Write(*dst)
}

func originalTuned(ctx context.Context, s *study, _ string, leaker int, dst *string) (string, error) {
	m, note, err := tuned(ctx, s.model.path, full, train.AdamW, 1e-3, leaker)
	if err != nil {
		return "", err
	}
	return note, m.Write(*dst)
}

func unrelated(ctx context.Context, s *study, _ string, leaker int, dst *string) (string, error) {
	return "", specimen.Random(ctx, s.model.path, *dst, uint64(leaker))
}
