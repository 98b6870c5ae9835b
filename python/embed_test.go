package python

import (
	"io/fs"
	"os"
	"strings"
	"testing"
)

// TestFiles: every module of the package is carried, and nothing else.
func TestFiles(t *testing.T) {
	disk, err := fs.Glob(os.DirFS("."), "arena_trl/*.py")
	if err != nil || len(disk) == 0 {
		t.Fatal(disk, err)
	}
	for _, name := range disk {
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := fs.ReadFile(Files(), name); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRequirements: pinned, and what the interop suite installs is the same.
func TestRequirements(t *testing.T) {
	all := Requirements()
	for _, name := range []string{"accelerate", "bitsandbytes", "datasets", "numpy", "peft", "torch", "transformers", "trl"} {
		if !strings.HasPrefix(all[name], name+"==") {
			t.Errorf("%s is not pinned: %q", name, all[name])
		}
	}
	raw, err := os.ReadFile("../interop/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	for name, line := range all {
		if !strings.Contains("\n"+string(raw), "\n"+line+"\n") {
			t.Errorf("interop/requirements.txt has another %s than %s", name, line)
		}
	}
}
