package atomicdir

import (
	"os"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// writeBack is how many bytes are written before the system is asked to start
// writing them to the disk: early enough that Commit finds little left to do.
const writeBack = 8 << 20

// File is a file of a Dir under construction. It is not visible before Commit.
type File struct {
	f             *os.File
	path          string
	size, started int64
	closed        func()
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if err := hook("write", f.path); err != nil {
		return 0, err
	}
	n, err := f.f.Write(p)
	f.size += int64(n)
	if f.size-f.started >= writeBack {
		startWriteBack(f.f, f.started, f.size-f.started)
		f.started = f.size
	}
	return n, wrap(err, "")
}

// Close closes the file. Commit brings it to the disk. A second Close gives an
// error and does nothing.
func (f *File) Close() error {
	if f.closed == nil {
		return fault.Wrap(fault.General, os.ErrClosed, "closing %s", f.path)
	}
	f.closed()
	f.closed = nil
	return wrap(f.f.Close(), "")
}
