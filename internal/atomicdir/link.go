package atomicdir

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Link makes the file at path part of the folder, under the slash-separated
// name rel. The file keeps its place too: it gets a second name where the file
// system knows hard links, and is copied where it does not, or where path lies
// on another one. Nothing is lost, then, when the run is killed.
//
// The file must not change afterwards. An ended ctx stops a copy with
// fault.Interrupted.
func (d *Dir) Link(ctx context.Context, rel, path string) error {
	linked, err := d.link(rel, path)
	if linked || err != nil {
		return err
	}
	in, err := os.Open(path)
	if err != nil {
		return wrap(err, "copying into the output")
	}
	defer in.Close()
	out, err := d.Create(rel)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{out}, interruptible{ctx, in}, make([]byte, 1<<20))
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	return err
}

// link reports false where hard links do not work.
func (d *Dir) link(rel, path string) (bool, error) {
	if err := CheckName(rel); err != nil {
		return false, err
	}
	to := filepath.Join(d.partial, filepath.FromSlash(rel))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return false, fault.New(fault.General, "linking %s: the output folder is finished", rel)
	}
	if err := d.makeParents(to); err != nil {
		return false, err
	}
	if err := hook("link", to); err != nil {
		return false, err
	}
	if os.Link(path, to) != nil {
		return false, nil // what else is wrong, the copy will tell
	}
	d.files = append(d.files, to)
	return true, nil
}

// interruptible reads until ctx ends.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, fault.Wrap(fault.Interrupted, context.Cause(i.ctx), "interrupted")
	}
	return i.r.Read(p)
}
