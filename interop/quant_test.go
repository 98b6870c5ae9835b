//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/manifest"
)

// runtimeRow is what a runtime made of one sealed quantised checkpoint.
type runtimeRow struct {
	Runtime string  `json:"runtime"`
	Format  string  `json:"format"`
	Sealed  string  `json:"sealed"`
	Equal   bool    `json:"equal"`
	Diff    float64 `json:"max_diff"`
	Max     float64 `json:"max"`
	Kernels string  `json:"kernels"` // the linear maps' classes, or the type that all is computed in
	Error   string  `json:"error"`

	profile  string
	coverage float64
}

// loadable are the fixtures whose format transformers runs on a CPU with what
// requirements.txt and compressed-tensors install; the others are shown as not run.
var loadable = map[string]bool{
	"nf4": true, "nf4-double": true, "fp4": true, "int8": true, "fp8": true, "mxfp4": true, "ct-int4-group": true,
	"ct-int8-channel": true, "ct-w8a8": true, "ct-fp8-channel": true, "ct-fp8-tensor": true, "ct-fp8-block": true, "ct-fp8-static": true, "ct-w8a8-static": true,
	"ct-nvfp4": true,
}

// TestQuantisedRuntimes seals every quantised fixture and demands that
// transformers, GPTQModel and MLX-LM compute the same logits, bit for bit, where
// they are installed.
func TestQuantisedRuntimes(t *testing.T) {
	s := needPython(t)
	if _, err := s.runPython("-c", "import bitsandbytes, compressed_tensors"); err != nil {
		t.Skip("bitsandbytes and compressed-tensors are not installed: ", err)
	}
	dirs, err := filepath.Glob(filepath.Join("..", "quant", "testdata", "*", "config.json"))
	if err != nil || len(dirs) < 20 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	sealed := map[string]runtimeRow{}
	args := []string{"quant_runtime.py"}
	for _, d := range dirs {
		src := filepath.Dir(d)
		for _, profile := range []string{"portable", "strong"} {
			out := filepath.Join(t.TempDir(), filepath.Base(src)+"-"+profile)
			lock := []string{"lock", src, out, "--profile", profile, "--key-file", s.key, "-q"}
			if filepath.Base(src) == "nf4-double" {
				lock = append(lock, "--unnest")
			}
			s.neuroseal(t, lock...)
			data, err := os.ReadFile(filepath.Join(out, manifest.Name))
			if err != nil {
				t.Fatal(err)
			}
			m, err := manifest.Parse(data)
			if err != nil {
				t.Fatal(err)
			}
			sealed[out] = runtimeRow{profile: profile, coverage: m.Coverage}
			args = append(args, src, out)
		}
	}
	data, err := s.runPython(args...)
	if err != nil {
		t.Fatal(err)
	}
	var rows []runtimeRow
	for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
		r := runtimeRow{}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		was := sealed[r.Sealed]
		r.profile, r.coverage = was.profile, was.coverage
		rows = append(rows, r)
		mayFail := strings.HasPrefix(r.Runtime, "transformers") && !loadable[r.Format]
		other := !r.Equal
		if r.Kernels == "in float16" { // exact but for what falls below its normal range, which no profile promises
			other = r.Diff > 1e-3*r.Max
		}
		if r.Error != "" && !mayFail || r.Error == "" && other {
			t.Errorf("%s %s: %+v", r.Format, r.profile, r)
		}
	}
	if len(rows) < len(sealed) {
		t.Errorf("%d results for %d checkpoints", len(rows), len(sealed))
	}
	writeRuntimes(t, "quantised", runtimeTable(rows))
}

// runtimeTable is a table of docs/runtimes.md.
func runtimeTable(rows []runtimeRow) string {
	var b strings.Builder
	b.WriteString("| Runtime | Fixture | Profile | Coverage | Logits | Linear maps, or type |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		result := likeness(r.Equal, r.Diff, r.Max)
		if r.Error != "" {
			result = "not run here: " + cell(r.Error)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f%% | %s | %s |\n", r.Runtime, r.Format, r.profile, 100*r.coverage, result, r.Kernels)
	}
	return b.String()
}
