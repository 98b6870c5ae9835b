package main

import (
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	impact "github.com/neuroseal/neuroseal/report"
)

// reportOptions are the options of report.
type reportOptions struct {
	Runs []string
	HTML string
	PNG  string
	Card string
}

func reportCommand(u *ui.UI) *cobra.Command {
	o := reportOptions{}
	cmd := &cobra.Command{
		Use:   "report RUN…",
		Short: "Draw what attacks measured",
		Long: `Draw the runs in the folders RUN…, which "neuroseal attack" made and which may be
unfinished: one self-contained page (--html), a picture (--png), a card for a model
card (--card, .md or .json). Several runs, as of several profiles, go into one report.
Without an option, the summary is printed.`,
		Example: `  neuroseal report ./run --html report.html
  neuroseal report ./run-max ./run-portable --html report.html --card card.md`,
		Args: cobra.MinimumNArgs(1),
	}
	f := cmd.Flags()
	f.StringVar(&o.HTML, "html", "", "write a page to `FILE`")
	f.StringVar(&o.PNG, "png", "", "write a picture to `FILE`")
	f.StringVar(&o.Card, "card", "", "write a card to `FILE`: .md or .json")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		o.Runs = args
		return runReport(u, o)
	}
	return mayExit(cmd, fault.Mismatch, fault.Unsupported)
}

func runReport(u *ui.UI, o reportOptions) error {
	card, err := cardWriter(o.Card)
	if err != nil {
		return err
	}
	in, err := loadRuns(o.Runs)
	if err != nil {
		return err
	}
	written := []string{}
	for _, f := range []struct {
		path string
		draw func(io.Writer, []impact.Input) error
	}{{o.HTML, impact.HTML}, {o.PNG, impact.PNG}, {o.Card, card}} {
		if f.path == "" {
			continue
		}
		if err := draw(f.path, in, f.draw); err != nil {
			return err
		}
		written = append(written, f.path)
	}
	var sums []any
	for _, x := range in {
		sums = append(sums, x.Summary)
	}
	path := ""
	if len(written) > 0 {
		path = written[0]
	}
	return u.Result(map[string]any{"runs": sums, "written": written}, path, func(w io.Writer) {
		for _, f := range written {
			fmt.Fprintln(w, f)
		}
		if len(written) > 0 {
			return
		}
		for i, x := range in {
			if i > 0 {
				fmt.Fprintln(w)
			}
			writeSummary(w, x.Summary)
		}
	})
}

func cardWriter(path string) (func(io.Writer, []impact.Input) error, error) {
	switch filepath.Ext(path) {
	case ".json":
		return impact.CardJSON, nil
	case ".md", "":
		if path == "" || filepath.Ext(path) == ".md" {
			return impact.CardMarkdown, nil
		}
	}
	return nil, fault.New(fault.Usage, "--card %s: a card is a .md or a .json file", path)
}
