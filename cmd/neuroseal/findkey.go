package main

import (
	"os"
	"path/filepath"
	"slices"

	"filippo.io/age"
	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
)

// keyOptions say where the key of a seal is to be found.
type keyOptions struct {
	KeyFile    string
	Identities []string
	Detached   string // file of keyslots
	Password   password
}

func (k *keyOptions) register(f *pflag.FlagSet) {
	f.StringVar(&k.KeyFile, "key-file", "", "seal key in `FILE`")
	f.StringArrayVarP(&k.Identities, "identity", "i", nil, "age identity or SSH private key in `FILE`; repeatable")
	k.Password.register(f, "", "the passphrase of a keyslot")
}

func (k *keyOptions) registerDetached(f *pflag.FlagSet) {
	f.StringVar(&k.Detached, "detached-key", "", "take the keyslots from `FILE` instead of the model")
}

// given reports whether any option names a key.
func (k *keyOptions) given() bool {
	return k.KeyFile != "" || len(k.Identities) > 0 || k.Detached != "" || k.Password.given()
}

// keyFinder finds the key of one seal, and asks the user at most once.
type keyFinder struct {
	u      *ui.UI
	opt    keyOptions
	beside string // key file to use if no option names a key; "": none

	tried bool
	key   keys.SealKey
	err   error
}

// find returns the key; it has the signature that the library asks for.
func (f *keyFinder) find(m *manifest.Manifest) (keys.SealKey, error) {
	if !f.tried {
		f.tried = true
		f.key, f.err = f.search(m)
	}
	return f.key, f.err
}

func (f *keyFinder) search(m *manifest.Manifest) (keys.SealKey, error) {
	o := &f.opt
	if o.KeyFile != "" {
		if len(o.Identities) > 0 || o.Detached != "" || o.Password.given() {
			return keys.SealKey{}, fault.New(fault.Usage, "--key-file excludes identities, passwords and detached keyslots").
				WithHint("the key file alone opens the seal")
		}
		return f.readKey(o.KeyFile)
	}
	slots, err := f.slots(m)
	if err != nil {
		return keys.SealKey{}, err
	}
	if !o.given() && !(fromEnvironment() && hasPassphrase(slots)) && f.besideExists() {
		f.u.Note("using the key file %s", f.beside)
		return f.readKey(f.beside)
	}
	return f.unwrap(slots)
}

func (f *keyFinder) readKey(path string) (keys.SealKey, error) {
	k, warning, err := keys.ReadKeyFile(path)
	if warning != "" {
		f.u.Warn("%s", warning)
	}
	return k, err
}

func (f *keyFinder) besideExists() bool {
	if f.beside == "" {
		return false
	}
	_, err := os.Stat(f.beside)
	return err == nil
}

// slots returns the keyslots, which stand in the manifest or in a file of
// their own.
func (f *keyFinder) slots(m *manifest.Manifest) ([]keys.Slot, error) {
	if f.opt.Detached == "" {
		return m.Keyslots, nil
	}
	d, err := keys.ReadDetached(f.opt.Detached)
	if err != nil {
		return nil, err
	}
	if d.SealID != "" && d.SealID != m.SealID {
		return nil, fault.New(fault.WrongKey, "%s belongs to seal %s, not to %s", f.opt.Detached, d.SealID, m.SealID).
			WithHint("give the keyslots that were written with this model")
	}
	return d.Slots, nil
}

func (f *keyFinder) unwrap(slots []keys.Slot) (keys.SealKey, error) {
	p := &f.opt.Password
	if p.given() && !hasPassphrase(slots) && len(f.opt.Identities) == 0 {
		return keys.SealKey{}, fault.New(fault.WrongKey, "a passphrase was given, but no keyslot of this seal takes one").
			WithHint("give --key-file or --identity; neuroseal key list shows what there is")
	}
	ids, err := f.identities()
	if err != nil {
		return keys.SealKey{}, err
	}
	var ask func() (string, error)
	if p.given() || fromEnvironment() || len(ids) == 0 {
		ask = func() (string, error) { return p.read("Passphrase of the seal", false, f.u.Warn) }
	}
	k, _, err := keys.Unwrap(slots, ids, ask)
	return k, err
}

// identities reads the private keys. Whether such a file is itself encrypted
// is between it and the terminal.
func (f *keyFinder) identities() ([]age.Identity, error) {
	var all []age.Identity
	for _, path := range f.opt.Identities {
		ids, err := keys.ParseIdentities(path, func(prompt string) (string, error) {
			return keys.AskPassphrase(prompt, false)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
	}
	return all, nil
}

func hasPassphrase(slots []keys.Slot) bool {
	return slices.ContainsFunc(slots, func(s keys.Slot) bool { return s.Type == keys.TypePassphrase })
}

// fromEnvironment reports whether the environment holds a passphrase.
func fromEnvironment() bool {
	_, ok := os.LookupEnv(keys.DefaultPasswordEnv)
	return ok
}

// keyBeside is where lock puts the key of an output, and where unlock looks
// for it: next to the folder, never in it.
func keyBeside(path string) string {
	if info, err := os.Stat(path); err == nil && !info.IsDir() && !neuroseal.SealedAsFile(path) {
		path = filepath.Dir(path) // a single file: the folder around it is sealed
	}
	path = filepath.Clean(path)
	if base := filepath.Base(path); base == "." || base == ".." {
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
	}
	return path + ".key"
}
