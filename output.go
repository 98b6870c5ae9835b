package neuroseal

import (
	"context"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// rewriting is one streaming rewrite of a checkpoint into a new folder.
type rewriting struct {
	ck       *checkpoint.Checkpoint
	dst      string
	force    bool
	notice   func(string)
	stage    string
	progress Progress
	opt      checkpoint.RewriteOptions

	need  int64                      // bytes of disk; 0: as many as the checkpoint has
	place func(*atomicdir.Dir) error // puts the shards of opt.Placed there
}

// run writes the folder and lets finish look at it, and add to it, before it
// becomes visible.
func (w rewriting) run(ctx context.Context, finish func(*atomicdir.Dir, *checkpoint.RewriteResult) error) error {
	if w.need == 0 {
		w.need = w.ck.TotalBytes()
	}
	if err := checkSpace(w.dst, w.need); err != nil {
		return err
	}
	dir, err := atomicdir.Create(w.dst, atomicdir.Options{Force: w.force, Notice: w.notice})
	if err != nil {
		return err
	}
	defer dir.Abort()
	if w.place != nil {
		if err := w.place(dir); err != nil {
			return err
		}
	}
	if w.notice != nil {
		for _, s := range w.ck.Skipped() {
			w.notice(s.Path + " is left out: " + s.Why)
		}
	}
	w.opt.Progress = w.progress.Add
	w.progress.Stage(w.stage, w.ck.RewriteBytes(w.opt))
	out, err := w.ck.Rewrite(ctx, dir, w.opt)
	if err != nil {
		return err
	}
	if err := finish(dir, out); err != nil {
		return err
	}
	return dir.Commit()
}

// freeSpace is a variable for tests of a full disk.
var freeSpace = atomicdir.Free

// checkSpace refuses to start when the output cannot fit.
func checkSpace(dst string, need int64) error {
	free, err := freeSpace(dst)
	if err != nil {
		return fault.Wrap(fault.General, err, "asking for free space at %s", dst)
	}
	const slack = 1 << 20 // manifest, folder entries
	if free < need+slack {
		return fault.New(fault.NoSpace, "%s needs %d bytes; %d are free", dst, need+slack, free).
			WithHint("free some space, or choose an output on another disk")
	}
	return nil
}

func writeFile(dir *atomicdir.Dir, name string, data []byte) error {
	f, err := dir.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
