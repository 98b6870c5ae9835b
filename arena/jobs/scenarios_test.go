//go:build linux && interop

package jobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// The scenarios below are run on every kind of cluster; waits end with an event,
// never with a time.

// gated waits until the file GO is there before it writes its result.
func gated(dir, name string) Job {
	return script(dir, name, `while [ ! -e "$GO" ]; do sleep 0.1; done; echo done >"$R.part"; mv "$R.part" "$R"`)
}

func open(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
}

// alive says whether a process runs; one that only waits to be reaped does not.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil && !os.IsNotExist(err)
	}
	_, after, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(after, "Z")
}

// until waits for what another process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Errorf("waited in vain until %s", what)
			return
		}
	}
}

type maker func(t *testing.T, folder string) Runner

// scenarios are what every runner must do.
func scenarios(t *testing.T, name string, make maker) {
	t.Run("hostile", func(t *testing.T) { testHostile(t, make) })
	t.Run("failing", func(t *testing.T) { testFailing(t, make) })
	t.Run("cancel", func(t *testing.T) { testCancel(t, make) })
	t.Run("killed", func(t *testing.T) { testKilled(t, make) })
	t.Run("limit", func(t *testing.T) { testLimit(t, make) })
	t.Run("resume", func(t *testing.T) { testResume(t, name, make) })
}

// testHostile runs three jobs with arguments of every kind.
func testHostile(t *testing.T, make maker) {
	dir := filepath.Join(t.TempDir(), `it's $(touch pwned) "100%A" x`)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	list := []Job{write(dir, "first", hostile...), write(dir, "second", "2"), write(dir, "third")}
	j := &journal{t: t}
	r := make(t, filepath.Join(dir, "run"))
	if err := r.Run(t.Context(), list, j.report); err != nil {
		t.Fatal(err)
	}
	for _, job := range list {
		if ray, ok := r.(*rayRunner); ok && !ray.o.Shared {
			// Only what came through the log has other permissions.
			if st, err := os.Stat(job.Result); err != nil || st.Mode().Perm() == 0o600 {
				t.Errorf("%s is what the node wrote: %v, %v", job.Name, st, err)
			}
		}
		b, err := os.ReadFile(job.Result)
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Join(append([]string{dir, job.Env["VALUE"]}, job.Argv[4:]...), "\x00") + "\x00"
		if string(b) != want {
			t.Errorf("%s got %q, want %q", job.Name, b, want)
		}
		log, err := os.ReadFile(filepath.Join(dir, "run", "logs", job.Name+".log"))
		if err != nil || !strings.Contains(string(log), "started "+job.Name) {
			t.Errorf("log of %s: %q, %v", job.Name, log, err)
		}
		if !j.has(job.Name, Running) && !j.has(job.Name, Done) {
			t.Errorf("events of %s: %v", job.Name, j.states(job.Name))
		}
	}
	for _, d := range []string{dir, ".", filepath.Join(dir, "run")} {
		if _, err := os.Stat(filepath.Join(d, "pwned")); err == nil {
			t.Errorf("a shell ran an argument in %s", d)
		}
	}
	before := len(j.events)
	if err := make(t, filepath.Join(dir, "run")).Run(t.Context(), list, j.report); err != nil {
		t.Fatal(err)
	}
	if len(j.events) != before+3 || len(starts(dir, "first")) != 1 {
		t.Errorf("a second run reported %v", j.events[before:])
	}
}

// testFailing: one job fails, the others are done; the same call runs it again.
func testFailing(t *testing.T, make maker) {
	dir := t.TempDir()
	list := []Job{script(dir, "bad", `echo no luck; exit 3`), script(dir, "empty", `exit 0`), write(dir, "good")}
	j := &journal{t: t}
	err := make(t, filepath.Join(dir, "run")).Run(t.Context(), list, j.report)
	if err == nil || !strings.Contains(err.Error(), "2 of 3 jobs failed") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("error is %v", err)
	}
	if !j.has("bad", Failed) || !j.has("empty", Failed) || !j.has("good", Done) {
		t.Errorf("events: %v", j.events)
	}
	log, _ := os.ReadFile(filepath.Join(dir, "run", "logs", "bad.log"))
	if !strings.Contains(string(log), "no luck") {
		t.Errorf("log: %q", log)
	}
	_ = make(t, filepath.Join(dir, "run")).Run(t.Context(), list, j.report)
	if n := len(starts(dir, "bad")); n != 2 {
		t.Errorf("the failed job was started %d times by two runs", n)
	}
}

// testCancel: what runs ends when the context does, and goes on in a later run.
func testCancel(t *testing.T, make maker) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	list := []Job{gated(dir, "long"), gated(dir, "other")}
	j := &journal{t: t, when: map[State]func(Event){Running: func(e Event) {
		until(t, "it runs", func() bool { return len(starts(dir, e.Job)) == 1 })
		cancel()
	}}}
	err := make(t, filepath.Join(dir, "run")).Run(ctx, list, j.report)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if !j.has("long", Cancelled) || !j.has("other", Cancelled) {
		t.Errorf("events: %v", j.events)
	}
	for _, pid := range append(starts(dir, "long"), starts(dir, "other")...) {
		until(t, "its process ended", func() bool { return !alive(pid) })
	}
	open(t, dir)
	if err := make(t, filepath.Join(dir, "run")).Run(t.Context(), list, j.report); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "run", "logs", "long.log"))
		other, _ := os.ReadFile(filepath.Join(dir, "run", "logs", "other.log"))
		t.Errorf("%v; logs:\n%s\n%s", err, log, other)
	}
}

// testKilled: a job whose process is killed is lost and runs again.
func testKilled(t *testing.T, make maker) {
	dir := t.TempDir()
	j := &journal{t: t, when: map[State]func(Event){Running: func(e Event) {
		until(t, "it runs", func() bool { return len(starts(dir, "victim")) == 1 })
		if err := syscall.Kill(starts(dir, "victim")[0], syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		open(t, dir)
	}}}
	if err := make(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "victim")}, j.report); err != nil {
		t.Error(err)
	}
	if !j.has("victim", Lost) || len(starts(dir, "victim")) != 2 {
		t.Errorf("events: %v, starts: %v", j.events, starts(dir, "victim"))
	}
}

// testLimit: a job that runs too long is ended and not tried again.
func testLimit(t *testing.T, make maker) {
	dir := t.TempDir()
	job := gated(dir, "slow")
	job.Limit = 2 * time.Second
	r := make(t, filepath.Join(dir, "run"))
	if r.Name() == "slurm" {
		t.Skip("Slurm's limits are whole minutes; TIMEOUT is tested with a fake")
	}
	j := &journal{t: t}
	err := r.Run(t.Context(), []Job{job}, j.report)
	if err == nil || !strings.Contains(err.Error(), "limit of 2s") || len(starts(dir, "slow")) != 1 {
		t.Errorf("error is %v", err)
	}
}

// testResume: this program is killed during a run; the next finds its job.
func testResume(t *testing.T, name string, make maker) {
	dir := t.TempDir()
	make(t, filepath.Join(dir, "run")) // sets the environment
	child := exe(t, "TestChild")
	child.Env = append(os.Environ(), "JOBS_CHILD="+name, "JOBS_CHILD_DIR="+dir)
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the child's job runs", func() bool { return len(starts(dir, "orphan")) == 1 })
	_ = child.Process.Kill()
	_ = child.Wait()
	j := &journal{t: t, when: map[State]func(Event){Running: func(Event) { open(t, dir) }}}
	if err := make(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "orphan")}, j.report); err != nil {
		t.Error(err)
	}
	if n := len(starts(dir, "orphan")); n != 1 {
		t.Errorf("the job was started %d times", n)
	}
}

// TestChild is the program that testResume kills.
func TestChild(t *testing.T) {
	dir := os.Getenv("JOBS_CHILD_DIR")
	var r Runner
	var err error
	folder := filepath.Join(dir, "run")
	switch os.Getenv("JOBS_CHILD") {
	case "":
		t.Skip("only as a child of a resume test")
	case "ray":
		r, err = Ray(RayOptions{Options: quick(folder), Shared: true})
	case "ray-unshared":
		r, err = Ray(RayOptions{Options: quick(folder)})
	case "slurm":
		r, err = Slurm(SlurmOptions{Options: quick(folder)})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Error(r.Run(t.Context(), []Job{gated(dir, "orphan")}, func(e Event) { fmt.Fprintln(os.Stderr, "child:", e.Job, e.State, e.Err) }))
}

// quick are options for a cluster on this machine.
func quick(folder string) Options {
	return Options{Folder: folder, Poll: 300 * time.Millisecond, Settle: 2 * time.Second, Patience: 2 * time.Minute}
}

// exe is this test program, to run one of its tests in another process.
func exe(t *testing.T, test string) *exec.Cmd {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exec.Command(path, "-test.run=^"+test+"$", "-test.v")
}
