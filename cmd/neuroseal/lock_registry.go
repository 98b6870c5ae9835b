package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
	"github.com/neuroseal/neuroseal/trace"
)

// registryHelp is what lock --help says of registries.
const registryHelp = `With --registry, the copy is entered under its --label in a folder that trace can
say from which copy a leaked model was made; the entry is there before DST is. The
registry holds the key of every copy, so that whoever has it can unlock them all:
keep it as you keep keys, and never publish it. With --registry-recipient the keys
in it are wrapped for you, and trace needs your identity. A label may have several
copies; two labels may not share a key.`

// registryOptions say where a copy is registered.
type registryOptions struct {
	Dir        string
	Recipients []string // for whom the key in the entry is wrapped

	entry *trace.Registration
}

func (r *registryOptions) register(f *pflag.FlagSet) {
	f.StringVar(&r.Dir, "registry", "", "enter the copy under its --label in the registry in `DIR`, which trace reads; it holds keys")
	f.StringArrayVar(&r.Recipients, "registry-recipient", nil, "wrap the key in the registry for `RECIPIENT`, as -r; repeatable")
	f.Lookup("label").Usage = "name of this copy in the registry, and note on the new keyslots, `TEXT`"
}

// checkRegistry refuses options that do not go together.
func (o *lockOptions) checkRegistry(part bool) error {
	r := &o.Registry
	switch {
	case r.Dir == "" && len(r.Recipients) > 0:
		return fault.New(fault.Usage, "--registry-recipient needs --registry").WithHint("say where the copy is to be registered")
	case r.Dir == "":
		return nil
	case o.Slots.Label == "":
		return fault.New(fault.Usage, "--registry needs --label: whose copy is it?").WithHint("for example --label partner-17")
	case part:
		return fault.New(fault.Usage, "a copy is registered when it is complete").WithHint("give --registry to --finish, not to the parts")
	case o.Method != seal.Gauge:
		return fault.New(fault.Usage, "method %s gives copies nothing by which they could be told apart reliably", o.Method).WithHint("use method gauge")
	}
	for _, dir := range []string{o.Output, o.Source} {
		in, err := inside(r.Dir, dir)
		if err != nil {
			return err
		}
		if in {
			return fault.New(fault.Usage, "registry %s lies in %s: who gets that gets the keys of all copies", r.Dir, dir).WithHint("choose another folder")
		}
	}
	return trace.CheckLabel(o.Slots.Label)
}

// openRegistry prepares the entry of a copy that is sealed with a key.
func (o *lockOptions) openRegistry(u *ui.UI, key keys.SealKey) error {
	r := &o.Registry
	if r.Dir == "" {
		return nil
	}
	var slots []keys.Slot
	if len(r.Recipients) > 0 {
		to, err := keys.ParseRecipients(r.Recipients...)
		if err != nil {
			return err
		}
		for _, x := range to {
			slot, err := keys.WrapRecipients(key, x)
			if err != nil {
				return err
			}
			slot.Created = o.Time.UTC().Format(time.RFC3339)
			slots = append(slots, slot)
		}
	}
	reg, warning, err := trace.OpenRegistry(r.Dir, true)
	if err != nil {
		return err
	}
	if warning != "" {
		u.Warn("%s", warning)
	}
	if err := reg.Check(o.Slots.Label, key); err != nil {
		return err
	}
	o.Register = func(m *manifest.Manifest) (err error) {
		r.entry, err = reg.Add(o.Slots.Label, key, slots, m, o.Time)
		return err
	}
	return nil
}

// tell says that the copy is registered.
func (r *registryOptions) tell(u *ui.UI) {
	if r.entry != nil {
		u.Note("registered in %s, which holds the keys of all copies: keep it as you keep keys", r.Dir)
	}
}

// withdraw takes the entry back of a copy that did not come to be.
func (r *registryOptions) withdraw(u *ui.UI) {
	if r.entry == nil {
		return
	}
	if err := r.entry.Withdraw(); err != nil {
		u.Warn("the registry %s has an entry of a copy that does not exist: %v", r.Dir, err)
	}
}
