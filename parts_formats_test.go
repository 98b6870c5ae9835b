package neuroseal

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// inParts seals a checkpoint in n parts, the last first, and demands the folder
// that one lock makes.
func inParts(t *testing.T, o LockOptions, n int) {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	o.Time = time.Unix(1e9, 0)
	whole := o
	whole.Output = filepath.Join(dir, "whole")
	if _, err := Lock(ctx, whole); err != nil {
		t.Fatal(err)
	}
	o.Output = filepath.Join(dir, "out")
	for i := n; i > 0; i-- {
		r, err := LockPart(ctx, o, Part{i, n})
		if err != nil {
			t.Fatalf("part %d of %d: %v", i, n, err)
		}
		if again, err := LockPart(ctx, o, Part{i, n}); err != nil || again.Bytes != 0 || len(again.Shards) != len(r.Shards) {
			t.Fatalf("part %d again: %+v, %v", i, again, err)
		}
	}
	if _, err := LockFinish(ctx, o); err != nil {
		t.Fatal(err)
	}
	sameFolder(t, whole.Output, o.Output)
	back := filepath.Join(dir, "back")
	key := func(*manifest.Manifest) (keys.SealKey, error) { return o.Key, nil }
	if _, err := Unlock(ctx, UnlockOptions{Source: o.Output, Output: back, Key: key}); err != nil {
		t.Fatal(err)
	}
	sameFolder(t, o.Source, back)
}

// TestPartsGGUF: a split model, whose first file gets other metadata and another
// epsilon.
func TestPartsGGUF(t *testing.T) {
	for _, ty := range []gguf.Type{gguf.Q4_K, gguf.Q8_0, gguf.MXFP4, gguf.IQ1M} {
		for _, bare := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/%v", ty, bare), func(t *testing.T) {
				t.Parallel()
				src := splitGGUF(t, llamaGGUF(ty, blockSource(t)[ty], 1.0/64), 3)
				inParts(t, LockOptions{Source: src, Key: ggufKey, NoMetadata: bare}, 3)
			})
		}
	}
}

// TestPartsGGUFAgree: parts with and without metadata do not go together, and a
// header that changes between them is noticed.
func TestPartsGGUFAgree(t *testing.T) {
	src := splitGGUF(t, llamaGGUF(gguf.Q4_0, blockSource(t)[gguf.Q4_0], 1.0/64), 2)
	o := LockOptions{Source: src, Output: filepath.Join(t.TempDir(), "out"), Key: ggufKey, Time: time.Unix(1e9, 0)}
	lockParts(t, o, Part{1, 2})
	bare := o
	bare.NoMetadata = true
	_, err := LockPart(context.Background(), bare, Part{2, 2})
	refused(t, err, fault.Usage, "no-metadata is false there and true here")
	first := filepath.Join(src, "m-00001-of-00002.gguf")
	raw, err := os.ReadFile(first)
	if err != nil {
		t.Fatal(err)
	}
	m, err := gguf.Open(src)
	if err != nil {
		t.Fatal(err)
	}
	kv, _ := m.Header().Get("llama.context_length")
	m.Close()
	_, end := kv.Place()
	raw[end-4]++
	if err := os.WriteFile(first, raw, 0o666); err != nil {
		t.Fatal(err)
	}
	_, err = LockPart(context.Background(), o, Part{2, 2})
	refused(t, err, fault.Mismatch, "another checkpoint")

	o.Output = filepath.Join(t.TempDir(), "one.gguf")
	_, err = LockPart(context.Background(), o, Part{1, 2})
	refused(t, err, fault.Usage, "as a whole")
}

// TestPartsQuantised: scales of every format, in shards other than their codes'.
func TestPartsQuantised(t *testing.T) {
	dirs, err := filepath.Glob("quant/testdata/*/model.safetensors")
	if err != nil || len(dirs) < 4 {
		t.Fatalf("fixtures: %d found, %v", len(dirs), err)
	}
	for _, d := range dirs {
		src := filepath.Dir(d)
		if refusedFixtures[filepath.Base(src)] {
			continue
		}
		for _, p := range []seal.Profile{seal.Portable, seal.Strong} {
			t.Run(filepath.Base(src)+"/"+string(p), func(t *testing.T) {
				t.Parallel()
				dealt := filepath.Join(t.TempDir(), "model")
				deal(t, src, dealt, 3)
				inParts(t, LockOptions{Source: dealt, Key: keys.SealKey{9}, Profile: p}, 2)
			})
		}
	}
}

// TestRemoteQuantised: such a checkpoint is sealed as it arrives, too.
func TestRemoteQuantised(t *testing.T) {
	for _, name := range []string{"fp8", "mxfp4", "nvfp4", "ct-fp8-block"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src, dir := filepath.Join(t.TempDir(), "model"), t.TempDir()
			deal(t, filepath.Join("quant/testdata", name), src, 3)
			o := LockOptions{Source: src, Output: filepath.Join(dir, "whole"), Key: keys.SealKey{7}, Time: time.Unix(1e9, 0)}
			if _, err := Lock(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			e, want := newElsewhere(src), o.Output
			o.Source, o.Remote, o.Output = "", e.remote(), filepath.Join(t.TempDir(), "out")
			check, err := CheckRemote(o.Remote, false, false)
			if err != nil || !check.Streams {
				t.Fatalf("%+v, %v", check, err)
			}
			if _, err := Lock(context.Background(), o); err != nil {
				t.Fatal(err)
			}
			sealedAs(t, o, want)
			for file, n := range e.fetched {
				if n != 1 {
					t.Errorf("%s was fetched %d times", file, n)
				}
			}
		})
	}
}
