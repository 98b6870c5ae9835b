package atomicdir

import (
	"errors"
	"io/fs"
)

// Discard removes the folder at path, if it exists, and what a Discard that was
// killed left of it. It is renamed first, so that others see it whole or not at
// all.
func Discard(path string) error {
	path, err := resolve(path)
	if err != nil {
		return err
	}
	d := newDir(path, Options{})
	if !exists(path) {
		return removeAll(d.trash)
	}
	return d.discard(path)
}

// RemoveFile removes the file at path, if it exists.
func RemoveFile(path string) error {
	err := remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Recover clears away what a killed run with this destination left, and puts
// back what it had moved aside, as Create does. A dst that another process is
// working on is refused with fault.Usage.
func Recover(dst string, notice func(msg string)) error {
	dst, err := resolve(dst)
	if err != nil {
		return err
	}
	d := newDir(dst, Options{Notice: notice})
	if d.lock, err = acquire(d.sibling("lock")); err != nil {
		return err
	}
	defer d.lock.release()
	return d.recover()
}
