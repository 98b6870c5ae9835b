package specimen

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// small returns a specimen that trains in a second.
func small(t *testing.T, name string) Spec {
	t.Helper()
	s, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	n, tr := &s.Network, &s.Training
	n.Layers, n.Hidden, n.HeadDim, n.Intermediate, n.Positions = 1, 32, 8, 32, 64
	tr.Text.Bytes, tr.Window, tr.Batch, tr.Steps, tr.Warmup = 60_000, 32, 4, 40, 4
	return s
}

func readFolder(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, e := range entries {
		if out[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func recordOf(t *testing.T, dir string) Record {
	t.Helper()
	var r Record
	if err := json.Unmarshal(readFolder(t, dir)[recordName], &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTrain: every type of specimen learns, is told of, and comes out the same
// whatever the number of goroutines.
func TestTrain(t *testing.T) {
	for _, known := range Known() {
		t.Run(known.Name, func(t *testing.T) {
			var folders []map[string][]byte
			for workers := range 2 {
				s := small(t, known.Name)
				s.Training.Workers = workers + 1
				dst := filepath.Join(t.TempDir(), s.Name)
				var steps []Step
				if err := Train(t.Context(), s, dst, func(x Step) { steps = append(steps, x) }); err != nil {
					t.Fatal(err)
				}
				if n := s.Training.Steps; len(steps) != n || steps[n-1].Number != n || steps[n-1].Of != n || steps[0].Loss < 4.5 || steps[n-1].Loss > 4 {
					t.Errorf("the training went %v", steps)
				}
				checkRecord(t, dst)
				folders = append(folders, readFolder(t, dst))
			}
			for name, data := range folders[0] {
				if !bytes.Equal(data, folders[1][name]) {
					t.Errorf("%s depends on the number of goroutines", name)
				}
			}
		})
	}
}

// checkRecord demands that train.json is of the files and the figures of the
// stored weights.
func checkRecord(t *testing.T, dir string) Record {
	t.Helper()
	r, files := recordOf(t, dir), readFolder(t, dir)
	for name, want := range r.SHA256 {
		if got := digest(files[name]); got != want {
			t.Errorf("%s has SHA-256 %s, train.json says %s", name, got, want)
		}
	}
	for name := range files {
		if _, ok := r.SHA256[name]; !ok && name != recordName && name != cardName {
			t.Errorf("train.json does not know %s", name)
		}
	}
	seen, unseen, err := textOf(r).Split()
	if err != nil {
		t.Fatal(err)
	}
	if all := append(append([]byte(nil), seen...), unseen...); digest(all) != r.Text.SHA256 {
		t.Error("the text is another")
	}
	got, err := Loss(t.Context(), dir, unseen, r.Training.Window, r.Check.Windows)
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(got-r.Check.Loss) > 2e-5 { // rounded to five decimals
		t.Errorf("held-out loss over %d windows is %.6f, train.json says %g", r.Check.Windows, got, r.Check.Loss)
	}
	if u := Unigram(seen, unseen); math.Abs(u-r.Unigram) > 1e-5 {
		t.Errorf("unigram loss %.6f, train.json says %g", u, r.Unigram)
	}
	return r
}

func TestTrainStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	dst := filepath.Join(t.TempDir(), "x")
	err := Train(ctx, small(t, "qwen3"), dst, func(s Step) {
		if s.Number == 3 {
			cancel()
		}
	})
	if fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v, want interrupted", err)
	}
	if _, err := os.Stat(dst); err == nil {
		t.Error("a folder was left")
	}
}

func TestTrainRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(*Spec)
		kind fault.Kind
	}{
		{"type", func(s *Spec) { s.Network.Type = "gpt2" }, fault.Usage},
		{"domain", func(s *Spec) { s.Training.Text.Domain = "poems" }, fault.Usage},
		{"window beyond the text", func(s *Spec) { s.Training.Text.Bytes = 30 }, fault.Usage},
		{"no windows", func(s *Spec) { s.Training.Batch = 0 }, fault.Usage},
		{"no room for held-out windows", func(s *Spec) { s.Training.Text.Bytes = 200 }, fault.Usage},
		{"divergence", func(s *Spec) { s.Training.LR = 1e30 }, fault.General},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := small(t, "llama-tied")
			s.Training.Steps = 12
			c.edit(&s)
			if err := Train(t.Context(), s, filepath.Join(t.TempDir(), "x"), nil); fault.KindOf(err) != c.kind {
				t.Errorf("%v, want kind %d", err, c.kind)
			}
		})
	}
	if _, err := Find("none"); fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
		t.Errorf("Find: %v", err)
	}
}

// brief is a fine-tune of a few seconds.
func brief() Training {
	t := Tuning("logs")
	t.Text.Bytes, t.Window, t.Batch, t.Steps, t.Warmup = 60_000, 32, 4, 30, 3
	return t
}

// TestFineTune: another domain is learned, deterministically, in the base's
// format.
func TestFineTune(t *testing.T) {
	var folders []map[string][]byte
	for range 2 {
		dst := filepath.Join(t.TempDir(), "tuned")
		if err := FineTune(t.Context(), demoModel, dst, brief(), nil); err != nil {
			t.Fatal(err)
		}
		r := checkRecord(t, dst)
		if r.Base == nil || r.Heldout > r.Base.Heldout-1 || len(r.Base.SHA256) != 1 || r.Base.SHA256[weightsName] == r.SHA256[weightsName] {
			t.Errorf("%+v from %+v", r, r.Base)
		}
		src, got := openFolder(t, demoModel), openFolder(t, dst)
		if len(src.Tensors()) != len(got.Tensors()) || !bytes.Equal(src.ConfigJSON(), got.ConfigJSON()) {
			t.Error("not the base's configuration and tensors")
		}
		folders = append(folders, readFolder(t, dst))
	}
	for name, data := range folders[0] {
		if !bytes.Equal(data, folders[1][name]) {
			t.Errorf("%s: two runs differ", name)
		}
	}
}

func TestFineTuneRefuses(t *testing.T) {
	for _, c := range []struct {
		name, source string
		edit         func(*Training)
		kind         fault.Kind
	}{
		{"tokens are not bytes", "../../arch/testdata/llama-tied", func(*Training) {}, fault.Unsupported},
		{"domain", demoModel, func(t *Training) { t.Text.Domain = "poems" }, fault.Usage},
		{"no room for held-out windows", demoModel, func(t *Training) { t.Text.Bytes = 200 }, fault.Usage},
	} {
		t.Run(c.name, func(t *testing.T) {
			tune := brief()
			c.edit(&tune)
			if err := FineTune(t.Context(), c.source, filepath.Join(t.TempDir(), "x"), tune, nil); fault.KindOf(err) != c.kind {
				t.Errorf("%v, want kind %d", err, c.kind)
			}
		})
	}
}
