package atomicdir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// TestLink: a linked file is part of the folder and keeps its place, whether
// the system links or copies it.
func TestLink(t *testing.T) {
	parent := t.TempDir()
	from, dst := filepath.Join(parent, "from"), filepath.Join(parent, "out")
	if err := os.WriteFile(from, []byte("weights"), 0o666); err != nil {
		t.Fatal(err)
	}
	d, err := Create(dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	ctx := context.Background()
	if err := d.Link(ctx, "sub/linked", from); err != nil {
		t.Fatal(err)
	}
	// A second name where one stands already is not linked, nor copied over it.
	if err := d.Link(ctx, "sub/linked", from); err == nil {
		t.Error("a file was replaced")
	}
	if err := d.Link(ctx, "../out of it", from); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("%v", err)
	}
	if err := d.Link(ctx, "nothing", filepath.Join(parent, "missing")); err == nil {
		t.Error("a missing file was linked")
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dst); !reflect.DeepEqual(got, map[string]string{"sub/linked": "weights"}) {
		t.Errorf("%v", got)
	}
	if b, err := os.ReadFile(from); err != nil || string(b) != "weights" {
		t.Errorf("the file itself: %q, %v", b, err)
	}
	if err := d.Link(ctx, "late", from); err == nil {
		t.Error("linked after the commit")
	}
}

// TestLinkCopies: a file on another file system, where no hard link can lead, is
// copied.
func TestLinkCopies(t *testing.T) {
	other := "/dev/shm"
	if info, err := os.Stat(other); err != nil || !info.IsDir() {
		t.Skip("no second file system")
	}
	far, err := os.MkdirTemp(other, "atomicdir")
	if err != nil {
		t.Skip(err)
	}
	defer os.RemoveAll(far)
	from, dst := filepath.Join(far, "from"), filepath.Join(t.TempDir(), "out")
	if err := os.WriteFile(from, make([]byte, 3<<20+1), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(from, filepath.Join(filepath.Dir(dst), "probe")); err == nil {
		t.Skip("both folders are on one file system")
	}
	d, err := Create(dst, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Abort()
	ctx, cancel := context.WithCancel(context.Background())
	if err := d.Link(ctx, "copied", from); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := d.Link(ctx, "more", from); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("cancelled: %v", err)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dst, "copied")); err != nil || info.Size() != 3<<20+1 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestDiscardInTwoTries: what a failed Discard left goes with the next.
func TestDiscardInTwoTries(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "parts")
	makeOld(t, dir)
	fail := 4
	Hook = func(op, _ string) error {
		if fail--; fail < 0 {
			return syscall.EIO
		}
		return nil
	}
	err := Discard(dir)
	Hook = nil
	if !errors.Is(err, syscall.EIO) {
		t.Fatalf("%v", err)
	}
	if err := Discard(dir); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(parent); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
	if err := errors.Join(Discard(dir), RemoveFile(filepath.Join(parent, "nothing"))); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

// TestRecover puts back what a forced run moved aside.
func TestRecover(t *testing.T) {
	parent := t.TempDir()
	dst := filepath.Join(parent, "out")
	makeOld(t, filepath.Join(parent, ".out.neuroseal-old"))
	told := ""
	if err := Recover(dst, func(msg string) { told += msg }); err != nil || told == "" {
		t.Fatalf("%q, %v", told, err)
	}
	if got := tree(t, dst); !reflect.DeepEqual(got, oldTree) {
		t.Errorf("%v", got)
	}
	onlyChild(t, parent, "out")
}
