package neuroseal

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// TestONNXRoundTrip: a model file is sealed into a file and into a folder,
// verifies by its forward pass, and comes back byte for byte.
func TestONNXRoundTrip(t *testing.T) {
	ctx := context.Background()
	key := keys.SealKey{1, 2, 3}
	find := func(*manifest.Manifest) (keys.SealKey, error) { return key, nil }
	for _, name := range []string{"llama", "gpt2", "bert", "vit"} {
		for _, folder := range []bool{false, true} {
			src := filepath.Join("onnx", "testdata", name+".onnx")
			dir := t.TempDir()
			sealed, back, file := filepath.Join(dir, "sealed.onnx"), filepath.Join(dir, "back.onnx"), filepath.Join(dir, "back.onnx")
			if folder {
				sealed, back = filepath.Join(dir, "sealed"), filepath.Join(dir, "back")
				file = filepath.Join(back, name+".onnx")
			}
			if _, err := Lock(ctx, LockOptions{Source: src, Output: sealed, Profile: seal.Max, Key: key}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			v, err := Verify(ctx, VerifyOptions{Sealed: sealed, Against: src, Run: true})
			if err != nil || !v.OK || v.BitExactForward == nil || !*v.BitExactForward {
				t.Fatalf("%s: verify: %+v, %v", name, v, err)
			}
			if _, err := Lock(ctx, LockOptions{Source: sealed, Output: filepath.Join(dir, "again.onnx"), Key: key}); fault.KindOf(err) != fault.AlreadySealed {
				t.Errorf("%s: sealing twice: %v", name, err)
			}
			if _, err := Unlock(ctx, UnlockOptions{Source: sealed, Output: back, Key: find}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			want, err1 := os.ReadFile(src)
			got, err2 := os.ReadFile(file)
			if err1 != nil || err2 != nil || !bytes.Equal(want, got) {
				t.Errorf("%s: unlock does not restore the model: %v %v", name, err1, err2)
			}
		}
	}
}
