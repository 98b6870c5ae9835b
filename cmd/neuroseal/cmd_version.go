package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
)

// versionJSON is what version --json prints.
type versionJSON struct {
	Version  string `json:"version"`
	Schema   int    `json:"manifest_schema"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func versionCommand(u *ui.UI) *cobra.Command {
	return mayExit(&cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Long:    `Print the version of the tool, of the manifests it writes, and of the Go toolchain that built it.`,
		Example: `  neuroseal version --json`,
		Args:    operands(),
		RunE:    func(*cobra.Command, []string) error { return runVersion(u) },
	})
}

func runVersion(u *ui.UI) error {
	v := versionJSON{neuroseal.Version, manifest.Schema, revision(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	return u.Result(v, v.Version, func(w io.Writer) {
		fmt.Fprintf(w, "neuroseal %s (manifest schema %d, %s, %s)\n", v.Version, v.Schema, v.Go, v.Platform)
	})
}

// revision is the commit that the binary was built from, if it says so.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

func manCommand(u *ui.UI) *cobra.Command {
	return mayExit(&cobra.Command{
		Use:     "man DIR",
		Short:   "Write the manual pages",
		Long:    `Write a manual page for every command into the folder DIR. SOURCE_DATE_EPOCH sets their date.`,
		Example: `  neuroseal man ./man1 && man ./man1/neuroseal-lock.1`,
		Args:    operands("DIR"),
		RunE:    func(cmd *cobra.Command, args []string) error { return runMan(u, cmd.Root(), args[0]) },
	})
}

func runMan(u *ui.UI, root *cobra.Command, dir string) error {
	now, err := sourceDate()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fault.Wrap(fault.General, err, "making the folder for manual pages")
	}
	exitSections(root)
	header := &doc.GenManHeader{Section: "1", Source: "NeuroSeal " + neuroseal.Version, Manual: "NeuroSeal", Date: &now}
	if err := doc.GenManTree(root, header, dir); err != nil {
		return fault.Wrap(fault.General, err, "writing manual pages")
	}
	return u.Result(map[string]string{"output": dir}, dir, func(w io.Writer) {
		fmt.Fprintf(w, "Wrote the manual pages to %s\n", dir)
	})
}

// exitSections adds the section EXIT STATUS to the text of every page: cobra's
// generator knows no such section.
func exitSections(cmd *cobra.Command) {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	cmd.Long = text + "\n\n# EXIT STATUS\n```\n" + exitText(cmd) + "```\n"
	for _, c := range cmd.Commands() {
		exitSections(c)
	}
}
