package jobs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestPrepareRefuses(t *testing.T) {
	good := func() Job { return Job{Name: "a", Argv: []string{"true"}, Result: filepath.Join("results", "a.json")} }
	for name, spoil := range map[string]func(*Job){
		"empty name":     func(j *Job) { j.Name = "" },
		"path as name":   func(j *Job) { j.Name = "../a" },
		"hidden name":    func(j *Job) { j.Name = ".a" },
		"option as name": func(j *Job) { j.Name = "-a" },
		"long name":      func(j *Job) { j.Name = strings.Repeat("a", 129) },
		"no command":     func(j *Job) { j.Argv = nil },
		"empty command":  func(j *Job) { j.Argv = []string{""} },
		"no result":      func(j *Job) { j.Result = "" },
		"NUL":            func(j *Job) { j.Argv = []string{"true", "a\x00b"} },
		"variable":       func(j *Job) { j.Env = map[string]string{"A=B; rm": "x"} },
		"negative":       func(j *Job) { j.GPUs = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			j := good()
			spoil(&j)
			_, err := prepare(Options{Folder: t.TempDir()}, []Job{j})
			if fault.KindOf(err) != fault.Usage {
				t.Errorf("error is %v", err)
			}
		})
	}
	two := []Job{good(), good()}
	if _, err := prepare(Options{Folder: t.TempDir()}, two); err == nil {
		t.Error("two jobs of one name are accepted")
	}
	two[1].Name = "b"
	if _, err := prepare(Options{Folder: t.TempDir()}, two); err == nil {
		t.Error("two jobs with one result are accepted")
	}
	if _, err := prepare(Options{}, nil); err == nil {
		t.Error("no folder is accepted")
	}
}

// TestDigest: whatever changes what a job does changes its digest.
func TestDigest(t *testing.T) {
	base := Job{Name: "a", Argv: []string{"x", "y"}, Env: map[string]string{"A": "1", "B": "2"}, Dir: "/d", Result: "/r", CPUs: 1}
	seen := map[string]string{digest(base): "base"}
	for name, change := range map[string]func(*Job){
		"name":        func(j *Job) { j.Name = "b" },
		"joined":      func(j *Job) { j.Argv = []string{"x y"} },
		"not UTF-8":   func(j *Job) { j.Argv = []string{"x", "\xff"} },
		"not UTF-8 2": func(j *Job) { j.Argv = []string{"x", "\xfe"} },
		"environment": func(j *Job) { j.Env = map[string]string{"A": "1", "B": "3"} },
		"folder":      func(j *Job) { j.Dir = "/e" },
		"result":      func(j *Job) { j.Result = "/s" },
		"processors":  func(j *Job) { j.CPUs = 2 },
		"limit":       func(j *Job) { j.Limit = 1 },
	} {
		j := base
		change(&j)
		if other, same := seen[digest(j)]; same {
			t.Errorf("%s: same digest as %s", name, other)
		}
		seen[digest(j)] = name
	}
	for range 20 {
		if seen[digest(base)] != "base" {
			t.Error("the digest depends on the order of a map")
		}
	}
}

func TestIdentity(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	first, err := identity(dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := identity(dir); err != nil || again != first {
		t.Errorf("second identity %q, %v; first %q", again, err, first)
	}
	if other, _ := identity(t.TempDir()); other == first {
		t.Error("two folders have one identity")
	}
	if err := os.WriteFile(filepath.Join(dir, "run-id"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := identity(dir); err == nil {
		t.Error("a damaged identity is accepted")
	}
}

func TestStateString(t *testing.T) {
	if Queued.String() != "queued" || Cancelled.String() != "cancelled" || State(9).String() != "State(9)" {
		t.Error("states have wrong names")
	}
}

// TestSummary: the error names the count, the first job and its cause.
func TestSummary(t *testing.T) {
	cause := errors.New("cause")
	b := &board{tasks: []*task{{Job: Job{Name: "a"}, last: Done}, {Job: Job{Name: "b"}, last: Failed, err: cause}}}
	err := b.summary()
	if !errors.Is(err, cause) || !strings.Contains(err.Error(), "1 of 2 jobs failed; b") {
		t.Errorf("summary is %v", err)
	}
}
