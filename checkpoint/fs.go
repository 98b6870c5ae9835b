package checkpoint

import (
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// OpenFS opens a checkpoint whose files are in a file system, such as a hub's
// repository that has not been downloaded, by the rules of Open. Files must be
// io.ReaderAt. Only headers, the index and config.json are read; what ReadAt and
// Rewrite read later goes through fsys, too, and is as reliable as fsys is.
//
// name stands for the folder in messages and in Root. fsys has no links.
func OpenFS(fsys fs.FS, name string) (*Checkpoint, error) {
	c := &Checkpoint{root: name, fsys: fsys}
	err := c.openFolder()
	if err == nil {
		err = c.readConfig()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// file is an open file of a checkpoint.
type file interface {
	fs.File
	io.ReaderAt
}

// open opens a file of the checkpoint.
func (c *Checkpoint) open(rel string) (file, error) {
	if c.fsys == nil {
		return os.Open(c.path(rel))
	}
	f, err := c.fsys.Open(rel)
	if err != nil {
		return nil, err
	}
	if r, ok := f.(file); ok {
		return r, nil
	}
	f.Close()
	return nil, fault.New(fault.Unsupported, "%s cannot be read in parts", c.path(rel))
}

// ReadFile returns the content of a file of at most limit bytes. A missing one
// gives an error that is fs.ErrNotExist; a longer one, fault.Mismatch.
func (c *Checkpoint) ReadFile(rel string, limit int64) ([]byte, error) {
	if r, ok := c.fsys.(fs.ReadFileFS); ok { // may check what it reads
		if info, err := fs.Stat(c.fsys, rel); err == nil && info.Size() > limit {
			return nil, c.tooLong(rel, limit)
		}
		data, err := r.ReadFile(rel)
		if err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "reading checkpoint")
		}
		return data, nil
	}
	f, err := c.open(rel)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading checkpoint")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading checkpoint")
	}
	if int64(len(data)) > limit {
		return nil, c.tooLong(rel, limit)
	}
	return data, nil
}

func (c *Checkpoint) tooLong(rel string, limit int64) error {
	return fault.New(fault.Mismatch, "%s has more than %d bytes", c.path(rel), limit).
		WithHint("this is not the file that its name says; download it again")
}

// head returns the first bytes of a file, as many as can be read; of a
// safetensors file in a file system none: its parser tells what it is, and asking
// for a shard's first bytes twice is slow where they are far away.
func (c *Checkpoint) head(rel string) []byte {
	if c.fsys != nil && strings.EqualFold(path.Ext(rel), extension) {
		return nil
	}
	f, err := c.open(rel)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, headSize)
	n, _ := io.ReadFull(f, b)
	return b[:n]
}

// path returns where a file of the checkpoint lies, or what it is called.
func (c *Checkpoint) path(rel string) string {
	if c.fsys != nil {
		return strings.TrimSuffix(c.root, "/") + "/" + rel
	}
	return filepath.Join(c.root, filepath.FromSlash(rel))
}
