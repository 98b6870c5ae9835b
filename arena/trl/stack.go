package trl

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/python"
)

// stack is an interpreter and what it has: the answer of arena_trl check.
type stack struct {
	Python   string            `json:"-"`
	Missing  []string          `json:"missing"`
	Versions map[string]string `json:"versions"`
	GPUs     []gpu             `json:"gpus"`
}

type gpu struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// findStack asks an interpreter what it has.
func findStack(ctx context.Context, exe string) (*stack, error) {
	dir, err := os.MkdirTemp("", "neuroseal-trl-")
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "creating a folder for the TRL engine")
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, python.Files()); err != nil {
		return nil, fault.Wrap(fault.General, err, "writing the Python side of the TRL engine")
	}
	var answer []byte
	p := process{args: []string{exe, "-m", "arena_trl", "check"}, env: environment(dir, 0), grace: grace, line: func(b []byte) { answer = slices.Clone(b) }}
	if err := p.run(ctx); err != nil {
		return nil, err
	}
	s := &stack{Python: exe}
	if err := json.Unmarshal(answer, s); err != nil {
		return nil, fault.Wrap(fault.General, err, "%s answered %q when asked for its packages", exe, answer)
	}
	if len(s.Missing) > 0 {
		return nil, fault.New(fault.General, "the TRL engine needs Python packages that %s lacks: %s", exe, strings.Join(s.Missing, ", ")).
			WithHint("%s -m pip install %s", exe, strings.Join(requirements(s.Missing), " "))
	}
	return s, nil
}

// interpreter finds a Python.
func interpreter(name string) (string, error) {
	if name == "" {
		name = os.Getenv("NEUROSEAL_PYTHON")
	}
	if name != "" {
		exe, err := exec.LookPath(name)
		if err != nil {
			return "", fault.Wrap(fault.Usage, err, "the Python interpreter %s", name).
				WithHint("name another one with --python or NEUROSEAL_PYTHON")
		}
		return filepath.Abs(exe)
	}
	bin := []string{"bin", "python"}
	if runtime.GOOS == "windows" {
		bin = []string{"Scripts", "python.exe"}
	}
	var tries []string
	if env := os.Getenv("VIRTUAL_ENV"); env != "" {
		tries = append(tries, filepath.Join(env, bin[0], bin[1]))
	}
	tries = append(tries, filepath.Join(".venv", bin[0], bin[1]), "python3", "python")
	for _, name := range tries {
		if exe, err := exec.LookPath(name); err == nil {
			return filepath.Abs(exe)
		}
	}
	return "", fault.New(fault.General, "the TRL engine needs Python 3.10 or newer, and there is none").
		WithHint("install Python, then: python3 -m venv .venv && .venv/bin/python -m pip install %s", strings.Join(requirements(nil), " "))
}

// requirements are what pip has to install: all, or those named.
func requirements(names []string) []string {
	all := python.Requirements()
	var out []string
	for name, spec := range all {
		if names == nil || slices.Contains(names, name) {
			out = append(out, spec)
		}
	}
	slices.Sort(out)
	return out
}

// launch is how a trial is started.
type launch struct {
	replicas int    // processes; 1: no launcher
	visible  string // GPUs that the process may see; "": as it is
}

// plan says how to use the GPUs: one replica on each while one holds the model
// and the batch can be divided, else one process that splits the model.
func plan(gpus []gpu, batch int, need int64, replicas int) launch {
	n := len(gpus)
	if replicas > 0 {
		return launch{replicas: replicas}
	}
	if n < 2 {
		return launch{replicas: 1}
	}
	least := slices.MinFunc(gpus, func(a, b gpu) int { return int(a.Bytes>>20 - b.Bytes>>20) }).Bytes
	if need > least/10*9 {
		return launch{replicas: 1} // device_map="auto" over all of them
	}
	for n > 1 && batch%n != 0 {
		n--
	}
	if n > 1 {
		return launch{replicas: n}
	}
	visible, _, _ := strings.Cut(os.Getenv("CUDA_VISIBLE_DEVICES"), ",")
	if visible == "" {
		visible = "0"
	}
	return launch{replicas: 1, visible: visible}
}
