//go:build interop && linux

package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/arena/jobs/clustertest"
)

// slurmTest is a real Slurm on this machine.
type slurmTest struct{ *clustertest.Slurm }

func slurmRunnerFor(parallel int) maker {
	return func(t *testing.T, folder string) Runner {
		r, err := Slurm(SlurmOptions{Options: quick(folder), Parallel: parallel})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

func TestSlurmInterop(t *testing.T) {
	s := slurmTest{clustertest.NewSlurm(t)}
	scenarios(t, "slurm", slurmRunnerFor(2))
	t.Run("node", s.testNode)
	t.Run("controller", s.testController)
	t.Run("forgotten", s.testForgotten)
	t.Run("refused", s.testRefused)
	t.Run("foreign", s.testForeign)
	t.Run("throttle", s.testThrottle)
}

// testNode: the node under a job goes down; the job runs again when it is back.
func (s slurmTest) testNode(t *testing.T) {
	dir := t.TempDir()
	name := strings.TrimSpace(s.Run("sinfo", "--noheader", "--format=%N"))
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "mover")) == 1 })
		t.Log(s.Run("scontrol", "update", "nodename="+name, "state=down", "reason=test"))
		open(t, dir)
	}, Lost: func(Event) {
		// With ReturnToService=2 it is back by itself as soon as it reports.
		s.Run("scontrol", "update", "nodename="+name, "state=resume")
	}}}
	if err := slurmRunnerFor(0)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "mover")}, j.report); err != nil {
		t.Error(err)
	}
	if !j.has("mover", Lost) || len(starts(dir, "mover")) != 2 {
		t.Errorf("events: %v, starts %v", j.events, starts(dir, "mover"))
	}
}

// testController: the controller is killed under a job and started again with
// its state; the job is followed to its end and not started twice.
func (s slurmTest) testController(t *testing.T) {
	dir := t.TempDir()
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "a")) == 1 })
		until(t, "the controller has saved that", func() bool {
			return modified(filepath.Join(s.Dir, "state", "job_state")).After(modified(filepath.Join(dir, "a.starts")))
		})
		s.KillController()
		time.AfterFunc(3*time.Second, func() { open(t, dir); s.StartController() })
	}}}
	if err := slurmRunnerFor(0)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "a"), gated(dir, "b"), gated(dir, "c")}, j.report); err != nil {
		t.Error(err)
	}
	for _, n := range []string{"a", "b", "c"} {
		if len(starts(dir, n)) != 1 {
			t.Errorf("%s was started %d times", n, len(starts(dir, n)))
		}
	}
}

func modified(path string) time.Time {
	st, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// testForgotten: the controller comes back without its state: what it does not
// know any more is submitted again; and where it stays away, the run can be
// resumed.
func (s slurmTest) testForgotten(t *testing.T) {
	dir := t.TempDir()
	o := quick(filepath.Join(dir, "run"))
	o.Patience = 2 * time.Second
	r, err := Slurm(SlurmOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "a")) == 1 })
		s.KillController()
	}}}
	list := []Job{gated(dir, "a"), gated(dir, "b"), gated(dir, "c")}
	wantResumable(t, r.Run(t.Context(), list, j.report))
	s.KillNode()
	open(t, dir)
	if err := errors.Join(os.RemoveAll(filepath.Join(s.Dir, "state")), os.Mkdir(filepath.Join(s.Dir, "state"), 0o755)); err != nil {
		t.Fatal(err)
	}
	s.StartController()
	s.StartNode()
	if err := r.Run(t.Context(), list, j.report); err != nil {
		t.Error(err)
	}
}

// testRefused: a job that the cluster cannot run does not keep others from it.
func (s slurmTest) testRefused(t *testing.T) {
	dir := t.TempDir()
	huge := write(dir, "huge")
	huge.CPUs = 4096
	j := &journal{t: t}
	o := quick(filepath.Join(dir, "run"))
	o.Patience = 2 * time.Second
	r, err := Slurm(SlurmOptions{Options: o})
	if err != nil {
		t.Fatal(err)
	}
	err = r.Run(t.Context(), []Job{huge, write(dir, "small")}, j.report)
	if err == nil || !j.has("huge", Failed) || !j.has("small", Done) {
		t.Errorf("events: %v, error: %v", j.events, err)
	}
}

// testForeign: somebody else cancels a job with Slurm's own command.
func (s slurmTest) testForeign(t *testing.T) {
	dir := t.TempDir()
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) { t.Log(s.Run("scancel", "--user=root")) }}}
	err := slurmRunnerFor(0)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "a")}, j.report)
	if err == nil || !j.has("a", Cancelled) {
		t.Errorf("events: %v, error: %v", j.events, err)
	}
}

// testThrottle: %1 lets one task run at a time although the node has room for two.
func (s slurmTest) testThrottle(t *testing.T) {
	dir := t.TempDir()
	busy := filepath.Join(dir, "busy")
	var list []Job
	for i := range 3 {
		list = append(list, script(dir, fmt.Sprint("t", i), `mkdir `+quote(busy)+` || exit 9; sleep 0.5; rmdir `+quote(busy)+`; echo ok >"$R"`))
	}
	if err := slurmRunnerFor(1)(t, filepath.Join(dir, "run")).Run(context.Background(), list, nil); err != nil {
		t.Error(err)
	}
}
