package embedded

import (
	"context"
	"math"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

const demoModel = "../../internal/demo/model"

// task is a short trial of a built-in recipe.
func task(t *testing.T, recipe, model string, lr float64) arena.Task {
	t.Helper()
	table := arena.Builtin()
	suite := arena.Suite{Name: "t", Recipes: []string{recipe}, Steps: 6, Batch: 2, Window: 32, Eval: 3, Evals: 2, Seeds: 1}
	rs := table.Select(&suite)
	if len(rs) != 1 {
		t.Fatalf("recipe %s: %d rows", recipe, len(rs))
	}
	p := arena.Paths{Model: model, Base: demoModel, Target: "builtin:logs", Retained: "builtin:tales", Tokenizer: demoModel}
	target, retained, err := arena.OpenTexts(context.Background(), p)
	if err != nil {
		t.Fatal(err)
	}
	x := arena.NewTrial(arena.EmbeddedEngine, rs[0], &suite, arena.Sealed, lr, 1)
	x.Target, x.Retained = target.Digest, retained.Digest
	return arena.Task{Trial: x, Paths: p}
}

func result(t *testing.T, x arena.Task) *arena.Result {
	t.Helper()
	r, err := New(2, "test").Run(context.Background(), x, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func sealed(t *testing.T, p seal.Profile) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "sealed")
	if _, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{Source: demoModel, Output: dir, Method: seal.Gauge, Profile: p,
		Key: keys.SealKey{4, 5}}); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRun(t *testing.T) {
	r := result(t, task(t, "full-adamw", demoModel, 1e-3))
	if r.Status != arena.Done || r.Steps != 6 || len(r.Losses) != 6 || len(r.Evals) != 3 || r.Tokens != 6*64 || r.Trainable != 820352 {
		t.Fatalf("%+v", r)
	}
	first, last := r.Evals[0], r.Evals[2]
	if last.Step != 6 || !(last.Target < first.Target-1) || !(last.Retained > first.Retained) {
		t.Errorf("from %+v to %+v", first, last)
	}
	x := task(t, "full-adamw", demoModel, 1e-3)
	need, err := New(2, "test").Memory(context.Background(), x)
	if err != nil || need < r.Peak {
		t.Errorf("predicted %d bytes, took %d (%v)", need, r.Peak, err)
	}
	again := result(t, x)
	for i := range r.Losses {
		if r.Losses[i] != again.Losses[i] {
			t.Fatalf("step %d: %v, and once more %v", i, r.Losses[i], again.Losses[i])
		}
	}
}

// TestClasses: a gauge-invariant recipe takes the same course on the sealed
// model, a weight-space one does not, and the informed optimizer does again.
func TestClasses(t *testing.T) {
	dir := sealed(t, seal.Max)
	for _, c := range []struct {
		recipe string
		lr     float64
		within float64
		same   bool
	}{{"ia3", 1e-2, 1e-5, true}, {"ia3-all", 1e-2, 1e-5, true}, {"lora-all-noclip", 1e-3, 1e-2, false}, {"full-adamw-noclip", 1e-3, 1e-2, false}, {"pair-full", 1e-3, 1e-4, true}} {
		a, b := result(t, task(t, c.recipe, demoModel, c.lr)), result(t, task(t, c.recipe, dir, c.lr))
		x, y := a.Best(), b.Best()
		if len(a.Evals) == 0 || len(b.Evals) == 0 || math.Abs(a.Start()-b.Start()) > 1e-6*a.Start() {
			t.Fatalf("%s: the seal changes the function: %v and %v", c.recipe, a.Start(), b.Start())
		}
		if c.same != (math.Abs(x-y) <= c.within*x) {
			t.Errorf("%s: best %v, sealed %v", c.recipe, x, y)
		}
		if x > a.Start()-0.1 {
			t.Errorf("%s teaches nothing: %v after %v", c.recipe, x, a.Start())
		}
	}
}

// TestCarry: an adapter trained on the public base brings a sealed model
// nothing as it is, and all of it if the model is aligned; here aligned means
// the base itself.
func TestCarry(t *testing.T) {
	plain := result(t, task(t, "transplant", demoModel, 1e-2))
	if plain.Status != arena.Done || len(plain.Evals) != 2 || !(plain.Evals[1].Target < plain.Evals[0].Target-1) {
		t.Fatalf("%+v", plain.Evals)
	}
	hard := result(t, task(t, "transplant", sealed(t, seal.Max), 1e-2))
	if !(hard.Evals[1].Target > plain.Evals[1].Target+0.2 && hard.Evals[1].Retained > plain.Evals[1].Retained+2) {
		t.Errorf("on the sealed model %v, on the original %v", hard.Evals[1], plain.Evals[1])
	}
	for _, method := range []string{"merge-task", "merge-ties", "merge-dare"} {
		if r := result(t, task(t, method, demoModel, 1e-3)); !(r.Best() < r.Start()-0.5) {
			t.Errorf("%s: %+v", method, r.Evals)
		}
	}
}

func TestRefusals(t *testing.T) {
	e := New(1, "test")
	ctx, cancel := context.WithCancel(context.Background())
	x := task(t, "lora-all", demoModel, 1e-3)
	x.Trial.Recipe.Train.Modules = []string{"conv1"}
	if err := e.Check(ctx, x); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("no such module: %v", err)
	}
	x = task(t, "lora-all", demoModel, 1e-3)
	x.Trial.Recipe.Precision = "fp16"
	if err := e.Check(ctx, x); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("fp16: %v", err)
	}
	x = task(t, "lora-all", demoModel, 1e-3)
	x.Trial.Target = "another"
	if _, err := e.Run(ctx, x, nil); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("another text: %v", err)
	}
	cancel()
	if _, err := e.Run(ctx, task(t, "lora-all", demoModel, 1e-3), nil); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
	// DoRA's norms overflow on the widest seal before the first step.
	r := result(t, task(t, "dora-all", sealed(t, seal.Max), 1e-3))
	if r.Status != arena.Diverged || r.Steps != 1 || !math.IsNaN(r.Best()) {
		t.Errorf("diverging: %+v", r)
	}
}

// TestPrepare: what was opened once says and does the same.
func TestPrepare(t *testing.T) {
	e, x := New(1, "test"), task(t, "lora-all", demoModel, 1e-3)
	p, err := e.Prepare(context.Background(), x)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if need, err := e.Memory(context.Background(), x); err != nil || need != p.Memory() {
		t.Errorf("%d bytes, prepared %d (%v)", need, p.Memory(), err)
	}
	a, err := p.Run(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := result(t, x)
	if a.ID != b.ID || a.Trainable != b.Trainable || a.Best() != b.Best() || a.Peak != b.Peak {
		t.Errorf("prepared %+v, at once %+v", a, b)
	}
}
