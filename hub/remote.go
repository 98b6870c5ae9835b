package hub

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fsdir"
)

const (
	// firstRead is what the first read of a remote file brings at least: most
	// headers of safetensors fit, so that one request is enough for a shard.
	firstRead = 256 << 10
	maxAhead  = 4 << 20 // bytes that are read ahead when a reader goes on and on
	// maxHeads is how much of the files' beginnings is kept for the next who opens
	// them, in bytes, all files together.
	maxHeads = 64 << 20
)

// FS returns the files of the repository as a file system whose files are also
// io.ReaderAt: what is read is asked for in ranges, so that the header of a
// shard costs a few hundred KB and not the shard. Files that the cache has are
// read from there. Folders are known; links do not exist.
//
// Bytes read in ranges cannot be checked against a file's checksum. Use it to
// look at a model, and Resolve to work on one.
func (r *Repo) FS(ctx context.Context) fs.FS {
	return repoFS{ctx, r, &heads{of: map[string][]byte{}}}
}

type repoFS struct {
	ctx   context.Context
	repo  *Repo
	heads *heads
}

// heads keeps the beginnings of files that were read once: who looks at a model
// twice, before and while working on it, asks the hub once.
type heads struct {
	mu   sync.Mutex
	of   map[string][]byte // by path
	size int
}

func (h *heads) get(path string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.of[path]
}

func (h *heads) keep(path string, head []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.of[path] == nil && h.size+len(head) <= maxHeads {
		h.of[path] = head
		h.size += len(head)
	}
}

// Open opens a file or a folder.
func (s repoFS) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if f, ok := s.repo.File(name); ok {
		return s.repo.open(s.ctx, f, s.heads), nil
	}
	entries := s.repo.folder(name)
	if entries == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return fsdir.Open(name, entries), nil
}

// ReadFile reads a whole file and checks it.
func (s repoFS) ReadFile(name string) ([]byte, error) {
	f, ok := s.repo.File(name)
	if !ok {
		return nil, &fs.PathError{Op: "read", Path: name, Err: fs.ErrNotExist}
	}
	return s.repo.ReadFile(s.ctx, f, maxJSON)
}

// ReadFile reads a file of at most limit bytes into memory and checks it
// against the hub's checksum. The cache is used where it has the file.
func (r *Repo) ReadFile(ctx context.Context, f File, limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, fault.New(fault.Unsupported, "%s of %s has %d bytes, more than %d", f.Path, r.Ref.ID, f.Size, limit)
	}
	if local := r.local(f); local != nil {
		defer local.Close()
		data, err := io.ReadAll(io.LimitReader(local, f.Size+1))
		if err == nil && r.sumOf(f, data) == f.etag() {
			return data, nil
		}
	}
	data, err := r.readAll(ctx, f)
	if err != nil {
		return nil, err
	}
	if sum := r.sumOf(f, data); sum != f.etag() {
		return nil, fault.New(fault.Mismatch, "%s of %s has checksum %s, not %s, which the hub lists", f.Path, r.Ref.ID, sum, f.etag())
	}
	return data, nil
}

func (r *Repo) sumOf(f File, data []byte) string {
	h := f.newHash()
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// local opens a file in the cache, nil if it is not there.
func (r *Repo) local(f File) *os.File {
	file, err := os.Open(r.client.blobPath(r.Ref.ID, f.etag()))
	if err != nil {
		return nil
	}
	if info, err := file.Stat(); err != nil || info.Size() != f.Size {
		file.Close()
		return nil
	}
	return file
}

func (r *Repo) open(ctx context.Context, f File, h *heads) *remoteFile {
	return &remoteFile{ctx: ctx, src: r.source(f), local: r.local(f), entry: fsdir.Entry{Base: path.Base(f.Path), Length: f.Size}, ahead: firstRead,
		heads: h, window: h.get(f.Path)}
}

// remoteFile reads a file on the hub in ranges. It keeps one window of it.
type remoteFile struct {
	entry fsdir.Entry
	ctx   context.Context
	src   *source
	local *os.File // the cache's; nil: none

	mu     sync.Mutex
	pos    int64 // of Read
	window []byte
	at     int64 // of window
	ahead  int64
	heads  *heads
}

// Stat describes the file.
func (f *remoteFile) Stat() (fs.FileInfo, error) { return f.entry, nil }

// Close frees what the file holds.
func (f *remoteFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.window = nil
	if f.local != nil {
		return f.local.Close()
	}
	return nil
}

// Read reads on from where the last Read ended.
func (f *remoteFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// ReadAt reads len(p) bytes at an offset, fewer with io.EOF at the end.
func (f *remoteFile) ReadAt(p []byte, off int64) (int, error) {
	if f.local != nil {
		return f.local.ReadAt(p, off)
	}
	if off < 0 {
		return 0, &fs.PathError{Op: "read", Path: f.entry.Base, Err: fs.ErrInvalid}
	}
	if off >= f.entry.Length {
		return 0, io.EOF
	}
	n := min(int64(len(p)), f.entry.Length-off)
	if err := f.readFull(p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// readFull serves from the window, or moves the window.
func (f *remoteFile) readFull(p []byte, off int64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end := f.at + int64(len(f.window)); off >= f.at && off < end {
		n := copy(p, f.window[off-f.at:])
		p, off = p[n:], off+int64(n)
	}
	if len(p) == 0 {
		return nil
	}
	if int64(len(p)) >= maxAhead {
		return f.fetch(p, off)
	}
	if len(f.window) > 0 && off == f.at+int64(len(f.window)) {
		f.ahead = min(2*f.ahead, maxAhead) // it goes on where the window ended
	}
	window := make([]byte, min(max(f.ahead, int64(len(p))), f.entry.Length-off))
	if err := f.fetch(window, off); err != nil {
		return err
	}
	if off == 0 {
		f.heads.keep(f.src.file.Path, window)
	}
	f.window, f.at = window, off
	copy(p, window)
	return nil
}

func (f *remoteFile) fetch(p []byte, off int64) error {
	err := f.src.read(f.ctx, off, int64(len(p)), shifted{p, off})
	if errors.Is(err, errWhole) {
		return fault.New(fault.Unsupported, "%s sends whole files only, so %s cannot be read in part", f.src.c.endpoint.Host, f.src.file.Path).
			WithHint("download the model first")
	}
	return err
}

// shifted is memory that begins at an offset of a file.
type shifted struct {
	p  []byte
	at int64
}

func (s shifted) WriteAt(p []byte, off int64) (int, error) { return copy(s.p[off-s.at:], p), nil }

// folder lists a folder; nil if there is none of that name.
func (r *Repo) folder(name string) []fs.DirEntry {
	return fsdir.List(r.Files, name, func(f File) (string, int64) { return f.Path, f.Size })
}
