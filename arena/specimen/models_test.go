package specimen

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// textOf reads the text's name out of a record.
func textOf(r Record) Text {
	var t Text
	// What does not scan leaves a text that is not the recorded one.
	_, _ = fmt.Sscanf(r.Text.Command, "go run ./internal/demo/gentext -domain %s -seed %d -bytes %d", &t.Domain, &t.Seed, &t.Bytes)
	return t
}

// TestKnown: the committed folders are of the specs in the source, hold what
// their records say, and have something to lose.
func TestKnown(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, s := range Known() {
		t.Run(s.Name, func(t *testing.T) {
			dir := Dir(root, s.Name)
			r := checkRecord(t, dir)
			var size int64
			files := readFolder(t, dir)
			for _, data := range files {
				size += int64(len(data))
			}
			if size >= 2_000_000 {
				t.Errorf("%d bytes", size)
			}
			if conf, err := s.Network.config(); err != nil || string(conf) != string(files[configName]) {
				t.Errorf("config.json is not the spec's (%v)", err)
			}
			if want := s.record(nil, s.Network.leaves()).Training; r.Training != want || textOf(r) != s.Training.Text {
				t.Errorf("train.json says %+v, the spec %+v", r.Training, want)
			}
			if r.Heldout > r.Unigram/5 || r.Heldout > 0.35 {
				t.Errorf("held-out loss is %g nats per byte, that of a unigram model %g", r.Heldout, r.Unigram)
			}
			f, err := open(dir, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer f.close()
			shapes := map[string][]int{}
			for _, x := range f.ck.Tensors() {
				shapes[x.Name] = x.Shape
			}
			if _, err := arch.Build(files[configName], shapes, arch.Options{Tokens: 4}); err != nil {
				t.Error(err) // it must pass without AllowUnsealed
			}
			if f.net.Type != s.Network.Type || f.net.Vocab != Bytes || f.net.Sparse != (s.Network.Experts > 0) {
				t.Errorf("%s is a %s over %d tokens", s.Name, f.net.Type, f.net.Vocab)
			}
			for _, x := range f.ck.Tensors() {
				if x.DType != dtype.BF16 {
					t.Errorf("%s is %v", x.Name, x.DType)
				}
			}
			if _, head := f.ck.Tensor("lm_head.weight"); head == s.Network.Tied {
				t.Errorf("tied: %v, a head of its own: %v", s.Network.Tied, head)
			}
		})
	}
}

// TestFolders: nothing stands in models/ that no spec knows.
func TestFolders(t *testing.T) {
	entries, err := os.ReadDir("models")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := Find(e.Name()); err != nil {
			t.Error(err)
		}
	}
}

// TestExperts: every expert of every layer is used, as the record says.
func TestExperts(t *testing.T) {
	dir := Dir(filepath.Join("..", ".."), "mixtral")
	r := recordOf(t, dir)
	s, err := Find("mixtral")
	if err != nil {
		t.Fatal(err)
	}
	_, unseen, err := s.Training.Text.Split()
	if err != nil {
		t.Fatal(err)
	}
	share, err := ExpertShare(t.Context(), dir, unseen, s.Training.Window, 4)
	if err != nil {
		t.Fatal(err)
	}
	if len(share) != s.Network.Layers || len(r.ExpertShare) != len(share) {
		t.Fatalf("%d layers, %d in the record, want %d", len(share), len(r.ExpertShare), s.Network.Layers)
	}
	for i, layer := range share {
		sum := 0.0
		for _, v := range layer {
			sum += v
		}
		// A quarter each would be even. Nobody gets more than half: a token
		// takes two different experts.
		if len(layer) != s.Network.Experts || sum < 0.999 || sum > 1.001 || slices.Min(layer) < 0.03 || slices.Max(layer) > 0.5 {
			t.Errorf("layer %d: %v", i, layer)
		}
		if slices.Min(r.ExpertShare[i]) < 0.03 {
			t.Errorf("layer %d in the record: %v", i, r.ExpertShare[i])
		}
	}
	if share, err := ExpertShare(t.Context(), demoModel, unseen, 8, 1); err != nil || share != nil {
		t.Errorf("a model without experts: %v, %v", share, err)
	}
}
