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
	Format      string  `json:"format"`
	Sealed      string  `json:"sealed"`
	Equal       bool    `json:"equal"`
	Diff        float64 `json:"max_diff"`
	Max         float64 `json:"max"`
	Dequantised bool    `json:"dequantised"`
	Error       string  `json:"error"`

	profile  string
	coverage float64
}

// loadable are the fixtures whose format transformers runs on a CPU with what
// requirements.txt and compressed-tensors install; the others are shown as not run.
var loadable = map[string]bool{
	"nf4": true, "nf4-double": true, "fp4": true, "int8": true, "fp8": true, "mxfp4": true, "ct-int4-group": true,
	"ct-int8-channel": true, "ct-w8a8": true, "ct-fp8-channel": true, "ct-fp8-tensor": true, "ct-fp8-block": true, "ct-fp8-static": true, "ct-w8a8-static": true,
}

// TestQuantisedRuntimes seals every quantised fixture and demands that
// transformers computes the same logits, bit for bit. With RUNTIMES_REPORT set,
// it writes the table of docs/runtimes.md there.
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
		if loadable[r.Format] && (r.Error != "" || !r.Equal) {
			t.Errorf("%s %s: %+v", r.Format, r.profile, r)
		}
		if r.Error == "" && !r.Equal {
			t.Errorf("%s %s: logits differ by %g of %g", r.Format, r.profile, r.Diff, r.Max)
		}
	}
	if len(rows) != len(sealed) {
		t.Errorf("%d results for %d checkpoints", len(rows), len(sealed))
	}
	if path := os.Getenv("RUNTIMES_REPORT"); path != "" {
		if err := os.WriteFile(path, runtimeTable(rows), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// runtimeTable is the table of docs/runtimes.md.
func runtimeTable(rows []runtimeRow) []byte {
	var b strings.Builder
	b.WriteString("| Runtime | Fixture | Profile | Coverage | Logits |\n|---|---|---|---|---|\n")
	for _, r := range rows {
		result := "identical"
		switch {
		case r.Error != "":
			result = "not run here: " + strings.ReplaceAll(strings.SplitN(r.Error, "\n", 2)[0], "|", "/")
		case !r.Equal:
			result = fmt.Sprintf("differ by %.2g of %.2g", r.Diff, r.Max)
		}
		how := "transformers, CPU"
		if r.Dequantised {
			how += ", dequantised on loading"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f%% | %s |\n", how, r.Format, r.profile, 100*r.coverage, result)
	}
	return []byte(b.String())
}

// readable are the fixtures that other people's readers dequantise.
var readable = []string{
	"mlx", "mlx-int6", "gptq", "gptq-order", "gptq-v2-int8", "ct-int4-group", "ct-int4-zero", "ct-int8-channel", "ct-w8a8", "ct-fp8-channel", "ct-fp8-block",
}

// TestQuantReaders: what MLX, GPTQModel and compressed-tensors dequantise from a
// seal is what they dequantise from the original, times powers of two. A reader
// that is not installed is named, and not judged.
func TestQuantReaders(t *testing.T) {
	s := needPython(t)
	args := []string{"quant_readers.py"}
	for _, f := range readable {
		for _, profile := range []string{"portable", "strong"} {
			src, out := filepath.Join("..", "quant", "testdata", f), filepath.Join(t.TempDir(), f+"-"+profile)
			s.neuroseal(t, "lock", src, out, "--profile", profile, "--key-file", s.key, "-q")
			args = append(args, src, out)
		}
	}
	data, err := s.runPython(args...)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	if len(lines) != 2*len(readable) {
		t.Errorf("%d results for %d seals", len(lines), 2*len(readable))
	}
	for _, line := range lines {
		var r struct {
			Reader, Format, Error string
			Weights, Other, Moved int
		}
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch {
		case strings.HasPrefix(r.Error, "ModuleNotFoundError"):
			t.Logf("%s of %s not judged: %s", r.Format, r.Reader, r.Error)
		case r.Error != "" || r.Weights == 0 || r.Other > 0 || r.Moved == 0:
			t.Errorf("%+v", r)
		}
	}
}
