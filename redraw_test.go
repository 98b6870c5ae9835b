package neuroseal

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// dull returns a key that gives every class of a plan the factor 1.
func dull(t *testing.T, p *seal.Plan) (k keys.SealKey) {
	t.Helper()
	for i := range uint32(1 << 16) {
		binary.BigEndian.PutUint32(k[:], i)
		moved := slices.ContainsFunc(p.Exponents(k), func(e []int16) bool {
			return slices.ContainsFunc(e, func(x int16) bool { return x != 0 })
		})
		if !moved && !slices.ContainsFunc(p.Signs(k), func(n []bool) bool { return slices.Contains(n, true) }) {
			return k
		}
	}
	t.Fatal("every key moves something")
	return k
}

// TestNeverIdle: a key that draws the factor 1 for all classes is drawn again,
// so that a lock always seals; and what it sealed is restored.
func TestNeverIdle(t *testing.T) {
	ctx, s := context.Background(), schema(t)
	for _, c := range []struct {
		name  string
		o     LockOptions
		draws bool
	}{
		{"one group", LockOptions{Profile: seal.Max, Scale: 2, Include: []string{"vo:*0*"}}, true},
		{"signs", LockOptions{Profile: seal.Portable, Scale: 2, Include: []string{"vo:*0*"}, Signs: true}, true},
		{"one offset", LockOptions{Profile: seal.Portable, Scale: 2, Include: []string{"residual"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := c.o
			o.Source, o.Output, o.DryRun = "arch/testdata/llama", filepath.Join(t.TempDir(), "out"), true
			dry, err := Lock(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := seal.Decode(dry.Manifest)
			if err != nil {
				t.Fatal(err)
			}
			if c.draws {
				o.Key = dull(t, plan)
			}
			o.DryRun = false
			res, err := Lock(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			for _, g := range res.Manifest.Groups {
				fixed := g.Lo == 0 && g.Hi == 0 && !g.Signs
				if (g.Draw > 0) != (c.draws && !fixed) {
					t.Errorf("%s: %d draws were thrown away", g.ID, g.Draw)
				}
			}
			validate(t, s, res.Manifest.Marshal())
			sealed := readShard(t, o.Output)
			original := readShard(t, o.Source)
			if bytes.Equal(sealed, original) {
				t.Error("the lock changed nothing")
			}
			back := o.Output + "-back"
			if _, err := Unlock(ctx, UnlockOptions{Source: o.Output, Output: back, Key: fixedKey(o.Key)}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(readShard(t, back), original) {
				t.Error("unlock does not restore the original")
			}
		})
	}
}

func readShard(t *testing.T, dir string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestNothingToScale: where all weights that could move are zero, lock refuses
// instead of writing a copy.
func TestNothingToScale(t *testing.T) {
	src := filepath.Join(t.TempDir(), "src")
	if err := os.CopyFS(src, os.DirFS("arch/testdata/llama")); err != nil {
		t.Fatal(err)
	}
	shard := filepath.Join(src, "model.safetensors")
	b := readShard(t, src)
	clear(b[8+binary.LittleEndian.Uint64(b):])
	if err := os.WriteFile(shard, b, 0o666); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	_, err := Lock(context.Background(), LockOptions{Source: src, Output: out, Profile: seal.Max})
	if fault.KindOf(err) != fault.Unsupported {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("something was written")
	}
}
