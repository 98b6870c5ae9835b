package neuroseal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// TestHalfONNX: a model that casts to fp16 is no place for the wide profiles.
func TestHalfONNX(t *testing.T) {
	for file, half := range map[string]bool{"onnx/testdata/llama.onnx": false, "testdata/half.onnx": true} {
		for _, p := range []seal.Profile{seal.Max, seal.Strong} {
			o := LockOptions{Source: file, Profile: p}
			if err := o.suitsONNX(); (fault.KindOf(err) == fault.Unsupported) != half {
				t.Errorf("%s, %s: %v", file, p, err)
			}
		}
	}
}

// TestLoading: a folder that runtimes load as something else than its weights
// alone is refused, and one that they load in fp16 is sealed with a warning by
// the profiles that do not bear it.
func TestLoading(t *testing.T) {
	lock := func(dir string, p seal.Profile) (string, error) {
		res, err := Lock(context.Background(), LockOptions{Source: dir, Profile: p, Key: keys.SealKey{1}, DryRun: true})
		if err != nil {
			return "", err
		}
		return strings.Join(res.Manifest.Notes, "\n"), nil
	}
	folder := func(dtype string) string {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS("arch/testdata/llama")); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, "config.json")
		conf, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		conf = bytes.Replace(conf, []byte(`"dtype": "float32"`), []byte(dtype), 1)
		if err := os.WriteFile(file, conf, 0o666); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, c := range []struct {
		dtype   string
		profile seal.Profile
		warns   bool
	}{
		{`"dtype": "float32"`, seal.Max, false},
		{`"dtype": "float16"`, seal.Max, true},
		{`"dtype": "float16"`, seal.Strong, true},
		{`"dtype": "float16"`, seal.Portable, false},
		{`"torch_dtype": "float16"`, seal.Max, true},
		{`"dtype": "bfloat16", "torch_dtype": "float16"`, seal.Max, false},
	} {
		notes, err := lock(folder(c.dtype), c.profile)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(notes, "asks for fp16") != c.warns {
			t.Errorf("%s, %s: notes %q", c.dtype, c.profile, notes)
		}
	}
	dir := folder(`"dtype": "float32"`)
	if err := os.WriteFile(filepath.Join(dir, adapterConfig), []byte("{}"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := lock(dir, seal.Max); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("a folder with an adapter: %v", err)
	}
}
