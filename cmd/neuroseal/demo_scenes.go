package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// sealAndVerify seals the model with a profile and proves the result against
// the original.
func (d *demonstration) sealAndVerify(profile string) error {
	sealed := d.path(demoSealed(profile))
	d.u.Note("sealing with profile %s", profile)
	lock := lockOptions{LockOptions: neuroseal.LockOptions{
		Source: d.path(demoOriginal), Output: sealed, Method: seal.Gauge, Profile: seal.Profile(profile),
	}, ownKey: true}
	l, err := lock.lock(d.ctx, d.u.Silent())
	if err != nil {
		return err
	}
	v, err := (&verifyOptions{Sealed: sealed, Against: d.path(demoOriginal), Run: true}).verify(d.ctx, d.u.Silent())
	if err != nil {
		return err
	}
	s := demoSeal{
		Profile: profile, Folder: demoSealed(profile), Coverage: l.Manifest.Coverage, FreeDims: l.Manifest.FreeDims,
		Holes: len(l.Manifest.Holes), Files: yes(v.DigestsOK), Algebra: yes(v.BitExactAlgebra), Forward: yes(v.BitExactForward),
	}
	d.sum.Seals = append(d.sum.Seals, s)
	d.check(v.OK && s.Files && s.Algebra && s.Forward,
		"profile %s: %s of the parameters moved; weights differ by powers of two that cancel, and outputs in fp32 and bf16 are equal bit for bit", profile, percent(s.Coverage))
	return nil
}

func yes(ok *bool) bool { return ok != nil && *ok }

// demoPrompts are beginnings in the style of the model's training text.
var demoPrompts = []string{"Leo had 5 apples. Nora gave him 3 more.", "3 plus 4 is"}

// demoLength is how many bytes the model adds to a prompt, at most: what it
// writes up to the end of a line is shown.
const demoLength = 24

// texts lets original and sealed models write.
func (d *demonstration) texts() error {
	d.u.Note("letting the original and the sealed models write")
	same := true
	for _, prompt := range demoPrompts {
		want, err := d.continued(demoOriginal, prompt)
		if err != nil {
			return err
		}
		t := demoText{Prompt: prompt, Original: want, Sealed: map[string]string{}}
		for _, p := range demoProfiles {
			got, err := d.continued(demoSealed(p), prompt)
			if err != nil {
				return err
			}
			t.Sealed[p] = got
			same = same && got == want
		}
		d.sum.Texts = append(d.sum.Texts, t)
	}
	d.check(same, "the original and both sealed models write the same text")
	return nil
}

// continued is a prompt and what a model adds to it: a token is a byte.
func (d *demonstration) continued(model, prompt string) (string, error) {
	var tokens []int
	for _, b := range []byte(prompt) {
		tokens = append(tokens, int(b))
	}
	more, err := neuroseal.Generate(d.ctx, d.path(model), tokens, demoLength)
	text := []byte(prompt)
	for _, t := range more {
		text = append(text, byte(t))
	}
	return string(text), err
}

// wrongKey tries to unlock with a key that is not the seal's.
func (d *demonstration) wrongKey() error {
	other := keys.NewSealKey()
	_, err := neuroseal.Unlock(d.ctx, neuroseal.UnlockOptions{
		Source: d.path(demoSealed(demoProfiles[0])), Output: d.path(demoRestored),
		Key: func(*manifest.Manifest) (keys.SealKey, error) { return other, nil },
	})
	_, there := os.Lstat(d.path(demoRestored))
	d.sum.WrongKeyExit = exitCode(err)
	d.check(d.sum.WrongKeyExit == int(fault.WrongKey) && errors.Is(there, fs.ErrNotExist),
		"a wrong key is refused with exit code %d, and nothing is written", d.sum.WrongKeyExit)
	return nil
}

// unlock restores the original and compares the bytes.
func (d *demonstration) unlock() error {
	sealed := demoSealed(demoProfiles[0])
	o := unlockOptions{Source: d.path(sealed), Output: d.path(demoRestored), Key: keyOptions{KeyFile: keyBeside(d.path(sealed))}}
	if _, err := o.unlock(d.ctx, d.u.Silent()); err != nil {
		return err
	}
	for _, h := range []struct {
		folder string
		into   *string
	}{{demoOriginal, &d.sum.Original}, {sealed, &d.sum.Sealed}, {demoRestored, &d.sum.Restored}} {
		var err error
		if *h.into, err = hashFile(filepath.Join(d.path(h.folder), "model.safetensors")); err != nil {
			return err
		}
	}
	d.check(d.sum.Original == d.sum.Restored && d.sum.Original != d.sum.Sealed,
		"with its key the sealed model comes back with the original's SHA-256, which the sealed one does not have")
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}

// undo re-balances the widest seal without a key, as an attacker would.
func (d *demonstration) undo() error {
	src := demoSealed(demoProfiles[len(demoProfiles)-1])
	o := undoOptions{UndoOptions: neuroseal.UndoOptions{Source: d.path(src), Output: d.path(demoBalanced)}}
	res, err := o.undo(d.ctx, d.u.Silent())
	if err != nil {
		return err
	}
	d.sum.UndoMilliseconds, d.sum.UndoBytesRead = res.Seconds*1000, res.BytesRead
	in, err := neuroseal.Inspect(d.ctx, neuroseal.InspectOptions{Path: d.path(demoBalanced), Detect: true})
	if err != nil {
		return err
	}
	text, err := d.continued(demoBalanced, demoPrompts[0])
	if err != nil {
		return err
	}
	d.check(text == d.sum.Texts[0].Original && !in.Detection.Sealed,
		"without any key, undo took the seal of profile %s off in %.1f milliseconds: same text, and no trace of a seal in the weights", demoProfiles[len(demoProfiles)-1], d.sum.UndoMilliseconds)
	return nil
}
