package quant

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fsdir"
	"github.com/neuroseal/neuroseal/safetensors"
)

// view is a checkpoint's folder with other content: files put together from
// pieces, which are read or computed when they are asked for.
type view struct {
	files map[string][]piece
	// ck, if set, is closed with the last of the shards that are open.
	ck   *checkpoint.Checkpoint
	open atomic.Int32
}

// piece is a run of a file's bytes.
type piece struct {
	size int64
	read func(p []byte, off int64) error // fills p from byte off of the piece on
}

// bytesPiece is a piece that is in memory.
func bytesPiece(b []byte) piece {
	return piece{int64(len(b)), func(p []byte, off int64) error { copy(p, b[off:]); return nil }}
}

// tensorPiece is a tensor of a checkpoint.
func tensorPiece(ck *checkpoint.Checkpoint, t checkpoint.Tensor) piece {
	return piece{t.Size, func(p []byte, off int64) error { return ck.ReadAt(t, p, off) }}
}

// copied is a file of the checkpoint's folder as it is.
func copied(ck *checkpoint.Checkpoint, f checkpoint.File) []piece {
	return []piece{{f.Size, func(p []byte, off int64) error {
		h, err := os.Open(filepath.Join(ck.Root(), filepath.FromSlash(f.Path)))
		if errors.Is(err, fs.ErrNotExist) { // the folder is elsewhere
			data, err := ck.ReadFile(f.Path, f.Size)
			if err == nil && int64(len(data)) < off+int64(len(p)) {
				err = io.ErrUnexpectedEOF
			}
			if err == nil {
				copy(p, data[off:])
			}
			return err
		}
		if err != nil {
			return err
		}
		defer h.Close()
		_, err = h.ReadAt(p, off)
		return err
	}}}
}

// shard puts a safetensors file together.
func shard(h *safetensors.Header, tensor func(safetensors.TensorInfo) piece) []piece {
	out := []piece{bytesPiece(h.Raw)}
	for _, i := range h.Order {
		out = append(out, tensor(h.Tensors[i]))
	}
	return out
}

// size is the length of a file.
func size(pieces []piece) (n int64) {
	for _, p := range pieces {
		n += p.size
	}
	return n
}

// Open makes a view an fs.FS. Its files are io.ReaderAt.
func (v *view) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if pieces, ok := v.files[name]; ok {
		f := &viewFile{info: fsdir.Entry{Base: path.Base(name), Length: size(pieces)}, pieces: pieces}
		if v.ck != nil && slices.ContainsFunc(v.ck.Shards(), func(s checkpoint.Shard) bool { return s.Path == name }) {
			v.open.Add(1)
			f.close = sync.OnceValue(v.closed)
		}
		return f, nil
	}
	if list := v.list(name); len(list) > 0 || name == "." {
		return fsdir.Open(name, list), nil
	}
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}

// closed is called when a shard is.
func (v *view) closed() error {
	if v.open.Add(-1) > 0 {
		return nil
	}
	return v.ck.Close()
}

// list returns what stands in a folder, sorted.
func (v *view) list(dir string) []fs.DirEntry {
	return fsdir.List(slices.Sorted(maps.Keys(v.files)), dir, func(name string) (string, int64) { return name, size(v.files[name]) })
}

// viewFile is an open file of a view.
type viewFile struct {
	info   fsdir.Entry
	pieces []piece
	pos    int64
	close  func() error // nil: nothing is to be closed
}

func (f *viewFile) Stat() (fs.FileInfo, error) { return f.info, nil }

func (f *viewFile) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

func (f *viewFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *viewFile) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fs.ErrInvalid
	}
	for _, x := range f.pieces {
		if len(p) == 0 {
			return n, nil
		}
		if off >= x.size {
			off -= x.size
			continue
		}
		k := min(int64(len(p)), x.size-off)
		if err := x.read(p[:k], off); err != nil {
			return n, err
		}
		p, n, off = p[k:], n+int(k), 0
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}
