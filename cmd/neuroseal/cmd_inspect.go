package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/seal"
)

// inspectOptions are the options of inspect.
type inspectOptions struct {
	neuroseal.InspectOptions // without progress
	All                      bool
	Hub                      hubOptions
}

func inspectCommand(u *ui.UI) *cobra.Command {
	o := inspectOptions{}
	var profile string
	cmd := &cobra.Command{
		Use:   "inspect PATH",
		Short: "Show what a seal touches, or would touch",
		Long: `Show what a seal touches in the checkpoint PATH: the groups of factors that the
network allows, the share of parameters that move, and the holes, which no factor
touches. On an unsealed checkpoint: what a seal of the profile would touch. No key
is needed.

` + sourceHelp + `
Of a model on the hub only headers are read, but for --detect and --graph, and GGUF
and ONNX files, for which it is downloaded.

With --detect the weights are read and searched for traces of a seal.`,
		Example: `  neuroseal inspect ./model --profile strong
  neuroseal inspect org/name@main
  neuroseal inspect ./download --detect
  neuroseal inspect ./sealed --json`,
		Args: operands("PATH"),
	}
	f := cmd.Flags()
	f.StringVar(&profile, "profile", "portable", "portable, strong or max; for an unsealed checkpoint")
	f.BoolVar(&o.Detect, "detect", false, "read the weights and look for traces of a seal")
	f.StringVar(&o.Graph, "graph", "", "an exported graph of the network, a .pt2 or .onnx `FILE`; for architectures without a builder")
	f.BoolVar(&o.AllowUnsealed, "allow-unsealed", false, "accept tensors that the network does not read")
	o.Hub.registerToken(f)
	f.BoolVar(&o.All, "all", false, "list every group and every hole by itself")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Path, o.Profile = args[0], seal.Profile(profile)
		return runInspect(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.Mismatch, fault.Unsupported, fault.NoSpace, fault.Interrupted)
}

func runInspect(ctx context.Context, u *ui.UI, o inspectOptions) error {
	switch o.Profile {
	case seal.Portable, seal.Strong, seal.Max:
	default:
		return fault.New(fault.Usage, "profile %q: use portable, strong or max", o.Profile)
	}
	p := newStages(u)
	o.Progress = p
	operand := o.Path
	in, err := o.inspect(ctx, &sources{u: u, hub: &o.Hub, progress: p})
	p.end(err == nil)
	if err != nil {
		return err
	}
	return u.Result(in, operand, func(w io.Writer) { writeInspection(w, in, o.All) })
}

func (o *inspectOptions) inspect(ctx context.Context, s *sources) (*neuroseal.Inspection, error) {
	src, err := s.open(ctx, o.Path)
	if err != nil {
		return nil, err
	}
	if src.path == "" && src.remote != nil && !o.Detect && o.Graph == "" {
		o.Remote = src.remote
	} else if o.Path, err = src.here(ctx, nil); err != nil {
		return nil, err
	}
	return neuroseal.Inspect(ctx, o.InspectOptions)
}

func writeInspection(w io.Writer, in *neuroseal.Inspection, all bool) {
	fmt.Fprintf(w, "Model: %s, %d parameters, %s\n", in.ModelType, in.Parameters, ui.Bytes(in.Bytes))
	switch {
	case in.Legacy != "":
		fmt.Fprintf(w, "Sealed: by the original Python tool, method %s\n", in.Legacy)
	case in.Sealed && in.Promise == nil: // told by the weights alone
		fmt.Fprintln(w, "Sealed: yes, as the weights show, but the manifest is gone")
	case in.Sealed:
		fmt.Fprintf(w, "Sealed: yes, %s, by %s at %s", strings.TrimSpace("method "+in.Method+" "+in.Profile), in.Tool, in.Timestamp)
		if in.SealID != "" {
			fmt.Fprintf(w, ", seal %s", in.SealID)
		}
		fmt.Fprintln(w)
		writePromise(w, *in.Promise)
	default:
		fmt.Fprintf(w, "Sealed: no; this is what profile %s could touch\n", in.Profile)
	}
	if d := in.Detection; d != nil {
		writeDetection(w, d)
	}
	if len(in.Quantised) > 0 {
		fmt.Fprintf(w, "Quantised: %s\n", strings.Join(in.Quantised, "; "))
	}
	fmt.Fprintf(w, "Free dimensions: %d; coverage: %s of the parameters\n", in.FreeDims, percent(in.Coverage))
	if all {
		writeGroups(w, in.Groups)
	} else {
		writeKinds(w, kinds(in.Groups, nil), false)
	}
	writeHoles(w, in.Holes, all)
	if in.Sealed && in.Legacy == "" && in.Promise != nil {
		writeSlots(w, in.Keyslots)
	}
	writeNotes(w, in.Notes)
}

func writeDetection(w io.Writer, d *neuroseal.Detection) {
	if !d.Sealed {
		fmt.Fprintln(w, "Weights: no traces of a seal")
		return
	}
	fmt.Fprintln(w, "Weights: they look sealed")
	for _, e := range d.Evidence {
		fmt.Fprintf(w, "  %s\n", e)
	}
	if d.StaticScale != 0 {
		fmt.Fprintf(w, "  the factor of a static lock would be about %.3g\n", d.StaticScale)
	}
}

func writeGroups(w io.Writer, groups []neuroseal.GroupRow) {
	rows := [][]string{{"GROUP", "KIND", "FREE DIMENSIONS", "FACTORS"}}
	for _, g := range groups {
		rows = append(rows, []string{g.ID, g.Kind, fmt.Sprint(g.Classes), fmt.Sprint(g.Factors)})
	}
	ui.Table(w, "  ", rows)
}

// writeSlots prints keyslots; --json has the recipients in full.
func writeSlots(w io.Writer, slots []keys.Slot) {
	if len(slots) == 0 {
		fmt.Fprintln(w, "Keyslots: none in the model")
		return
	}
	fmt.Fprintf(w, "Keyslots: %d\n", len(slots))
	rows := [][]string{{"ID", "TYPE", "CREATED", "LABEL", "FOR"}}
	for _, s := range slots {
		to := make([]string, len(s.Recipients))
		for i, r := range s.Recipients {
			to[i] = shorten(r)
		}
		rows = append(rows, []string{s.ID, s.Type, s.Created, s.Label, join(to)})
	}
	ui.Table(w, "  ", rows)
}

// shorten cuts the middle out of a long public key. What stays is longer than
// any age recipient but the post-quantum ones, which have 2000 characters.
func shorten(recipient string) string {
	const begin, end = 56, 24
	r := []rune(recipient)
	if len(r) <= begin+end {
		return recipient
	}
	return string(r[:begin]) + "…" + string(r[len(r)-end:])
}
