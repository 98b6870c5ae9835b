//go:build unix

package trl

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/arena"
)

// fakeMode is the environment variable that turns the test binary into a Python
// that behaves as its value says.
const fakeMode = "NEUROSEAL_TEST_FAKE_PYTHON"

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeMode); mode != "" {
		os.Exit(fakePython(mode, os.Args[1:]))
	}
	os.Exit(m.Run())
}

func fakePython(mode string, args []string) int {
	switch {
	case slices.Contains(args, "sleep"):
		time.Sleep(time.Minute)
		return 0
	case slices.Contains(args, "check"):
		return fakeCheck(mode)
	}
	i := slices.Index(args, "run")
	if i < 0 || len(args) != i+3 || !slices.Contains(args, "arena_trl") {
		fmt.Fprintln(os.Stderr, "unexpected arguments", args)
		return 2
	}
	return fakeRun(mode, args, args[i+1], args[i+2])
}

func fakeCheck(mode string) int {
	if mode == "broken" {
		fmt.Fprintln(os.Stderr, "Traceback (most recent call last):\nImportError: libtorch.so: no such file")
		return 1
	}
	missing := []string{}
	if mode == "missing" {
		missing = []string{"peft", "trl"}
	}
	raw, _ := json.Marshal(map[string]any{"missing": missing, "versions": map[string]string{"python": "3"}, "gpus": []any{}})
	fmt.Println(string(raw))
	return 0
}

func fakeRun(mode string, args []string, task, result string) int {
	raw, err := os.ReadFile(task)
	var t struct {
		arena.Task
		Data map[string]string
	}
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	// The Python side must be there.
	if _, err := os.Stat(filepath.Join(strings.Split(os.Getenv("PYTHONPATH"), string(os.PathListSeparator))[0], "arena_trl", "__main__.py")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	write := func(text string) { _ = os.WriteFile(result, []byte(text), 0o666) }
	switch mode {
	case "crash":
		fmt.Fprintf(os.Stderr, "Traceback:\n%s\ntorch.OutOfMemoryError: CUDA out of memory\n", strings.Repeat("x", 3*tailLimit))
		return 1
	case "killed":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	case "nothing":
	case "garbage":
		write("<html>")
	case "impossible":
		write(`{"status":"impossible","reason":"PEFT's boft: no"}`)
	case "hang", "stubborn":
		return hang(mode, result)
	case "launch":
		write(fmt.Sprintf(`{"status":"impossible","reason":%q}`, strings.Join(args, " ")))
	default:
		fmt.Println("a library says something")
		for s := range t.Trial.Steps {
			fmt.Printf("{\"step\": %d, \"loss\": %s}\n", s+1, []string{"2.5", "null"}[s%2])
		}
		write(goodResult(t.Trial))
	}
	return 0
}

// hang starts a child and waits; the stubborn one does not hear SIGTERM.
func hang(mode, result string) int {
	if mode == "stubborn" {
		signal.Ignore(syscall.SIGTERM)
	}
	child := exec.Command(os.Args[0], "sleep")
	if err := child.Start(); err != nil {
		return 1
	}
	fmt.Printf("{\"step\": %d, \"loss\": 1}\n", child.Process.Pid)
	time.Sleep(time.Minute)
	return 0
}

func goodResult(t arena.Trial) string {
	r := arena.NewResult(t)
	r.ID, r.Steps, r.Seconds, r.Versions["trl"] = "", t.Steps, 1.5, "1"
	for range t.Steps {
		r.Losses = append(r.Losses, 2.5)
	}
	for _, s := range t.EvalSteps() {
		r.Evals = append(r.Evals, arena.Eval{Step: s, Target: 2, Retained: 1})
	}
	raw, _ := json.Marshal(r)
	return string(raw)
}
