package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
)

func graphCommand(u *ui.UI) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "graph",
		Short: "Show the network of a checkpoint or an exported graph, and its pairs",
		Long: `Look at computation graphs: which operations a network consists of, which factors
cancel in it, and what stays unsealed; and export the graph of a model whose
architecture is not built in.`,
		Example: `  neuroseal graph show ./model
  neuroseal graph script > export.py`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(graphShowCommand(u), graphScriptCommand(u))
	return cmd
}

func graphScriptCommand(u *ui.UI) *cobra.Command {
	return mayExit(&cobra.Command{
		Use:   "script",
		Short: "Print the Python program that exports a model's graph",
		Long: `Print a short Python program that writes a model's computation graph as a .pt2
file, from its config alone: no weights are loaded, so the largest model takes
seconds. It needs torch and transformers. lock, verify, inspect and undo take the
file with --graph, for architectures that have no builder here.`,
		Example: `  neuroseal graph script > export.py
  python export.py ./model model.pt2
  neuroseal lock ./model ./sealed --graph model.pt2`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			script := neuroseal.ExportScript()
			return u.Result(map[string]string{"script": script}, strings.TrimSuffix(script, "\n"), func(w io.Writer) { fmt.Fprint(w, script) })
		},
	})
}

// graphOptions are the options of graph show.
type graphOptions struct {
	neuroseal.NetworkOptions
	Layer    int
	SVG, DOT string
	All      bool
	Force    bool
}

func graphShowCommand(u *ui.UI) *cobra.Command {
	o := graphOptions{}
	cmd := &cobra.Command{
		Use:   "show GRAPH|FOLDER",
		Short: "Show operations, groups of factors and holes of a network",
		Long: `Show the network that an exported graph (.pt2, .onnx) or a checkpoint's config
describes: how often each operation occurs, the groups of factors that cancel in
it, and the holes. With --svg or --dot, draw one layer with its pairs in colours.`,
		Example: `  neuroseal graph show ./model
  neuroseal graph show model.pt2 --json
  neuroseal graph show ./model --layer 3 --svg layer3.svg`,
		Args: operands("GRAPH|FOLDER"),
	}
	f := cmd.Flags()
	f.StringVar(&o.Graph, "graph", "", "an exported graph of the checkpoint's network, a .pt2 or .onnx `FILE`")
	f.IntVar(&o.Layer, "layer", 0, "the layer to draw; -1: what lies outside of all layers")
	f.StringVar(&o.SVG, "svg", "", "draw the layer as an SVG picture, `FILE`")
	f.StringVar(&o.DOT, "dot", "", "draw the layer for Graphviz, `FILE`")
	f.BoolVar(&o.All, "all", false, "list every group and every hole by itself")
	f.BoolVar(&o.Force, "force", false, "replace pictures that exist")
	f.BoolVar(&o.AllowUnsealed, "allow-unsealed", false, "accept tensors that the network does not read")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		o.Path = args[0]
		return runGraphShow(cmd.Context(), u, o)
	}
	return mayExit(cmd, fault.Mismatch, fault.Unsupported, fault.Interrupted)
}

func runGraphShow(ctx context.Context, u *ui.UI, o graphOptions) error {
	n, err := neuroseal.OpenNetwork(ctx, o.NetworkOptions)
	if err != nil {
		return err
	}
	for _, p := range []struct{ file, format string }{{o.SVG, "svg"}, {o.DOT, "dot"}} {
		if p.file == "" {
			continue
		}
		if err := drawLayer(n, o, p.file, p.format); err != nil {
			return err
		}
	}
	return u.Result(n, o.Path, func(w io.Writer) { writeNetwork(w, n, o.All) })
}

// drawLayer writes a picture when it is complete.
func drawLayer(n *neuroseal.Network, o graphOptions, file, format string) error {
	if _, err := os.Stat(file); err == nil && !o.Force {
		return fault.New(fault.Usage, "%s exists", file).WithHint("choose another name, or replace it with --force")
	}
	var b bytes.Buffer
	if err := n.DrawLayer(&b, o.Layer, format); err != nil {
		return err
	}
	return writeOut(file, b.Bytes())
}

func writeNetwork(w io.Writer, n *neuroseal.Network, all bool) {
	fmt.Fprintf(w, "Network: %s, by %s, %d layers, %d operations\n", n.ModelType, n.Source, n.Layers, n.Nodes)
	names := slices.SortedFunc(maps.Keys(n.Ops), func(a, b string) int {
		if d := n.Ops[b] - n.Ops[a]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%s %d", name, n.Ops[name])
	}
	fmt.Fprintf(w, "Operations: %s\n", strings.Join(parts, ", "))
	fmt.Fprintf(w, "Free dimensions: %d", n.FreeDims)
	if n.Residual {
		fmt.Fprint(w, ", and the residual stream against the norms' epsilon")
	}
	fmt.Fprintln(w)
	if all {
		writeGroups(w, n.Groups)
	} else {
		writeKinds(w, kinds(n.Groups, nil), false)
	}
	writeHoles(w, n.Holes, all)
	writeNotes(w, n.Notes)
}
