package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
)

func keyCommand(u *ui.UI) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make seal keys; list, add and remove keyslots",
		Long: `Make seal keys, and manage the keyslots of a seal: who can open it. PATH is a
sealed folder or a file of detached keyslots. Tensors are never touched.`,
		Example: `  neuroseal key generate seal.key
  neuroseal key list ./sealed`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fault.New(fault.Usage, "key needs a subcommand: generate, add, remove or list").WithHint("see: neuroseal key --help")
		},
	}
	cmd.AddCommand(keyGenerateCommand(u), keyAddCommand(u), keyRemoveCommand(u), keyListCommand(u))
	return mayExit(cmd)
}

func keyGenerateCommand(u *ui.UI) *cobra.Command {
	return mayExit(&cobra.Command{
		Use:   "generate FILE",
		Short: "Write a new seal key",
		Long: `Write a new random seal key to FILE, readable by its owner only. A file that
exists is never replaced. With lock --key-file, the same input then always gives
the same sealed bytes.`,
		Example: `  neuroseal key generate seal.key
  neuroseal lock ./model ./sealed --key-file seal.key`,
		Args: operands("FILE"),
		RunE: func(_ *cobra.Command, args []string) error { return runKeyGenerate(u, args[0]) },
	}, fault.NoSpace)
}

func runKeyGenerate(u *ui.UI, path string) error {
	now, err := sourceDate()
	if err != nil {
		return err
	}
	if err := keys.WriteKeyFile(path, keys.NewSealKey(), "created "+now.UTC().Format(time.RFC3339)); err != nil {
		return err
	}
	return u.Result(map[string]string{"key_file": path}, path, func(w io.Writer) {
		fmt.Fprintf(w, "Wrote a new seal key to %s\n", path)
	})
}

// keyAddOptions are the options of key add.
type keyAddOptions struct {
	Path   string
	Key    keyOptions // opens the seal
	Sealed string     // folder that a detached file belongs to
	Slots  slotOptions
	Sign   signingOptions // to sign the changed manifest anew
}

func keyAddCommand(u *ui.UI) *cobra.Command {
	o := keyAddOptions{}
	cmd := &cobra.Command{
		Use:   "add PATH",
		Short: "Let somebody else open a seal",
		Long: `Add keyslots to PATH, a sealed folder or a file of detached keyslots: one for each
--recipient, and one for a new passphrase if an --add-… option names one.

The seal key is needed: from --key-file, or from a keyslot that an --identity or
its passphrase (the options without "add-") opens; if nothing is given, PATH.key
is used if it exists. A key file can be checked only against the sealed model: for
a detached file, name that with --sealed.

` + resignHelp,
		Example: `  neuroseal key add ./sealed --key-file sealed.key -r age1…
  neuroseal key add ./sealed -i me.txt --add-password-file new.txt --label team`,
		Args: operands("PATH"),
	}
	f := cmd.Flags()
	o.Key.register(f)
	f.StringVar(&o.Sealed, "sealed", "", "the sealed `FOLDER` that a detached file belongs to")
	o.Slots.register(f, "add-")
	registerResign(f, &o.Sign)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.Path = args[0]
		return runKeyAdd(u, o)
	}
	return mayExit(cmd, fault.NotSealed, fault.WrongKey, fault.Mismatch, fault.NoSpace)
}

func runKeyAdd(u *ui.UI, o keyAddOptions) error {
	if !o.Slots.given() {
		return fault.New(fault.Usage, "nobody to add").WithHint("give --recipient, or an --add-… option for a new passphrase")
	}
	now, err := sourceDate()
	if err != nil {
		return err
	}
	box, err := openSlotBox(o.Path)
	if err != nil {
		return err
	}
	k, err := o.openSeal(u, box)
	if err != nil {
		return err
	}
	added, err := o.Slots.wrap(u, k, o.Slots.Password.given(), now)
	if err != nil {
		return err
	}
	if err := box.replace(u, &o.Sign, append(box.slots, added...)); err != nil {
		return err
	}
	return u.Result(map[string]any{"path": o.Path, "added": added}, o.Path, func(w io.Writer) {
		for _, s := range added {
			fmt.Fprintf(w, "Added keyslot %s to %s\n", s, o.Path)
		}
	})
}

// openSeal finds the seal key and makes sure that it is the right one: a slot
// that wraps another key would open nothing.
func (o *keyAddOptions) openSeal(u *ui.UI, box *slotBox) (keys.SealKey, error) {
	man := box.man
	if man != nil && man.KeyCheck == "" {
		return keys.SealKey{}, fault.New(fault.Usage, "%s has no key: method %s uses none", o.Path, man.Method)
	}
	if o.Sealed != "" {
		if man != nil {
			return keys.SealKey{}, fault.New(fault.Usage, "--sealed is for files of detached keyslots; %s is a sealed model itself", o.Path)
		}
		var err error
		if man, _, err = neuroseal.ReadManifest(o.Sealed); err != nil {
			return keys.SealKey{}, err
		}
		if box.sealID != "" && box.sealID != man.SealID {
			return keys.SealKey{}, fault.New(fault.WrongKey, "%s belongs to seal %s, not to %s", o.Path, box.sealID, man.SealID)
		}
	}
	if man == nil && o.Key.KeyFile != "" {
		return keys.SealKey{}, fault.New(fault.Usage, "whether a key file fits detached keyslots cannot be told from them").
			WithHint("name the sealed folder too, with --sealed, or open a keyslot with --identity or its passphrase")
	}
	key := &keyFinder{u: u, opt: o.Key}
	if man != nil {
		key.beside = keyBeside(o.Path)
	}
	k, err := key.find(&manifest.Manifest{Keyslots: box.slots})
	if err == nil && man != nil {
		err = man.Verify(k)
	}
	return k, err
}

func keyRemoveCommand(u *ui.UI) *cobra.Command {
	o := signingOptions{}
	cmd := &cobra.Command{
		Use:   "remove PATH SLOT",
		Short: "Remove a keyslot",
		Long: `Remove a keyslot, named by its id, its label or its recipient, from PATH, a sealed
folder or a file of detached keyslots. No key is needed. The last keyslot stays.

Whoever could open the slot may have kept the seal key or a copy of the slot:
removing it keeps out newcomers only. To shut somebody out, unlock the model and
seal it again with a new key.

` + resignHelp,
		Example: `  neuroseal key remove ./sealed 3f2a9c01`,
		Args:    operands("PATH", "SLOT"),
		RunE:    func(_ *cobra.Command, args []string) error { return runKeyRemove(u, args[0], args[1], &o) },
	}
	registerResign(cmd.Flags(), &o)
	return mayExit(cmd, fault.NotSealed, fault.WrongKey, fault.Mismatch, fault.NoSpace)
}

func runKeyRemove(u *ui.UI, path, ref string, sign *signingOptions) error {
	box, err := openSlotBox(path)
	if err != nil {
		return err
	}
	rest, removed, err := keys.RemoveSlot(box.slots, ref)
	if err != nil {
		return err
	}
	if err := box.replace(u, sign, rest); err != nil {
		return err
	}
	u.Note("whoever could open that keyslot may have kept the seal key; only a new seal with a new key shuts them out")
	return u.Result(map[string]any{"path": path, "removed": removed}, path, func(w io.Writer) {
		fmt.Fprintf(w, "Removed keyslot %s from %s\n", removed, path)
	})
}

func keyListCommand(u *ui.UI) *cobra.Command {
	return mayExit(&cobra.Command{
		Use:     "list PATH",
		Short:   "List keyslots",
		Long:    `List the keyslots of PATH, a sealed folder or a file of detached keyslots.`,
		Example: `  neuroseal key list ./sealed --json`,
		Args:    operands("PATH"),
		RunE:    func(_ *cobra.Command, args []string) error { return runKeyList(u, args[0]) },
	}, fault.NotSealed, fault.Mismatch)
}

func runKeyList(u *ui.UI, path string) error {
	box, err := openSlotBox(path)
	if err != nil {
		return err
	}
	slots := append([]keys.Slot{}, box.slots...)
	return u.Result(map[string]any{"path": path, "seal_id": box.sealID, "keyslots": slots}, path, func(w io.Writer) {
		writeSlots(w, slots)
	})
}

// slotBox is where keyslots stand: a manifest, or a file of their own.
type slotBox struct {
	file   string
	mode   fs.FileMode
	man    *manifest.Manifest // nil for a file of detached keyslots
	sealID string
	slots  []keys.Slot
}

func openSlotBox(path string) (*slotBox, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening keyslots")
	}
	if !info.IsDir() && filepath.Base(path) != manifest.Name && filepath.Ext(path) != ".safetensors" && !neuroseal.SealedAsFile(path) {
		d, err := keys.ReadDetached(path)
		if err != nil {
			return nil, err
		}
		return &slotBox{file: path, sealID: d.SealID, slots: d.Slots}, nil
	}
	m, file, err := neuroseal.ReadManifest(path)
	if err != nil {
		return nil, err
	}
	if err := keys.CheckSlots(m.Keyslots); err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", file)
	}
	if info, err = os.Stat(file); err != nil {
		return nil, fault.Wrap(fault.General, err, "opening keyslots")
	}
	return &slotBox{file: file, mode: info.Mode().Perm(), man: m, sealID: m.SealID, slots: m.Keyslots}, nil
}

// save replaces the keyslots in one step. The manifest's MAC stays valid: the
// keyslots are outside it.
func (b *slotBox) save(slots []keys.Slot) error {
	if b.man == nil {
		return keys.WriteDetached(b.file, keys.Detached{SealID: b.sealID, Slots: slots})
	}
	if info, err := os.Lstat(b.file); err != nil || !info.Mode().IsRegular() {
		return fault.New(fault.Usage, "%s is a link, as in a download cache, and is not written through", b.file).
			WithHint("copy the folder, links followed, and change the copy")
	}
	if err := keys.CheckSlots(slots); err != nil {
		return err
	}
	b.man.Keyslots = slots
	const replace = true
	if err := atomicdir.WriteFile(b.file, b.man.Marshal(), b.mode, replace); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "writing keyslots")
	}
	return nil
}
