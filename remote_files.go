package neuroseal

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// arrivals is a remote checkpoint's files, read here as soon as they are here:
// from a folder in which a file is called by its checksum, so that what was
// downloaded of one revision is never taken for another's.
type arrivals struct {
	r   *Remote
	dir string
	// settled ends the reading of what is not here: from then on, bytes that
	// no checksum covers are an error.
	settled atomic.Bool

	mu   sync.Mutex
	open map[string][]*arrival // by file
}

// path returns where a file lies when it has arrived.
func (a *arrivals) path(file string) string { return filepath.Join(a.dir, a.r.Sum(file)) }

// has reports whether a file lies in the folder, with its full size.
func (a *arrivals) has(file string, size int64) bool {
	info, err := os.Stat(a.path(file))
	return err == nil && info.Mode().IsRegular() && info.Size() == size
}

// Open opens a file or a folder.
func (a *arrivals) Open(name string) (fs.File, error) {
	f, err := a.r.Files.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		return f, err
	}
	remote, ok := f.(io.ReaderAt)
	if !ok {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	x := &arrival{File: f, remote: remote, of: a, name: name, size: info.Size()}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open[name] = append(a.open[name], x)
	return x, nil
}

// ReadDir lists a folder.
func (a *arrivals) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(a.r.Files, name) }

// ReadFile reads a whole file from where its bytes are checked.
func (a *arrivals) ReadFile(name string) ([]byte, error) {
	info, err := fs.Stat(a.r.Files, name)
	if err == nil && a.has(name, info.Size()) {
		return os.ReadFile(a.path(name))
	}
	return fs.ReadFile(a.r.Files, name)
}

// drop gives up the handles of a file that is about to be removed: its space
// would stay taken until they are closed.
func (a *arrivals) drop(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.open[name] {
		x.release()
	}
}

// arrival is an open file.
type arrival struct {
	fs.File // the remote one
	remote  io.ReaderAt
	of      *arrivals
	name    string
	size    int64

	mu    sync.Mutex
	pos   int64    // of Read
	local *os.File // nil: not here
}

// here returns the file on this machine, nil if it is not here.
func (x *arrival) here() *os.File {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.local == nil && x.of.has(x.name, x.size) {
		x.local, _ = os.Open(x.of.path(x.name))
	}
	return x.local
}

// ReadAt reads from the arrived file, before that from the remote one.
func (x *arrival) ReadAt(p []byte, off int64) (int, error) {
	if f := x.here(); f != nil {
		return f.ReadAt(p, off)
	}
	if x.of.settled.Load() && !x.of.r.Here(x.name) {
		return 0, errAway
	}
	return x.remote.ReadAt(p, off)
}

// errAway is a read of weights that are not here.
var errAway = fault.New(fault.General, "the file is not on this machine any more").
	WithHint("something removes what is being worked on; run the same command again")

// Read reads on from where the last Read ended.
func (x *arrival) Read(p []byte) (int, error) {
	n, err := x.ReadAt(p, x.pos)
	x.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (x *arrival) release() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.local != nil {
		x.local.Close()
		x.local = nil
	}
}

// Close closes the file.
func (x *arrival) Close() error {
	x.release()
	return x.File.Close()
}
