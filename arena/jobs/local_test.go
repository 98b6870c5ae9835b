//go:build linux

package jobs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestLocalBounds: what runs together stays within each bound.
func TestLocalBounds(t *testing.T) {
	for name, c := range map[string]struct {
		o    LocalOptions
		most int
	}{
		"parallel":   {LocalOptions{Parallel: 2, CPUs: 100}, 2},
		"processors": {LocalOptions{CPUs: 6}, 3},
		"memory":     {LocalOptions{CPUs: 100, Memory: 35}, 3},
		"devices":    {LocalOptions{CPUs: 100, Devices: []string{"0", "GPU-x"}}, 2},
		"alone":      {LocalOptions{CPUs: 1}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.o.Options = quick(filepath.Join(dir, "run"))
			var list []Job
			for i := range 6 {
				j := script(dir, fmt.Sprint("j", i), `sleep 0.02; echo "device $CUDA_VISIBLE_DEVICES" >"$R"`)
				j.CPUs, j.Memory = 2, 10
				if len(c.o.Devices) > 0 {
					j.GPUs = 1
				}
				list = append(list, j)
			}
			var mu sync.Mutex
			now, most := 0, 0
			err := Local(c.o).Run(t.Context(), list, func(e Event) {
				mu.Lock()
				defer mu.Unlock()
				switch e.State {
				case Running:
					now++
					most = max(most, now)
				case Done:
					now--
				}
			})
			if err != nil || most > c.most {
				t.Errorf("%d at a time, want at most %d; %v", most, c.most, err)
			}
			b, _ := os.ReadFile(list[5].Result)
			if got := strings.TrimSpace(string(b)); len(c.o.Devices) > 0 && got != "device 0" && got != "device GPU-x" {
				t.Errorf("the job saw %q", got)
			}
		})
	}
}

// TestLocalTooLarge: what can never run here fails, and the rest runs.
func TestLocalTooLarge(t *testing.T) {
	dir := t.TempDir()
	large, many := write(dir, "large"), write(dir, "many")
	large.Memory, many.GPUs = 2<<30, 1
	j := &journal{t: t}
	err := Local(LocalOptions{Options: quick(filepath.Join(dir, "run")), Memory: 1 << 30}).
		Run(t.Context(), []Job{large, many, write(dir, "fits")}, j.report)
	if err == nil || !j.has("large", Failed) || !j.has("many", Failed) || !j.has("fits", Done) {
		t.Errorf("events %v, error %v", j.events, err)
	}
	if !strings.Contains(fault.HintOf(err), "--on ray") {
		t.Errorf("hint %q", fault.HintOf(err))
	}
}

// TestLocalLeftovers: nothing that a job started outlives it.
func TestLocalLeftovers(t *testing.T) {
	dir := t.TempDir()
	job := script(dir, "parent", `sleep 1000 & echo $! >>"$STARTS"; echo ok >"$R"`)
	if err := Local(LocalOptions{Options: quick(filepath.Join(dir, "run"))}).Run(t.Context(), []Job{job}, nil); err != nil {
		t.Fatal(err)
	}
	until(t, "its child ended", func() bool { return !alive(starts(dir, "parent")[1]) })
}

// TestLocalStubborn: a process that ignores the request to end is killed.
func TestLocalStubborn(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the grace period")
	}
	dir := t.TempDir()
	job := script(dir, "stubborn", `trap '' TERM; while :; do sleep 0.1; done`)
	job.Limit = 100 * time.Millisecond
	err := Local(LocalOptions{Options: quick(filepath.Join(dir, "run"))}).Run(t.Context(), []Job{job}, nil)
	if err == nil || !strings.Contains(err.Error(), "longer than its limit") {
		t.Errorf("error is %v", err)
	}
	if pids := starts(dir, "stubborn"); len(pids) != 1 || alive(pids[0]) {
		t.Errorf("processes %v", pids)
	}
}

// TestLocalNoCommand: a command that is not there fails, and is not tried again.
func TestLocalNoCommand(t *testing.T) {
	dir := t.TempDir()
	job := Job{Name: "a", Argv: []string{filepath.Join(dir, "none")}, Result: filepath.Join(dir, "r")}
	j := &journal{t: t}
	err := Local(LocalOptions{Options: quick(filepath.Join(dir, "run"))}).Run(t.Context(), []Job{job}, j.report)
	if err == nil || fmt.Sprint(j.states("a")) != "[failed]" {
		t.Errorf("%v, %v", j.states("a"), err)
	}
}
