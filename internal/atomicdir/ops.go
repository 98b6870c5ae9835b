package atomicdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Hook is called, if it is set, before every operation that changes the file
// system (op is mkdir, open, write, sync, rename, link or remove); an error stops the
// operation and is returned. It is there for tests, which use it to fail or to
// exit at each operation in turn. It is called from several goroutines and must
// not change while a Dir is in use.
var Hook func(op, path string) error

func hook(op, path string) error {
	if Hook == nil {
		return nil
	}
	if err := Hook(op, path); err != nil {
		return wrap(&fs.PathError{Op: op, Path: path, Err: err}, "")
	}
	return nil
}

// wrap gives err the kind NoSpace where that is its reason.
func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	if isNoSpace(err) {
		return fault.Wrap(fault.NoSpace, err, "%s", what).
			WithHint("free space on the output's file system, or choose another output")
	}
	return fault.Wrap(fault.General, err, "%s", what)
}

func isNoSpace(err error) bool {
	for _, e := range noSpace {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.Is(err, syscall.ENOSPC)
}

func mkdir(path string) error {
	if err := hook("mkdir", path); err != nil {
		return err
	}
	return wrap(os.Mkdir(path, 0o777), "")
}

// mkdirAll makes path and its parents.
func mkdirAll(path string) error {
	if exists(path) {
		return nil
	}
	if err := mkdirAll(filepath.Dir(path)); err != nil {
		return err
	}
	err := mkdir(path)
	if errors.Is(err, fs.ErrExist) { // another process was faster
		return nil
	}
	return err
}

func create(path string, mode fs.FileMode) (*os.File, error) {
	if err := hook("open", path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	return f, wrap(err, "")
}

func rename(from, to string) error {
	if err := hook("rename", from); err != nil {
		return err
	}
	return wrap(os.Rename(from, to), "")
}

func remove(path string) error {
	if err := hook("remove", path); err != nil {
		return err
	}
	return wrap(os.Remove(path), "")
}

// removeAll removes path and everything below it, if it exists. Symbolic links
// are removed, not followed.
func removeAll(path string) error {
	info, err := os.Lstat(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return wrap(err, "")
	}
	if !info.IsDir() {
		return remove(path)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return wrap(err, "")
	}
	for _, e := range entries {
		if err := removeAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	return remove(path)
}

// syncPath brings the file or folder at path to the disk.
func syncPath(path string) error {
	if err := hook("sync", path); err != nil {
		return err
	}
	return wrap(fsync(path), "")
}

// lockFile is a file whose lock tells a running process from a killed one.
type lockFile struct {
	f    *os.File
	path string
}

// acquire takes the lock at path. The holder removes the file at the end, so
// the lock counts only if path still leads to the locked file.
func acquire(path string) (*lockFile, error) {
	for range 100 {
		if err := hook("open", path); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return nil, wrap(err, "locking the output")
		}
		if err := tryLock(f); err != nil {
			f.Close()
			return nil, busy(path, err)
		}
		if sameFile(f, path) {
			return &lockFile{f, path}, nil
		}
		f.Close()
	}
	return nil, busy(path, errBusy)
}

var errBusy = errors.New("locked by another process")

func busy(path string, err error) error {
	if !errors.Is(err, errBusy) {
		return wrap(err, "locking "+strconv.Quote(path))
	}
	return fault.New(fault.Usage, "another process is writing this output (%s is locked)", path).
		WithHint("wait for it to end, or choose another output")
}

func sameFile(f *os.File, path string) bool {
	a, err1 := f.Stat()
	b, err2 := os.Stat(path)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}

// release removes the lock file, as far as the system lets it, and unlocks. A
// lock file that stays behind does no harm.
func (l *lockFile) release() {
	if renamesOpen {
		_ = remove(l.path)
	}
	l.f.Close()
	if !renamesOpen {
		_ = remove(l.path)
	}
}

// Hold takes the lock at path, which tells other processes that this one is at
// work there, until release is called or the process ends. A second holder is
// refused with fault.Usage.
func Hold(path string) (release func(), err error) {
	l, err := acquire(path)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}
