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
	Module   string `json:"module,omitempty"`   // version that the go command knows: a tag's, or made up from a commit
	Revision string `json:"revision,omitempty"` // commit
	Modified bool   `json:"modified,omitempty"` // the commit is not all of it
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
	v := versionJSON{Version: neuroseal.Version, Schema: manifest.Schema, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		v.from(info)
	}
	return u.Result(v, v.Version, func(w io.Writer) {
		built := ""
		if v.Module != "" && v.Module != "v"+v.Version { // a commit after the version, or before it
			built = ", built from " + v.Module
		}
		fmt.Fprintf(w, "neuroseal %s (manifest schema %d, %s, %s%s)\n", v.Version, v.Schema, v.Go, v.Platform, built)
	})
}

// from takes what the binary says that it was built from.
func (v *versionJSON) from(info *debug.BuildInfo) {
	if info.Main.Version != "(devel)" {
		v.Module = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
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
