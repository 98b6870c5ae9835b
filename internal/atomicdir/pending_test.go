package atomicdir

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"syscall"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestWriteFile(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "keys", "seal.key")
	if err := WriteFile(dst, []byte("secret"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dst)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if err := WriteFile(dst, []byte("other"), 0o600, false); fault.KindOf(err) != fault.Usage {
		t.Errorf("overwritten: %v", err)
	}
	if err := WriteFile(dst, []byte("other"), 0o600, true); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(dst); string(got) != "other" {
		t.Errorf("got %q", got)
	}
	onlyChild(t, filepath.Dir(dst), "seal.key")
	if err := WriteFile(filepath.Dir(dst), nil, 0o600, true); fault.KindOf(err) != fault.Usage {
		t.Errorf("a folder was overwritten: %v", err)
	}
}

func TestPendingAppears(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "key")
	p, err := CreateFile(dst, 0o600, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := CreateFile(dst, 0o600, false); fault.KindOf(err) != fault.Usage {
		t.Errorf("second writer: %v", err)
	}
	os.WriteFile(dst, []byte("theirs"), 0o600)
	if err := p.Commit(); fault.KindOf(err) != fault.Usage {
		t.Error(err)
	}
	p.Abort()
	if got, _ := os.ReadFile(dst); string(got) != "theirs" {
		t.Errorf("got %q", got)
	}
	onlyChild(t, filepath.Dir(dst), "key")
}

// TestPendingStale: what a killed run left hands down neither content nor
// permissions.
func TestPendingStale(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "key")
	os.WriteFile(filepath.Join(filepath.Dir(dst), ".key.neuroseal-partial"), []byte("a long stale content"), 0o666)
	if err := WriteFile(dst, []byte("new"), 0o600, false); err != nil {
		t.Fatal(err)
	}
	info, _ := os.Stat(dst)
	if got, _ := os.ReadFile(dst); string(got) != "new" || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("got %q, mode %v", got, info.Mode())
	}
}

func TestPendingNoSpace(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "key")
	Hook = func(op, path string) error {
		if op == "write" {
			return syscall.ENOSPC
		}
		return nil
	}
	defer func() { Hook = nil }()
	if err := WriteFile(dst, []byte("x"), 0o600, false); fault.KindOf(err) != fault.NoSpace || fault.HintOf(err) == "" {
		t.Error(err)
	}
	onlyChild(t, filepath.Dir(dst), "")
}

// TestAdoptFile: a file becomes another one, which is not visible before Commit,
// and leaves nothing when it is given up.
func TestAdoptFile(t *testing.T) {
	dir := t.TempDir()
	src, dst := filepath.Join(dir, "from", "a"), filepath.Join(dir, "to", "b")
	put := func(path, content string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(content), 0o666)); err != nil {
			t.Fatal(err)
		}
	}
	adopt := func() *Pending {
		t.Helper()
		put(src, "weights of a model")
		p, err := AdoptFile(src, dst, true)
		if err != nil {
			t.Fatal(err)
		}
		if exists(src) || exists(dst) {
			t.Error("the file is visible while it changes")
		}
		return p
	}
	p := adopt()
	if _, err := AdoptFile(filepath.Join(dir, "other"), dst, true); fault.KindOf(err) != fault.Usage {
		t.Errorf("second writer: %v", err)
	}
	got := make([]byte, 7)
	if _, err := p.ReadAt(got, 0); err != nil || string(got) != "weights" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := p.WriteAt([]byte("WEIGHTS"), 0); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if len(tree(t, dir)) != 0 {
		t.Errorf("left: %v", tree(t, dir))
	}
	put(newDir(dst, Options{}).partial, "half of a shard, of a run that was killed")
	p = adopt()
	if _, err := p.WriteAt([]byte("WEIGHTS"), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, dir); !reflect.DeepEqual(got, map[string]string{"to/b": "WEIGHTS of a model"}) {
		t.Errorf("%v", got)
	}
	put(src, "again")
	if _, err := AdoptFile(src, dst, false); fault.KindOf(err) != fault.Usage || !exists(src) {
		t.Errorf("an existing file: %v", err)
	}
	if _, err := AdoptFile(filepath.Join(dir, "missing"), filepath.Join(dir, "c"), false); err == nil {
		t.Error("nothing was adopted")
	}
	if got := tree(t, dir); !reflect.DeepEqual(got, map[string]string{"from/a": "again", "to/b": "WEIGHTS of a model"}) {
		t.Errorf("%v", got)
	}
}

// TestAdoptFileShared: a link, and a file with another name, are not written over.
func TestAdoptFileShared(t *testing.T) {
	for name, link := range map[string]func(from, to string) error{"hard": os.Link, "symbolic": os.Symlink} {
		dir := t.TempDir()
		precious, src, dst := filepath.Join(dir, "precious"), filepath.Join(dir, "src"), filepath.Join(dir, "dst")
		if err := os.WriteFile(precious, []byte("weights"), 0o666); err != nil {
			t.Fatal(err)
		}
		if !OneName(precious) {
			t.Error("a file has more than one name")
		}
		if err := link(precious, src); err != nil {
			t.Skip(err)
		}
		if p, err := AdoptFile(src, dst, true); err == nil {
			p.Abort()
			t.Errorf("%s: adopted", name)
		}
		if OneName(src) || !exists(src) || !exists(precious) {
			t.Errorf("%s: has one name, or is gone", name)
		}
	}
}

// TestClear: what a killed run left is counted and removed; what is being written
// stays.
func TestClear(t *testing.T) {
	dst := filepath.Join(t.TempDir(), "out")
	if err := Clear(dst); err != nil || Left(dst) != 0 {
		t.Errorf("nothing is there: %v", err)
	}
	p, err := CreateFile(dst, 0o666, true)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if err := Clear(dst); fault.KindOf(err) != fault.Usage {
		t.Errorf("under way: %v", err)
	}
	p.Abort()
	if err := os.WriteFile(newDir(dst, Options{}).partial, []byte("half"), 0o666); err != nil {
		t.Fatal(err)
	}
	if Left(dst) != 4 {
		t.Errorf("%d bytes are left", Left(dst))
	}
	if err := Clear(dst); err != nil || Left(dst) != 0 {
		t.Errorf("%v", err)
	}
}
