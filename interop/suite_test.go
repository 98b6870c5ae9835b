//go:build interop

// Package interop_test lets the real transformers judge what the real command
// does to checkpoints that transformers wrote. README.md says how to run it.
package interop_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/neuroseal/neuroseal/keys"
)

// suite is what all tests share. It is nil where there is no Python.
var suite *shared

type shared struct {
	python  string
	command string // the neuroseal binary
	work    string // everything is made below this folder
	models  string // what make.py wrote: VARIANT/{fp32,bf16,fp16,sharded}
	key     string // a key file
	report  report
	made    sync.Once // the models are
	makeErr error

	Variants []string       `json:"variants"`
	FreeDims map[string]int `json:"free_dims"`
	Versions []string       `json:"versions"`
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

// run makes what the tests share, runs them, and cleans up.
func run(m *testing.M) int {
	python, err := findPython()
	if err != nil {
		fmt.Println("no interop suite:", err)
		return m.Run() // every test skips
	}
	work, err := os.MkdirTemp("", "neuroseal-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(work)
	s := &shared{python: python, work: work, models: filepath.Join(work, "models"), key: filepath.Join(work, "key")}
	if err := s.prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the interop suite:", err)
		return 1
	}
	suite = s
	code := m.Run()
	if path := os.Getenv("INTEROP_REPORT"); path != "" && code == 0 {
		if err := s.writeReport(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// needPython skips a test where there is no Python.
func needPython(t *testing.T) *shared {
	t.Helper()
	if suite == nil {
		_, err := findPython()
		t.Skip(err)
	}
	return suite
}

// need also makes the checkpoints, once.
func need(t *testing.T) *shared {
	t.Helper()
	s := needPython(t)
	s.made.Do(func() { s.makeErr = s.makeModels() })
	if s.makeErr != nil {
		t.Fatal(s.makeErr)
	}
	return s
}

// findPython returns an interpreter with the packages of requirements.txt.
func findPython() (string, error) {
	exe := os.Getenv("NEUROSEAL_PYTHON")
	if exe == "" {
		exe = filepath.Join("..", ".venv", "bin", "python")
		if runtime.GOOS == "windows" {
			exe = filepath.Join("..", ".venv", "Scripts", "python.exe")
		}
	}
	exe, err := exec.LookPath(exe)
	if err == nil {
		exe, err = filepath.Abs(exe)
	}
	if err == nil {
		err = exec.Command(exe, "-c", "import importlib.util as u; assert u.find_spec('torch') and u.find_spec('transformers')").Run()
	}
	if err != nil {
		return "", fmt.Errorf("no Python with torch and transformers (%w): make interop-venv installs one, NEUROSEAL_PYTHON names another", err)
	}
	return exe, nil
}

// everyVariant is a Python truth value: whether INTEROP_VARIANTS asks for all.
func everyVariant() string {
	if os.Getenv("INTEROP_VARIANTS") == "all" {
		return "True"
	}
	return "False"
}

// prepare builds the command.
func (s *shared) prepare() error {
	about := "import json, platform, families as f, importlib.metadata as m\n" +
		"v = [p + ' ' + m.version(p) for p in ('torch', 'transformers', 'safetensors', 'numpy')]\n" +
		"print(json.dumps({'variants': [v for v in f.VARIANTS if " + everyVariant() + " or v in f.USUAL], 'free_dims': f.FREE_DIMS, 'versions': ['Python ' + platform.python_version()] + v}))"
	out, err := s.runPython("-c", about)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, s); err != nil {
		return fmt.Errorf("%w in %s", err, out)
	}
	s.report.Versions = append(s.Versions, runtime.Version())
	s.report.Rows = map[string]*row{}
	if s.command = os.Getenv("NEUROSEAL_COMMAND"); s.command == "" {
		s.command = filepath.Join(s.work, "neuroseal.exe")
		build := exec.Command("go", "build", "-o", s.command, "../cmd/neuroseal")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building the command: %w\n%s", err, out)
		}
	}
	if err := keys.WriteKeyFile(s.key, keys.SealKey{7: 1, 20: 255}); err != nil {
		return err
	}
	return nil
}

// makeModels writes all variants, half of them in each of two processes.
func (s *shared) makeModels() error {
	return s.twice(func(half int) error {
		args := []string{"make.py", s.models}
		for i, name := range s.Variants {
			if i%2 == half {
				args = append(args, name)
			}
		}
		_, err := s.runPython(args...)
		return err
	})
}

// twice runs f(0) and f(1) at the same time.
func (s *shared) twice(f func(half int) error) error {
	second := make(chan error, 1)
	go func() { second <- f(1) }()
	return errors.Join(f(0), <-second)
}

// runPython runs the interpreter in this folder and returns its standard output.
// An exit status that is not 0 is an error, and the output is still returned.
func (s *shared) runPython(args ...string) ([]byte, error) {
	cmd := exec.Command(s.python, args...)
	// The models are far too small for several threads, and two processes run.
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1")
	return output(cmd)
}

// neuroseal runs the command and returns its standard output; it must succeed.
func (s *shared) neuroseal(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := output(exec.CommandContext(t.Context(), s.command, args...))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// output runs a command; its error holds what it printed to standard error.
func output(cmd *exec.Cmd) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("%s %s: %w\n%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), err
}

// folder is a checkpoint that make.py wrote.
func (s *shared) folder(variant, kind string) string { return filepath.Join(s.models, variant, kind) }

// families are the variants whose free dimensions are known, one a family.
func (s *shared) families() []string {
	var out []string
	for _, v := range s.Variants {
		if _, ok := s.FreeDims[v]; ok {
			out = append(out, v)
		}
	}
	return out
}

var profiles = []string{"portable", "strong", "max"}

// sealed is one seal of one checkpoint.
type sealed struct {
	variant, kind, profile string
	source, path           string
}

func (x sealed) name() string { return x.variant + "/" + x.kind + "/" + x.profile }

// plannedSeals lists what is sealed how: every bf16 folder with every profile,
// every fp32 folder with one profile in turn, and the other ways to store
// weights.
func (s *shared) plannedSeals() []sealed {
	var list []sealed
	add := func(variant, kind, profile string) {
		list = append(list, sealed{variant, kind, profile, s.folder(variant, kind),
			filepath.Join(s.work, "sealed", variant, kind+"-"+profile)})
	}
	for i, v := range s.Variants {
		for _, p := range profiles {
			add(v, "bf16", p)
		}
		add(v, "fp32", profiles[i%len(profiles)])
		for _, kind := range []string{"sharded", "fp16"} {
			if _, err := os.Stat(s.folder(v, kind)); err == nil {
				add(v, kind, "portable")
			}
		}
	}
	return list
}

// seals makes all seals, once.
func (s *shared) seals(t *testing.T) []sealed {
	t.Helper()
	list := s.plannedSeals()
	for _, x := range list {
		if _, err := os.Stat(x.path); err == nil {
			continue
		}
		s.neuroseal(t, "lock", x.source, x.path, "--profile", x.profile, "--key-file", s.key, "-q")
	}
	if kinds := len(slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, x := range list {
			if !yield(x.kind) {
				return
			}
		}
	}))); kinds != 4 {
		t.Fatalf("%d kinds of folders were sealed, want fp32, bf16, fp16 and sharded", kinds)
	}
	return list
}
