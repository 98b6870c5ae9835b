//go:build interop

// Package python_test lets pip, transformers' Trainer, TRL and PEFT judge the
// wheels and the Python module.
package python_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// python finds an interpreter that has a module, or skips the test.
func python(t *testing.T, module string) string {
	t.Helper()
	exe := os.Getenv("NEUROSEAL_PYTHON")
	if exe == "" {
		exe = filepath.Join("..", "..", ".venv", "bin", "python")
		if runtime.GOOS == "windows" {
			exe = filepath.Join("..", "..", ".venv", "Scripts", "python.exe")
		}
	}
	find := "import importlib.util as u, sys; sys.exit(u.find_spec('" + module + "') is None)"
	if out, err := exec.Command(exe, "-c", find).CombinedOutput(); err != nil {
		t.Skipf("no Python with %s (%v %s): make interop-venv installs one, NEUROSEAL_PYTHON names another", module, err, out)
	}
	return exe
}

// build makes the command as a release does.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "neuroseal")
	if runtime.GOOS == "windows" {
		path += ".exe"
	}
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "../../cmd/neuroseal")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1", "GOARM64=v8.0")
	run(t, cmd)
	return path
}

// run runs a program, which must succeed, and returns its standard output.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String()
}

// TestTrainer: see trainer.py.
func TestTrainer(t *testing.T) {
	exe := python(t, "trl")
	command := os.Getenv("NEUROSEAL_COMMAND")
	if command == "" {
		command = build(t)
	}
	module, err := filepath.Abs(filepath.Join("..", "..", "python"))
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	for _, part := range []struct {
		name   string
		before []string
		checks int // how many there are at least
	}{
		{"first", nil, 24},
		{"second", nil, 13},
		{"ranks", []string{"-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"}, 3},
	} {
		t.Run(part.name, func(t *testing.T) {
			cmd := exec.Command(exe, append(part.before, "trainer.py", part.name, work)...)
			cmd.Env = append(os.Environ(), "NEUROSEAL_COMMAND="+command, "PYTHONPATH="+module, "PYTHONDONTWRITEBYTECODE=1",
				"OMP_NUM_THREADS=1", "HF_HUB_OFFLINE=1")
			checks(t, run(t, cmd), part.checks)
		})
		if t.Failed() {
			return // the second part goes on where the first one stopped
		}
	}
}

// checks reads what the script found.
func checks(t *testing.T, out string, least int) {
	t.Helper()
	n := 0
	for line := range strings.Lines(out) {
		var c struct {
			Check  string
			OK     bool
			Detail json.RawMessage
		}
		if json.Unmarshal([]byte(line), &c) != nil || c.Check == "" {
			continue // the Trainer's own words
		}
		n++
		if !c.OK {
			t.Errorf("%s: %s", c.Check, c.Detail)
		}
	}
	if n < least {
		t.Errorf("%d checks, at least %d were to be made:\n%s", n, least, out)
	}
}

// TestWheel: pip installs the wheel for this platform, the command and the
// module work, and after pip uninstall everything is as before.
func TestWheel(t *testing.T) {
	exe := python(t, "venv")
	binary, dir := build(t), t.TempDir()
	wheel := exec.Command("go", "run", "./tools/wheel", "-out", dir, binary)
	wheel.Dir = filepath.Join("..", "..")
	path := strings.TrimSpace(run(t, wheel))

	venv := filepath.Join(dir, "venv")
	run(t, exec.Command(exe, "-m", "venv", venv))
	before := listing(t, venv)
	bin := filepath.Join(venv, "bin")
	if runtime.GOOS == "windows" {
		bin = filepath.Join(venv, "Scripts")
	}
	py := filepath.Join(bin, "python")
	pip := func(args ...string) string {
		return run(t, exec.Command(py, append([]string{"-m", "pip"}, args...)...))
	}
	pip("install", "--quiet", "--no-index", "--disable-pip-version-check", path)
	pip("check")

	want := run(t, exec.Command(binary, "version"))
	clean := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "NEUROSEAL_COMMAND=") || strings.HasPrefix(v, "PYTHONPATH=")
	})
	for _, how := range [][]string{{filepath.Join(bin, "neuroseal")}, {py, "-m", "neuroseal"}} {
		cmd := exec.Command(how[0], append(how[1:], "version")...)
		cmd.Env = clean
		if got := run(t, cmd); got != want {
			t.Errorf("%v version: %q, want %q", how, got, want)
		}
	}
	fails := exec.Command(filepath.Join(bin, "neuroseal"), "verify", dir)
	fails.Env = clean
	if fails.Run(); fails.ProcessState.ExitCode() != 10 {
		t.Errorf("the console script exits with %d, want 10 (not sealed)", fails.ProcessState.ExitCode())
	}
	cmd := exec.Command(py, "-c", moduleTest, filepath.Join("..", "..", "internal", "demo", "model"), dir)
	cmd.Env = clean
	run(t, cmd)

	pip("uninstall", "--quiet", "--yes", "neuroseal")
	if after := listing(t, venv); !slices.Equal(before, after) {
		t.Errorf("left behind or gone: %v and %v", after, before)
	}
}

// moduleTest uses what was installed: every option that the functions name is the
// command's; a round with a password, which a wrong one does not open.
const moduleTest = `
import inspect, os, re, subprocess, sys, neuroseal
model, out = sys.argv[1], sys.argv[2]
assert neuroseal.command().startswith(sys.prefix), neuroseal.command()
assert neuroseal.version()["version"] == neuroseal.__version__
other = {"recipients": "recipient", "recipients_files": "recipients-file", "registry_recipients": "registry-recipient", "identities": "identity"}
for verb in ("lock", "unlock", "verify", "inspect", "undo"):
    help = subprocess.run([neuroseal.command(), verb, "--help"], stdout=subprocess.PIPE, check=True).stdout.decode()
    for name in list(inspect.signature(getattr(neuroseal, verb)).parameters):
        if name not in ("src", "dst", "sealed", "path", "progress", "extra"):
            flag = "--" + other.get(name, name.replace("_", "-"))
            assert re.search(flag + r"\b", help), (verb, flag)
sealed = neuroseal.lock(model, out + "/-sealed", profile="max", password="p\r\n")
assert sealed.seal_id and sealed.keyslots and sealed.key_file is None and sealed.coverage > 0.9
assert neuroseal.verify(sealed.output, against=model, run=True).bit_exact_forward
try:
    neuroseal.unlock(sealed.output, out + "/no", password="p")
    raise SystemExit("a wrong password opened the seal")
except neuroseal.WrongKey as e:
    assert e.code == 12 and not os.path.exists(out + "/no")
assert neuroseal.unlock(sealed.output, out + "/back", password="p\r\n").exact
assert neuroseal.inspect(sealed.output).sealed
try:
    neuroseal.lock(sealed.output, out + "/again")
    raise SystemExit("sealed twice")
except neuroseal.AlreadySealed as e:
    assert e.hint
`

// listing names the files below a folder, but for those that Python compiles.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err == nil && !strings.HasSuffix(p, ".pyc") && d.Name() != "__pycache__" {
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
