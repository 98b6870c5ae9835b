// Package action holds the scripts of the GitHub Action, action.yml, and the
// tests that run them as a runner does.
package action

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/neuroseal/neuroseal/internal/testspace"
	"github.com/neuroseal/neuroseal/keys"
)

// hostile are texts that do something wherever a shell, an expression or a
// workflow command takes them for more than text. What they do leaves a file
// named pwned-N, or has the runner obey a command.
var hostile = []string{
	`$(touch pwned-1)`,
	"`touch pwned-2`",
	`"; touch pwned-3; "`,
	`'; touch pwned-4; '`,
	`a && touch pwned-5 || touch pwned-6 | touch pwned-7 & touch pwned-8`,
	"two\nlines\ntouch pwned-9\n::error::pwned\n::set-output name=sealed_path::pwned",
	"lines\nEOF\nsealed_path=pwned\n",
	"--force",
	"-rf",
	`  spaces  and	tab  `,
	`模型-Ünïcode-🔒`,
	`*?[a-z]{1,2}~$HOME%PATH%\n\\`,
	"${{ inputs.token }}",
	"x > pwned-10",
	"::add-path::/pwned",
	"```\n# pwned",
}

var made = regexp.MustCompile(`^pwned(-[0-9]+)?$`)

var build struct {
	once sync.Once
	path string
	err  error
}

// TestMain removes the binary that the tests share.
func TestMain(m *testing.M) {
	testspace.Take()
	code := m.Run()
	if build.path != "" {
		_ = os.RemoveAll(filepath.Dir(build.path))
	}
	os.Exit(code)
}

// binary is the command, built once. It notes its arguments and what of its
// environment matters in the file that $RECORD names.
func binary(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the tests make file names that Windows does not allow; the workflow ci.yml runs the action there")
	}
	build.once.Do(func() {
		dir, err := os.MkdirTemp("", "action-test-")
		if err != nil {
			build.err = err
			return
		}
		build.path = filepath.Join(dir, "neuroseal")
		cmd := exec.Command("go", "build", "-o", build.path+".real", "./cmd/neuroseal")
		cmd.Dir, cmd.Env = repository(t), append(os.Environ(), "GOGC=400") // less time for more memory
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("%w: %s", err, out)
			return
		}
		script := "#!/bin/sh\n[ -z \"$RECORD\" ] || printf '%s\\0' \"$@\" \"HF_TOKEN=$HF_TOKEN\" >>\"$RECORD\"\nexec \"$0.real\" \"$@\"\n"
		build.err = os.WriteFile(build.path, []byte(script), 0o777)
	})
	if build.err != nil {
		t.Fatal(build.err)
	}
	return build.path
}

// actionRunner is a runner for the steps after those that get the binary.
func actionRunner(t *testing.T, inputs map[string]string) *runner {
	t.Helper()
	path := binary(t)
	r := newRunner(t, inputs)
	r.preset = map[string]map[string]string{"release": {"path": path}}
	return r
}

// model copies the demo model into the workspace under a name.
func model(t *testing.T, r *runner, name string) string {
	t.Helper()
	if err := os.CopyFS(filepath.Join(r.workspace, name), os.DirFS(filepath.Join(repository(t), "internal/demo/model"))); err != nil {
		t.Fatal(err)
	}
	return name
}

// unharmed fails if an input was executed, or a command in it obeyed, or a
// secret left behind.
func unharmed(t *testing.T, r *runner) {
	t.Helper()
	err := filepath.WalkDir(filepath.Dir(r.workspace), func(path string, d fs.DirEntry, err error) error {
		if err == nil && made.MatchString(d.Name()) {
			t.Errorf("%s was made: an input was executed", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range r.said {
		if kind, _, _ := strings.Cut(s, ":"); kind != "error" && kind != "warning" {
			t.Errorf("the runner obeyed %q", s)
		}
		if s == "error: pwned" {
			t.Error("the runner obeyed a command from an input")
		}
	}
	left, err := filepath.Glob(filepath.Join(r.temp, "neuroseal.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestSeals(t *testing.T) {
	r := actionRunner(t, nil)
	r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed/.//", "verify": "run"}
	out := r.run(t)
	unharmed(t, r)
	sealed := filepath.Join(r.workspace, "sealed")
	want := map[string]string{
		"sealed_path": sealed, "manifest": filepath.Join(sealed, "neuroseal_config.json"),
		"card": filepath.Join(sealed, "README.md"), "key_file": sealed + ".key",
	}
	for name, w := range want {
		if out[name] != w {
			t.Errorf("output %s is %q, want %q", name, out[name], w)
		} else if _, err := os.Stat(w); err != nil {
			t.Error(err)
		}
	}
	if r.exitCode != 0 || !slices.Equal(r.ran, []string{"Seal", "Verify"}) {
		t.Errorf("exit status %d after %v\n%s", r.exitCode, r.ran, r.log)
	}
	for _, part := range []string{"Sealed llama", "profile portable", "coverage: 100.0%", "Holes: none", "Bit-exact in: bf16, fp32", "**Limits.**", "neuroseal undo", "Verification", "forward"} {
		if !strings.Contains(r.summary, part) {
			t.Errorf("the summary lacks %q:\n%s", part, r.summary)
		}
	}
	if len(r.said) != 1 || !strings.Contains(r.said[0], "No input names a key") {
		t.Errorf("said %q", r.said)
	}
}

// TestHostilePaths: every such name is a good name for a folder.
func TestHostilePaths(t *testing.T) {
	for i, text := range hostile {
		if strings.Contains(text, "/") {
			continue
		}
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			r := actionRunner(t, nil)
			r.inputs = map[string]string{"model_path": model(t, r, text), "output_path": "out " + text}
			if strings.HasPrefix(text, "-") { // a name that begins with a dash, too
				r.inputs["output_path"] = text + text
			}
			out := r.run(t)
			unharmed(t, r)
			if want := filepath.Join(r.workspace, r.inputs["output_path"]); r.exitCode != 0 || out["sealed_path"] != want || out["manifest"] != want+"/neuroseal_config.json" {
				t.Errorf("exit status %d, sealed_path %q, want %q\n%s", r.exitCode, out["sealed_path"], want, r.raw)
			}
			if !strings.Contains(r.summary, "Verification") || strings.Contains(text, "```") && !strings.Contains(r.summary, "\n````text\n") {
				t.Errorf("summary: %s", r.summary)
			}
		})
	}
}

// TestHostileInputs: no such text is a profile, a key, a recipient …; each ends
// the step with a message, and nothing in it is executed.
func TestHostileInputs(t *testing.T) {
	for _, name := range []string{"model_path", "profile", "method", "scale", "recipients", "key", "sign", "verify", "push", "private", "token"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			texts := hostile
			if testing.Short() {
				texts = texts[:7] // the race detector sees nothing of what shells do
			}
			for _, text := range texts {
				r := actionRunner(t, nil)
				r.env = append(r.env, "HF_HUB_OFFLINE=1")
				r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed", "verify": "false", name: text}
				out := r.run(t)
				unharmed(t, r)
				if name == "token" {
					continue // one line without spaces may be a token, and is not needed here
				}
				if r.exitCode == 0 || len(r.said) == 0 {
					t.Errorf("%q: exit status %d, said %q\n%s", text, r.exitCode, r.said, r.log)
				}
				if name != "push" && out["sealed_path"] != "" {
					t.Errorf("%q: sealed %s", text, out["sealed_path"])
				}
			}
		})
	}
}

// TestFailures: what goes wrong is the step's message and exit status.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct {
		inputs map[string]string
		code   int
		said   string
	}{
		"no model":      {map[string]string{"model_path": ""}, 2, "input model_path is missing"},
		"no output":     {map[string]string{"output_path": ""}, 2, "input output_path is missing"},
		"profile":       {map[string]string{"profile": "weak"}, 2, "weak"},
		"scale":         {map[string]string{"scale": "many"}, 2, "many"},
		"output exists": {map[string]string{"output_path": "model"}, 2, "model"},
		"output above":  {map[string]string{"output_path": "a/.."}, 2, "name the folder itself"},
		"no such model": {map[string]string{"model_path": "./nothing"}, 1, "nothing"},
		"sealed twice":  {map[string]string{"model_path": "sealed-before"}, 11, "sealed"},
		"recipient":     {map[string]string{"recipients": "age1nobody"}, 2, "recipients"},
		"secret shared": {map[string]string{"recipients": "AGE-SECRET-KEY-1QQQ"}, 2, "secret key"},
		"key":           {map[string]string{"key": "not a key"}, 12, "not a seal key"},
		"verify":        {map[string]string{"verify": "perhaps"}, 2, `input verify is "perhaps"`},
		"private":       {map[string]string{"private": "yes"}, 2, `input private is "yes"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := actionRunner(t, nil)
			r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed"}
			if c.inputs["model_path"] == "sealed-before" {
				cmd := exec.Command(binary(t), "lock", "model", "sealed-before")
				cmd.Dir = r.workspace
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			for k, v := range c.inputs {
				r.inputs[k] = v
			}
			r.run(t)
			unharmed(t, r)
			if r.exitCode != c.code || len(r.said) != 1 || !strings.HasPrefix(r.said[0], "error: ") || !strings.Contains(r.said[0], c.said) {
				t.Errorf("exit status %d, want %d; said %q, want %q\n%s", r.exitCode, c.code, r.said, c.said, r.log)
			}
			if !strings.Contains(r.summary, "NeuroSeal failed") {
				t.Errorf("summary: %s", r.summary)
			}
		})
	}
}

// TestCommandsInOutput: what the command prints, which may come from a model's
// files, is text to the runner, whatever it looks like.
func TestCommandsInOutput(t *testing.T) {
	r := actionRunner(t, nil)
	r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed"}
	wrapper := filepath.Join(filepath.Dir(r.workspace), "neuroseal")
	script := "#!/bin/sh\nprintf '::error::pwned\\n::add-mask::sealed\\n' >&2\n" + binary(t) + " \"$@\" || exit\nprintf '::error::pwned\\n::stop-commands::x\\n'\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o777); err != nil {
		t.Fatal(err)
	}
	r.preset["release"]["path"] = wrapper
	r.run(t)
	unharmed(t, r)
	if r.exitCode != 0 || len(r.masks) > 0 || len(r.said) != 1 || !strings.Contains(r.log, "::error::pwned") {
		t.Errorf("exit status %d, masks %q, said %q\n%s", r.exitCode, r.masks, r.said, r.raw)
	}
}

// TestVerificationFails: a sealed model that is not the original's ends the
// action before it is published.
func TestVerificationFails(t *testing.T) {
	r := actionRunner(t, nil)
	r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed", "push": "ann/model"}
	real := binary(t)
	wrapper := filepath.Join(filepath.Dir(r.workspace), "neuroseal")
	script := "#!/bin/sh\nif [ \"$1\" = verify ]; then printf x | dd of=sealed/model.safetensors bs=1 seek=1500000 conv=notrunc 2>/dev/null; fi\nexec " + real + " \"$@\"\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o777); err != nil {
		t.Fatal(err)
	}
	r.preset["release"]["path"] = wrapper
	r.run(t)
	if r.exitCode != 13 || slices.Contains(r.ran, "Publish") || !strings.Contains(strings.Join(r.said, "\n"), "is not what was sealed") {
		t.Errorf("exit status %d after %v, said %q", r.exitCode, r.ran, r.said)
	}
}

// TestSameBytes: the same key, input and time give the same model.
func TestSameBytes(t *testing.T) {
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := keys.WriteKeyFile(keyFile, keys.NewSealKey()); err != nil {
		t.Fatal(err)
	}
	var manifests []string
	for range 2 {
		r := actionRunner(t, nil)
		r.env = append(r.env, "SOURCE_DATE_EPOCH=1700000000")
		r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed", "key": read(t, keyFile), "scale": "50"}
		out := r.run(t)
		if r.exitCode != 0 {
			t.Fatal(r.log)
		}
		manifests = append(manifests, read(t, out["manifest"]))
	}
	if manifests[0] != manifests[1] {
		t.Error("two runs differ")
	}
	var m struct{ Scale float64 }
	if err := json.Unmarshal([]byte(manifests[0]), &m); err != nil || m.Scale != 50 {
		t.Errorf("scale %v %v", m.Scale, err)
	}
}

// TestOriginalMethods: the original tool's methods round, and pass for what
// they are.
func TestOriginalMethods(t *testing.T) {
	r := actionRunner(t, nil)
	r.inputs = map[string]string{"model_path": model(t, r, "model"), "output_path": "sealed", "method": "static", "scale": "100.0", "verify": "run"}
	out := r.run(t)
	if r.exitCode != 0 || out["key_file"] != "" || !strings.Contains(r.summary, "not exact: method static rounds") {
		t.Errorf("exit status %d, key_file %q\n%s\n%s", r.exitCode, out["key_file"], r.summary, r.log)
	}
}

// TestModelFile: a model in one file has its manifest beside it.
func TestModelFile(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(repository(t), "onnx/testdata/*.onnx"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no ONNX model: %v", err)
	}
	r := actionRunner(t, map[string]string{"model_path": files[0], "output_path": "sealed.onnx", "verify": "true"})
	out := r.run(t)
	unharmed(t, r)
	want := filepath.Join(r.workspace, "sealed.onnx")
	if r.exitCode != 0 || out["sealed_path"] != want || out["manifest"] != want+".neuroseal.json" || out["card"] != "" {
		t.Errorf("exit status %d, outputs %q\n%s", r.exitCode, out, r.log)
	}
}

// TestInputs: a step hands an input over under its own name, and no script or
// step holds an expression.
func TestInputs(t *testing.T) {
	a := readAction(t, repository(t))
	used := map[string]bool{}
	for _, s := range a.Runs.Steps {
		if strings.Contains(s.Run, "${{") || strings.Contains(s.Run, "inputs.") {
			t.Errorf("step %s: an expression in a script", s.Name)
		}
		for name, value := range s.Env {
			if input, ok := strings.CutPrefix(name, "INPUT_"); ok {
				input = strings.ToLower(input)
				if value != "${{ inputs."+input+" }}" {
					t.Errorf("step %s: %s is %s", s.Name, name, value)
				}
				used[input] = true
			}
		}
	}
	for name := range a.Inputs {
		if !used[name] {
			t.Errorf("input %s reaches no script", name)
		}
	}
	for _, name := range []string{"model_path", "output_path", "token"} { // the original's
		if _, ok := a.Inputs[name]; !ok {
			t.Errorf("no input %s", name)
		}
	}
	scripts, err := filepath.Glob("*.sh")
	if err != nil || len(scripts) < 5 {
		t.Fatal(scripts, err)
	}
	sets := regexp.MustCompile(`(?m)^set -euo pipefail$`)
	for _, path := range scripts {
		if path != "runner.sh" && !sets.MatchString(read(t, path)) {
			t.Errorf("%s: no set -euo pipefail", path)
		}
	}
}
