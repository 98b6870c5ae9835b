package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
)

// undoOptions are the options of undo.
type undoOptions struct {
	neuroseal.UndoOptions // without progress
	NoKey                 bool
	Hub                   hubOptions
}

func undoCommand(u *ui.UI) *cobra.Command {
	o := undoOptions{}
	cmd := &cobra.Command{
		Use:   "undo --no-key SRC DST",
		Short: "Re-balance a checkpoint without any key, as an informed attacker would",
		Long: `Re-balance the checkpoint SRC, sealed or not, into the new folder DST, without a
key: fold the gains of norms into their readers and even out both sides of every
pair by powers of two. The function stays the same; the result trains like any
other model. It is not the original: its bytes come back with the key only.
Signs and permutations stay: they do not keep a model from training.

This works on every seal and cannot be prevented. It is here so that nobody takes
a seal for more than friction.

` + sourceHelp,
		Example: `  neuroseal undo --no-key ./sealed ./balanced`,
		Args:    operands("SRC", "DST"),
	}
	f := cmd.Flags()
	f.BoolVar(&o.NoKey, "no-key", false, "say that no key is used; required")
	f.StringVar(&o.Graph, "graph", "", "an exported graph of the network, a .pt2 or .onnx `FILE`; for architectures without a builder")
	o.Hub.registerToken(f)
	f.BoolVar(&o.Force, "force", false, "replace DST, when the new one is complete")
	f.BoolVar(&o.AllowUnsealed, "allow-unsealed", false, "accept tensors that the network does not read")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Source, o.Output = args[0], args[1]
		return runUndo(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

func runUndo(ctx context.Context, u *ui.UI, o undoOptions) error {
	if !o.NoKey {
		return fault.New(fault.Usage, "undo does not restore the original: it re-balances the weights without any key, as an informed attacker would").
			WithHint("say --no-key if that is what you want; with the key, use: neuroseal unlock SRC DST")
	}
	res, err := o.undo(ctx, u)
	if err != nil {
		return err
	}
	out := filepath.Clean(res.Output)
	object := map[string]any{"output": out, "classes": res.Classes, "bytes_read": res.BytesRead, "seconds": res.Seconds}
	return u.Result(object, out, func(w io.Writer) {
		fmt.Fprintf(w, "Re-balanced as %s without any key: %d factors moved, %s of weights read, %s\n",
			out, res.Classes, ui.Bytes(res.BytesRead), ui.Duration(time.Duration(res.Seconds*float64(time.Second))))
	})
}

func (o *undoOptions) undo(ctx context.Context, u *ui.UI) (*neuroseal.UndoResult, error) {
	p := newStages(u)
	o.Progress, o.Notice = p, func(msg string) { u.Note("%s", msg) }
	var err error
	s := &sources{u: u, hub: &o.Hub, progress: p}
	if o.Source, err = s.local(ctx, o.Source, mustBeSupported(o.Graph, o.AllowUnsealed)); err != nil {
		p.end(false)
		return nil, err
	}
	res, err := neuroseal.Undo(ctx, o.UndoOptions)
	p.end(err == nil)
	return res, err
}
