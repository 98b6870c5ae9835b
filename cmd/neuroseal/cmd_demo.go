package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal/internal/demo"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
)

// demoOptions are the options of demo.
type demoOptions struct {
	Dir   string
	Force bool

	NoAttack bool
}

func demoCommand(u *ui.UI) *cobra.Command {
	o := demoOptions{}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Seal, prove, unlock, undo and attack a small trained model",
		Long: `Take the small trained Llama that is built into the program; seal it, prove that
the sealed model computes the same, bit for bit, show that it writes the same text,
that a wrong key is refused and that the right one brings the original's bytes back;
then re-balance it without any key, and fine-tune the original, the sealed and the
re-balanced model, to see what each learns. Nothing is downloaded. All files stay in the
folder, with a summary (summary.md, summary.json). Every line that is printed is
the outcome of a check made in that run; if one fails, so does the command.`,
		Example: `  neuroseal demo
  neuroseal demo --dir /tmp/demo --force`,
		Args: operands(),
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "neuroseal-demo", "write into `FOLDER`")
	f.BoolVar(&o.Force, "force", false, "replace what an earlier demo left in the folder; other files there stay")
	f.BoolVar(&o.NoAttack, "no-attack", false, "leave the fine-tuning out, which takes most of the time")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), u, o) }
	return mayExit(cmd, fault.Mismatch, fault.NoSpace, fault.Interrupted)
}

func runDemo(ctx context.Context, u *ui.UI, o demoOptions) error {
	d := &demonstration{ctx: ctx, u: u, dir: o.Dir, noAttack: o.NoAttack, sum: demoSummary{Folder: o.Dir}}
	if err := d.clear(o.Force); err != nil {
		return err
	}
	if err := d.play(); err != nil {
		return err
	}
	if err := d.save(); err != nil {
		return err
	}
	if err := u.Result(d.sum, d.dir, d.sum.write); err != nil {
		return err
	}
	if !d.sum.OK {
		return fault.New(fault.Mismatch, "a check of the demo failed; see %s", filepath.Join(d.dir, summaryText))
	}
	return nil
}

// What the demo makes in its folder.
const (
	demoOriginal = "original"
	demoRestored = "restored"
	demoBalanced = "balanced-without-key"
	summaryText  = "summary.md"
	summaryJSON  = "summary.json"
)

var demoProfiles = []string{"portable", "max"}

func demoSealed(profile string) string { return "sealed-" + profile }

// clear makes sure that nothing in the folder is in the way.
func (d *demonstration) clear(force bool) error {
	entries, err := os.ReadDir(d.dir)
	switch {
	case os.IsNotExist(err):
		return nil
	case err != nil:
		return fault.Wrap(fault.Usage, err, "%s cannot hold the demo", d.dir).WithHint("name another folder with --dir")
	case len(entries) == 0:
		return nil
	case !force:
		return fault.New(fault.Usage, "%s is not empty", d.dir).
			WithHint("name another folder with --dir, or replace an earlier demo with --force")
	}
	names := []string{demoOriginal, demoRestored, demoBalanced, demoRun, summaryText, summaryJSON}
	for _, p := range demoProfiles {
		names = append(names, demoSealed(p), demoSealed(p)+".key")
	}
	for _, name := range names {
		if err := os.RemoveAll(filepath.Join(d.dir, name)); err != nil {
			return fault.Wrap(fault.General, err, "removing an earlier demo")
		}
	}
	return nil
}

// demonstration is one run of the demo.
type demonstration struct {
	ctx context.Context
	u   *ui.UI
	dir string
	sum demoSummary

	noAttack bool
}

func (d *demonstration) path(name string) string { return filepath.Join(d.dir, name) }

// play goes through the scenes. An error means that a scene could not be
// played; a check that fails is in the summary.
func (d *demonstration) play() error {
	if err := demo.Write(d.path(demoOriginal)); err != nil {
		return err
	}
	for _, profile := range demoProfiles {
		if err := d.sealAndVerify(profile); err != nil {
			return err
		}
	}
	scenes := []func() error{d.texts, d.wrongKey, d.unlock, d.undo}
	if !d.noAttack {
		scenes = append(scenes, d.attack)
	}
	for _, scene := range scenes {
		if err := scene(); err != nil {
			return err
		}
	}
	d.sum.OK = true
	for _, c := range d.sum.Checks {
		d.sum.OK = d.sum.OK && c.OK
	}
	return nil
}

// check records the outcome of one check.
func (d *demonstration) check(ok bool, format string, args ...any) {
	d.sum.Checks = append(d.sum.Checks, demoCheck{OK: ok, What: fmt.Sprintf(format, args...)})
}
