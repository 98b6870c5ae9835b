//go:build interop

package trl

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arena"
)

// real is an engine with the real stack.
func real(t *testing.T, o Options) *Engine {
	t.Helper()
	if os.Getenv("NEUROSEAL_PYTHON") == "" {
		t.Skip("no NEUROSEAL_PYTHON: make interop-venv installs one")
	}
	o.Threads = 1
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Ready(t.Context()); err != nil {
		t.Skip(err)
	}
	return e
}

// realTask is a trial of a few steps on real text.
func realTask(t *testing.T, change func(*arena.Recipe)) arena.Task {
	t.Helper()
	x := task(t)
	x.Trial.Steps, x.Trial.Batch, x.Trial.Window, x.Trial.Eval = 12, 4, 64, 8
	if change != nil {
		change(&x.Trial.Recipe)
	}
	target, retained, err := arena.OpenTexts(t.Context(), x.Paths)
	if err != nil {
		t.Fatal(err)
	}
	x.Trial.Target, x.Trial.Retained = target.Digest, retained.Digest
	return x
}

// TestReal: the real transformers, PEFT, bitsandbytes and TRL learn the target on
// the CPU, in every precision and on every base. That bases are stored as asked is
// asserted on the Python side (models.demand), layer by layer.
func TestReal(t *testing.T) {
	e := real(t, Options{})
	for _, c := range []struct {
		name   string
		change func(*arena.Recipe)
		start  float64 // tolerance of the loss at the start: what storing costs
	}{
		{"fp32", nil, 0},
		{"bf16", func(r *arena.Recipe) { r.Precision = "bf16" }, 0.05},
		{"qlora", func(r *arena.Recipe) { r.Base = "nf4-dq" }, 0.2},
		{"qlora-bf16", func(r *arena.Recipe) { r.Base, r.Precision = "nf4-dq", "bf16" }, 0.2},
		{"nf4", func(r *arena.Recipe) { r.Base = "nf4" }, 0.2},
		{"int8", func(r *arena.Recipe) { r.Base = "int8" }, 0.05},
		{"dora", func(r *arena.Recipe) { r.Train.Kind = "dora" }, 0},
		{"full", func(r *arena.Recipe) { r.Train = arena.Training{Kind: "full"} }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := realTask(t, c.change)
			if err := e.Check(t.Context(), x); err != nil {
				t.Fatal(err)
			}
			steps := 0
			r, err := e.Run(t.Context(), x, func(int, float64) { steps++ })
			if err != nil {
				t.Fatal(err)
			}
			if r.Status != arena.Done || steps != x.Trial.Steps {
				t.Fatalf("%s (%s) after %d steps", r.Status, r.Reason, steps)
			}
			if !(r.Best() < 0.8*r.Start()) {
				t.Errorf("learned nothing: %v", r.Evals)
			}
			if math.Abs(r.Start()-fp32Start(t, e)) > c.start+1e-6 {
				t.Errorf("starts at %v, in fp32 at %v", r.Start(), fp32Start(t, e))
			}
			predicted, err := e.Memory(t.Context(), x)
			if err != nil || r.Peak > predicted*3/2 || predicted > r.Peak*3 {
				t.Errorf("predicted %d MB, took %d MB, %v", predicted>>20, r.Peak>>20, err)
			}
			t.Logf("held-out loss %.4f → %.4f, %.1f s, peak %d MB (predicted %d), %v", r.Start(), r.Best(), r.Seconds, r.Peak>>20, predicted>>20, r.Versions)
		})
	}
}

var knownStart float64

// fp32Start is the loss before training in fp32, computed once.
func fp32Start(t *testing.T, e *Engine) float64 {
	t.Helper()
	if knownStart == 0 {
		r, err := e.Run(t.Context(), realTask(t, nil), nil)
		if err != nil {
			t.Fatal(err)
		}
		knownStart = r.Start()
	}
	return knownStart
}

// TestRealImpossible: what PEFT refuses is a result with its reason.
func TestRealImpossible(t *testing.T) {
	e := real(t, Options{})
	for _, c := range []struct {
		want  string
		train arena.Training
	}{
		{"no tuner", arena.Training{Kind: "no-such-tuner"}},
		{"matches", arena.Training{Kind: "lora", Modules: []string{"query_key_value"}, Rank: 4, Alpha: 8}},
		{"block size", arena.Training{Kind: "c3a"}}, // its default does not divide 128
		{"no field", arena.Training{Kind: "oft", Options: map[string]any{"colour": "blue"}}},
		{"lm_head", arena.Training{Kind: "lora", Modules: []string{"lm_head"}, Rank: 4, Alpha: 8}},
	} {
		r, err := e.Run(t.Context(), realTask(t, func(r *arena.Recipe) { r.Train = c.train }), nil)
		if err != nil || r.Status != arena.Impossible || !strings.Contains(r.Reason, c.want) {
			t.Errorf("%s: %+v, %v", c.train.Kind, r, err)
		}
	}
}

// TestRealDiverged: a rate beyond all bounds is recorded, and stops early.
func TestRealDiverged(t *testing.T) {
	e := real(t, Options{})
	x := realTask(t, func(r *arena.Recipe) {
		r.Train, r.Optimizer, r.Clip = arena.Training{Kind: "full"}, arena.Optimizer{Method: "sgd"}, 0
	})
	x.Trial.LR = 1e4
	r, err := e.Run(t.Context(), x, nil)
	if err != nil || r.Status != arena.Diverged || r.Steps == x.Trial.Steps || len(r.Evals) == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestReplicas: two processes that share the batch see what one would see.
func TestReplicas(t *testing.T) {
	x := realTask(t, nil)
	one, err := real(t, Options{}).Run(t.Context(), x, nil)
	if err != nil {
		t.Fatal(err)
	}
	two, err := real(t, Options{Replicas: 2}).Run(t.Context(), x, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range one.Losses {
		if d := math.Abs(float64(one.Losses[i]-two.Losses[i])) / float64(one.Losses[i]); d > 1e-3 {
			t.Errorf("step %d: loss %v with one process, %v with two", i+1, one.Losses[i], two.Losses[i])
		}
	}
	if !slices.Equal(x.Trial.EvalSteps(), []int{0, 6, 12}) || len(two.Evals) != 3 {
		t.Errorf("evaluations %+v", two.Evals)
	}
	t.Logf("last losses %v and %v", one.Losses[11], two.Losses[11])
}
