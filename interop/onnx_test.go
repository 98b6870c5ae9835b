//go:build interop

package interop_test

import (
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestONNX seals what onnx.py exports, demands outputs of onnxruntime that are
// equal bit for bit with its optimisations on and off, and unlocks to the same
// bytes.
func TestONNX(t *testing.T) {
	s := need(t)
	probe := exec.Command(s.python, "-P", "-c", "import onnx, onnxscript, onnxruntime")
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no onnx, onnxscript, onnxruntime: %s", out)
	}
	dir := filepath.Join(s.work, "onnx")
	if out, err := exec.Command(s.python, filepath.Join(".", "onnx.py"), dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.2000s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.onnx"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no exports: %v", err)
	}
	args := []string{"onnx_compare.py"}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".onnx")
		for _, profile := range []string{"portable", "strong", "max"} {
			folder := filepath.Join(dir, profile, name)
			sealed, back := filepath.Join(folder, "sealed.onnx"), filepath.Join(folder, "back", "model.onnx")
			if err := os.MkdirAll(filepath.Dir(back), 0o777); err != nil {
				t.Fatal(err)
			}
			command(t, s, "lock", f, sealed, "--profile", profile, "--key-file", s.key, "-q")
			command(t, s, "unlock", sealed, back, "--key-file", s.key, "-q")
			if digest(t, back) != digest(t, f) {
				t.Errorf("%s %s: unlock does not restore the model", name, profile)
			}
			args = append(args, f, sealed)
		}
	}
	out, err := exec.Command(s.python, args...).Output()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(lines) != (len(args)-1)/2 {
		t.Fatalf("%d results for %d models: %v", len(lines), (len(args)-1)/2, err)
	}
	for _, l := range lines {
		var r struct {
			Sealed  string  `json:"sealed"`
			Equal   bool    `json:"equal"`
			Finite  bool    `json:"finite"`
			Largest float64 `json:"largest"`
		}
		if err := json.Unmarshal([]byte(l), &r); err != nil {
			t.Fatal(err)
		}
		if !r.Equal || !r.Finite {
			t.Errorf("%s: outputs differ by up to %g, finite %v", r.Sealed, r.Largest, r.Finite)
		}
	}
}

func command(t *testing.T, s *shared, args ...string) {
	t.Helper()
	if out, err := exec.Command(s.command, args...).CombinedOutput(); err != nil {
		t.Fatalf("neuroseal %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func digest(t *testing.T, path string) [32]byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return sha256.Sum256(data)
}
