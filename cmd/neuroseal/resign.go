package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
)

// resignHelp is what the help of key add and key remove says of signatures.
const resignHelp = `Keyslots stand in the manifest, which a signature of the sealed folder covers:
after a change the signature no longer fits. With --sign and the key that made it,
it is made anew, without reading the weights.`

func registerResign(f *pflag.FlagSet, o *signingOptions) {
	o.register(f, "sign", "sign-", "sign the changed manifest anew, with the private key in `FILE` that signed it")
	o.registerPassword(f, "sign-")
}

// replace saves other keyslots. They stand in the manifest, so that a signature
// over that no longer fits: with a signing key it is made anew, which reads no
// weights; without, the user is told.
func (b *slotBox) replace(u *ui.UI, sign *signingOptions, slots []keys.Slot) error {
	var signed []signedManifest
	if b.man != nil {
		signed = signaturesOf(b.file)
	}
	if !sign.given() {
		if err := b.save(slots); err != nil {
			return err
		}
		for _, s := range signed {
			u.Warn("%s no longer fits, because keyslots are part of what it signs: sign again (neuroseal sign --force)", filepath.ToSlash(s.file))
		}
		return nil
	}
	if len(signed) == 0 {
		return fault.New(fault.Usage, "%s: no signature there says anything of %s", sign.flag, b.file).
			WithHint("leave it out, and sign with: neuroseal sign")
	}
	next, err := b.resign(u, sign, signed, slots)
	if err != nil {
		return err
	}
	if err := b.save(slots); err != nil {
		return err
	}
	for i, s := range signed {
		if err := atomicdir.WriteFile(s.file, next[i], s.mode, true); err != nil {
			return fault.Wrap(fault.KindOf(err), err, "the keyslots are written, the signature is not")
		}
	}
	return nil
}

// resign makes the signatures that fit the manifest with other keyslots.
func (b *slotBox) resign(u *ui.UI, sign *signingOptions, signed []signedManifest, slots []keys.Slot) ([][]byte, error) {
	signer, err := sign.load(u)
	if err != nil {
		return nil, err
	}
	before, err := os.ReadFile(b.file)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading manifest")
	}
	m := *b.man
	m.Keyslots = slots
	after := m.Marshal()
	next := make([][]byte, len(signed))
	for i, s := range signed {
		if next[i], err = signer.Resign(s.b, filepath.Base(b.file), before, after); err != nil {
			return nil, fault.Wrap(fault.KindOf(err), err, "nothing was changed; %s cannot be signed anew", s.file)
		}
	}
	return next, nil
}
