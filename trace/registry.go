package trace

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
)

// extension ends the name of an entry's file, which begins with the seal id.
const extension = ".seal.json"

// Registry is a folder with one file for each copy. It holds the copies' keys,
// so that its folder and files are readable by their owner only.
type Registry struct{ dir string }

// OpenRegistry opens the registry in dir. With create it is made if it does not
// exist; without, a folder that is not there gives fault.Usage. The warning, if
// not empty, says that others can read it.
func OpenRegistry(dir string, create bool) (r *Registry, warning string, err error) {
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, "", fault.Wrap(fault.General, err, "making the registry")
		}
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, "", fault.New(fault.Usage, "there is no registry %s", dir).
			WithHint("lock --registry DIR makes one, with the first copy that it seals")
	case err != nil:
		return nil, "", fault.Wrap(fault.General, err, "opening the registry")
	case !info.IsDir():
		return nil, "", fault.New(fault.Usage, "registry %s is not a folder", dir)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		warning = fmt.Sprintf("others can read the registry %s, which holds the keys of all copies: chmod 700 it", dir)
	}
	return &Registry{dir}, warning, nil
}

// Dir is the registry's folder.
func (r *Registry) Dir() string { return r.dir }

// Check refuses a copy that cannot be told from a registered one, because
// another label has its key, or whose label is none, with fault.Usage. A label
// may have several copies.
func (r *Registry) Check(label string, key keys.SealKey) error {
	if err := CheckLabel(label); err != nil {
		return err
	}
	return r.Each(func(e *Entry) error {
		if e.Label != label && key.VerifyCheck(e.Manifest.KeyCheck) {
			return fault.New(fault.Usage, "this key has sealed the copy of %q: the two could not be told apart, and each could unlock the other's", e.Label).
				WithHint("give every copy a key of its own: leave --key-file out")
		}
		return nil
	})
}

// Registration is an entry that was written for a copy under construction.
type Registration struct {
	path string
	old  []byte // what stood there before; nil: nothing
}

// Add writes the entry of a copy; it is on the disk when Add returns. If no copy
// comes of it, Withdraw takes it back. An entry of the same seal and label is
// replaced; of another label, it is refused.
func (r *Registry) Add(label string, key keys.SealKey, slots []keys.Slot, m *manifest.Manifest, at time.Time) (*Registration, error) {
	e, err := newEntry(label, key, slots, m, at)
	if err != nil {
		return nil, err
	}
	g := &Registration{path: filepath.Join(r.dir, e.SealID+extension)}
	switch old, err := readEntry(g.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case old.Label != label:
		return nil, fault.New(fault.Usage, "seal %s is registered for %q already", e.SealID, old.Label).
			WithHint("give every copy a key of its own")
	default:
		g.old = old.Marshal()
	}
	return g, atomicdir.WriteFile(g.path, e.Marshal(), 0o600, g.old != nil)
}

// Withdraw takes an entry back whose copy never became visible.
func (g *Registration) Withdraw() error {
	if g.old != nil {
		return atomicdir.WriteFile(g.path, g.old, 0o600, true)
	}
	return atomicdir.RemoveFile(g.path)
}

// Each calls f for every entry, in order of seal id. An entry that cannot be
// read is an error: a copy left out could be the one that leaked.
func (r *Registry) Each(f func(*Entry) error) error {
	list, err := os.ReadDir(r.dir)
	if err != nil {
		return fault.Wrap(fault.General, err, "reading the registry")
	}
	for _, x := range list {
		if !strings.HasSuffix(x.Name(), extension) || strings.HasPrefix(x.Name(), ".") {
			continue
		}
		e, err := readEntry(filepath.Join(r.dir, x.Name()))
		if err != nil {
			return err
		}
		if err := f(e); err != nil {
			return err
		}
	}
	return nil
}

func readEntry(path string) (*Entry, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the registry")
	}
	if info.Size() > entryLimit {
		return nil, fault.New(fault.Mismatch, "%s: %d bytes; at most %d are read", path, info.Size(), entryLimit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading the registry")
	}
	e, err := ParseEntry(data)
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", path).
			WithHint("restore the entry from a backup; without it its copy cannot be traced")
	}
	return e, nil
}
