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
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// Path returns the destination, absolute and with symbolic links resolved.
func (d *Dir) Path() string { return d.dst }

// Create makes a new file in the folder, and the folders on the way. rel is
// slash-separated; a name that leaves the folder, or that exists, is refused.
func (d *Dir) Create(rel string) (*File, error) {
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
	f, err := create(path, 0o666)
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

// CheckName refuses a relative, slash-separated name that is not clean, that
// leaves its folder, or that another operating system would read differently.
func CheckName(rel string) error {
	local := filepath.FromSlash(rel)
	if rel == "" || rel == "." || strings.ContainsAny(rel, "\\\x00") || !filepath.IsLocal(local) ||
		filepath.ToSlash(filepath.Clean(local)) != rel || len(rel) > 1 && rel[1] == ':' {
		return fault.New(fault.Unsupported, "file name %q is not a plain relative path", rel).
			WithHint("the name would lie outside its folder; do not trust this checkpoint")
	}
	return nil
}

// resolve makes path absolute and follows the symbolic links in it, as far as
// it exists.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", wrap(err, "resolving output")
	}
	if path == "" || filepath.Dir(abs) == abs {
		return "", fault.New(fault.Usage, "%q cannot be an output", path)
	}
	real, err := filepath.EvalSymlinks(abs)
	if err == nil {
		return real, nil
	}
	if !os.IsNotExist(err) {
		return "", wrap(err, "resolving output")
	}
	if info, err := os.Lstat(abs); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return "", fault.New(fault.Usage, "output %s is a symbolic link to nothing", path)
	}
	if dir := filepath.Dir(abs); filepath.Dir(dir) != dir {
		if dir, err = resolve(dir); err != nil {
			return "", err
		}
		return filepath.Join(dir, filepath.Base(abs)), nil
	}
	return abs, nil
}

// refusePrecious stops --force from replacing folders that nobody means.
func refusePrecious(dst string) error {
	home, _ := os.UserHomeDir()
	wd, _ := os.Getwd()
	for what, path := range map[string]string{"home folder": home, "current folder": wd} {
		if path == "" {
			continue
		}
		if inside, err := Within(path, dst); err == nil && inside {
			return fault.New(fault.Usage, "output %s holds the %s and is not replaced", dst, what).
				WithHint("choose another output folder")
		}
	}
	return nil
}

// Within reports whether path is dir or lies below it, by the identity of the
// folders and not by their names. What of path does not exist yet is judged by
// its parent.
func Within(path, dir string) (bool, error) {
	want, err := os.Stat(dir)
	if os.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, wrap(err, "comparing folders")
	}
	if path, err = resolve(path); err != nil {
		return false, err
	}
	for {
		if info, err := os.Stat(path); err == nil && os.SameFile(info, want) {
			return true, nil
		}
		parent := filepath.Dir(path)
		if parent == path {
			return false, nil
		}
		path = parent
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// renamesOpen reports whether an open file can be renamed.
const renamesOpen = runtime.GOOS != "windows"
