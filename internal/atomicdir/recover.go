package atomicdir

import (
	"os"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// recover clears away what a killed run left, and puts the old folder back
// where a forced run was killed between its two renames. The old folder is
// removed only if the new one has taken its place, which is so when there is no
// partial folder any more.
func (d *Dir) recover() error {
	if exists(d.old) && !exists(d.dst) {
		if err := rename(d.old, d.dst); err != nil {
			return err
		}
		d.opt.Notice("restored " + d.dst + ", which an interrupted run had moved aside")
	}
	if exists(d.old) && exists(d.partial) {
		return fault.New(fault.Usage, "an interrupted run moved the folder it was to replace to %s, and %s was made anew since", d.old, d.dst).
			WithHint("keep the one you want as %s and remove the other", d.dst)
	}
	if exists(d.old) {
		// The new folder took its place, so the old one has been replaced.
		if err := d.discard(d.old); err != nil {
			return err
		}
	}
	if exists(d.partial) {
		d.opt.Notice("removing " + d.partial + ", which an interrupted run left")
		if err := removeAll(d.partial); err != nil {
			return err
		}
	}
	return removeAll(d.trash)
}

// discard removes a complete folder. It is renamed first, so that a half
// removed folder is never taken for one that can be restored.
func (d *Dir) discard(path string) error {
	if err := removeAll(d.trash); err != nil {
		return err
	}
	if err := rename(path, d.trash); err != nil {
		return err
	}
	return removeAll(d.trash)
}

// state of a destination.
type state int

const (
	missing state = iota
	empty
	full
)

// checkDst returns the destination's state, or why it is not to be written.
func (d *Dir) checkDst() (state, error) {
	info, err := os.Lstat(d.dst)
	if os.IsNotExist(err) {
		return missing, nil
	}
	if err != nil {
		return 0, wrap(err, "looking at output")
	}
	if !info.IsDir() {
		return 0, fault.New(fault.Usage, "output %s exists and is not a folder", d.dst).
			WithHint("choose another output folder")
	}
	f, err := os.Open(d.dst)
	if err != nil {
		return 0, wrap(err, "looking at output")
	}
	defer f.Close()
	if names, _ := f.Readdirnames(1); len(names) == 0 {
		return empty, nil
	}
	if !d.opt.Force {
		return 0, fault.New(fault.Usage, "output folder %s exists and is not empty", d.dst).
			WithHint("choose another output folder, or replace it with --force")
	}
	return full, nil
}
