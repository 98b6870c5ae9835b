package arch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// weightsOf reads the weights of a GGUF.
type weightsOf struct{ ck *checkpoint.Checkpoint }

func (s weightsOf) Weight(name string) (dtype.DType, int64, bool) { return s.ck.Weight(name) }

func (s weightsOf) ReadWeight(name string, p []byte, off int64) error {
	return s.ck.ReadWeight(name, p, off)
}

// openGGUF opens a fixture of interop/gguf_models.py.
func openGGUF(t testing.TB, path string, tokens int) (*arch.GGUF, *checkpoint.Checkpoint) {
	t.Helper()
	m, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	net, err := arch.BuildGGUF(m, arch.Options{Tokens: tokens})
	if err != nil {
		t.Fatal(err)
	}
	ck, err := m.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return net, ck
}

// gains are free factors beyond those of the checkpoint on the Hub, where norms
// are stored as w of 1+w: those of the norms that are read by matrices, and of
// the pairs of norms of queries and keys.
var gains = map[string]int{"gemma": 64, "gemma2": 64, "gemma3": 72}

// TestGGUF: models in GGUF give the logits that transformers computed from the
// checkpoints that they were converted from.
func TestGGUF(t *testing.T) {
	files, err := filepath.Glob("testdata/gguf/*.gguf")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".gguf")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("testdata", name, "reference.json"))
			if err != nil {
				t.Fatal(err)
			}
			var ref struct {
				Tokens []int
				Inputs map[string]struct{ IDs, Values []float32 }
				Logits []float64
			}
			if err := json.Unmarshal(raw, &ref); err != nil {
				t.Fatal(err)
			}
			net, ck := openGGUF(t, file, len(ref.Tokens))
			seen[net.Type] = true
			in := map[string][]float32{}
			for k, x := range ref.Inputs {
				in[k] = append(x.IDs, x.Values...)
			}
			out, err := probe.Run(context.Background(), net.Graph, weightsOf{ck}, probe.Options{Tokens: ref.Tokens, Inputs: in})
			if err != nil {
				t.Fatal(err)
			}
			if err := close64(out[0], ref.Logits); err != nil {
				t.Error(err)
			}
			sol, err := gauge.Solve(net.Graph)
			if err != nil {
				t.Fatal(err)
			}
			conf, shapes := fixture(t, name)
			hub, _ := json.Marshal(conf)
			m, err := arch.Build(hub, shapes, arch.Options{Tokens: len(ref.Tokens)})
			if err != nil {
				t.Fatal(err)
			}
			want, err := gauge.Solve(m.Graph)
			if err != nil {
				t.Fatal(err)
			}
			more := gains[name]
			if sol.FreeDims != want.FreeDims+more || (sol.Residual >= 0) != (want.Residual >= 0 || more > 0) {
				t.Errorf("%d free dimensions, residual %d; on the Hub %d, %d", sol.FreeDims, sol.Residual, want.FreeDims, want.Residual)
			}
		})
	}
	for _, name := range arch.GGUFTypes() {
		if !seen[name] {
			t.Errorf("no fixture of %s", name)
		}
	}
}

func close64(got []float32, want []float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d logits, want %d", len(got), len(want))
	}
	diff, scale := 0.0, 0.0
	for j, w := range want {
		diff, scale = math.Max(diff, math.Abs(float64(got[j])-w)), math.Max(scale, math.Abs(w))
	}
	if !(diff <= 1e-4*scale) {
		return fmt.Errorf("logits differ by %g of %g", diff, scale)
	}
	return nil
}

// FuzzGGUF: no metadata make the builder panic, or build more than the file's
// tensors account for.
func FuzzGGUF(f *testing.F) {
	files, _ := filepath.Glob("testdata/gguf/*.gguf")
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
		for i := 24; i < len(raw) && i < 1200; i += 97 {
			bad := slices.Clone(raw)
			bad[i] ^= 0x40
			f.Add(bad)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(t.TempDir(), "model.gguf")
		if err := os.WriteFile(path, raw, 0o666); err != nil {
			t.Fatal(err)
		}
		m, err := gguf.Open(path)
		if err != nil {
			return
		}
		defer m.Close()
		net, err := arch.BuildGGUF(m, arch.Options{Tokens: 3, AllowUnsealed: true})
		if err != nil {
			if fault.KindOf(err) != fault.Unsupported {
				t.Fatalf("exit %d: %v", fault.KindOf(err), err)
			}
			return
		}
		if n := len(net.Graph.Nodes); n > 200*(len(m.Header().Tensors)+1) {
			t.Fatalf("%d nodes for %d tensors", n, len(m.Header().Tensors))
		}
		if _, err := gauge.Solve(net.Graph); err != nil {
			t.Fatal(err)
		}
	})
}

// TestGGUFRefusals: an architecture, a key or a tensor that nobody knows.
func TestGGUFRefusals(t *testing.T) {
	raw, err := os.ReadFile("testdata/gguf/llama.gguf")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, to, want string }{
		{"architecture", "\x05\x00\x00\x00\x00\x00\x00\x00llama", "\x05\x00\x00\x00\x00\x00\x00\x00wobbl", `"wobbl"`},
		{"key", "llama.vocab_size", "llama.wobbl_size", "llama.wobbl_size"},
		{"needed key", "llama.block_count", "llama.blokk_count", "block_count is missing"},
		{"epsilon", "layer_norm_rms_epsilon", "layer_norm_rmz_epsilon", "epsilon"},
		{"tensor", "blk.0.ffn_up.weight", "blk.0.ffn_ub.weight", "ffn_u"},
		{"layer", "blk.1.ffn_up.weight", "blk.9.ffn_up.weight", "ffn_up"},
		{"head", "output.weight", "outpud.weight", "outpud"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "model.gguf")
			bad := bytes.Replace(raw, []byte(c.old), []byte(c.to), 1)
			if bytes.Equal(bad, raw) {
				t.Fatalf("%q is not in the file", c.old)
			}
			if err := os.WriteFile(path, bad, 0o666); err != nil {
				t.Fatal(err)
			}
			m, err := gguf.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if _, err := arch.BuildGGUF(m, arch.Options{Tokens: 3}); fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v (exit %d)", err, fault.KindOf(err))
			}
		})
	}
}
