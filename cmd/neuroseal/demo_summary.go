package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/ui"
)

// demoSummary is what the demo found, and summary.json.
type demoSummary struct {
	OK     bool        `json:"ok"`
	Folder string      `json:"folder"`
	Checks []demoCheck `json:"checks"`
	Seals  []demoSeal  `json:"seals"`
	Texts  []demoText  `json:"texts"`

	WrongKeyExit int `json:"wrong_key_exit"`

	Original string `json:"sha256_original"` // of model.safetensors
	Sealed   string `json:"sha256_sealed"`
	Restored string `json:"sha256_restored"`

	UndoMilliseconds float64 `json:"undo_milliseconds"`
	UndoBytesRead    int64   `json:"undo_bytes_read"`

	Attack *arena.Summary `json:"attack,omitempty"`
	Report string         `json:"report,omitempty"` // within the folder
}

// demoCheck is the outcome of one check.
type demoCheck struct {
	OK   bool   `json:"ok"`
	What string `json:"what"`
}

// demoSeal is one seal and its verification against the original.
type demoSeal struct {
	Profile  string  `json:"profile"`
	Folder   string  `json:"folder"`
	Coverage float64 `json:"coverage"`
	FreeDims int     `json:"free_dims"`
	Holes    int     `json:"holes"`
	Files    bool    `json:"digests_ok"`
	Algebra  bool    `json:"bit_exact_algebra"`
	Forward  bool    `json:"bit_exact_forward"`
}

// demoText is what the models wrote after a prompt, by profile.
type demoText struct {
	Prompt   string            `json:"prompt"`
	Original string            `json:"original"`
	Sealed   map[string]string `json:"sealed"`
}

const demoLimits = `No seal stops those who train something other than the weights, such as soft
prompts, or who re-balance the weights first, without any key. And the attack above
is a small one: neuroseal attack --suite wide tries every recipe, at every rate that
does anything.`

// write prints the summary for people.
func (s demoSummary) write(w io.Writer) {
	for _, c := range s.Checks {
		mark := ui.Yes
		if !c.OK {
			mark = ui.No
		}
		fmt.Fprintf(w, "%s %s\n", mark, c.What)
	}
	for _, t := range s.Texts {
		fmt.Fprintf(w, "  original  %q\n", t.Original)
		for _, p := range demoProfiles {
			fmt.Fprintf(w, "  %-8s  %q\n", p, t.Sealed[p])
		}
	}
	fmt.Fprintf(w, "  SHA-256 of model.safetensors\n")
	for _, h := range [][2]string{{"original", s.Original}, {"sealed", s.Sealed}, {"restored", s.Restored}} {
		fmt.Fprintf(w, "  %-8s  %s\n", h[0], h[1])
	}
	if s.Report != "" {
		fmt.Fprintf(w, "  report    %s\n", filepath.Join(s.Folder, s.Report))
	}
	fmt.Fprintln(w, demoLimits)
	fmt.Fprintf(w, "Everything is in %s\n", s.Folder)
}

// markdown is summary.md.
func (s demoSummary) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# NeuroSeal %s: demo\n\n", neuroseal.Version)
	for _, c := range s.Checks {
		word := "holds"
		if !c.OK {
			word = "FAILS"
		}
		fmt.Fprintf(&b, "- **%s**: %s.\n", word, c.What)
	}
	b.WriteString("\n## Seals\n\n| Profile | Free dimensions | Parameters that move | Holes | Files | Algebra | Forward |\n|---|---|---|---|---|---|---|\n")
	for _, x := range s.Seals {
		fmt.Fprintf(&b, "| %s | %d | %s | %d | %v | %v | %v |\n", x.Profile, x.FreeDims, percent(x.Coverage), x.Holes, x.Files, x.Algebra, x.Forward)
	}
	b.WriteString("\n## Text\n\n```\n")
	for _, t := range s.Texts {
		fmt.Fprintf(&b, "original  %q\n", t.Original)
		for _, p := range demoProfiles {
			fmt.Fprintf(&b, "%-8s  %q\n", p, t.Sealed[p])
		}
	}
	fmt.Fprintf(&b, "```\n\n## SHA-256 of model.safetensors\n\n```\noriginal  %s\nsealed    %s\nrestored  %s\n```\n\n", s.Original, s.Sealed, s.Restored)
	fmt.Fprintf(&b, "Undo without a key: %.1f ms, %d bytes of weights read.\n\n%s\n", s.UndoMilliseconds, s.UndoBytesRead, demoLimits)
	return b.String()
}

// save writes both summaries into the folder.
func (d *demonstration) save() error {
	data, err := json.MarshalIndent(d.sum, "", "  ")
	if err != nil {
		return err
	}
	if err := atomicdir.WriteFile(d.path(summaryJSON), append(data, '\n'), 0o666, true); err != nil {
		return err
	}
	return atomicdir.WriteFile(d.path(summaryText), []byte(d.sum.markdown()), 0o666, true)
}
