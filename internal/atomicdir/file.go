package atomicdir

import (
	"os"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// writeBack is how many bytes are written before the system is asked to start
// writing them to the disk: early enough that Commit finds little left to do.
const writeBack = 8 << 20

// writing is how far a file has been written from its beginning on, and how much
// of that is on its way to the disk.
type writing struct{ size, started int64 }

// wrote notes that f has been written up to end.
func (w *writing) wrote(f *os.File, end int64) {
	if w.size = end; w.size-w.started >= writeBack {
		startWriteBack(f, w.started, w.size-w.started)
		w.started = w.size
	}
}

// File is a file of a Dir under construction. It is not visible before Commit.
type File struct {
	f      *os.File
	path   string
	closed func()
	writing
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if err := hook("write", f.path); err != nil {
		return 0, err
	}
	n, err := f.f.Write(p)
	f.wrote(f.f, f.size+int64(n))
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
