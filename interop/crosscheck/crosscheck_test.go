//go:build interop

// Package crosscheck lets both engines of the arena run the same trials: the
// embedded one and TRL, from the same batches and the same initial adapters.
package crosscheck

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/embedded"
	"github.com/neuroseal/neuroseal/arena/trl"
	"github.com/neuroseal/neuroseal/internal/demo"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// tolerance is how far the engines' losses may be apart, in parts of what the
// unsealed model learns.
const tolerance = 0.05

type recipe struct {
	name      string
	lr        float64
	train     arena.Training
	optimizer arena.Optimizer
}

var recipes = []recipe{
	{"lora v,o,up,down", 5e-3, lora("v_proj", "o_proj", "up_proj", "down_proj"), arena.Optimizer{Method: "adamw"}},
	{"lora all-linear", 5e-3, lora("all-linear"), arena.Optimizer{Method: "adamw"}},
	{"full adamw", 1e-3, arena.Training{Kind: "full"}, arena.Optimizer{Method: "adamw"}},
	{"full sgd", 1e-1, arena.Training{Kind: "full"}, arena.Optimizer{Method: "sgd"}},
	{"full lamb", 1e-2, arena.Training{Kind: "full"}, arena.Optimizer{Method: "lamb"}},
	{"full adafactor", 1e-2, arena.Training{Kind: "full"}, arena.Optimizer{Method: "adafactor"}},
	{"ia3", 3e-2, arena.Training{Kind: "ia3", Modules: []string{"k_proj", "v_proj", "down_proj"}, FeedForward: []string{"down_proj"}}, arena.Optimizer{Method: "adamw"}},
	{"norms", 1e-2, arena.Training{Kind: "norms"}, arena.Optimizer{Method: "adamw"}},
}

func lora(modules ...string) arena.Training {
	return arena.Training{Kind: "lora", Modules: modules, Rank: 16, Alpha: 32}
}

// seals are the models that are attacked; nil: as it is.
var seals = []struct {
	name string
	lock *neuroseal.LockOptions
}{
	{"unsealed", nil},
	{"static 100", &neuroseal.LockOptions{Method: seal.Static, Scale: 100}},
	{"max", &neuroseal.LockOptions{Method: seal.Gauge, Profile: seal.Max}},
}

func TestCrosscheck(t *testing.T) {
	if os.Getenv("NEUROSEAL_PYTHON") == "" {
		t.Skip("no NEUROSEAL_PYTHON: make interop-venv installs one")
	}
	stack, err := trl.New(trl.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := stack.Ready(t.Context()); err != nil {
		t.Skip(err)
	}
	c := &check{engines: []arena.Engine{embedded.New(1, ""), stack}, models: lock(t)}
	fmt.Fprintf(&c.table, "%-18s %-10s %9s %9s %9s %8s\n", "recipe", "seal", "start", "embedded", "TRL", "apart")
	ran := 0
	for i := range recipes {
		t.Run(recipes[i].name, func(t *testing.T) {
			ran++
			c.recipe(t, &recipes[i])
		})
	}
	t.Logf("\n%s%d cells agree", &c.table, c.agree)
	if path := os.Getenv("CROSSCHECK_REPORT"); path != "" {
		if err := os.WriteFile(path, []byte(c.table.String()), 0o666); err != nil {
			t.Error(err)
		}
	}
	if ran == len(recipes) && c.agree < 12 {
		t.Errorf("%d cells agree, 12 are demanded", c.agree)
	}
}

// check compares the engines.
type check struct {
	engines []arena.Engine
	models  []string // as seals
	table   strings.Builder
	agree   int
}

// recipe runs a recipe on all models with both engines.
func (c *check) recipe(t *testing.T, r *recipe) {
	learned := math.NaN() // by the unsealed model
	for i, s := range seals {
		x, unigram := task(t, c.models[i], r)
		var best, start [2]float64
		var status [2]arena.Status
		for k, e := range c.engines {
			res := run(t, e, x)
			best[k], start[k], status[k] = res.Best(), res.Start(), res.Status
		}
		if s.lock == nil {
			learned = start[0] - best[0]
		}
		apart := math.Abs(best[0]-best[1]) / learned
		remark := fmt.Sprintf("%s, %s", status[0], status[1])
		switch {
		case apart <= tolerance:
			c.agree++
		case min(best[0], best[1]) >= min(start[0], unigram):
			// A destroyed model: one engine's zeros are the other's NaN. Neither
			// learned anything, and the cell does not count as one that agrees.
			remark += "; nothing learned in either"
		default:
			t.Errorf("%s: the engines are %.1f%% apart", s.name, 100*apart)
		}
		fmt.Fprintf(&c.table, "%-18s %-10s %9.4f %9.4f %9.4f %7.2f%%  %s\n", r.name, s.name, start[0], best[0], best[1], 100*apart, remark)
	}
}

// lock returns the folders of the demo model, sealed in every way.
func lock(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	original := filepath.Join(dir, "demo")
	if err := demo.Write(original); err != nil {
		t.Fatal(err)
	}
	var out []string
	for i, s := range seals {
		if s.lock == nil {
			out = append(out, original)
			continue
		}
		o := *s.lock
		o.Source, o.Output, o.Key = original, filepath.Join(dir, fmt.Sprint(i)), keys.SealKey{1, 2, 3}
		if _, err := neuroseal.Lock(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		out = append(out, o.Output)
	}
	return out
}

// task is a trial of 60 steps on generated code, with the loss of a unigram model.
func task(t *testing.T, model string, r *recipe) (x arena.Task, unigram float64) {
	t.Helper()
	x = arena.Task{
		Trial: arena.Trial{Schema: 1, Role: arena.Sealed, LR: r.lr, Seed: 1, Steps: 60, Batch: 4, Window: 128, Eval: 16, Evals: 3,
			Recipe: arena.Recipe{Name: "x", Class: arena.WeightSpace, Train: r.train, Optimizer: r.optimizer, Warmup: 0.05, Clip: 1}},
		Paths: arena.Paths{Model: model, Target: "builtin:code", Retained: "builtin:tales", Tokenizer: model},
	}
	target, retained, err := arena.OpenTexts(t.Context(), x.Paths)
	if err != nil {
		t.Fatal(err)
	}
	x.Trial.Target, x.Trial.Retained = target.Digest, retained.Digest
	vocabulary, err := arena.Vocabulary(model)
	if err != nil {
		t.Fatal(err)
	}
	return x, target.Unigram(vocabulary)
}

func run(t *testing.T, e arena.Engine, x arena.Task) *arena.Result {
	t.Helper()
	x.Trial.Engine = e.Name()
	if err := e.Check(t.Context(), x); err != nil {
		t.Fatal(err)
	}
	r, err := e.Run(t.Context(), x, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains([]arena.Status{arena.Done, arena.Diverged}, r.Status) {
		t.Fatalf("%s: %s (%s)", e.Name(), r.Status, r.Reason)
	}
	return r
}
