package atomicdir

import (
	"os"
	"path/filepath"
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
