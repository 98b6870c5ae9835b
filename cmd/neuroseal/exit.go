package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
)

// report tells the user about the error that ends the run and returns the exit
// code for it.
func report(u *ui.UI, err error) int {
	err = withHint(err)
	code := exitCode(err)
	u.Error(code, err.Error(), fault.HintOf(err))
	return code
}

// exitCode turns a typed error into the documented exit code.
func exitCode(err error) int {
	switch kind := fault.KindOf(err); {
	case err == nil:
		return 0
	case kind == fault.Interrupted, errors.Is(err, context.Canceled):
		return int(fault.Interrupted)
	default:
		return int(kind)
	}
}

// withHint explains errors that reach the command without a hint.
func withHint(err error) error {
	var legacy manifest.Legacy
	switch {
	case fault.HintOf(err) != "":
		return err
	case errors.As(err, &legacy):
		return fault.Wrap(fault.Unsupported, err, "").
			WithHint("undo it with: neuroseal unlock SRC DST --legacy-v2 --password-file FILE, or --legacy-static 100")
	case exitCode(err) == int(fault.Interrupted):
		return fault.Wrap(fault.Interrupted, err, "").WithHint("nothing was left behind; the same command starts again")
	}
	return err
}

// exits is what each exit code means.
var exits = map[fault.Kind]string{
	0:                   "done",
	fault.General:       "an error that has no code of its own",
	fault.Usage:         "the command line is wrong, or the output exists",
	fault.NotSealed:     "the checkpoint is not sealed",
	fault.AlreadySealed: "the checkpoint is sealed already, or looks sealed",
	fault.WrongKey:      "wrong password, key or identity; nothing was written",
	fault.Mismatch:      "bytes are not what they should be: damaged, not what was signed, or verification failed",
	fault.Unsupported:   "the architecture, configuration or format is unknown or unsafe to seal",
	fault.NoSpace:       "not enough disk space",
	fault.Interrupted:   "interrupted; what was begun is removed",
}

const exitsKey = "exits"

// mayExit declares which codes a command can end with, besides 0, 1 and 2.
func mayExit(cmd *cobra.Command, kinds ...fault.Kind) *cobra.Command {
	text := ""
	for _, k := range append([]fault.Kind{0, fault.General, fault.Usage}, kinds...) {
		text += exitLine(k)
	}
	cmd.Annotations = map[string]string{exitsKey: text}
	return cmd
}

func exitLine(k fault.Kind) string { return fmt.Sprintf("  %-4d %s\n", int(k), exits[k]) }

// exitText is the EXIT STATUS section of a command's help.
func exitText(cmd *cobra.Command) string {
	if text := cmd.Annotations[exitsKey]; text != "" {
		return text
	}
	var kinds []fault.Kind
	for k := range exits {
		if cmd.HasParent() && k > fault.Usage {
			continue // cobra's own commands know no others
		}
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	var b strings.Builder
	for _, k := range kinds {
		b.WriteString(exitLine(k))
	}
	return b.String()
}
