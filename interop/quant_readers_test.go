//go:build interop

package interop_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readable are the fixtures that other people's readers dequantise.
var readable = []string{
	"mlx", "mlx-int2", "mlx-int3", "mlx-int5", "mlx-int6", "mlx-int8", "mlx-mxfp4", "mlx-mxfp8", "mlx-nvfp4",
	"gptq", "gptq-order", "gptq-order-int8", "gptq-v2-int8", "awq",
	"nvfp4", "nvfp4-w4a4", "nvfp4-room", "modelopt-fp8", "ct-nvfp4",
	"ct-int4-group", "ct-int4-zero", "ct-int8-channel", "ct-w8a8", "ct-fp8-channel", "ct-fp8-block",
}

// unmoved are those of them whose scales have no room, or whose inputs must
// stay, by profile: NVFP4's tools use all of E4M3's range.
var unmoved = map[string]bool{
	"nvfp4 portable": true, "ct-nvfp4 portable": true, "nvfp4-w4a4 portable": true, "nvfp4-w4a4 strong": true,
}

// readerRow is what a reader made of one seal.
type readerRow struct {
	Reader, Format, Sealed, Error string
	Weights, Other, Moved         int
}

// TestQuantReaders: what MLX, GPTQModel, ModelOpt and compressed-tensors
// dequantise from a seal is what they dequantise from the original, times powers
// of two. A reader that is not installed is named, and not judged.
func TestQuantReaders(t *testing.T) {
	s := needPython(t)
	args := []string{"quant_readers.py"}
	still := map[string]bool{}
	for _, f := range readable {
		for _, profile := range []string{"portable", "strong"} {
			src, out := filepath.Join("..", "quant", "testdata", f), filepath.Join(t.TempDir(), f+"-"+profile)
			s.neuroseal(t, "lock", src, out, "--profile", profile, "--key-file", s.key, "-q")
			args = append(args, src, out)
			still[out] = unmoved[f+" "+profile]
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
	var rows []readerRow
	for _, line := range lines {
		var r readerRow
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		switch {
		case strings.HasPrefix(r.Error, "ModuleNotFoundError"):
			t.Logf("%s of %s not judged: %s", r.Format, r.Reader, r.Error)
			continue
		case r.Error != "" || r.Weights == 0 || r.Other > 0 || (r.Moved == 0) != still[r.Sealed]:
			t.Errorf("%+v", r)
		}
		rows = append(rows, r)
	}
	writeRuntimes(t, "readers", readerTable(rows))
}

// readerTable is a table of docs/runtimes.md, a row for each reader.
func readerTable(rows []readerRow) string {
	var b strings.Builder
	b.WriteString("| Reader | Fixtures | Weights with another number |\n|---|---|---|\n")
	slices.SortStableFunc(rows, func(a, b readerRow) int { return cmp.Compare(a.Reader, b.Reader) })
	for len(rows) > 0 {
		n := slices.IndexFunc(rows, func(r readerRow) bool { return r.Reader != rows[0].Reader })
		if n < 0 {
			n = len(rows)
		}
		var formats []string
		weights, other := 0, 0
		for _, r := range rows[:n] {
			formats = append(formats, r.Format)
			weights, other = weights+r.Weights, other+r.Other
		}
		fmt.Fprintf(&b, "| %s | %s | %d of %d |\n", rows[0].Reader, strings.Join(slices.Compact(formats), ", "), other, weights)
		rows = rows[n:]
	}
	return b.String()
}
