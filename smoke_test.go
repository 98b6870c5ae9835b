package neuroseal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

func TestSmoke(t *testing.T) {
	dirs, _ := filepath.Glob("arch/testdata/*/model.safetensors")
	dirs = append(dirs, "internal/demo/model/model.safetensors")
	for _, d := range dirs {
		for _, p := range []seal.Profile{seal.Portable, seal.Strong, seal.Max} {
			t.Run(filepath.Base(filepath.Dir(d))+"/"+string(p), func(t *testing.T) {
				src := filepath.Dir(d)
				out := filepath.Join(t.TempDir(), "out")
				key := keys.NewSealKey()
				ctx := context.Background()
				res, err := Lock(ctx, LockOptions{Source: src, Output: out, Profile: p, Key: key})
				if err != nil {
					t.Fatal(err)
				}
				if os.Getenv("SHOW") != "" {
					for _, e := range res.Explain {
						fmt.Println(e)
					}
				}
				fmt.Println(src, p, "coverage", res.Manifest.Coverage, "holes", len(res.Manifest.Holes), res.Manifest.Patches)
				get := func(*manifest.Manifest) (keys.SealKey, error) { return key, nil }
				v, err := Verify(ctx, VerifyOptions{Sealed: out, Against: src, Run: true})
				if err != nil {
					t.Fatal(err)
				}
				if !v.OK || !*v.BitExactAlgebra || !*v.BitExactForward || !*v.DigestsOK {
					t.Errorf("%+v", v)
				}
				v, err = Verify(ctx, VerifyOptions{Sealed: out, Key: get, Run: true})
				if err != nil {
					t.Fatal(err)
				}
				if !v.OK || !*v.BitExactAlgebra || !*v.BitExactForward || !*v.DigestsOK {
					t.Errorf("%+v", v)
				}
				back := filepath.Join(t.TempDir(), "back")
				u, err := Unlock(ctx, UnlockOptions{Source: out, Output: back, Key: get})
				if err != nil {
					t.Fatal(err)
				}
				if !u.Exact {
					t.Error("inexact")
				}
				_, err = Undo(ctx, UndoOptions{Source: out, Output: filepath.Join(t.TempDir(), "undo")})
				if err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
