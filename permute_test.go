package neuroseal

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/probe"
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
	data, err := os.ReadFile(filepath.Join(o.Output, manifest.Name))
	if err != nil {
		t.Fatal(err)
	}
	validate(t, s, data)
	m := res.Manifest
	if !m.Promise.Reordered || len(m.Promise.BitExact) > 0 || m.Permute == nil {
		t.Errorf("promise %+v, %d permutations", m.Promise, len(m.Permute.Permutations))
	}
	t.Logf("%d permutations of %d axes, %d exchanges", len(m.Permute.Permutations), len(m.Permute.Axes), len(m.Permute.Exchanges))
	get := fixedKey(o.Key)
	for _, w := range []VerifyOptions{
		{Sealed: o.Output, Against: o.Source, Key: get, Run: true}, {Sealed: o.Output, Key: get, Run: true},
	} {
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

// TestWrongPermutation: an axis that is moved without its partners is seen.
func TestWrongPermutation(t *testing.T) {
	for _, name := range []string{"llama", "mixtral", "gpt2"} {
		src := filepath.Join("arch/testdata", name)
		l, err := openLocker(LockOptions{Source: src, Output: filepath.Join(t.TempDir(), "out"), Profile: seal.Max, Permute: true, Key: keys.SealKey{3}})
		if err != nil {
			t.Fatal(err)
		}
		defer l.m.ck.Close()
		if err := l.solve(); err != nil {
			t.Fatal(err)
		}
		if err := l.plan(context.Background()); err != nil {
			t.Fatal(err)
		}
		right := *l.places
		diff := func(p gauge.Permutations) probe.Report {
			b, err := openModel(src, arch.Options{Tokens: 9})
			if err != nil {
				t.Fatal(err)
			}
			defer b.ck.Close()
			a, err := openModel(src, arch.Options{Tokens: 9})
			if err != nil {
				t.Fatal(err)
			}
			defer a.ck.Close()
			r := newReorder(b.ck, &p, l.o.Key)
			b.edit = func(x checkpoint.Tensor) checkpoint.Editor {
				return r.sealed(x, func(checkpoint.Tensor) checkpoint.Editor { return nil })
			}
			rep, err := probe.Compare(context.Background(), a.side(), b.side(), probe.Options{Tokens: a.tokens(), Precision: probe.FP32})
			if err != nil {
				t.Fatal(err)
			}
			return rep
		}
		if r := diff(right); r.MaxDiff > reorderedTolerance*r.MaxAbs {
			t.Errorf("%s: %+v", name, r)
		}
		for i, x := range right.Tensors {
			wrong := right
			wrong.Tensors = slices.Delete(slices.Clone(right.Tensors), i, i+1)
			if r := diff(wrong); r.MaxDiff <= reorderedTolerance*r.MaxAbs && moves(&right, x, l.o.Key) {
				t.Errorf("%s: leaving out %s changes outputs by %g of %g only", name, x.Name, r.MaxDiff, r.MaxAbs)
			}
		}
	}
}

// moves reports whether the key moves anything of a tensor.
func moves(p *gauge.Permutations, x gauge.PermutedTensor, key keys.SealKey) bool {
	orders := seal.Shuffles(p.List, key)
	return slices.ContainsFunc(x.Axes, func(ax gauge.PermutedAxis) bool { return !slices.IsSorted(ax.Sources(orders)) })
}
