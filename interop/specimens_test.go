//go:build interop

package interop_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/arena/specimen"
)

// TestSpecimens: transformers loads the specimens, a random twin and a fine-tune
// of one, finds the same held-out loss, and routes to the same experts.
func TestSpecimens(t *testing.T) {
	s := need(t)
	const window, windows = 256, 8
	text := specimen.Known()[0].Training.Text
	_, unseen, err := text.Split()
	if err != nil {
		t.Fatal(err)
	}
	unseen = unseen[:window*windows+1]
	path := filepath.Join(s.work, "specimens.txt")
	if err := os.WriteFile(path, unseen, 0o666); err != nil {
		t.Fatal(err)
	}
	args := []string{"specimens.py", path, "256", "8"}
	for _, k := range specimen.Known() {
		args = append(args, specimen.Dir("..", k.Name))
	}
	mixtral := specimen.Dir("..", "mixtral")
	random, tuned := filepath.Join(s.work, "specimen-random"), filepath.Join(s.work, "specimen-tuned")
	if err := specimen.Random(t.Context(), mixtral, random, 1); err != nil {
		t.Fatal(err)
	}
	short := specimen.Tuning("logs")
	short.Text.Bytes, short.Steps, short.Batch = 100_000, 5, 2
	if err := specimen.FineTune(t.Context(), mixtral, tuned, short, nil); err != nil {
		t.Fatal(err)
	}
	out, err := s.runPython(append(args, random, tuned)...)
	if err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(bytes.NewReader(out))
	seen := 0
	for {
		var line struct {
			Folder string
			Loss   float64
			Share  [][]float64 `json:"expert_share"`
		}
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		loss, err := specimen.Loss(t.Context(), line.Folder, unseen, window, windows)
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(loss-line.Loss) > 1e-3 {
			t.Errorf("%s: loss %.6f, transformers' %.6f", line.Folder, loss, line.Loss)
		}
		share, err := specimen.ExpertShare(t.Context(), line.Folder, unseen, window, windows)
		if err != nil || len(share) != len(line.Share) {
			t.Fatalf("%s: %d layers with experts, transformers has %d; %v", line.Folder, len(share), len(line.Share), err)
		}
		for l := range share {
			for e, v := range share[l] {
				if math.Abs(v-line.Share[l][e]) > 2e-3 { // a few ties may fall either way
					t.Errorf("%s: layer %d, expert %d gets %.4f, in transformers %.4f", line.Folder, l, e, v, line.Share[l][e])
				}
			}
		}
		t.Logf("%s: loss %.6f, transformers' %.6f", filepath.Base(line.Folder), loss, line.Loss)
	}
	if want := len(specimen.Known()) + 2; seen != want {
		t.Errorf("%d models measured, want %d", seen, want)
	}
}
