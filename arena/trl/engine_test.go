//go:build unix

package trl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/corpus"
	"github.com/neuroseal/neuroseal/internal/demo"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// task is a small trial on the demo model.
func task(t *testing.T) arena.Task {
	t.Helper()
	model := filepath.Join(t.TempDir(), "demo")
	if err := demo.Write(model); err != nil {
		t.Fatal(err)
	}
	return arena.Task{
		Trial: arena.Trial{
			Schema: 1, Engine: arena.TRLEngine, Role: arena.Unsealed, LR: 1e-2, Seed: 3, Steps: 4, Batch: 2, Window: 16, Eval: 3, Evals: 2,
			Recipe: arena.Recipe{Name: "lora", Class: arena.WeightSpace, Clip: 1,
				Train:     arena.Training{Kind: "lora", Modules: []string{"all-linear"}, Rank: 4, Alpha: 8},
				Optimizer: arena.Optimizer{Method: "adamw"}},
		},
		Paths: arena.Paths{Model: model, Target: "builtin:code", Retained: "builtin:tales", Tokenizer: model},
	}
}

// fake is an engine whose Python is this test binary.
func fake(t *testing.T, mode string) *Engine {
	t.Helper()
	t.Setenv(fakeMode, mode)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(Options{Python: exe, Version: "1", texts: someText})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func someText(ctx context.Context, _ arena.Task) (target, retained text, err error) {
	c, err := corpus.Open(ctx, "builtin:logs", corpus.Bytes(128), corpus.Options{MaxTokens: 4096})
	return c, c, err
}

func TestRun(t *testing.T) {
	job := task(t)
	var steps []int
	var losses []float64
	r, err := fake(t, "good").Run(t.Context(), job, func(s int, l float64) { steps, losses = append(steps, s), append(losses, l) })
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(steps, []int{1, 2, 3, 4}) || losses[0] != 2.5 || losses[1] == losses[1] {
		t.Errorf("heard of steps %v with losses %v", steps, losses)
	}
	if r.ID != job.Trial.ID() || r.Status != arena.Done || r.Versions["trl"] != "1" || r.Versions["neuroseal"] != "1" || r.Start() != 2 {
		t.Errorf("result %+v", r)
	}
}

// TestFailures: whatever the process does, the error says what it was.
func TestFailures(t *testing.T) {
	for _, c := range []struct {
		mode, want, hint string
		kind             fault.Kind
	}{
		{"missing", "lacks: peft, trl", "-m pip install peft==", fault.General},
		{"broken", "ImportError: libtorch.so", "", fault.General},
		{"crash", "CUDA out of memory", "smaller batch", fault.General},
		{"killed", "killed", "", fault.General},
		{"nothing", "without a result", "", fault.General},
		{"garbage", "result", "", fault.Mismatch},
	} {
		t.Run(c.mode, func(t *testing.T) {
			e := fake(t, c.mode)
			r, err := e.Run(t.Context(), task(t), nil)
			if err == nil {
				t.Fatalf("no error, but %+v", r)
			}
			if !strings.Contains(err.Error(), c.want) || !strings.Contains(fault.HintOf(err), c.hint) || fault.KindOf(err) != c.kind {
				t.Errorf("%v (hint %q, kind %d)", err, fault.HintOf(err), fault.KindOf(err))
			}
			if strings.Contains(err.Error()+fault.HintOf(err), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestNoPython(t *testing.T) {
	_, err := New(Options{Python: filepath.Join(t.TempDir(), "python")})
	if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
		t.Errorf("%v", err)
	}
	for _, name := range []string{"NEUROSEAL_PYTHON", "VIRTUAL_ENV"} {
		t.Setenv(name, "")
	}
	t.Setenv("PATH", t.TempDir())
	t.Chdir(t.TempDir())
	_, err = New(Options{})
	if err == nil || !strings.Contains(fault.HintOf(err), "trl==") || fault.KindOf(err) == fault.Unsupported {
		t.Errorf("%v, hint %q", err, fault.HintOf(err))
	}
}

// TestImpossible: what Python finds impossible is a result.
func TestImpossible(t *testing.T) {
	r, err := fake(t, "impossible").Run(t.Context(), task(t), nil)
	if err != nil || r.Status != arena.Impossible || r.Reason != "PEFT's boft: no" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestCancel: nothing of the process group outlives a cancelled trial, even if it
// does not hear SIGTERM.
func TestCancel(t *testing.T) {
	for _, mode := range []string{"hang", "stubborn"} {
		t.Run(mode, func(t *testing.T) {
			e := fake(t, mode)
			if err := e.Ready(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var child int
			_, err := e.run(ctx, task(t), func(pid int, _ float64) { child = pid; cancel() }, 300*time.Millisecond)
			if fault.KindOf(err) != fault.Interrupted || !errors.Is(err, context.Canceled) {
				t.Fatalf("%v", err)
			}
			if child == 0 {
				t.Fatal("the process never said that it had a child")
			}
			for range 500 {
				if gone(child) {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Errorf("process %d is still there", child)
		})
	}
}

// gone reports whether a process has ended; one that nobody has reaped has.
func gone(pid int) bool {
	if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
		return true
	}
	raw, err := os.ReadFile(filepath.Join("/proc", itoa(pid), "stat"))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestCheck(t *testing.T) {
	e := fake(t, "good")
	if err := e.Check(t.Context(), task(t)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*arena.Recipe){
		"embedded only": func(r *arena.Recipe) { r.Engines = []string{arena.EmbeddedEngine} },
		"merge":         func(r *arena.Recipe) { r.Method = arena.TIES },
		"residual":      func(r *arena.Recipe) { r.Train.Kind = "residual" },
		"optimizer":     func(r *arena.Recipe) { r.Optimizer.Method = "row-col" },
		"full on nf4":   func(r *arena.Recipe) { r.Train.Kind, r.Base = "full", "nf4" },
	} {
		x := task(t)
		change(&x.Trial.Recipe)
		if err := e.Check(t.Context(), x); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What has to be installed makes nothing impossible.
	if err := fake(t, "missing").Check(t.Context(), task(t)); err == nil || fault.KindOf(err) == fault.Unsupported {
		t.Errorf("missing parts: %v", err)
	}
}

// TestLaunch: with several replicas accelerate starts them.
func TestLaunch(t *testing.T) {
	e := fake(t, "launch")
	e.o.Replicas = 2
	r, err := e.Run(t.Context(), task(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(r.Reason, "accelerate.commands.launch --config_file") || !strings.Contains(r.Reason, "-m arena_trl run") {
		t.Errorf("started as %s", r.Reason)
	}
}
