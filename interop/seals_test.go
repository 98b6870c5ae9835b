//go:build interop

package interop_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/probe"
)

// inspection is what the suite reads of inspect --json.
type inspection struct {
	ModelType string  `json:"model_type"`
	Sealed    bool    `json:"sealed"`
	Profile   string  `json:"profile"`
	FreeDims  int     `json:"free_dims"`
	Coverage  float64 `json:"coverage"`
	Groups    []any   `json:"groups"`
	Holes     []any   `json:"holes"`
}

func (s *shared) inspect(t *testing.T, path string) inspection {
	t.Helper()
	var in inspection
	out := s.neuroseal(t, "inspect", path, "--json")
	if err := json.Unmarshal(out, &in); err != nil {
		t.Fatalf("inspect %s: %v in %s", path, err, out)
	}
	return in
}

// TestFreeDimensions compares with the numbers that an independent automatic
// finder derived from the running networks.
func TestFreeDimensions(t *testing.T) {
	s := need(t)
	for _, v := range s.Variants {
		t.Run(v, func(t *testing.T) {
			in := s.inspect(t, s.folder(v, "bf16"))
			s.report.row(v).FreeDims = in.FreeDims
			if want, known := s.FreeDims[v]; known && in.FreeDims != want {
				t.Errorf("%d free dimensions, want %d", in.FreeDims, want)
			}
			if in.Sealed || len(in.Groups) == 0 || in.FreeDims <= 0 {
				t.Errorf("an unsealed model is described as %+v", in)
			}
		})
	}
}

// TestProbeLogits compares our own forward pass with transformers' on every
// folder that has a reference: fp32 arithmetic on the weights as stored.
func TestProbeLogits(t *testing.T) {
	s := need(t)
	for _, v := range s.Variants {
		for _, kind := range []string{"fp32", "bf16", "fp16", "sharded"} {
			dir := s.folder(v, kind)
			if _, err := os.Stat(dir); err != nil {
				continue
			}
			t.Run(v+"/"+kind, func(t *testing.T) {
				d := probeDifference(t, dir)
				r := s.report.row(v)
				r.Probe = math.Max(r.Probe, d)
				if !(d <= 1e-4) {
					t.Errorf("logits differ from transformers' by %.2g of the largest", d)
				}
			})
		}
	}
}

// weights reads a checkpoint's tensors for the probe.
type weights struct{ *checkpoint.Checkpoint }

func (w weights) Weight(name string) (dtype.DType, int64, bool) {
	t, ok := w.Tensor(name)
	return t.DType, t.Size, ok
}

func (w weights) ReadWeight(name string, p []byte, off int64) error {
	t, ok := w.Tensor(name)
	if !ok {
		return fmt.Errorf("no tensor %s", name)
	}
	return w.ReadAt(t, p, off)
}

// probeDifference returns the largest difference from reference.json, relative
// to the largest logit.
func probeDifference(t *testing.T, dir string) float64 {
	t.Helper()
	var ref struct {
		Tokens []int
		Inputs map[string]struct{ IDs, Values []float32 } // besides the tokens, or instead
		Logits []float64
	}
	data, err := os.ReadFile(filepath.Join(dir, "reference.json"))
	if err == nil {
		err = json.Unmarshal(data, &ref)
	}
	if err != nil {
		t.Fatal(err)
	}
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	shapes := map[string][]int{}
	for _, x := range ck.Tensors() {
		shapes[x.Name] = x.Shape
	}
	m, err := arch.Build(ck.ConfigJSON(), shapes, arch.Options{Tokens: max(len(ref.Tokens), 1)})
	if err != nil {
		t.Fatal(err)
	}
	opt := probe.Options{Inputs: map[string][]float32{}}
	if m.Graph.Tokens > 0 {
		opt.Tokens = ref.Tokens
	}
	for name, x := range ref.Inputs {
		opt.Inputs[name] = append(x.IDs, x.Values...)
	}
	out, err := probe.Run(context.Background(), m.Graph, weights{ck}, opt)
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 || len(out[0]) != len(ref.Logits) || len(ref.Logits) == 0 {
		t.Fatalf("outputs of another shape: %d of them", len(out))
	}
	diff, largest := 0.0, 0.0
	for i, want := range ref.Logits {
		diff = math.Max(diff, math.Abs(float64(out[0][i])-want))
		largest = math.Max(largest, math.Abs(want))
	}
	return diff / largest
}

// TestSealedFolders: a seal changes the bytes, inspect knows it, verify
// approves of it, and unlock restores every file.
func TestSealedFolders(t *testing.T) {
	s := need(t)
	for _, x := range s.seals(t) {
		t.Run(x.name(), func(t *testing.T) {
			in := s.inspect(t, x.path)
			if !in.Sealed || in.Profile != x.profile || in.Coverage <= 0 {
				t.Errorf("a sealed model is described as %+v", in)
			}
			s.report.row(x.variant).coverage(x, in.Coverage)
			back := filepath.Join(t.TempDir(), "unlocked")
			s.neuroseal(t, "unlock", x.path, back, "--key-file", s.key, "-q")
			before, changed, after := digests(t, x.source), digests(t, x.path), digests(t, back)
			if !maps.Equal(before, after) {
				t.Errorf("unlocked files differ from the original's:\n%v\n%v", before, after)
			}
			same := 0
			for name, sum := range before {
				if changed[name] == sum && filepath.Ext(name) == ".safetensors" {
					same++
				}
			}
			if same > 0 {
				t.Errorf("%d shards are as before: nothing was sealed in them", same)
			}
		})
	}
}

// digests returns the SHA-256 of every file of a folder.
func digests(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		sum := sha256.Sum256(data)
		sums[rel] = hex.EncodeToString(sum[:])
		return err
	})
	if err != nil || len(sums) == 0 {
		t.Fatalf("%s: %d files, %v", dir, len(sums), err)
	}
	return sums
}

// verification is what the suite reads of verify --json.
type verification struct {
	OK       bool  `json:"ok"`
	Algebra  *bool `json:"bit_exact_algebra"`
	Forward  *bool `json:"bit_exact_forward"`
	Digests  *bool `json:"digests_ok"`
	Mismatch []any `json:"mismatches"`
}

// TestVerify: the command's own judgement agrees.
func TestVerify(t *testing.T) {
	s := need(t)
	for _, x := range s.seals(t) {
		if x.kind != "bf16" {
			continue
		}
		t.Run(x.name(), func(t *testing.T) {
			v := s.verify(t, x.path, x.source)
			yes := func(b *bool) bool { return b != nil && *b }
			if !v.OK || !yes(v.Algebra) || !yes(v.Forward) || !yes(v.Digests) || len(v.Mismatch) > 0 {
				t.Errorf("verify says %+v", v)
			}
		})
	}
}

func (s *shared) verify(t *testing.T, sealed, original string) verification {
	t.Helper()
	var v verification
	out := s.neuroseal(t, "verify", sealed, "--against", original, "--run", "--json")
	if err := json.Unmarshal(out, &v); err != nil {
		t.Fatalf("verify: %v in %s", err, out)
	}
	return v
}
