package neuroseal

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// These tests each hold one check in place that others would otherwise cover
// up: everything that a second check looks at is made consistent.

// sealedFixture seals a fixture and returns both folders.
func sealedFixture(t *testing.T, name string, o LockOptions) LockOptions {
	t.Helper()
	o.Source, o.Output = filepath.Join("arch/testdata", name), filepath.Join(t.TempDir(), "sealed")
	if o.Key == (keys.SealKey{}) {
		o.Key = keys.SealKey{4}
	}
	if _, err := Lock(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	return o
}

// remanifest edits the manifest of a sealed folder, brings the digests of the
// sealed files up to date and, for a seal with a key, signs it again.
func remanifest(t *testing.T, o LockOptions, edit func(*manifest.Manifest)) {
	t.Helper()
	man, err := readManifest(o.Output)
	if err != nil {
		t.Fatal(err)
	}
	for i := range man.Files {
		f := &man.Files[i]
		data, err := os.ReadFile(filepath.Join(o.Output, f.Path))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		f.SHA256, f.Size = hex.EncodeToString(sum[:]), int64(len(data))
	}
	if edit != nil {
		edit(man)
	}
	if o.Method != seal.Static {
		man.Sign(o.Key)
	}
	if err := os.WriteFile(filepath.Join(o.Output, manifest.Name), man.Marshal(), 0o666); err != nil {
		t.Fatal(err)
	}
}

// rewriteFile edits a file of a sealed folder.
func rewriteFile(t *testing.T, path string, edit func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, edit(bytes.Clone(data)), 0o666); err != nil {
		t.Fatal(err)
	}
}

// editTensor edits a tensor's bytes where they stand.
func editTensor(t *testing.T, dir, name string, edit func(checkpoint.Tensor, []byte)) {
	t.Helper()
	ck, err := checkpoint.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	x, ok := ck.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %s", name)
	}
	old := make([]byte, x.Size)
	if err := ck.ReadAt(x, old, 0); err != nil {
		t.Fatal(err)
	}
	rewriteFile(t, filepath.Join(dir, ck.Shards()[x.Shard].Path), func(data []byte) []byte {
		at := bytes.Index(data, old)
		if at < 0 || bytes.Contains(data[at+1:], old) {
			t.Fatalf("%s is not to be found by its bytes", name)
		}
		edit(x, data[at:at+len(old)])
		return data
	})
}

// TestNoSpace: what cannot fit is refused before anything is written.
func TestNoSpace(t *testing.T) {
	ctx := context.Background()
	sealed := sealedFixture(t, "llama", LockOptions{})
	real := freeSpace
	t.Cleanup(func() { freeSpace = real })
	freeSpace = func(string) (int64, error) { return 1000, nil }
	for name, run := range map[string]func(out string) error{
		"lock": func(out string) error {
			_, err := Lock(ctx, LockOptions{Source: sealed.Source, Output: out})
			return err
		},
		"unlock": func(out string) error {
			_, err := Unlock(ctx, UnlockOptions{Source: sealed.Output, Output: out, Key: fixedKey(sealed.Key)})
			return err
		},
		"undo": func(out string) error {
			_, err := Undo(ctx, UndoOptions{Source: sealed.Output, Output: out})
			return err
		},
	} {
		dir := t.TempDir()
		if err := run(filepath.Join(dir, "out")); fault.KindOf(err) != fault.NoSpace {
			t.Errorf("%s: %v, want exit %d", name, err, fault.NoSpace)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s left %v, %v", name, left, err)
		}
	}
}

// TestVerifyEpsilon: weights as they should be under a config whose epsilon is
// not the one that their factors need.
func TestVerifyEpsilon(t *testing.T) {
	o := sealedFixture(t, "llama", LockOptions{Profile: seal.Max})
	line := regexp.MustCompile(`("rms_norm_eps": *)[^,\s}]+`)
	rewriteFile(t, filepath.Join(o.Output, "config.json"), func(conf []byte) []byte {
		if !line.Match(conf) {
			t.Fatalf("no epsilon in %s", conf)
		}
		return line.ReplaceAll(conf, []byte("${1}0.125"))
	})
	remanifest(t, o, nil)
	v, err := Verify(context.Background(), VerifyOptions{Sealed: o.Output, Against: o.Source})
	if err != nil {
		t.Fatal(err)
	}
	if !*v.DigestsOK {
		t.Fatalf("the digests were meant to fit: %+v", v.Mismatches)
	}
	if v.OK || *v.BitExactAlgebra || !slices.ContainsFunc(v.Mismatches, func(m Mismatch) bool {
		return m.File == "config.json" && strings.Contains(m.What, "rms_norm_eps")
	}) {
		t.Errorf("%+v", v)
	}
}

// TestVerifyEveryExpert: sparse networks run twice, the second time with every
// expert taking part.
func TestVerifyEveryExpert(t *testing.T) {
	for _, name := range []string{"mixtral", "qwen3_moe"} {
		o := sealedFixture(t, name, LockOptions{})
		v, err := Verify(context.Background(), VerifyOptions{Sealed: o.Output, Against: o.Source, Run: true})
		if err != nil || !v.OK || !*v.BitExactForward {
			t.Fatalf("%s: %+v, %v", name, v, err)
		}
		if n := everyExpert(v, true); n != 2 || len(v.Forward) != 4 {
			t.Errorf("%s: %d of %d runs with every expert, want 2 of 4", name, n, len(v.Forward))
		}
	}
}

// TestVerifyIdleExpert: the damage of an expert that no token chooses shows in
// no output of the network as it is, and must be found all the same.
func TestVerifyIdleExpert(t *testing.T) {
	ctx := context.Background()
	const experts = 2 * verifyTokens // one per token: half of them or more are idle
	c := drawTiny("mixtral", func(string, int) int { return 0 })
	c.config["rms_norm_eps"], c.config["num_local_experts"], c.config["num_experts_per_tok"] = 1e-5, experts, 1
	src := filepath.Join(t.TempDir(), "src")
	c.write(t, src)
	o := LockOptions{Source: src, Output: filepath.Join(t.TempDir(), "sealed"), Profile: seal.Max, Key: keys.SealKey{4}, AllowSealed: true}
	if _, err := Lock(ctx, o); err != nil {
		t.Fatal(err)
	}
	for e := range experts {
		name := fmt.Sprintf("model.layers.0.block_sparse_moe.experts.%d.w3.weight", e)
		editTensor(t, o.Output, name, times(2))
		remanifest(t, o, nil)
		v, err := Verify(ctx, VerifyOptions{Sealed: o.Output, Against: src, Run: true})
		if err != nil || !*v.DigestsOK {
			t.Fatalf("%+v, %v", v, err)
		}
		if v.OK || *v.BitExactForward || everyExpert(v, false) != 2 {
			t.Fatalf("expert %d, doubled: %+v", e, v)
		}
		if v.Forward[0].Equal && v.Forward[1].Equal {
			return // only the runs with every expert tell
		}
		editTensor(t, o.Output, name, times(0.5))
	}
	t.Error("no expert is idle: this test shows nothing")
}

// times returns an edit that scales a tensor.
func times(factor float32) func(checkpoint.Tensor, []byte) {
	return func(x checkpoint.Tensor, b []byte) {
		v := make([]float32, x.Elements())
		dtype.ToFloat32(x.DType, v, b)
		for i := range v {
			v[i] *= factor
		}
		dtype.FromFloat32(x.DType, b, v)
	}
}

// everyExpert counts the runs in which all experts took part and whose outputs
// are equal, or are not.
func everyExpert(v *VerifyResult, equal bool) (n int) {
	for _, r := range v.Forward {
		if r.Experts && r.Equal == equal {
			n++
		}
	}
	return n
}

// TestUnlockInputDigest: method static rounds, so that no digest of the result
// can tell of damage: the digest of what was sealed must.
func TestUnlockInputDigest(t *testing.T) {
	o := sealedFixture(t, "mistral", LockOptions{Method: seal.Static})
	editTensor(t, o.Output, "model.layers.0.mlp.up_proj.weight", func(_ checkpoint.Tensor, b []byte) { b[0] ^= 1 })
	mustNotUnlock(t, o, "is not what was sealed")
}

// TestUnlockOutputDigest: what comes out must be the recorded original, also if
// what went in is what the manifest, signed with the key, names.
func TestUnlockOutputDigest(t *testing.T) {
	o := sealedFixture(t, "llama", LockOptions{})
	remanifest(t, o, func(m *manifest.Manifest) {
		for i := range m.Files {
			if f := &m.Files[i]; f.Path == "model.safetensors" {
				f.Original = strings.Repeat("0", 64)
			}
		}
	})
	mustNotUnlock(t, o, "could not be restored")
}

func mustNotUnlock(t *testing.T, o LockOptions, why string) {
	t.Helper()
	dir := t.TempDir()
	_, err := Unlock(context.Background(), UnlockOptions{Source: o.Output, Output: filepath.Join(dir, "out"), Key: fixedKey(o.Key)})
	if fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), why) {
		t.Errorf("%v, want exit %d: %s", err, fault.Mismatch, why)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}
