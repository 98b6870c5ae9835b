//go:build interop && linux

package jobs

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// rayNodes starts real Ray nodes on this machine, each with "ray start --block"
// in a session of its own, so that it can be killed without touching others.
type rayNodes struct {
	ray, temp   string
	gcs, web    int
	environment []string
}

// newRay prepares nodes that ask for a token of this test's own, or for none.
func newRay(t *testing.T, token bool) *rayNodes {
	t.Helper()
	ray := os.Getenv("NEUROSEAL_RAY")
	if ray == "" || ray == "none" {
		t.Skip("NEUROSEAL_RAY does not name a ray executable; interop/ray.sh installs one")
	}
	temp, err := os.MkdirTemp("", "nsray") // short: Ray's socket paths have a limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(temp) })
	for _, env := range []string{"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS"} {
		t.Setenv(env, "")
	}
	t.Setenv("RAY_AUTH_MODE", "disabled")
	if token {
		path := filepath.Join(temp, "token")
		if err := os.WriteFile(path, []byte(randomName(16)), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("RAY_AUTH_MODE", "token")
		t.Setenv("RAY_AUTH_TOKEN_PATH", path)
	}
	n := &rayNodes{ray: ray, temp: temp, gcs: freePort(t), web: freePort(t)}
	n.environment = append(os.Environ(), "RAY_USAGE_STATS_ENABLED=0", "RAY_ADDRESS=", "RAY_health_check_period_ms=500",
		"RAY_health_check_failure_threshold=3")
	t.Setenv("RAY_ADDRESS", fmt.Sprintf("http://127.0.0.1:%d", n.web))
	return n
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// node starts a node and returns what kills it.
func (n *rayNodes) node(t *testing.T, args ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command(n.ray, append([]string{"start", "--block", "--disable-usage-stats"}, args...)...)
	cmd.Env = n.environment
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	up := make(chan struct{})
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			if strings.Contains(s.Text(), "Ray runtime started") {
				close(up)
			}
		}
	}()
	killed := false
	kill = func() {
		if killed {
			return
		}
		killed = true
		killTree(t, cmd.Process.Pid)
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	select {
	case <-up:
	case <-time.After(2 * time.Minute):
		t.Fatal("the Ray node did not start")
	}
	return kill
}

// killTree kills a process and all that descend from it, by their ids. The jobs
// are killed by Ray's own watchers when their supervisors are gone.
func killTree(t *testing.T, root int) {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		var pid, parent int
		after := strings.LastIndexByte(string(b), ')')
		fmt.Sscanf(string(b), "%d", &pid)
		var state string
		if _, err := fmt.Sscanf(string(b)[after+1:], "%s %d", &state, &parent); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	var visit func(int)
	visit = func(pid int) {
		// The watcher that kills a job's processes must live on.
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if strings.Contains(string(cmdline), "while kill -s 0") {
			return
		}
		for _, c := range children[pid] {
			visit(c)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	visit(root)
}

// head starts the head node and waits for its Jobs API.
func (n *rayNodes) head(t *testing.T, cpus int) (kill func()) {
	t.Helper()
	kill = n.node(t, "--head", fmt.Sprintf("--port=%d", n.gcs), "--dashboard-host=127.0.0.1", fmt.Sprintf("--dashboard-port=%d", n.web),
		fmt.Sprintf("--num-cpus=%d", cpus), "--temp-dir="+n.temp, "--object-store-memory=100000000")
	until(t, "the Jobs API answers", func() bool {
		// 401: without a token; the Jobs API may need a moment more.
		resp, err := http.Get(os.Getenv("RAY_ADDRESS") + "/api/jobs/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusUnauthorized
	})
	return kill
}

func (n *rayNodes) worker(t *testing.T) (kill func()) {
	t.Helper()
	return n.node(t, fmt.Sprintf("--address=127.0.0.1:%d", n.gcs), "--num-cpus=2", "--object-store-memory=100000000",
		// Two nodes of one machine; the default is the head's.
		fmt.Sprintf("--dashboard-agent-listen-port=%d", freePort(t)))
}

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
	n := newRay(t, true)
	kill := n.head(t, 2)
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
			n.head(t, 2)
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
	n := newRay(t, false)
	kill := n.head(t, 2)
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
	n.head(t, 2)
	if err := r.Run(t.Context(), list, j.report); err != nil {
		t.Error(err)
	}
}

// TestRayNodeDies: the worker node under a job is killed; the job runs again on
// another one.
func TestRayNodeDies(t *testing.T) {
	n := newRay(t, false)
	n.head(t, 0)
	kill := n.worker(t)
	for _, shared := range []bool{true, false} {
		dir := t.TempDir()
		j := &journal{t: t, when: map[State]func(Event){Running: func(Event) {
			until(t, "it runs", func() bool { return len(starts(dir, "mover")) == 1 })
			kill()
			open(t, dir)
			kill = n.worker(t)
		}}}
		if err := rayRunnerFor(shared)(t, filepath.Join(dir, "run")).Run(t.Context(), []Job{gated(dir, "mover")}, j.report); err != nil {
			t.Error(err)
		}
		if !j.has("mover", Lost) || len(starts(dir, "mover")) != 2 {
			t.Errorf("events: %v, starts %v", j.events, starts(dir, "mover"))
		}
	}
}
