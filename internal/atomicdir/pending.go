package atomicdir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Pending is a single output file under construction.
type Pending struct {
	dst, tmp string
	lock     *lockFile // on the temporary file itself
	force    bool
	done     bool
	writing
}

// newPending begins a file of which nothing is there but its parents.
func newPending(dst string, force bool) (*Pending, error) {
	dst, err := resolve(dst)
	if err != nil {
		return nil, err
	}
	p := &Pending{dst: dst, tmp: newDir(dst, Options{}).partial, force: force}
	if err := p.checkDst(); err != nil {
		return nil, err
	}
	return p, mkdirAll(filepath.Dir(dst))
}

// CreateFile begins a file that Commit will make visible at dst with the given
// permissions, less the umask. A dst that exists is refused with fault.Usage,
// here and again by Commit, unless force is set; so is a dst that another
// process is writing. Missing parents are made.
func CreateFile(dst string, mode fs.FileMode, force bool) (*Pending, error) {
	p, err := newPending(dst, force)
	if err != nil {
		return nil, err
	}
	if p.lock, err = acquireMode(p.tmp, mode); err != nil {
		return nil, err
	}
	return p, nil
}

// acquireMode takes the lock on the temporary file, and makes it anew if a
// killed run left one, whose content and permissions are not to be inherited.
func acquireMode(path string, mode fs.FileMode) (*lockFile, error) {
	for range 100 {
		f, err := create(path, mode)
		if err == nil {
			if err := tryLock(f); err != nil {
				f.Close()
				return nil, busy(path, err)
			}
			if sameFile(f, path) {
				return &lockFile{f, path}, nil
			}
			f.Close()
			continue
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := removeStale(path); err != nil {
			return nil, err
		}
	}
	return nil, busy(path, errBusy)
}

// AdoptFile begins a file from one that exists: src leaves its place, and what it
// holds can be read and written over until Commit makes it visible at dst. Abort
// removes it; a process that is killed leaves it where the next CreateFile or
// AdoptFile of dst, or Clear, removes it. src is on dst's file system, and nobody
// else has it open; one that OneName does not hold of is refused, as it is somebody
// else's too. Else it is as CreateFile.
func AdoptFile(src, dst string, force bool) (*Pending, error) {
	p, err := newPending(dst, force)
	if err != nil {
		return nil, err
	}
	if err := removeStale(p.tmp); err != nil {
		return nil, err
	}
	if exists(src) && !OneName(src) {
		return nil, fault.New(fault.General, "%s is a link, or has other names, whose content would change with it", src)
	}
	if err := rename(src, p.tmp); err != nil {
		return nil, err
	}
	if p.lock, err = acquire(p.tmp); err != nil {
		return nil, err
	}
	// On the disk too, src is gone before it changes.
	for _, dir := range []string{filepath.Dir(src), filepath.Dir(p.dst)} {
		if err := syncPath(dir); err != nil {
			p.Abort()
			return nil, err
		}
	}
	return p, nil
}

// OneName reports whether path is a regular file, not a link to one, that has no
// other name: what is written to it changes nothing else.
func OneName(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode().IsRegular() && names(path, info) == 1
}

// Left returns how many bytes a killed CreateFile or AdoptFile of dst left. While
// another process is writing dst, it is what that one has written.
func Left(dst string) int64 {
	dst, err := resolve(dst)
	if err != nil {
		return 0
	}
	info, err := os.Lstat(newDir(dst, Options{}).partial)
	if err != nil || !info.Mode().IsRegular() {
		return 0
	}
	return info.Size()
}

// Clear removes what a killed CreateFile or AdoptFile of dst left. A dst that
// another process is writing is refused with fault.Usage.
func Clear(dst string) error {
	dst, err := resolve(dst)
	if err != nil {
		return err
	}
	return removeStale(newDir(dst, Options{}).partial)
}

// removeStale is Clear of a temporary file.
func removeStale(tmp string) error {
	if !exists(tmp) {
		return nil
	}
	stale, err := acquire(tmp)
	if err != nil {
		return err
	}
	stale.release()
	return nil
}

func (p *Pending) checkDst() error {
	info, err := os.Lstat(p.dst)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return wrap(err, "looking at output")
	case info.IsDir():
		return fault.New(fault.Usage, "output file %s is a folder", p.dst).WithHint("name a file in it")
	case !p.force:
		return p.taken()
	}
	return nil
}

func (p *Pending) taken() error {
	return fault.New(fault.Usage, "output file %s exists", p.dst).
		WithHint("choose another name, or replace it with --force")
}

// Write appends b.
func (p *Pending) Write(b []byte) (int, error) {
	if err := hook("write", p.tmp); err != nil {
		return 0, err
	}
	n, err := p.lock.f.Write(b)
	p.wrote(p.lock.f, p.size+int64(n))
	return n, wrap(err, "")
}

// ReadAt reads what is there.
func (p *Pending) ReadAt(b []byte, off int64) (int, error) { return p.lock.f.ReadAt(b, off) }

// WriteAt writes over what is there. It is fastest from the beginning to the end.
func (p *Pending) WriteAt(b []byte, off int64) (int, error) {
	if err := hook("write", p.tmp); err != nil {
		return 0, err
	}
	n, err := p.lock.f.WriteAt(b, off)
	p.wrote(p.lock.f, off+int64(n))
	return n, wrap(err, "")
}

// Path returns the destination, absolute and with symbolic links resolved.
func (p *Pending) Path() string { return p.dst }

// Commit brings the file to the disk and makes it visible.
func (p *Pending) Commit() error {
	if p.done {
		return fault.New(fault.General, "committing %s twice, or after an abort", p.dst)
	}
	err := p.commit()
	if err != nil {
		p.Abort()
		return err
	}
	p.done = true
	p.lock.f.Close()
	return wrap(syncPath(filepath.Dir(p.dst)), "")
}

func (p *Pending) commit() error {
	if err := hook("sync", p.tmp); err != nil {
		return err
	}
	if err := p.lock.f.Sync(); err != nil {
		return wrap(err, "")
	}
	if err := p.checkDst(); err != nil {
		return err
	}
	if !renamesOpen {
		p.lock.f.Close()
	}
	if p.force {
		return rename(p.tmp, p.dst)
	}
	return p.link()
}

// link makes the file visible without ever replacing another, which rename
// would, where the file system knows hard links.
func (p *Pending) link() error {
	if err := hook("link", p.dst); err != nil {
		return err
	}
	err := os.Link(p.tmp, p.dst)
	switch {
	case err == nil:
		_ = remove(p.tmp) // a second name of a complete file; the next run removes it
		return nil
	case os.IsExist(err):
		return p.taken()
	}
	return rename(p.tmp, p.dst)
}

// Abort removes what was written. After Commit or Abort it does nothing.
func (p *Pending) Abort() {
	if !p.done {
		p.done = true
		p.lock.release()
	}
}

// WriteFile writes data to a new file, atomically; see CreateFile.
func WriteFile(dst string, data []byte, mode fs.FileMode, force bool) error {
	p, err := CreateFile(dst, mode, force)
	if err != nil {
		return err
	}
	defer p.Abort()
	if _, err := p.Write(data); err != nil {
		return err
	}
	return p.Commit()
}
