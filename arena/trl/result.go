package trl

import (
	"encoding/json"
	"io"
	"os"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// resultLimit bounds a result file in bytes: a million steps have room.
const resultLimit = 64 << 20

// readResult reads what Python wrote and makes sure that it is the result of this
// trial.
func readResult(path string, t arena.Trial) (*arena.Result, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "the TRL engine ended without a result")
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, resultLimit+1))
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the TRL engine's result")
	}
	return parseResult(raw, t)
}

func parseResult(raw []byte, t arena.Trial) (*arena.Result, error) {
	r := arena.NewResult(t)
	if len(raw) > resultLimit {
		return nil, fault.New(fault.Mismatch, "the TRL engine's result has more than %d bytes", resultLimit)
	}
	if err := json.Unmarshal(raw, r); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "the TRL engine's result")
	}
	// Python hands the trial back as it came; its name is known here alone.
	r.ID, r.Trial = t.ID(), t
	if r.Versions == nil { // "null" is JSON, too
		r.Versions = map[string]string{}
	}
	bad := func(format string, args ...any) error {
		return fault.New(fault.Mismatch, "the TRL engine's result: "+format, args...)
	}
	switch r.Status {
	case arena.Impossible:
		if r.Reason == "" {
			return nil, bad("impossible, and no reason")
		}
		return r, nil
	case arena.Done, arena.Diverged:
	default:
		return nil, bad("status %q", r.Status)
	}
	if r.Steps != len(r.Losses) || r.Steps > t.Steps || r.Status == arena.Done && r.Steps != t.Steps {
		return nil, bad("%d steps and %d losses of %d", r.Steps, len(r.Losses), t.Steps)
	}
	steps := t.EvalSteps()
	if len(r.Evals) == 0 || len(r.Evals) > len(steps) || r.Status == arena.Done && len(r.Evals) != len(steps) {
		return nil, bad("%d evaluations, expected %d", len(r.Evals), len(steps))
	}
	for i, e := range r.Evals {
		if e.Step != steps[i] {
			return nil, bad("an evaluation after step %d, expected %d", e.Step, steps[i])
		}
	}
	if r.Seconds < 0 || r.Peak < 0 || r.Tokens < 0 || r.Trainable < 0 {
		return nil, bad("negative figures")
	}
	return r, nil
}
