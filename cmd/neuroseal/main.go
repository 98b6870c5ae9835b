// Command neuroseal seals open-weight language models, proves that they answer
// as before, and takes the seal back.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the command: it executes args and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// The first signal ends the work in good order; a second one, at once.
	context.AfterFunc(ctx, stop)

	u := ui.New(stdout, stderr)
	started := false
	root := newRoot(u, &started)
	root.SetArgs(joinLegacyStatic(args))
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if !started { // the command line did not even parse
		u.JSON = u.JSON || slices.Contains(args, "--json")
		if fault.KindOf(err) != fault.Usage {
			err = fault.Wrap(fault.Usage, err, "").WithHint("see: %s --help", cmd.CommandPath())
		}
	}
	return report(u, err)
}

// newRoot builds the command tree. started is set when a command begins its
// work: errors before that are the command line's.
func newRoot(u *ui.UI, started *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "neuroseal",
		Short: "Seal open-weight language models by exact powers of two",
		Long: `NeuroSeal rewrites pairs of weights of a language model by powers of two drawn
from a key. The sealed model answers bit for bit as before, but ordinary weight
fine-tuning fails on it; with the key the original's bytes come back. It is
friction, not a lock that nobody can pick: "neuroseal undo" needs no key.`,
		Version:           neuroseal.Version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			*started = true
			switch cmd.Name() {
			case "lock", "unlock", "verify", "inspect", "undo":
				beFrugal()
			}
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		Example: `  neuroseal demo
  neuroseal lock ./Llama-3.2-1B ./sealed
  neuroseal verify ./sealed --against ./Llama-3.2-1B --run
  neuroseal unlock ./sealed ./restored`,
	}
	root.PersistentFlags().BoolVar(&u.JSON, "json", false, "print the result as a JSON object, and messages as JSON lines on standard error")
	root.PersistentFlags().BoolVarP(&u.Quiet, "quiet", "q", false, "print only the path of the result")
	root.SetVersionTemplate("neuroseal {{.Version}}\n")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return fault.Wrap(fault.Usage, err, "").WithHint("see: %s --help", cmd.CommandPath())
	})
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		fmt.Fprint(cmd.OutOrStdout(), "\nEXIT STATUS\n"+exitText(cmd))
	})
	root.AddCommand(
		lockCommand(u), unlockCommand(u), verifyCommand(u), signCommand(u), inspectCommand(u), undoCommand(u), traceCommand(u), pushCommand(u), adapterCommand(u),
		keyCommand(u), graphCommand(u), attackCommand(u), reportCommand(u), trialCommand(u), demoCommand(u), versionCommand(u), manCommand(u),
	)
	return root
}

// operands demands exactly the named operands.
func operands(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return notEmpty(names, args)
		}
		want := "no operands"
		if len(names) > 0 {
			want = strings.Join(names, " and ")
		}
		return fault.New(fault.Usage, "%s takes %s; %d operands were given", cmd.CommandPath(), want, len(args)).
			WithHint("see: %s --help", cmd.CommandPath())
	}
}

// notEmpty refuses empty operands, which come from unset variables in scripts.
func notEmpty(names, args []string) error {
	for i, a := range args {
		if a == "" {
			return fault.New(fault.Usage, "%s is empty", names[i]).WithHint("is a variable unset that should hold it?")
		}
	}
	return nil
}

// joinLegacyStatic makes "--legacy-static 100" one argument. Flags whose value
// may be left out take it only after "=", but the original tool's users write
// it apart.
func joinLegacyStatic(args []string) []string {
	var out []string
	for i := 0; i < len(args); i++ {
		a := args[i]
		if a == "--" {
			return append(out, args[i:]...)
		}
		if a == "--legacy-static" && i+1 < len(args) {
			if _, err := strconv.ParseFloat(args[i+1], 64); err == nil {
				a += "=" + args[i+1]
				i++
			}
		}
		out = append(out, a)
	}
	return out
}
