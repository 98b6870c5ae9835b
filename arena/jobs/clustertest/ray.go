//go:build interop && linux

package clustertest

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ray starts real Ray nodes on this machine, each with "ray start --block"
// in a session of its own, so that it can be killed without touching others.
type Ray struct {
	ray, temp   string
	gcs, web    int
	environment []string
}

// NewRay prepares nodes that ask for a token of this test's own, or for none. It
// sets RAY_ADDRESS to the address of the head, which Head starts, and skips the
// test where NEUROSEAL_RAY names no ray.
func NewRay(t *testing.T, token bool) *Ray {
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
		if err := os.WriteFile(path, []byte(rand.Text()), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("RAY_AUTH_MODE", "token")
		t.Setenv("RAY_AUTH_TOKEN_PATH", path)
	}
	n := &Ray{ray: ray, temp: temp, gcs: freePort(t), web: freePort(t)}
	n.environment = append(os.Environ(), "RAY_USAGE_STATS_ENABLED=0", "RAY_ADDRESS=", "RAY_health_check_period_ms=500",
		"RAY_health_check_failure_threshold=8")
	t.Setenv("RAY_ADDRESS", fmt.Sprintf("http://127.0.0.1:%d", n.web))
	return n
}

// node starts a node and returns what kills it.
func (n *Ray) node(t *testing.T, args ...string) (kill func()) {
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

// Head starts the head node and waits for its Jobs API.
func (n *Ray) Head(t *testing.T, cpus int) (kill func()) {
	t.Helper()
	kill = n.node(t, "--head", fmt.Sprintf("--port=%d", n.gcs), "--dashboard-host=127.0.0.1", fmt.Sprintf("--dashboard-port=%d", n.web),
		fmt.Sprintf("--num-cpus=%d", cpus), "--temp-dir="+n.temp, "--object-store-memory=100000000",
		// Another package's test may have a head here, too.
		fmt.Sprintf("--dashboard-agent-listen-port=%d", freePort(t)), fmt.Sprintf("--ray-client-server-port=%d", freePort(t)))
	Until(t, "the Jobs API answers", func() bool {
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

// Worker starts a node without a head, once there is one.
func (n *Ray) Worker(t *testing.T) (kill func()) {
	t.Helper()
	return n.node(t, fmt.Sprintf("--address=127.0.0.1:%d", n.gcs), "--num-cpus=2", "--object-store-memory=100000000",
		// Two nodes of one machine; the default is the head's.
		fmt.Sprintf("--dashboard-agent-listen-port=%d", freePort(t)))
}
