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
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

const doubled = "quant/testdata/nf4-double"

// TestUnnest: double-quantised scales are expanded when that is asked for, and
// only then; the seal is exact, and unlock brings every byte back.
func TestUnnest(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	k := keys.SealKey{1, 2, 3}
	key := func(*manifest.Manifest) (keys.SealKey, error) { return k, nil }
	for _, p := range []seal.Profile{seal.Portable, seal.Strong} {
		out, back := filepath.Join(dir, string(p)), filepath.Join(dir, string(p)+"-back")
		_, err := Lock(ctx, LockOptions{Source: doubled, Output: out, Key: k, Profile: p})
		if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), "bytes more than") || !strings.Contains(fault.HintOf(err), "--unnest") {
			t.Fatalf("without --unnest: %v", err)
		}
		var notices []string
		res, err := Lock(ctx, LockOptions{Source: doubled, Output: out, Key: k, Profile: p, Unnest: true, Notice: func(s string) { notices = append(notices, s) }})
		if err != nil {
			t.Fatal(err)
		}
		if len(notices) == 0 || !strings.Contains(strings.Join(notices, " "), "bytes more than") || !strings.Contains(strings.Join(res.Manifest.Notes, " "), "bytes more than") {
			t.Errorf("%s: the cost is not told: %q, %q", p, notices, res.Manifest.Notes)
		}
		if res.Manifest.Coverage < 0.9 {
			t.Errorf("%s: coverage %g", p, res.Manifest.Coverage)
		}
		v, err := Verify(ctx, VerifyOptions{Sealed: out, Against: doubled, Run: true})
		if err != nil || !v.OK || v.BitExactForward == nil || !*v.BitExactForward || !*v.BitExactAlgebra || !*v.DigestsOK {
			t.Errorf("%s against the original: %+v, %v", p, v, err)
		}
		v, err = Verify(ctx, VerifyOptions{Sealed: out, Key: key, Run: true})
		if err != nil || !v.OK || !*v.BitExactAlgebra {
			t.Errorf("%s with the key: %+v, %v", p, v, err)
		}
		if _, err := Unlock(ctx, UnlockOptions{Source: out, Output: back, Key: key}); err != nil {
			t.Fatal(err)
		}
		sameFolder(t, doubled, back)
		if _, err := Undo(ctx, UndoOptions{Source: out, Output: filepath.Join(dir, string(p)+"-undone")}); err != nil {
			t.Error(err)
		}
	}
	if _, err := Undo(ctx, UndoOptions{Source: doubled, Output: filepath.Join(dir, "undone")}); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("undo of the original: %v", err)
	}
	if _, err := Lock(ctx, LockOptions{Source: "quant/testdata/nf4", Output: filepath.Join(dir, "x"), Key: k, Unnest: true}); fault.KindOf(err) != fault.Usage {
		t.Errorf("--unnest of plain scales: %v", err)
	}
	if _, err := Lock(ctx, LockOptions{Source: doubled, Output: filepath.Join(doubled, "x"), Key: k, Unnest: true}); fault.KindOf(err) != fault.Usage {
		t.Errorf("an output inside of the source: %v", err)
	}
}

// TestUnnestDamaged: unlock notices what was changed after sealing, and a key
// that is another's.
func TestUnnestDamaged(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	out := filepath.Join(dir, "sealed")
	if _, err := Lock(ctx, LockOptions{Source: doubled, Output: out, Key: keys.SealKey{1}, Unnest: true}); err != nil {
		t.Fatal(err)
	}
	unlock := func(k keys.SealKey) error {
		_, err := Unlock(ctx, UnlockOptions{Source: out, Output: filepath.Join(dir, "back"), Key: func(*manifest.Manifest) (keys.SealKey, error) { return k, nil }})
		if _, serr := os.Stat(filepath.Join(dir, "back")); serr == nil {
			t.Error("something was written")
		}
		return err
	}
	if err := unlock(keys.SealKey{2}); fault.KindOf(err) != fault.WrongKey {
		t.Errorf("another key: %v", err)
	}
	for _, name := range []string{nestedName, "model.safetensors"} {
		file := filepath.Join(out, name)
		old, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(old, []byte("nested_absmax")) {
			t.Errorf("%s tells the second level", name)
		}
		changed := bytes.Clone(old)
		changed[len(changed)-1] ^= 1
		if err := os.WriteFile(file, changed, 0o666); err != nil {
			t.Fatal(err)
		}
		if err := unlock(keys.SealKey{1}); fault.KindOf(err) != fault.Mismatch {
			t.Errorf("%s changed: %v", name, err)
		}
		if err := os.WriteFile(file, old, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := encryptNested(keys.SealKey{1}, []byte("text")); err != nil {
		t.Error(err)
	} else if _, err := decryptNested(keys.SealKey{2}, text); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("decrypted by another key: %v", err)
	} else if _, err := decryptNested(keys.SealKey{1}, text[:5]); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("cut: %v", err)
	}
}
