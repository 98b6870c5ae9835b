//go:build interop && linux

package jobs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/arena/jobs/clustertest"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func rayRunnerFor(shared bool) maker {
	return func(t *testing.T, folder string) Runner {
		r, err := Ray(RayOptions{Options: quick(folder), Shared: shared})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func TestRayInterop(t *testing.T) {
	n := clustertest.NewRay(t, true)
	kill := n.Head(t, 2)
	t.Run("no token", func(t *testing.T) {
		t.Setenv("RAY_AUTH_TOKEN_PATH", "")
		dir := t.TempDir()
		err := rayRunnerFor(true)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{write(dir, "a")}, nil)
		if err == nil || !strings.Contains(fault.HintOf(err), "RAY_AUTH_TOKEN") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("shared", func(t *testing.T) { scenarios(t, "ray", rayRunnerFor(true)) })
	t.Run("unshared", func(t *testing.T) { scenarios(t, "ray-unshared", rayRunnerFor(false)) })
	t.Run("not text", testNotText)
	t.Run("head", func(t *testing.T) {
		// The head dies with the job; a new one knows nothing of it.
		dir := t.TempDir()
		j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
			until(t, "it runs", func() bool { return len(starts(dir, "survivor")) == 1 })
			kill()
			open(t, dir)
			n.Head(t, 2)
		}}}
		if err := rayRunnerFor(true)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "survivor")}, j.report); err != nil {
			t.Error(err)
		}
		t.Logf("starts: %d", len(starts(dir, "survivor")))
	})
}

// testNotText: Ray cannot serve a log that is not UTF-8: the log is lost, not the
// result, and that is said. (Where files are not shared both are: see the fake.)
func testNotText(t *testing.T) {
	dir := t.TempDir()
	job := script(dir, "binary", `printf '\377\376\n'; echo ok >"$R"`)
	if err := rayRunnerFor(true)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{job}, nil); err != nil {
		t.Error(err)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "run", "logs", "binary.log")); !strings.Contains(string(b), "not UTF-8") {
		t.Errorf("log %q", b)
	}
}

// TestRayHeadStaysDown: the run gives up after its patience, can be resumed, and
// is.
func TestRayHeadStaysDown(t *testing.T) {
	n := clustertest.NewRay(t, false)
	kill := n.Head(t, 2)
	dir := t.TempDir()
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "a")) == 1 })
		kill()
	}}}
	o := quick(filepath.Join(dir, "run"))
	o.Patience = 3 * time.Second
	r, err := Ray(RayOptions{Options: o, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	list := []Job{gated(dir, "a"), gated(dir, "b"), gated(dir, "c")}
	err = r.Run(t.Context(), list, j.report)
	wantResumable(t, err)
	open(t, dir)
	n.Head(t, 2)
	if err := r.Run(t.Context(), list, j.report); err != nil {
		t.Error(err)
	}
}

// TestRayNodeDies: the worker node under a job is killed; the job runs again on
// another one.
func TestRayNodeDies(t *testing.T) {
	n := clustertest.NewRay(t, false)
	n.Head(t, 0)
	kill := n.Worker(t)
	for _, shared := range []bool{true, false} {
		dir := t.TempDir()
		j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
			until(t, "it runs", func() bool { return len(starts(dir, "mover")) == 1 })
			kill()
			open(t, dir)
			kill = n.Worker(t)
		}}}
		if err := rayRunnerFor(shared)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "mover")}, j.report); err != nil {
			t.Error(err)
		}
		if !j.has("mover", Lost) || len(starts(dir, "mover")) != 2 {
			t.Errorf("events: %v, starts %v", j.events, starts(dir, "mover"))
		}
	}
}
