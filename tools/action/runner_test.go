package action

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// composite is what the runner reads of an action.yml.
type composite struct {
	Inputs map[string]struct {
		Required bool
		Default  string
	}
	Outputs map[string]struct{ Value string }
	Runs    struct {
		Using string
		Steps []step
	}
}

type step struct {
	Name, ID, If, Uses, Shell, Run string
	Env, With                      map[string]string
}

// runner runs a composite action's steps as GitHub's runner does: expressions,
// shells, the files behind GITHUB_OUTPUT and its like, commands in the log.
type runner struct {
	action    string // folder of action.yml
	workspace string // working folder
	temp      string
	env       []string // the job's environment
	inputs    map[string]string
	preset    map[string]map[string]string // steps that do not run, and their outputs

	outputs  map[string]map[string]string // by step
	ran      []string                     // names of the steps that ran
	raw      string                       // all that the steps printed
	log      string                       // the same as the runner shows it: secrets masked
	masks    []string                     // secrets
	said     []string                     // annotations: "error: text"
	summary  string
	exitCode int
}

func newRunner(t *testing.T, inputs map[string]string) *runner {
	t.Helper()
	home := t.TempDir()
	r := &runner{action: repository(t), workspace: filepath.Join(home, "workspace"), temp: filepath.Join(home, "temp"), inputs: inputs}
	for _, dir := range []string{r.workspace, r.temp} {
		if err := os.Mkdir(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	// Or else the go command goes on writing there when it has ended.
	for _, config := range []string{".config", "Library/Application Support"} {
		telemetry := filepath.Join(home, config, "go", "telemetry")
		if err := errors.Join(os.MkdirAll(telemetry, 0o777), os.WriteFile(filepath.Join(telemetry, "mode"), []byte("off\n"), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	r.env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "HF_HOME=" + filepath.Join(home, "hf"), "LANG=C.UTF-8"}
	return r
}

// run runs the steps and returns the action's outputs.
func (r *runner) run(t *testing.T) map[string]string {
	t.Helper()
	a := readAction(t, r.action)
	for name := range r.inputs {
		if _, ok := a.Inputs[name]; !ok {
			t.Fatalf("the action has no input %s", name)
		}
	}
	// As on GitHub, required is not enforced.
	inputs := map[string]string{}
	for name, in := range a.Inputs {
		inputs[name] = in.Default
		if v, ok := r.inputs[name]; ok {
			inputs[name] = v
		}
	}
	r.inputs, r.outputs = inputs, map[string]map[string]string{}
	for i, s := range a.Runs.Steps {
		if preset, ok := r.preset[s.ID]; ok && s.ID != "" {
			r.outputs[s.ID] = preset
			continue
		}
		if !r.wanted(t, s.If) {
			continue
		}
		r.ran = append(r.ran, s.Name)
		if s.Uses != "" {
			t.Fatalf("step %s uses %s, which this runner does not have", s.Name, s.Uses)
		}
		code, outputs := r.runStep(t, i, s)
		if s.ID != "" {
			r.outputs[s.ID] = outputs
		}
		if code != 0 && r.exitCode == 0 {
			r.exitCode = code
		}
	}
	r.watch()
	out := map[string]string{}
	for name, o := range a.Outputs {
		out[name] = r.fill(t, o.Value)
	}
	return out
}

func (r *runner) wanted(t *testing.T, condition string) bool {
	if condition == "" {
		return r.exitCode == 0
	}
	always := strings.Contains(condition, "always()")
	return (always || r.exitCode == 0) && truthy(r.eval(t, condition))
}

func (r *runner) runStep(t *testing.T, n int, s step) (int, map[string]string) {
	t.Helper()
	if s.Shell != "bash" {
		t.Fatalf("step %s: shell %q", s.Name, s.Shell)
	}
	dir := filepath.Join(r.temp, fmt.Sprintf("_runner_%d", n))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		return path
	}
	env := append(slices.Clone(r.env),
		"GITHUB_ACTIONS=true", "CI=true", "GITHUB_WORKSPACE="+r.workspace, "RUNNER_TEMP="+r.temp, "GITHUB_ACTION_PATH="+r.action,
		"GITHUB_OUTPUT="+file("output", ""), "GITHUB_STEP_SUMMARY="+file("summary", ""), "GITHUB_ENV="+file("env", ""), "GITHUB_PATH="+file("path", ""))
	for name, value := range s.Env {
		env = append(env, name+"="+r.fill(t, value))
	}
	// The runner fills in expressions before the shell sees the script.
	cmd := exec.Command("bash", "--noprofile", "--norc", "-eo", "pipefail", file("script.sh", r.fill(t, s.Run)))
	var log bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = r.workspace, env, &log, &log
	err := cmd.Run()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	r.raw += log.String()
	for _, name := range []string{"env", "path"} {
		if text := read(t, filepath.Join(dir, name)); text != "" {
			t.Errorf("step %s changes the job's %s: %q", s.Name, name, text)
		}
	}
	r.summary += read(t, filepath.Join(dir, "summary"))
	return code, fileCommands(t, read(t, filepath.Join(dir, "output")))
}

// fileCommands reads what a step wrote to GITHUB_OUTPUT.
func fileCommands(t *testing.T, text string) map[string]string {
	t.Helper()
	out := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" {
			continue
		}
		eq, here := strings.Index(lines[i], "="), strings.Index(lines[i], "<<")
		if here < 0 || eq >= 0 && eq < here {
			if eq < 0 {
				t.Fatalf("output %q", lines[i])
			}
			out[lines[i][:eq]] = lines[i][eq+1:]
			continue
		}
		name, end := lines[i][:here], lines[i][here+2:]
		last := slices.Index(lines[i+1:], end)
		if last < 0 {
			t.Fatalf("output %s does not end", name)
		}
		out[name] = strings.Join(lines[i+1:i+1+last], "\n")
		i += 1 + last
	}
	return out
}

// command is a workflow command at the start of a line of the log.
var command = regexp.MustCompile(`^::([a-z0-9-]+)(?: ([^:]*))?::(.*)$`)

// watch reads the log as the runner does.
func (r *runner) watch() {
	stopped := ""
	unescape := strings.NewReplacer("%0A", "\n", "%0D", "\r", "%25", "%")
	var shown []string
	for line := range strings.Lines(r.raw) {
		line = strings.TrimRight(line, "\r\n")
		m := command.FindStringSubmatch(line)
		switch {
		case stopped != "":
			if m != nil && m[1] == stopped {
				stopped = ""
				continue
			}
		case m == nil:
		case m[1] == "stop-commands":
			stopped = m[3]
			continue
		case m[1] == "add-mask":
			r.masks = append(r.masks, unescape.Replace(m[3]))
			continue
		default:
			r.said = append(r.said, m[1]+": "+unescape.Replace(m[3]))
			line = unescape.Replace(m[3])
		}
		for _, secret := range r.masks {
			line = strings.ReplaceAll(line, secret, "***")
		}
		shown = append(shown, line)
	}
	r.log = strings.Join(shown, "\n")
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func readAction(t *testing.T, folder string) *composite {
	t.Helper()
	a := new(composite)
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(folder, "action.yml"))), a); err != nil {
		t.Fatal(err)
	}
	if a.Runs.Using != "composite" || len(a.Runs.Steps) == 0 {
		t.Fatal("action.yml is not a composite action")
	}
	return a
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return root
}
