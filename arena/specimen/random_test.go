package specimen

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"pgregory.net/rapid"
)

const demoModel = "../../internal/demo/model"

// values reads a tensor.
func values(t *testing.T, ck *checkpoint.Checkpoint, name string) []float32 {
	t.Helper()
	x, ok := ck.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	buf := make([]byte, x.Size)
	if err := ck.ReadAt(x, buf, 0); err != nil {
		t.Fatal(err)
	}
	out := make([]float32, x.Elements())
	dtype.ToFloat32(x.DType, out, buf)
	return out
}

func openFolder(t *testing.T, dir string) *checkpoint.Checkpoint {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	return ck
}

func copyFolder(t *testing.T, src string, edit func(name string, data []byte) []byte) string {
	t.Helper()
	dst := t.TempDir()
	entries, err := os.ReadDir(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(src, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if edit != nil {
			data = edit(e.Name(), data)
		}
		if err := os.WriteFile(filepath.Join(dst, e.Name()), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dst
}

// moments are the mean and the standard deviation, and the share of elements
// within one standard deviation.
func moments(x []float32) (mean, sigma, within float64) {
	for _, v := range x {
		mean += float64(v)
	}
	mean /= float64(len(x))
	for _, v := range x {
		sigma += (float64(v) - mean) * (float64(v) - mean)
	}
	sigma = math.Sqrt(sigma / float64(len(x)))
	for _, v := range x {
		if math.Abs(float64(v)-mean) < sigma {
			within++
		}
	}
	return mean, sigma, within / float64(len(x))
}

// TestRandom: names, shapes, types, configuration stay; the weights are those of
// an untrained model.
func TestRandom(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "random")
	if err := Random(t.Context(), demoModel, dst, 7); err != nil {
		t.Fatal(err)
	}
	src, got := openFolder(t, demoModel), openFolder(t, dst)
	if !bytes.Equal(src.ConfigJSON(), got.ConfigJSON()) {
		t.Error("config.json is another")
	}
	for i, x := range src.Tensors() {
		y := got.Tensors()[i]
		if x.Name != y.Name || x.DType != y.DType || !slices.Equal(x.Shape, y.Shape) || x.Offset != y.Offset {
			t.Errorf("%v became %v", x, y)
		}
		w := values(t, got, x.Name)
		if len(x.Shape) == 1 {
			if slices.Min(w) != 1 || slices.Max(w) != 1 {
				t.Errorf("gain %s is not 1", x.Name)
			}
			continue
		}
		n := math.Sqrt(float64(len(w)))
		mean, sigma, within := moments(w)
		if math.Abs(mean) > 5*0.02/n || math.Abs(sigma-0.02) > 5*0.02/n/math.Sqrt2+2e-5 || math.Abs(within-0.6827) > 5*0.47/n+2e-3 {
			t.Errorf("%s: mean %g, deviation %g, %g within one deviation", x.Name, mean, sigma, within)
		}
	}
	for _, name := range []string{cardName, recordName} {
		if _, err := os.Stat(filepath.Join(dst, name)); err == nil {
			t.Errorf("%s speaks of other weights", name)
		}
	}
}

// TestRandomSeeds: the seed decides, and nothing else.
func TestRandomSeeds(t *testing.T) {
	made := func(seed uint64) []byte {
		dst := filepath.Join(t.TempDir(), "random")
		if err := Random(t.Context(), demoModel, dst, seed); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dst, weightsName))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := made(1)
	if !bytes.Equal(first, made(1)) {
		t.Error("the same seed gave other weights")
	}
	if bytes.Equal(first, made(2)) {
		t.Error("another seed gave the same weights")
	}
}

// similar are the families whose tensors are matrices, gains and biases.
var similar = regexp.MustCompile(`^(gemma.?|llama|mistral|mixtral|phi3|qwen2|qwen3|qwen3_moe)(-.*)?$`)

// TestRandomFamilies: every fixture has a random twin with the values that
// transformers starts its family with.
func TestRandomFamilies(t *testing.T) {
	dirs, err := filepath.Glob("../../arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	for _, d := range dirs {
		dir := filepath.Dir(d)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "random")
			if err := Random(t.Context(), dir, dst, 1); err != nil {
				t.Fatal(err)
			}
			f, err := open(dst, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer f.close()
			for _, x := range f.ck.Tensors() {
				if w := values(t, f.ck, x.Name); slices.ContainsFunc(w, func(v float32) bool { return math.Abs(float64(v)) > 20 || v != v }) {
					t.Errorf("%s starts with %g", x.Name, w)
				}
			}
			if similar.MatchString(filepath.Base(dir)) {
				checkSimilar(t, f)
			}
			for _, tie := range f.net.Graph.Ties() {
				if _, ok := f.ck.Tensor(tie[1]); ok && !slices.Equal(values(t, f.ck, tie[0]), values(t, f.ck, tie[1])) {
					t.Errorf("%v differ", tie)
				}
			}
		})
	}
}

// checkSimilar checks a family of matrices, gains and biases.
func checkSimilar(t *testing.T, f *folder) {
	t.Helper()
	gain := float32(1)
	if strings.HasPrefix(f.net.Type, "gemma") {
		gain = 0
	}
	for _, x := range f.ck.Tensors() {
		w := values(t, f.ck, x.Name)
		lo, hi := slices.Min(w), slices.Max(w)
		switch {
		case len(x.Shape) == 2:
			if hi-lo < 0.02 || hi > 0.12 || lo < -0.12 {
				t.Errorf("%s lies between %g and %g", x.Name, lo, hi)
			}
		case strings.HasSuffix(x.Name, ".bias"):
			if lo != 0 || hi != 0 {
				t.Errorf("%s is not 0", x.Name)
			}
		case lo != gain || hi != gain:
			t.Errorf("%s is not %g", x.Name, gain)
		}
	}
	// The fixtures name 0 as the padding token, where transformers starts from a
	// row of zeros.
	e, _ := f.ck.Tensor("model.embed_tokens.weight")
	row := values(t, f.ck, e.Name)[:e.Shape[1]]
	if slices.Min(row) != 0 || slices.Max(row) != 0 {
		t.Errorf("the padding token's embedding is %v", row)
	}
}

// TestRandomKinds: kinds of weights beyond those, with the bounds that
// transformers 5.23 draws them within.
func TestRandomKinds(t *testing.T) {
	for _, c := range []struct {
		fixture, tensor string
		lo, hi          float64
	}{
		{"gpt2", "transformer.h.0.ln_1.weight", 1, 1},
		{"gpt2", "transformer.h.0.ln_1.bias", 0, 0},
		{"gpt2", "transformer.h.0.attn.c_attn.bias", 0, 0},
		{"gpt2", "transformer.wpe.weight", -0.12, 0.12},
		{"mamba", "backbone.layers.0.mixer.A_log", 0, math.Log(5)},
		{"mamba", "backbone.layers.0.mixer.D", 1, 1},
		{"mamba", "backbone.layers.0.mixer.dt_proj.bias", math.Log(math.Expm1(0.001)), math.Log(math.Expm1(0.1))},
		{"mamba", "backbone.layers.0.mixer.dt_proj.weight", -1 / math.Sqrt(3), 1 / math.Sqrt(3)},
		{"mamba", "backbone.layers.0.mixer.conv1d.weight", -0.5, 0.5},
		{"rwkv", "rwkv.blocks.0.attention.time_decay", -5, 3},
		{"rwkv", "rwkv.blocks.0.attention.time_first", math.Log(0.3) - 0.5, math.Log(0.3) + 0.5},
		{"gpt_oss", "model.layers.0.mlp.experts.gate_up_proj_bias", 0, 0},
		{"qwen3_next", "model.norm.weight", 0, 0},
	} {
		t.Run(c.fixture+" "+c.tensor, func(t *testing.T) {
			dst := filepath.Join(t.TempDir(), "random")
			if err := Random(t.Context(), filepath.Join("../../arch/testdata", c.fixture), dst, 1); err != nil {
				t.Fatal(err)
			}
			f, err := open(dst, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer f.close()
			w := values(t, f.ck, c.tensor)
			lo, hi := float64(slices.Min(w)), float64(slices.Max(w))
			if lo < c.lo-1e-4 || hi > c.hi+1e-4 || c.lo < c.hi && hi-lo < (c.hi-c.lo)/4 {
				t.Errorf("between %g and %g, expected between %g and %g", lo, hi, c.lo, c.hi)
			}
		})
	}
}

// TestFillInPieces: how a tensor is cut does not show.
func TestFillInPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := law{sigma: 0.02, row: rapid.IntRange(1, 9).Draw(t, "row"), zero: rapid.IntRange(-1, 5).Draw(t, "zero"), key: rapid.Uint64().Draw(t, "key")}
		n := rapid.IntRange(1, 60).Draw(t, "n")
		whole, pieces := make([]float32, n), make([]float32, n)
		l.fill(whole, 0)
		cut := rapid.IntRange(0, n).Draw(t, "cut")
		l.fill(pieces[cut:], int64(cut))
		l.fill(pieces[:cut], 0)
		if !slices.Equal(whole, pieces) {
			t.Fatalf("cut at %d: %v and %v", cut, whole, pieces)
		}
		for i, v := range whole {
			if (i/l.row == l.zero) != (v == 0) {
				t.Fatalf("element %d is %g", i, v)
			}
		}
	})
}

func TestRandomRefuses(t *testing.T) {
	existing := t.TempDir()
	if err := os.WriteFile(filepath.Join(existing, "mine"), []byte("keep"), 0o666); err != nil {
		t.Fatal(err)
	}
	sealed := copyFolder(t, demoModel, nil)
	if err := os.WriteFile(filepath.Join(sealed, "neuroseal_config.json"), []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	unknown := copyFolder(t, demoModel, func(name string, data []byte) []byte {
		if name == configName {
			return bytes.Replace(data, []byte(`"llama"`), []byte(`"lama"`), 1)
		}
		return data
	})
	for _, c := range []struct {
		name, source, dst string
		kind              fault.Kind
	}{
		{"occupied destination", demoModel, existing, fault.Usage},
		{"destination in the source", demoModel, filepath.Join(demoModel, "x"), fault.Usage},
		{"sealed source", sealed, filepath.Join(t.TempDir(), "x"), fault.AlreadySealed},
		{"unknown architecture", unknown, filepath.Join(t.TempDir(), "x"), fault.Unsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := Random(t.Context(), c.source, c.dst, 1); fault.KindOf(err) != c.kind {
				t.Errorf("%v, want kind %d", err, c.kind)
			}
		})
	}
}
