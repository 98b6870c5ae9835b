//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"testing"
)

// TestGGUFRuntimes: real runtimes give the same logits for a GGUF and for its
// seal: transformers, which dequantises it, and llama.cpp where it is installed.
func TestGGUFRuntimes(t *testing.T) {
	s := need(t)
	if _, err := s.runPython("-c", "import gguf"); err != nil {
		t.Skip("gguf is not installed: ", err)
	}
	dir := t.TempDir()
	kinds := []string{"F16", "Q8_0", "Q4_0", "Q5_1"}
	args := []string{"gguf_models.py", filepath.Join("..", "internal", "demo"), dir}
	for _, k := range kinds {
		args = append(args, "model:"+k)
	}
	if _, err := s.runPython(args...); err != nil {
		t.Fatal(err)
	}
	for _, k := range kinds {
		src, out := filepath.Join(dir, "model-"+k+".gguf"), filepath.Join(dir, "sealed-"+k+".gguf")
		s.neuroseal(t, "lock", src, out, "--key-file", s.key, "-q")
		data, err := s.runPython("gguf_runtimes.py", src, out)
		if err != nil {
			t.Fatalf("%s: %v", k, err)
		}
		for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
			var r struct {
				Runtime   string
				Identical bool
			}
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			t.Logf("%s: %s", k, line)
			if r.Runtime == "transformers" && !r.Identical {
				t.Errorf("%s: other logits in %s", k, r.Runtime)
			}
		}
	}
}
