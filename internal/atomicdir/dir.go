// Package atomicdir writes output folders and files that become visible only
// when they are complete.
//
// An output folder grows in a hidden sibling and is renamed when everything in
// it has reached the disk. A process that is killed leaves the destination as
// it was; the next run with the same destination clears away what the killed
// one left.
//
// Beside a destination "out" these names may stand while a run is under way, or
// after it was killed:
//
//	.out.neuroseal-lock     held by the running process
//	.out.neuroseal-partial  the new folder, incomplete
//	.out.neuroseal-old      the folder that --force replaces, complete
//	.out.neuroseal-trash    a folder being removed
package atomicdir

import (
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Options of Create.
type Options struct {
	// Force lets Commit replace a destination that is not empty.
	Force bool
	// Notice, if set, is told what was cleaned up or restored after a run
	// that was killed, in one line each.
	Notice func(msg string)
}

// Dir is an output folder under construction. Its methods may be called from
// several goroutines at once.
type Dir struct {
	dst, partial, old, trash string

	opt  Options
	lock *lockFile

	mu    sync.Mutex
	files []string        // created, as paths
	dirs  map[string]bool // made, as paths
	open  int             // files not yet closed
	done  bool            // committed or aborted
}

// Check refuses an output folder that Create would refuse, for callers with
// long work to do before they create it. It changes nothing.
func Check(dst string, opt Options) error {
	dst, err := resolve(dst)
	if err != nil {
		return err
	}
	_, err = newDir(dst, opt).checkDst()
	return err
}

// Create begins an output folder that Commit will make visible at dst. A dst
// that exists and is not an empty folder is refused with fault.Usage unless
// opt.Force is set, and so is a dst that another process is working on.
// Missing parents are made.
func Create(dst string, opt Options) (*Dir, error) {
	dst, err := resolve(dst)
	if err != nil {
		return nil, err
	}
	d := newDir(dst, opt)
	if err := mkdirAll(filepath.Dir(dst)); err != nil {
		return nil, err
	}
	if d.lock, err = acquire(d.sibling("lock")); err != nil {
		return nil, err
	}
	if err := d.begin(); err != nil {
		d.lock.release()
		return nil, err
	}
	return d, nil
}

func newDir(dst string, opt Options) *Dir {
	if opt.Notice == nil {
		opt.Notice = func(string) {}
	}
	d := &Dir{dst: dst, opt: opt, dirs: make(map[string]bool)}
	d.partial, d.old, d.trash = d.sibling("partial"), d.sibling("old"), d.sibling("trash")
	return d
}

func (d *Dir) sibling(what string) string {
	dir, base := filepath.Split(d.dst)
	return filepath.Join(dir, "."+base+".neuroseal-"+what)
}

// begin runs under the lock.
func (d *Dir) begin() error {
	if err := d.recover(); err != nil {
		return err
	}
	if _, err := d.checkDst(); err != nil {
		return err
	}
	if d.opt.Force {
		if err := refusePrecious(d.dst); err != nil {
			return err
		}
	}
	if err := mkdir(d.partial); err != nil {
		return err
	}
	d.dirs[d.partial] = true
	return nil
}

// Path returns the destination, absolute and with symbolic links resolved.
func (d *Dir) Path() string { return d.dst }

// Create makes a new file in the folder, and the folders on the way. rel is
// slash-separated; a name that leaves the folder, or that exists, is refused.
func (d *Dir) Create(rel string) (*File, error) { return d.CreateMode(rel, 0o666) }

// CreateMode is Create for a file with permissions of its own, less the umask.
func (d *Dir) CreateMode(rel string, perm fs.FileMode) (*File, error) {
	if err := CheckName(rel); err != nil {
		return nil, err
	}
	path := filepath.Join(d.partial, filepath.FromSlash(rel))
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return nil, fault.New(fault.General, "creating %s: the output folder is finished", rel)
	}
	if err := d.makeParents(path); err != nil {
		return nil, err
	}
	f, err := create(path, perm)
	if err != nil {
		return nil, err
	}
	d.files = append(d.files, path)
	d.open++
	return &File{f: f, path: path, closed: d.fileClosed}, nil
}

func (d *Dir) fileClosed() {
	d.mu.Lock()
	d.open--
	d.mu.Unlock()
}

// makeParents makes the folders between the partial folder and path.
func (d *Dir) makeParents(path string) error {
	dir := filepath.Dir(path)
	if d.dirs[dir] {
		return nil
	}
	if err := d.makeParents(dir); err != nil {
		return err
	}
	if err := mkdir(dir); err != nil {
		return err
	}
	d.dirs[dir] = true
	return nil
}

// Abort removes what was written and leaves the destination as it was. After
// Commit or Abort it does nothing, so that it can be deferred. Every File must
// be closed.
func (d *Dir) Abort() error {
	if !d.finish() {
		return nil
	}
	err := removeAll(d.partial)
	d.lock.release()
	return err
}

// finish marks d as done and reports whether it was not before.
func (d *Dir) finish() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return false
	}
	d.done = true
	return true
}
