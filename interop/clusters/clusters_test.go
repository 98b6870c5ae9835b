//go:build interop && linux

// Package clusters lets the real command attack a model on a real Slurm and a
// real Ray: the trials must come out as they do on this machine, and each must
// be run once, however often the command is killed.
package clusters

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/jobs/clustertest"
)

const model = "../../internal/demo/model"

// table has three trials: the unsealed model is attacked once for both recipes.
const table = `version: clusters
recipes:
  - name: full
    class: A
    about: full fine-tuning
    train: {kind: full}
    optimizer: {method: adamw}
    rates: {only: [1.0e-3]}
  - name: undo-full
    class: C
    about: re-balanced first
    prepare: [undo]
    train: {kind: full}
    optimizer: {method: adamw}
    rates: {only: [1.0e-3]}
suites:
  - name: tiny
    about: two steps
    recipes: ["*"]
    steps: 2
    batch: 2
    window: 16
    eval: 2
    evals: 1
    seeds: 1
`

const trials = 3

// fixture is a sealed model and what its trials come to on this machine.
type fixture struct {
	command, sealed, table string
	want                   map[string]string // trial → its losses
}

func TestAttack(t *testing.T) {
	dir := t.TempDir() // of the fixture, which the first test that is not skipped makes
	var f *fixture
	need := func(t *testing.T) *fixture {
		if f == nil {
			f = prepare(t, dir)
		}
		return f
	}
	t.Run("slurm", func(t *testing.T) {
		clustertest.NewSlurm(t)
		need(t).interrupted(t, "--on", "slurm")
	})
	t.Run("ray", func(t *testing.T) {
		clustertest.NewRay(t, false).Head(t, 2)
		t.Run("shared", func(t *testing.T) { need(t).interrupted(t, "--on", "ray", "--ray-shared") })
		t.Run("unshared", func(t *testing.T) { need(t).interrupted(t, "--on", "ray") })
	})
}

// prepare builds the command, seals the model and attacks it here.
func prepare(t *testing.T, dir string) *fixture {
	t.Helper()
	f := &fixture{command: os.Getenv("NEUROSEAL_COMMAND"), sealed: filepath.Join(dir, "sealed"), table: filepath.Join(dir, "table.yaml")}
	if f.command == "" {
		f.command = filepath.Join(dir, "neuroseal")
		build := exec.Command("go", "build", "-o", f.command, "../../cmd/neuroseal")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		run(t, build)
	}
	if err := os.WriteFile(f.table, []byte(table), 0o666); err != nil {
		t.Fatal(err)
	}
	run(t, exec.Command(f.command, "lock", model, f.sealed, "--profile", "max", "-q"))
	out := filepath.Join(dir, "local")
	run(t, f.attack(out, "--on", "local"))
	f.want = losses(t, out)
	if len(f.want) != trials {
		t.Fatalf("%d trials on this machine, want %d", len(f.want), trials)
	}
	return f
}

// attack is the command, not started.
func (f *fixture) attack(out string, args ...string) *exec.Cmd {
	return exec.Command(f.command, append([]string{"attack", f.sealed, out, "--against", model, "--suite", f.table}, args...)...)
}

// run runs a command that must succeed.
func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// gate is a program that stands for neuroseal on the nodes. It notes each start.
// The first trial runs at once, the second waits for the file go-2, the third
// for go-3.
func (f *fixture) gate(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "gate")
	script := fmt.Sprintf(`#!/bin/sh
cd '%s' || exit 9
echo "$3" >>starts
if mkdir first 2>/dev/null; then n=1; elif mkdir second 2>/dev/null; then n=2; else n=3; fi
while [ $n != 1 ] && [ -d '%s' ] && [ ! -e go-$n ]; do sleep 0.1; done
[ $n != 2 ] || echo "$3" >away
exec '%s' "$@"
`, dir, dir, f.command)
	if err := os.WriteFile(path, []byte(script), 0o777); err != nil {
		t.Fatal(err)
	}
	return path
}

// interrupted kills the command when one trial is done and two are under way,
// lets one of them end while nobody looks and the other when the same command
// runs again.
func (f *fixture) interrupted(t *testing.T, args ...string) {
	dir := t.TempDir()
	out := filepath.Join(dir, "run")
	args = append(args, "--remote-neuroseal", f.gate(t, dir))
	open := func(name string) {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	first := start(t, f.attack(out, args...))
	clustertest.Until(t, "one trial is done and two run", func() bool {
		first.mustRun(t)
		return lines(filepath.Join(out, "trials.jsonl")) == 1 && lines(filepath.Join(dir, "starts")) == trials
	})
	first.kill()
	open("go-2")
	clustertest.Until(t, "a trial ends while nobody looks", func() bool {
		result, err := os.ReadFile(filepath.Join(dir, "away"))
		if err != nil {
			return false
		}
		_, err = os.Stat(strings.TrimSpace(string(result)))
		return err == nil
	})
	second := start(t, f.attack(out, args...))
	clustertest.Until(t, "that one is taken", func() bool {
		second.mustRun(t)
		return lines(filepath.Join(out, "trials.jsonl")) == 2
	})
	open("go-3")
	<-second.ended
	if second.err != nil {
		t.Errorf("the second run: %v", second.err)
	}
	f.check(t, dir, out)
	run(t, f.attack(out, args...)) // there is nothing left to do
	f.check(t, dir, out)
}

// process is a command under way, whose output is the test's.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // once it has ended
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(p.kill)
	return p
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill() // an error: it has ended
	<-p.ended
}

func (p *process) mustRun(t *testing.T) {
	t.Helper()
	select {
	case <-p.ended:
		t.Fatalf("%s ended too early: %v", strings.Join(p.cmd.Args, " "), p.err)
	default:
	}
}

// check demands the losses of this machine, one start of each trial, and a
// report.
func (f *fixture) check(t *testing.T, dir, out string) {
	t.Helper()
	got := losses(t, out)
	for id, want := range f.want {
		if got[id] != want {
			t.Errorf("trial %s: %s, on this machine %s", id, got[id], want)
		}
	}
	raw, _ := os.ReadFile(filepath.Join(dir, "starts"))
	starts := strings.Fields(string(raw))
	slices.Sort(starts)
	if n := lines(filepath.Join(out, "trials.jsonl")); len(got) != trials || n != trials || len(starts) != trials || len(slices.Compact(starts)) != trials {
		t.Errorf("%d trials in %d lines, want %d; started: %s", len(got), n, trials, raw)
	}
	for _, name := range []string{"report.html", "neuroseal_impact.png", "card.json", "card.md", "summary.json"} {
		if st, err := os.Stat(filepath.Join(out, name)); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// losses returns what a run's trials measured. JSON keeps every bit of a number.
func losses(t *testing.T, out string) map[string]string {
	t.Helper()
	results, err := arena.ReadResults(out)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, r := range results {
		raw, err := json.Marshal([]any{r.Status, r.Losses, r.Evals})
		if err != nil || len(r.Losses) != 2 || r.Status != arena.Done {
			t.Errorf("trial %s: %s, %v", r.ID, raw, err)
		}
		m[r.ID] = string(raw)
	}
	return m
}

// lines counts a file's lines.
func lines(path string) int {
	raw, _ := os.ReadFile(path)
	return strings.Count(string(raw), "\n")
}
