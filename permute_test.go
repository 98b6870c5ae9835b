package neuroseal

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// TestPermuteFixtures: in every family, permuted outputs are the original's but
// for the order of sums, and unlocking restores every byte.
func TestPermuteFixtures(t *testing.T) {
	dirs, err := filepath.Glob("arch/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 25 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	s := schema(t)
	for i, d := range dirs {
		src := filepath.Dir(d)
		t.Run(filepath.Base(src), func(t *testing.T) {
			if testing.Short() && i%8 != 0 {
				t.Skip("every eighth")
			}
			o := LockOptions{
				Source: src, Output: filepath.Join(t.TempDir(), "out"), Profile: seal.Max, Permute: true, Signs: true, Key: keys.SealKey{byte(i), 9},
			}
			permuted(t, s, o)
		})
	}
}

func permuted(t *testing.T, s *jsonschema.Schema, o LockOptions) {
	ctx := context.Background()
	res, err := Lock(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	m := res.Manifest
	if !m.Promise.Reordered || len(m.Promise.BitExact) > 0 || m.Permute == nil {
		t.Errorf("promise %+v, %d permutations", m.Promise, len(m.Permute.Permutations))
	}
	t.Logf("%d permutations of %d axes, %d exchanges", len(m.Permute.Permutations), len(m.Permute.Axes), len(m.Permute.Exchanges))
	get := fixedKey(o.Key)
	for _, w := range []VerifyOptions{{Sealed: o.Output, Against: o.Source, Key: get, Run: true}, {Sealed: o.Output, Key: get, Run: true}} {
		v, err := Verify(ctx, w)
		if err != nil || !v.OK || v.BitExactAlgebra == nil || !*v.BitExactAlgebra {
			t.Fatalf("verify against %q: %+v, %v", w.Against, v, err)
		}
		t.Logf("differs by %g of %g", v.Forward[0].MaxDiff, v.Forward[0].MaxAbs)
	}
	back := filepath.Join(t.TempDir(), "back")
	if u, err := Unlock(ctx, UnlockOptions{Source: o.Output, Output: back, Key: get}); err != nil || !u.Exact {
		t.Fatalf("unlock: %+v, %v", u, err)
	}
	sameFolder(t, o.Source, back)
}
