package quant_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/quant"
)

// refused are fixtures of a format that is known and that no factor fits.
var refused = map[string]bool{"nf4-double": true}

func open(t *testing.T, dir string) (*checkpoint.Checkpoint, *quant.Set, error) {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ck.Close() })
	if err := ck.Interpret(quant.Narrow(ck)); err != nil {
		t.Fatal(err)
	}
	s, err := quant.Open(ck)
	return ck, s, err
}

// TestDequantise compares every weight of every fixture with what PyTorch's
// arithmetic makes of the same tensors, bit for bit, read as a whole and in
// pieces that begin and end inside rows.
func TestDequantise(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/dequantised.json")
	if err != nil || len(dirs) < 20 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	for _, d := range dirs {
		name := filepath.Base(filepath.Dir(d))
		t.Run(name, func(t *testing.T) {
			ck, s, err := open(t, filepath.Dir(d))
			if refused[name] {
				if fault.KindOf(err) != fault.Unsupported {
					t.Fatalf("not refused: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(d)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string]string
			if err := json.Unmarshal(data, &want); err != nil {
				t.Fatal(err)
			}
			if len(want) != len(s.Names()) {
				t.Errorf("weights %v, expected %d", s.Names(), len(want))
			}
			for _, n := range s.Names() {
				w := s.Weight(n)
				if got := sum(t, ck, w, int(w.Size())); got != want[n] {
					t.Errorf("%s (%s): other numbers than PyTorch's", n, w.Format)
				}
				if got := sum(t, ck, w, 4*37); got != want[n] {
					t.Errorf("%s (%s): other numbers in pieces", n, w.Format)
				}
			}
		})
	}
}

// sum reads a weight in pieces of so many bytes and hashes it.
func sum(t *testing.T, src quant.Source, w *quant.Weight, piece int) string {
	t.Helper()
	h := sha256.New()
	for off := int64(0); off < w.Size(); off += int64(piece) {
		p := make([]byte, min(int64(piece), w.Size()-off))
		if err := w.Read(src, p, off); err != nil {
			t.Fatal(err)
		}
		h.Write(p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestRefused: what is not known is refused by name.
func TestRefused(t *testing.T) {
	for _, x := range []struct{ config, want string }{
		{`{"quantization_config": {"quant_method": "torchao"}}`, "torchao"},
		{`{"quantization_config": {"quant_method": "hqq"}}`, "hqq"},
		{`{"quantization_config": {"quant_method": "aqlm"}}`, "aqlm"},
		{`{"quantization_config": {"quant_method": "quanto"}}`, "quanto"},
		{`{"quantization_config": {"quant_method": "mlx"}}`, "mlx"},
		{`{"quantization_config": {}}`, "quantization_config"},
		{`{"quantization_config": {"quant_method": "gptq", "bits": 3}}`, "3 bits"},
		{`{"quantization_config": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}}`, "marlin"},
		{`{"quantization_config": {"quant_method": "gptq", "bits": 4, "dynamic": {"+:.*": {"bits": 8}}}}`, "dynamic"},
		{`{"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemv"}}`, "gemv"},
		{`{"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}}`, "e5m2"},
		{`{"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}}`, "W4A8_AWQ"},
		{`{"quantization_config": {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}}`, "kv_cache_scheme"},
		{`{"quantization_config": {"quant_method": "compressed-tensors", "sparsity_config": {"format": "sparse-24-bitmask"}}}`, "sparse-24"},
		{`{"quantization_config": {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {"R1": {}}}}}`, "transform_config"},
		{`{"quantization": {"group_size": 32, "bits": 4, "mode": "fp3"}}`, "fp3"},
		{`{"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": true}}`, "no weight is quantised"},
	} {
		_, err := withConfig(t, "awq", x.config)
		if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", x.config, err)
		}
	}
	if s, err := withConfig(t, "awq", `{"model_type": "llama"}`); s != nil || err != nil {
		t.Errorf("a plain config: %v, %v", s, err)
	}
}

// TestPlain: the rest of a config stays.
func TestPlain(t *testing.T) {
	got := string(quant.Plain([]byte(`{"eps": 1e-05, "quantization_config": {"a": 1}, "quantization": null}`)))
	if got != `{"eps":1e-05}` {
		t.Error(got)
	}
	if same := `{ "eps": 1e-05 }`; string(quant.Plain([]byte(same))) != same {
		t.Error("a plain config has changed")
	}
}

// withConfig opens a fixture with another config.
func withConfig(t testing.TB, fixture, config string) (*quant.Set, error) {
	t.Helper()
	dir := t.TempDir()
	data, err := os.ReadFile(filepath.Join("testdata", fixture, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"model.safetensors": data, "config.json": []byte(config)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	if err := ck.Interpret(quant.Narrow(ck)); err != nil {
		t.Fatal(err)
	}
	return quant.Open(ck)
}

// FuzzOpen: whatever a config says of tensors that are there, what is opened can
// be read, and nothing else happens than an error of kind Unsupported.
func FuzzOpen(f *testing.F) {
	names := []string{"awq", "gptq-order", "nf4", "int8", "mlx-int6", "fp8-partial", "mxfp4", "nvfp4", "ct-int4-zero", "ct-w8a8", "ct-fp8-block", "mlx-mxfp4", "mlx-nvfp4"}
	for i, n := range names {
		data, err := os.ReadFile(filepath.Join("testdata", n, "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), data)
	}
	f.Fuzz(func(t *testing.T, i uint8, config []byte) {
		dir := filepath.Join("testdata", names[int(i)%len(names)])
		s, err := withConfig(t, filepath.Base(dir), string(config))
		if err != nil && fault.KindOf(err) != fault.Unsupported {
			t.Fatal(err)
		}
		if s == nil {
			return
		}
		ck, err := checkpoint.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer ck.Close()
		if err := ck.Interpret(quant.Narrow(ck)); err != nil {
			t.Fatal(err)
		}
		for _, n := range s.Names() {
			w := s.Weight(n)
			if err := w.Read(ck, make([]byte, min(w.Size(), 4096)), max(w.Size()-4096, 0)&^3); err != nil {
				t.Fatalf("%s: %v", n, err)
			}
		}
	})
}
