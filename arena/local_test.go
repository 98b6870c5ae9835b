package arena

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// hungry needs more memory for one recipe than for others.
type hungry struct {
	landscape
	recipe string
}

func (h *hungry) Memory(_ context.Context, t Task) (int64, error) {
	if t.Trial.Recipe.Name == h.recipe {
		return 1 << 30, nil
	}
	return 1 << 20, nil
}

// TestLargeTaskStopsNoOther: the one that does not fit comes first, and is the
// error; all others have run.
func TestLargeTaskStopsNoOther(t *testing.T) {
	m := landscapeMeta()
	var tasks []Task
	for _, seed := range []uint64{1, 2} {
		tasks = append(tasks, Task{Trial: m.trial(m.Recipes[0], Sealed, point{rate: -24, seed: seed})})
	}
	for rate := range 20 {
		tasks = append(tasks, Task{Trial: m.trial(m.Recipes[1], Sealed, point{rate: rate - 40, seed: 1})})
	}
	for _, parallel := range []int{1, 3} {
		var done atomic.Int32
		err := Local(&hungry{recipe: m.Recipes[0].Name}, parallel, 1<<29, nil)(context.Background(), tasks, func(r *Result) error {
			done.Add(1)
			return nil
		})
		if done.Load() != 20 {
			t.Errorf("%d at a time: %d tasks ran", parallel, done.Load())
		}
		if err == nil || !strings.Contains(err.Error(), "recipe plain needs 1024 MB of memory, 512 MB are free; trials that need too much: 2") {
			t.Errorf("%d at a time: %v", parallel, err)
		}
	}
}

func goodTask() map[string]any {
	m := landscapeMeta()
	raw, err := json.Marshal(Task{Trial: m.trial(m.Recipes[0], Sealed, point{rate: -24, seed: 1})})
	if err != nil {
		panic(err)
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		panic(err)
	}
	return out
}

func TestRunTask(t *testing.T) {
	run := func(task map[string]any) (*Result, error) {
		raw, err := json.Marshal(task)
		if err != nil {
			t.Fatal(err)
		}
		return RunTask(context.Background(), &landscape{}, raw)
	}
	if r, err := run(goodTask()); err != nil || r.Status != Done {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, c := range []struct {
		path  string
		value any
		want  string
	}{
		{"trial.steps", 0, "steps is 0"}, {"trial.steps", 1 << 40, "steps"},
		{"trial.batch", 0, "batch is 0"}, {"trial.batch", 1 << 40, "batch"},
		{"trial.window", 0, "window is 0"}, {"trial.window", 1 << 20, "window"},
		{"trial.eval", -1, "eval is -1"}, {"trial.eval", 1 << 20, "eval"},
		{"trial.evals", 0, "evals is 0"}, {"trial.evals", 1 << 20, "evals"},
		{"trial.lr", 0, "learning rate 0"}, {"trial.lr", -1, "learning rate -1"}, {"trial.lr", "1", "not readable"},
		{"trial.role", "sealt", "unknown role"}, {"trial.engine", "x", "unknown engine"}, {"trial.engine", TRLEngine, "--engine trl"},
		{"trial.recipe.method", "x", "unknown method"}, {"trial.recipe.optimizer.method", "x", "unknown optimizer"},
		{"trial.recipe.prepare", []string{"x"}, "unknown preparation"}, {"trial.recipe.train.rank", 1 << 30, "rank"},
		{"trial.recipe.name", "A B", "recipe name"},
		{"trial.schema", 0, "schema 0"}, {"trial.stepz", 1, `unknown field "stepz"`}, {"extra", 1, `unknown field "extra"`},
	} {
		task := goodTask()
		at, keys := task, strings.Split(c.path, ".")
		for _, k := range keys[:len(keys)-1] {
			at = at[k].(map[string]any)
		}
		at[keys[len(keys)-1]] = c.value
		_, err := run(task)
		if err == nil || !strings.Contains(err.Error()+" "+fault.HintOf(err), c.want) {
			t.Errorf("%s = %v: %v, want %q", c.path, c.value, err, c.want)
		}
	}
	for _, raw := range []string{"", "{", "{} {}", "null"} {
		if _, err := RunTask(context.Background(), &landscape{}, []byte(raw)); !slices.Contains([]fault.Kind{fault.Usage, fault.Unsupported}, fault.KindOf(err)) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// preparing is an engine that counts how often a task is opened.
type preparing struct {
	Engine
	opened, closed, runs int
}

func (e *preparing) Prepare(context.Context, Task) (Prepared, error) {
	e.opened++
	return &ready{e}, nil
}

type ready struct{ e *preparing }

func (r *ready) Memory() int64 { return 1 }
func (r *ready) Close()        { r.e.closed++ }
func (r *ready) Run(context.Context, func(int, float64)) (*Result, error) {
	r.e.runs++
	return NewResult(Trial{}), nil
}

// TestLocalPreparesOnce: an engine that can opens a task once.
func TestLocalPreparesOnce(t *testing.T) {
	e := &preparing{}
	err := Local(e, 1, 0, nil)(context.Background(), []Task{{}}, func(*Result) error { return nil })
	if err != nil || e.opened != 1 || e.closed != 1 || e.runs != 1 {
		t.Errorf("%+v, %v", e, err)
	}
}
