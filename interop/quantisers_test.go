//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"slices"
	"testing"
)

// quantised is what became of a sealed model in somebody else's quantiser.
type quantised struct {
	Profile   string `json:"profile"`
	Quantiser string `json:"quantiser"`
	Blocks    int    `json:"blocks"`
	Codes     int    `json:"other_codes"`  // blocks with other integer codes than the original's
	Scales    int    `json:"other_scales"` // blocks whose scale did not move by a power of two
}

// TestQuantisers: what the profiles promise about later quantisation by
// others, on the trained demo model. Max promises nothing, and shows that the
// comparison sees a difference.
func TestQuantisers(t *testing.T) {
	s := need(t)
	if _, err := s.runPython("-c", "import gguf, bitsandbytes"); err != nil {
		t.Skip("gguf and bitsandbytes are not installed: ", err)
	}
	src := filepath.Join("..", "internal", "demo", "model")
	for _, profile := range profiles {
		out := filepath.Join(t.TempDir(), profile)
		s.neuroseal(t, "lock", src, out, "--profile", profile, "--key-file", s.key, "-q")
		data, err := s.runPython("quantisers.py", src, out)
		if err != nil {
			t.Fatal(err)
		}
		var rows []quantised
		for _, line := range bytes.Split(bytes.TrimSpace(data), []byte("\n")) {
			q := quantised{Profile: profile}
			if err := json.Unmarshal(line, &q); err != nil {
				t.Fatalf("%v in %s", err, line)
			}
			rows = append(rows, q)
			same := q.Codes == 0 && q.Scales == 0
			promised := profile == "portable" || profile == "strong" && q.Quantiser == "NF4"
			if promised && !same {
				t.Errorf("%s: %s of %d blocks: %d other codes, %d other scales", profile, q.Quantiser, q.Blocks, q.Codes, q.Scales)
			}
			if profile == "max" && q.Codes == 0 {
				t.Errorf("max: %s finds the same codes: the comparison sees nothing", q.Quantiser)
			}
		}
		names := []string{"NF4", "Q4_0", "Q4_1", "Q5_0", "Q8_0"}
		var got []string
		for _, r := range rows {
			got = append(got, r.Quantiser)
			if r.Blocks < 10000 {
				t.Errorf("%s: only %d blocks", r.Quantiser, r.Blocks)
			}
		}
		if slices.Sort(got); !slices.Equal(got, names) {
			t.Fatalf("quantisers %v, want %v", got, names)
		}
		s.report.Quantisers = append(s.report.Quantisers, rows...)
	}
}
