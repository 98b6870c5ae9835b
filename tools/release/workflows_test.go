package release

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

const root = "../.."

// workflow is what the rules below are about.
type workflow struct {
	Name        string
	Permissions any
	Jobs        map[string]struct {
		Uses        string
		Permissions map[string]string
		Steps       []step
	}
}

type step struct {
	Name, Uses, Run string
	With            map[string]any
}

func workflows(t *testing.T) map[string]*workflow {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no workflows: %v", err)
	}
	out := map[string]*workflow{}
	for _, path := range files {
		w := new(workflow)
		if err := yaml.Unmarshal([]byte(read(t, path)), w); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out[filepath.Base(path)] = w
	}
	return out
}

// pinned is a foreign action at a commit, with its version for the reader.
var pinned = regexp.MustCompile(`^\s*(?:- )?uses: [\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)

// TestPinned: what others can move is not run. Our own action is named by its tag.
func TestPinned(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	at := map[string]string{}
	for _, path := range append(files, filepath.Join(root, "action.yml")) {
		for line := range strings.Lines(read(t, path)) {
			line = strings.TrimRight(line, "\n")
			text := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- "))
			name, ok := strings.CutPrefix(text, "uses: ")
			if !ok || strings.HasPrefix(name, "./") || strings.HasPrefix(name, "neuroseal/neuroseal@v") {
				continue
			}
			if !pinned.MatchString(line) {
				t.Errorf("%s: %s: not a commit with its version as a comment", path, text)
			}
			action, commit, _ := strings.Cut(name, "@")
			if other, seen := at[action]; seen && other != commit {
				t.Errorf("%s: %s is %s elsewhere", path, text, other)
			}
			at[action] = commit
		}
	}
}

// TestPermissions: a workflow has none but to read, and a job gets what it needs.
func TestPermissions(t *testing.T) {
	for name, w := range workflows(t) {
		switch p := w.Permissions.(type) {
		case map[string]any:
			for scope, level := range p {
				if level != "read" && level != "none" {
					t.Errorf("%s: every job may %s %s", name, level, scope)
				}
			}
		default:
			t.Errorf("%s: no permissions are set, so every job has the repository's default", name)
		}
		for job, j := range w.Jobs {
			for scope, level := range j.Permissions {
				if level == "write" && name != "release.yml" {
					t.Errorf("%s, job %s: may write %s", name, job, scope)
				}
			}
		}
	}
}

// TestScripts: no script of a workflow holds an expression, whose value the
// shell would take for code.
func TestScripts(t *testing.T) {
	for name, w := range workflows(t) {
		for job, j := range w.Jobs {
			for _, s := range j.Steps {
				if strings.Contains(s.Run, "${{") {
					t.Errorf("%s, job %s: an expression in: %s", name, job, s.Run)
				}
				for _, word := range regexp.MustCompile(`(?m)(?:^|\s)(tools/[\w./-]+\.sh|\.ci/run)`).FindAllStringSubmatch(s.Run, -1) {
					if info, err := os.Stat(filepath.Join(root, word[1])); err != nil || info.Mode()&0o111 == 0 {
						t.Errorf("%s, job %s: %s cannot be run: %v", name, job, word[1], err)
					}
				}
			}
		}
	}
	if !slices.ContainsFunc(workflows(t)["ci.yml"].Jobs["demands"].Steps, func(s step) bool { return s.Run == ".ci/run" }) {
		t.Error("ci.yml does not run .ci/run")
	}
}

// TestGoVersion: all that is built for a user is built by one version of Go, and
// that is one which the module allows.
func TestGoVersion(t *testing.T) {
	line := regexp.MustCompile(`(?m)^\s*go-version: (\S+)$`)
	found := map[string][]string{}
	for _, path := range []string{"action.yml", ".github/workflows/ci.yml", ".github/workflows/release.yml"} {
		for _, m := range line.FindAllStringSubmatch(read(t, filepath.Join(root, path)), -1) {
			found[m[1]] = append(found[m[1]], path)
		}
	}
	if len(found) != 1 {
		t.Errorf("versions of Go: %v", found)
	}
	mod := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(read(t, filepath.Join(root, "go.mod")))
	for v := range found {
		if !strings.HasPrefix(v, mod[1]+".") {
			t.Errorf("Go %s, but go.mod names %s", v, mod[1])
		}
	}
}

// TestGoreleaser: what makes a release the same wherever it is built.
func TestGoreleaser(t *testing.T) {
	var c struct {
		Version int
		Builds  []struct {
			Goos, Goarch, Env, Flags []string
			Mod                      string `yaml:"mod_timestamp"`
		}
		Archives []struct {
			Files []struct {
				Src  string
				Info struct{ Mtime, Owner string }
			}
		}
		Sboms []any
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(root, ".goreleaser.yaml"))), &c); err != nil {
		t.Fatal(err)
	}
	if c.Version != 2 || len(c.Builds) != 1 || len(c.Archives) != 1 || len(c.Sboms) != 1 {
		t.Fatalf("%+v", c)
	}
	b := c.Builds[0]
	if len(b.Goos)*len(b.Goarch) != 6 || !slices.Contains(b.Env, "CGO_ENABLED=0") || !slices.Contains(b.Flags, "-trimpath") || b.Mod != "{{ .CommitTimestamp }}" {
		t.Errorf("build: %+v", b)
	}
	for _, f := range c.Archives[0].Files {
		if f.Info.Mtime != "{{ .CommitDate }}" || f.Info.Owner != "root" {
			t.Errorf("%s: its time or owner is the builder's", f.Src)
		}
	}
	// The names that the action asks for.
	for _, want := range []string{"'{{ .ProjectName }}_{{ .Version }}_{{ .Os }}_{{ .Arch }}'", "name_template: checksums.txt"} {
		if !strings.Contains(read(t, filepath.Join(root, ".goreleaser.yaml")), want) {
			t.Errorf("no %s", want)
		}
	}
}
