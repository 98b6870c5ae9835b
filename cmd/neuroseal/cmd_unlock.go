package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
)

// unlockOptions are the options of unlock.
type unlockOptions struct {
	Source, Output string
	Key            keyOptions
	Force          bool
	Hub            hubOptions

	LegacyV2     bool
	LegacyStatic float64 // factor; 0: not asked for
	Scale        float64 // of LegacyV2
}

func unlockCommand(u *ui.UI) *cobra.Command {
	o := unlockOptions{}
	cmd := &cobra.Command{
		Use:   "unlock SRC DST",
		Short: "Restore the original of a sealed checkpoint",
		Long: `Restore the original of the sealed checkpoint SRC into the new folder DST. Every
file must have the recorded SHA-256, or nothing becomes visible. (Seals of method
static or dynamic round, and come back to rounding only.) A model card that was
edited after sealing is kept, without what the seal added to it; this is said.

The key comes from --key-file, or from a keyslot that an --identity or a
passphrase opens. If nothing is given, SRC.key is used if it exists; otherwise,
if there is a passphrase slot, the terminal is asked.

Locks of the original Python tool carry neither checksums nor a key check:
--legacy-v2 takes its randomised lock back, --legacy-static K its static one,
to the rounding of the weights' type.

` + sourceHelp,
		Example: `  neuroseal unlock ./sealed ./restored
  neuroseal unlock ./sealed ./restored -i ~/.ssh/id_ed25519
  neuroseal unlock org/name-sealed ./restored -i identity.txt
  neuroseal unlock ./old ./restored --legacy-v2 --password-file pass.txt --scale 100
  neuroseal unlock ./old ./restored --legacy-static 100`,
		Args: operands("SRC", "DST"),
	}
	f := cmd.Flags()
	o.Key.register(f)
	o.Key.registerDetached(f)
	o.Hub.registerToken(f)
	f.BoolVar(&o.Force, "force", false, "replace DST, when the new one is complete")
	f.BoolVar(&o.LegacyV2, "legacy-v2", false, "undo a randomised lock of the original Python tool; needs its password")
	f.Float64Var(&o.LegacyStatic, "legacy-static", 0, "undo a static lock of the original Python tool with factor `K`")
	f.Lookup("legacy-static").NoOptDefVal = fmt.Sprint(neuroseal.DefaultScale)
	f.Lookup("legacy-static").DefValue = ""
	f.Float64Var(&o.Scale, "scale", neuroseal.DefaultScale, "the --scale of a lock that --legacy-v2 undoes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Source, o.Output = args[0], args[1]
		switch {
		case f.Changed("scale") && !o.LegacyV2:
			return fault.New(fault.Usage, "--scale is for --legacy-v2; other seals record theirs")
		case f.Changed("legacy-static") && o.LegacyStatic == 0:
			return fault.New(fault.Usage, "--legacy-static 0: the factor cannot be zero")
		}
		return runUnlock(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.NotSealed, fault.WrongKey, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

func runUnlock(ctx context.Context, u *ui.UI, o unlockOptions) error {
	legacy := o.LegacyV2 || o.LegacyStatic != 0
	if err := o.openSource(ctx, u, legacy); err != nil {
		return err
	}
	var res *neuroseal.UnlockResult
	var err error
	if legacy {
		res, err = o.unlockLegacy(ctx, u)
	} else {
		res, err = o.unlock(ctx, u)
	}
	if err != nil {
		return err
	}
	out := filepath.Clean(res.Output)
	object := map[string]any{"output": out, "files": res.Files, "bytes": res.Bytes, "exact": res.Exact, "legacy": legacy,
		"weights_exact": res.WeightsExact, "edited": append([]string{}, res.Edited...)}
	if res.Digest != "" {
		object["original_digest"] = res.Digest
	}
	return u.Result(object, out, func(w io.Writer) {
		if res.Exact {
			fmt.Fprintf(w, "Restored %d files (%s) as %s: every one has the original's SHA-256\n", res.Files, ui.Bytes(res.Bytes), out)
			return
		}
		if res.WeightsExact {
			fmt.Fprintf(w, "Restored %d files (%s) as %s: every one has the original's SHA-256, but %s, which was changed after sealing\n",
				res.Files, ui.Bytes(res.Bytes), out, strings.Join(res.Edited, ", "))
			return
		}
		fmt.Fprintf(w, "Restored %d files (%s) as %s, exact to rounding only: the lock had rounded the weights\n", res.Files, ui.Bytes(res.Bytes), out)
	})
}

// openSource makes the source a path here. What is not sealed is not downloaded,
// but for what may have lost the original tool's record.
func (o *unlockOptions) openSource(ctx context.Context, u *ui.UI, legacy bool) (err error) {
	p := newStages(u)
	check := mustBeSealed
	if legacy {
		check = nil
	}
	o.Source, err = (&sources{u: u, hub: &o.Hub, progress: p}).local(ctx, o.Source, check)
	p.end(err == nil)
	return err
}

func (o *unlockOptions) unlock(ctx context.Context, u *ui.UI) (*neuroseal.UnlockResult, error) {
	key := &keyFinder{u: u, opt: o.Key, beside: keyBeside(o.Source)}
	p := newStages(u)
	res, err := neuroseal.Unlock(ctx, neuroseal.UnlockOptions{
		Source: o.Source, Output: o.Output, Key: key.find, Force: o.Force,
		Progress: p, Notice: func(msg string) { u.Note("%s", msg) },
	})
	p.end(err == nil)
	return res, err
}

// unlockLegacy undoes a lock of the original Python tool.
func (o *unlockOptions) unlockLegacy(ctx context.Context, u *ui.UI) (*neuroseal.UnlockResult, error) {
	l := neuroseal.LegacyOptions{
		Source: o.Source, Output: o.Output, Scale: o.LegacyStatic, Force: o.Force,
		Notice: func(msg string) { u.Note("%s", msg) },
	}
	switch {
	case o.LegacyV2 && o.LegacyStatic != 0:
		return nil, fault.New(fault.Usage, "--legacy-v2 and --legacy-static exclude each other")
	case o.Key.KeyFile != "" || len(o.Key.Identities) > 0 || o.Key.Detached != "":
		return nil, fault.New(fault.Usage, "the original tool knew no keys, only a password (--legacy-v2) or a factor (--legacy-static)")
	case o.LegacyStatic != 0 && o.Key.Password.given():
		return nil, fault.New(fault.Usage, "a static lock has no password").WithHint("its randomised lock is undone by --legacy-v2")
	}
	if err := refuseOwnSeal(o.Source); err != nil {
		return nil, err
	}
	if o.LegacyV2 {
		var err error
		l.Scale = o.Scale
		if l.Password, err = o.Key.Password.read("Password of the lock", false, u.Warn); err != nil {
			return nil, err
		}
	}
	p := newStages(u)
	l.Progress = p
	res, err := neuroseal.UnlockLegacy(ctx, l)
	p.end(err == nil)
	if err == nil {
		o.doubt(ctx, u)
	}
	return res, err
}

// refuseOwnSeal refuses a checkpoint that NeuroSeal itself sealed: its bytes
// can come back exactly.
func refuseOwnSeal(src string) error {
	_, _, err := neuroseal.ReadManifest(src)
	var legacy manifest.Legacy
	switch {
	case err == nil:
		return fault.New(fault.Usage, "%s was sealed by NeuroSeal, not by the original Python tool", src).
			WithHint("leave --legacy-v2 and --legacy-static out")
	case errors.As(err, &legacy), fault.KindOf(err) == fault.NotSealed:
		return nil
	}
	return err
}

// doubt looks at what came out: the original tool's locks tell nobody whether
// the password was right, but weights that still look sealed do.
func (o *unlockOptions) doubt(ctx context.Context, u *ui.UI) {
	in, err := neuroseal.Inspect(ctx, neuroseal.InspectOptions{Path: o.Output, Detect: true, AllowUnsealed: true})
	switch {
	case err != nil:
		u.Note("whether the password or factor was right could not be checked: %v", err)
	case in.Detection.Sealed:
		u.Warn("the result still looks sealed (%s): the password, --scale or factor may be wrong", in.Detection)
	}
}
