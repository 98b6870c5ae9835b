// Package release holds the scripts that make a release, and tests of them and
// of the workflows that call them.
package release

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal"
)

// sum is a well-formed SHA-256 of nothing in particular.
var sum = strings.Repeat("0123456789abcdef", 4)

// tree makes a copy of what the scripts read, with some files replaced.
func tree(t *testing.T, replace map[string]string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("releases are made on Linux")
	}
	root := t.TempDir()
	write := func(path, text string) {
		to := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o777), os.WriteFile(to, []byte(text), 0o777)); err != nil {
			t.Fatal(err)
		}
	}
	scripts, err := filepath.Glob("*.sh")
	if err != nil || len(scripts) < 5 {
		t.Fatal(scripts, err)
	}
	for _, s := range scripts {
		write("tools/release/"+s, read(t, s))
	}
	for _, path := range []string{"neuroseal.go", "go.mod", "tools/action/checksums.txt"} {
		write(path, read(t, "../../"+path))
	}
	write("CHANGELOG.md", "# Changelog\n\n## "+neuroseal.Version+" (today)\n\n- First.\n\n### Fixed\n\n- Second.\n\n## 0.0.1\n\n- Old.\n")
	for path, text := range replace {
		write(path, text)
	}
	return root
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// script runs a script of a tree from elsewhere.
func script(root, name string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.Command("bash", append([]string{filepath.Join(root, "tools/release", name)}, args...)...)
	var out, msg strings.Builder
	cmd.Dir, cmd.Stdout, cmd.Stderr = os.TempDir(), &out, &msg
	err = cmd.Run()
	return out.String(), msg.String(), err
}

func TestVersion(t *testing.T) {
	tag := "v" + neuroseal.Version
	mod := read(t, "../../go.mod")
	for name, c := range map[string]struct {
		replace map[string]string
		args    []string
		said    string // "": it succeeds
	}{
		"the version":    {nil, nil, ""},
		"its tag":        {nil, []string{tag}, ""},
		"another tag":    {nil, []string{"v9.9.9"}, "tag v9.9.9 is not of version"},
		"no v":           {nil, []string{neuroseal.Version}, "is not of version"},
		"no changes":     {map[string]string{"CHANGELOG.md": "# Changelog\n"}, []string{tag}, "CHANGELOG.md has no section"},
		"replaced":       {map[string]string{"go.mod": mod + "\nreplace golang.org/x/sys => ../sys\n"}, []string{tag}, "would refuse the module"},
		"no version":     {map[string]string{"neuroseal.go": "package neuroseal\n"}, nil, "no line"},
		"hostile branch": {nil, []string{"v0.1.0$(touch pwned)"}, "is not of version"},
	} {
		t.Run(name, func(t *testing.T) {
			out, msg, err := script(tree(t, c.replace), "version.sh", c.args...)
			if c.said == "" {
				if err != nil || out != neuroseal.Version+"\n" {
					t.Errorf("%q, %v: %s", out, err, msg)
				}
			} else if err == nil || out != "" || !strings.Contains(msg, c.said) {
				t.Errorf("%q, %v: %s; want %q", out, err, msg, c.said)
			}
		})
	}
}

// TestGoMod: nothing in go.mod keeps "go install …@version" from working.
func TestGoMod(t *testing.T) {
	for line := range strings.Lines(read(t, "../../go.mod")) {
		for _, word := range []string{"replace", "exclude"} {
			if strings.HasPrefix(line, word) {
				t.Errorf("go.mod: %s", line)
			}
		}
	}
}

func TestNotes(t *testing.T) {
	out, msg, err := script(tree(t, nil), "notes.sh")
	if want := "\n- First.\n\n### Fixed\n\n- Second.\n\n"; err != nil || out != want {
		t.Errorf("%q, want %q; %v: %s", out, want, err, msg)
	}
	// 1.2.3 is not 1.2.3-rc.1.
	out, _, err = script(tree(t, map[string]string{"CHANGELOG.md": "## " + neuroseal.Version + "-rc.1\n\nNo.\n\n## " + neuroseal.Version + "\n\nYes.\n"}), "notes.sh")
	if err != nil || out != "\nYes.\n" {
		t.Errorf("%q %v", out, err)
	}
}

func TestFormula(t *testing.T) {
	archive := "neuroseal-" + neuroseal.Version + ".tar.gz"
	list := filepath.Join(t.TempDir(), "checksums.txt")
	write := func(text string) {
		if err := os.WriteFile(list, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	root := tree(t, nil)
	write(strings.Repeat("0", 64) + "  neuroseal_x.tar.gz\n" + sum + "  " + archive + "\n")
	out, msg, err := script(root, "formula.sh", list)
	if err != nil {
		t.Fatalf("%v: %s", err, msg)
	}
	for _, want := range []string{
		"class Neuroseal < Formula\n", `sha256 "` + sum + `"`, "/releases/download/v" + neuroseal.Version + "/" + archive + `"`,
		`*std_go_args(ldflags: "-s -w")`, `license "MIT"`, `"#{bin}/neuroseal version --quiet"`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the formula lacks %s:\n%s", want, out)
		}
	}
	if ruby, err := exec.LookPath("ruby"); err == nil {
		cmd := exec.Command(ruby, "-c")
		cmd.Stdin = strings.NewReader(out)
		if msg, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, msg)
		}
	}
	for _, text := range []string{"", sum + "  neuroseal-0.0.1.tar.gz\n", "abc  " + archive + "\n", `"; system "x  ` + archive + "\n"} {
		write(text)
		if out, msg, err := script(root, "formula.sh", list); err == nil || out != "" || !strings.Contains(msg, "no SHA-256") {
			t.Errorf("%q: %q, %v: %s", text, out, err, msg)
		}
	}
}

// TestPin: the archives of this version, and nothing else, get to where the
// action looks.
func TestPin(t *testing.T) {
	root := tree(t, nil)
	pinned := filepath.Join(root, "tools/action/checksums.txt")
	before := read(t, pinned)
	list := filepath.Join(t.TempDir(), "checksums.txt")
	v := neuroseal.Version
	text := fmt.Sprintf("%s  neuroseal-%s.tar.gz\n%s  neuroseal_%s_linux_amd64.cdx.json\n%s  neuroseal_%s_linux_amd64.tar.gz\n%s  neuroseal_%s_windows_arm64.zip\n%s  neuroseal_0.0.1_linux_amd64.tar.gz\n",
		sum, v, sum, v, sum, v, sum, v, sum)
	if err := os.WriteFile(list, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	comments := ""
	for line := range strings.Lines(before) {
		if strings.HasPrefix(line, "#") {
			comments += line
		}
	}
	want := comments + fmt.Sprintf("%s  neuroseal_%s_linux_amd64.tar.gz\n%s  neuroseal_%s_windows_arm64.zip\n", sum, v, sum, v)
	for range 2 { // the second time changes nothing
		if _, msg, err := script(root, "pin.sh", list); err != nil || read(t, pinned) != want {
			t.Fatalf("%v: %s\n%s", err, msg, read(t, pinned))
		}
	}
	if err := os.WriteFile(list, []byte(sum+"  neuroseal_0.0.1_linux_amd64.tar.gz\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, msg, err := script(root, "pin.sh", list); err == nil || !strings.Contains(msg, "no archive of version") || read(t, pinned) != want {
		t.Errorf("%v: %s", err, msg)
	}
}
