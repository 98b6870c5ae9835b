package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
)

// child runs the command in a process of its own, which dies before its n-th
// operation on the file system, and returns the exit code.
func child(t *testing.T, n int, args ...string) (code int, output string) {
	t.Helper()
	path, err := exec.LookPath("neuroseal") // this test binary, by testscript.Main
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=kill:%d", failEnv, n))
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode(), string(out)
	} else if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

// killed plays one command over and over, killed at a later operation each
// time, in a new folder, until it gets through. args names the command's
// operands; check is called after each kill, and again after the second run,
// which must complete.
type killed struct {
	source string // must stay as it is
	stride int
	setup  func(t *testing.T, dir string)
	args   func(dir string) []string
	whole  func(t *testing.T, dir string) error // is the output what it should be?
}

func (k killed) run(t *testing.T) {
	t.Helper()
	before, err := tree(k.source)
	if err != nil {
		t.Fatal(err)
	}
	n := 1
	for ; ; n += k.stride {
		dir := t.TempDir()
		if k.setup != nil {
			k.setup(t, dir)
		}
		code, out := child(t, n, k.args(dir)...)
		if code == 0 {
			break
		}
		if code != killedCode {
			t.Fatalf("killed at %d: exit code %d\n%s", n, code, out)
		}
		complete := k.afterKill(t, dir, n)
		if code, out = child(t, 0, k.args(dir)...); code != 0 && !(complete && code == 2) {
			t.Fatalf("killed at %d, second run: exit code %d\n%s", n, code, out)
		}
		if err := k.whole(t, dir); err != nil {
			t.Fatalf("killed at %d, second run: %v", n, err)
		}
		if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 && !complete {
			t.Fatalf("killed at %d, second run leaves %v", n, left)
		}
		after, err := tree(k.source)
		if err != nil || fmt.Sprint(after) != fmt.Sprint(before) {
			t.Fatalf("killed at %d: the source changed (%v)", n, err)
		}
	}
	if n < 15 {
		t.Errorf("only %d operations: is the hook set?", n)
	}
	t.Logf("killed at every %d of %d operations", k.stride, n-1)
}

// afterKill demands that the output is absent or whole, and reports which.
func (k killed) afterKill(t *testing.T, dir string, n int) bool {
	t.Helper()
	if _, err := os.Lstat(filepath.Join(dir, "out")); os.IsNotExist(err) {
		return false
	}
	if err := k.whole(t, dir); err != nil {
		t.Fatalf("killed at %d: the output is there and not whole: %v", n, err)
	}
	return true
}

// opens demands that the seal in dir/out is whole and that its key opens it.
func opens(source string, key func(dir string) (keys.SealKey, error)) func(*testing.T, string) error {
	return func(t *testing.T, dir string) error {
		out := filepath.Join(dir, "out")
		v, err := neuroseal.Verify(context.Background(), neuroseal.VerifyOptions{Sealed: out, Against: source})
		if err == nil && !v.OK {
			err = fmt.Errorf("%v", v.Mismatches)
		}
		if err != nil {
			return err
		}
		m, _, err := neuroseal.ReadManifest(out)
		if err != nil {
			return err
		}
		k, err := key(dir)
		if err != nil {
			return err
		}
		return m.Verify(k)
	}
}

func TestKilledLock(t *testing.T) {
	src := fixture(t, "../../arch/testdata/llama-tied")
	beside := func(dir string) (keys.SealKey, error) {
		k, _, err := keys.ReadKeyFile(filepath.Join(dir, "out.key"))
		return k, err
	}
	killed{
		source: src, stride: 1, whole: opens(src, beside),
		args: func(dir string) []string { return []string{"lock", src, filepath.Join(dir, "out")} },
	}.run(t)
}

func TestKilledLockDetached(t *testing.T) {
	src := fixture(t, "../../arch/testdata/llama-tied")
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	slots := func(dir string) (keys.SealKey, error) {
		d, err := keys.ReadDetached(filepath.Join(dir, "slots.json"))
		if err != nil {
			return keys.SealKey{}, err
		}
		k, _, err := keys.Unwrap(d.Slots, []age.Identity{id}, nil)
		return k, err
	}
	killed{
		source: src, stride: 2, whole: opens(src, slots),
		args: func(dir string) []string {
			return []string{"lock", src, filepath.Join(dir, "out"), "-r", id.Recipient().String(), "--detached-key", filepath.Join(dir, "slots.json")}
		},
	}.run(t)
}

// TestKilledForce: what --force replaces stays, whole, until the new one is
// there; between two renames it may be missing, and the next run restores it.
func TestKilledForce(t *testing.T) {
	src := fixture(t, "../../arch/testdata/llama-tied")
	key := filepath.Join(t.TempDir(), "key")
	if err := keys.WriteKeyFile(key, keys.NewSealKey()); err != nil {
		t.Fatal(err)
	}
	args := func(dir string) []string {
		return []string{"lock", src, filepath.Join(dir, "out"), "--key-file", key, "--force"}
	}
	killed{
		source: src, stride: 3, args: args,
		whole: opens(src, func(string) (keys.SealKey, error) {
			k, _, err := keys.ReadKeyFile(key)
			return k, err
		}),
		setup: func(t *testing.T, dir string) {
			if code, out := child(t, 0, args(dir)...); code != 0 {
				t.Fatalf("%d %s", code, out)
			}
		},
	}.run(t)
}

// sealedFixture seals a tiny checkpoint and returns both.
func sealedFixture(t *testing.T, key keys.SealKey) (src, sealed string) {
	t.Helper()
	src, sealed = fixture(t, "../../arch/testdata/llama-tied"), filepath.Join(t.TempDir(), "sealed")
	if _, err := neuroseal.Lock(context.Background(), neuroseal.LockOptions{Source: src, Output: sealed, Key: key}); err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteKeyFile(sealed+".key", key); err != nil {
		t.Fatal(err)
	}
	return src, sealed
}

func TestKilledUnlock(t *testing.T) {
	src, sealed := sealedFixture(t, keys.NewSealKey())
	killed{
		source: sealed, stride: 2,
		args: func(dir string) []string { return []string{"unlock", sealed, filepath.Join(dir, "out")} },
		whole: func(_ *testing.T, dir string) error {
			diff, err := treeDiff(src, filepath.Join(dir, "out"))
			if diff != "" {
				err = errors.Join(err, fmt.Errorf("differs in %s", diff))
			}
			return err
		},
	}.run(t)
}

func TestKilledUndo(t *testing.T) {
	_, sealed := sealedFixture(t, keys.NewSealKey())
	want := filepath.Join(t.TempDir(), "want")
	if _, err := neuroseal.Undo(context.Background(), neuroseal.UndoOptions{Source: sealed, Output: want}); err != nil {
		t.Fatal(err)
	}
	killed{
		source: sealed, stride: 3,
		args: func(dir string) []string {
			return []string{"undo", "--no-key", sealed, filepath.Join(dir, "out")}
		},
		whole: func(_ *testing.T, dir string) error {
			diff, err := treeDiff(want, filepath.Join(dir, "out"))
			if diff != "" {
				err = errors.Join(err, fmt.Errorf("differs in %s", diff))
			}
			return err
		},
	}.run(t)
}

// TestKilledKeyAdd: the manifest is the old one or the new one.
func TestKilledKeyAdd(t *testing.T) {
	key := keys.NewSealKey()
	_, sealed := sealedFixture(t, key)
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(sealed, manifest.Name))
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "out")
		if err := os.CopyFS(dir, os.DirFS(sealed)); err != nil {
			t.Fatal(err)
		}
		code, out := child(t, n, "key", "add", dir, "--key-file", sealed+".key", "-r", id.Recipient().String())
		if code != 0 && code != killedCode {
			t.Fatalf("killed at %d: %d %s", n, code, out)
		}
		got, err := os.ReadFile(filepath.Join(dir, manifest.Name))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := manifest.Parse(got); !bytes.Equal(got, old) && (err != nil || len(m.Keyslots) != 1 || m.Verify(key) != nil) {
			t.Fatalf("killed at %d: the manifest is neither old nor new (%v)", n, err)
		}
		if code == 0 {
			break
		}
	}
}
