package atomicdir

import (
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Commit brings everything to the disk and makes the folder visible. On error
// the destination is what it was and what was written is removed, except where
// removing fails too; the next run then removes it.
func (d *Dir) Commit() error {
	d.mu.Lock()
	open := d.open
	d.mu.Unlock()
	if open > 0 {
		return fault.New(fault.General, "committing %s: %d files are open", d.dst, open)
	}
	if !d.finish() {
		return fault.New(fault.General, "committing %s twice, or after an abort", d.dst)
	}
	defer d.lock.release()
	err := d.syncAll()
	if err == nil {
		err = d.swap()
	}
	if err != nil {
		_ = removeAll(d.partial)
	}
	return err
}

// syncAll brings files, then folders from the deepest up, to the disk.
func (d *Dir) syncAll() error {
	var g errgroup.Group
	g.SetLimit(4)
	for _, f := range d.files {
		g.Go(func() error { return syncPath(f) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	var dirs []string
	for dir := range d.dirs {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range slices.Backward(dirs) {
		if err := syncPath(dir); err != nil {
			return err
		}
	}
	return nil
}

// swap renames the new folder into place. Between the two renames of a forced
// run the destination is missing and the old folder complete beside it; recover
// restores it then.
func (d *Dir) swap() error {
	st, err := d.checkDst()
	if err != nil {
		return err
	}
	switch st {
	case empty:
		err = remove(d.dst)
	case full:
		err = rename(d.dst, d.old)
	}
	if err != nil {
		return err
	}
	if err := rename(d.partial, d.dst); err != nil {
		if st == full {
			_ = rename(d.old, d.dst)
		}
		return err
	}
	// From here on the new folder is in place: what fails now is told, but
	// does not make the result wrong.
	if err := syncPath(filepath.Dir(d.dst)); err != nil {
		d.opt.Notice(err.Error())
		return nil
	}
	if st == full {
		if err := d.discard(d.old); err != nil {
			d.opt.Notice("the replaced folder is left at " + d.old + " or " + d.trash + ": " + err.Error())
		}
	}
	return nil
}
