package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
)

// workFactor is log2 of scrypt's cost for new passphrases; 0: the default. Tests
// of something else lower it.
var workFactor = 0

// slotOptions say for whom a seal key is wrapped.
type slotOptions struct {
	Recipients     []string
	RecipientFiles []string
	Label          string
	Password       password
}

func (s *slotOptions) register(f *pflag.FlagSet, prefix string) {
	f.StringArrayVarP(&s.Recipients, "recipient", "r", nil, "wrap the key for `RECIPIENT`: age1…, age1pq1…, ssh-ed25519 …, ssh-rsa … or a file of these; repeatable")
	f.StringArrayVarP(&s.RecipientFiles, "recipients-file", "R", nil, "wrap the key for the recipients in `FILE`, one per line; repeatable")
	f.StringVar(&s.Label, "label", "", "note on the new keyslots, `TEXT`")
	s.Password.register(f, prefix, "the passphrase of a new keyslot")
}

// given reports whether an option asks for a keyslot.
func (s *slotOptions) given() bool {
	return len(s.Recipients) > 0 || len(s.RecipientFiles) > 0 || s.Password.given()
}

// wrap makes the keyslots: one per recipient, so that each can be removed
// alone, and one for the passphrase if pass is set.
func (s *slotOptions) wrap(u *ui.UI, k keys.SealKey, pass bool, now time.Time) ([]keys.Slot, error) {
	args := append([]string(nil), s.Recipients...)
	for _, f := range s.RecipientFiles {
		args = append(args, filepath.Clean(f))
	}
	to, err := keys.ParseRecipients(args...)
	if err != nil {
		return nil, err
	}
	var slots []keys.Slot
	for _, r := range to {
		slot, err := keys.WrapRecipients(k, r)
		if err != nil {
			return nil, err
		}
		slots = append(slots, slot)
	}
	if pass {
		text, err := s.Password.read("New passphrase", true, u.Warn)
		if err != nil {
			return nil, err
		}
		slot, err := keys.WrapPassphrase(k, text, workFactor)
		if err != nil {
			return nil, err
		}
		slots = append(slots, slot)
	}
	for i := range slots {
		slots[i].Label, slots[i].Created = s.Label, now.UTC().Format(time.RFC3339)
	}
	return slots, keys.CheckSlots(slots)
}

// beside is a file without which a sealed output would be worthless: its new
// key, or its detached keyslots. It is on the disk before the output becomes
// visible, and goes again if there will be no output.
//
// A run that is killed leaves the guard's temporary file behind, so that the
// next one can tell its file, which serves no output, from one that does.
type beside struct {
	path        string
	guard       *atomicdir.Pending // keeps other runs off; never becomes visible
	interrupted bool               // a run was killed while it held the guard
	made        bool
	taken       bool // something else stands there
}

// placeBeside begins such a file. It lies neither in the source, which is only
// read, nor in the output, which is given away.
func placeBeside(path, src, dst string) (*beside, error) {
	for what, dir := range map[string]string{"the checkpoint to be sealed": src, "the output": dst} {
		in, err := inside(path, dir)
		if err != nil {
			return nil, err
		}
		if in {
			return nil, fault.New(fault.Usage, "key file %s would lie in %s", path, what).WithHint("choose another place for it or for the output")
		}
	}
	b := &beside{path: path}
	_, err := os.Lstat(partial(path + ".new"))
	b.interrupted = err == nil
	b.guard, err = atomicdir.CreateFile(path+".new", 0o600, false)
	return b, err
}

// partial is where atomicdir writes a file before it becomes visible.
func partial(path string) string {
	dir, base := filepath.Split(path)
	return filepath.Join(dir, "."+base+".neuroseal-partial")
}

// inside reports whether path lies in dir, even if neither exists yet.
func inside(path, dir string) (bool, error) {
	if in, err := atomicdir.Within(path, dir); in || err != nil {
		return in, err
	}
	a, err1 := filepath.Abs(path)
	b, err2 := filepath.Abs(dir)
	if err := errors.Join(err1, err2); err != nil {
		return false, fault.Wrap(fault.General, err, "comparing paths")
	}
	return a == b || strings.HasPrefix(a, b+string(filepath.Separator)), nil
}

// end finishes: without an output, what was made for it goes.
func (b *beside) end(u *ui.UI, ok bool) {
	if b == nil {
		return
	}
	if !ok && b.made {
		if err := os.Remove(b.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			u.Warn("%s, which belongs to no output, could not be removed: %v", b.path, err)
		}
	}
	b.guard.Abort()
}

func (b *beside) exists() bool {
	_, err := os.Lstat(b.path)
	return err == nil
}

// newKey writes the key of an output to a new file. It never replaces one: the
// key in there may be the only one that opens some seal. With --force, which
// replaces the output that the key is for, that key is used again; so is the
// key that a killed run left, which serves no seal yet.
func (b *beside) newKey(u *ui.UI, o *lockOptions) (keys.SealKey, error) {
	if b.exists() {
		if !b.interrupted && !o.Force {
			b.taken = true
			return keys.SealKey{}, fault.New(fault.Usage, "key file %s exists already, and is not replaced", b.path).
				WithHint("seal with that key: --key-file %s, or --force, which replaces the output, too; or move it away if no sealed model needs it", b.path)
		}
		k, warning, err := keys.ReadKeyFile(b.path)
		if err != nil {
			return k, fault.Wrap(fault.Usage, err, "%s exists already, and is not replaced", b.path).
				WithHint("move it away, or choose another name for the output")
		}
		if warning != "" {
			u.Warn("%s", warning)
		}
		if b.interrupted {
			_ = os.Remove(partial(b.path)) // a second name of the key, if the run was killed at that moment
			u.Note("using the key that an interrupted run left in %s", b.path)
		} else {
			u.Note("using the key in %s, which exists already", b.path)
		}
		return k, nil
	}
	k := keys.NewSealKey()
	err := keys.WriteKeyFile(b.path, k, "seal key of "+filepath.Base(o.Output), "created "+o.Time.UTC().Format(time.RFC3339),
		"whoever has this can unlock the model; without it nobody can")
	b.made = err == nil
	return k, err
}

// newSlots writes detached keyslots to a new file, for now without the name of
// the seal, which is known when the output is complete. Keyslots that a killed
// run left open no seal, unless an output exists.
func (b *beside) newSlots(slots []keys.Slot, dst string) error {
	if b.exists() {
		left, err := keys.ReadDetached(b.path)
		_, gone := os.Lstat(dst)
		if !b.interrupted || err != nil || left.SealID != "" || !errors.Is(gone, fs.ErrNotExist) {
			return fault.New(fault.Usage, "%s exists already, and is not replaced", b.path).
				WithHint("choose another name for the keyslots, or move that file away if no sealed model needs it")
		}
	}
	err := keys.WriteDetached(b.path, keys.Detached{Slots: slots})
	b.made = err == nil
	return err
}
