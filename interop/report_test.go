//go:build interop

package interop_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// report is what was measured, for the documentation.
type report struct {
	Versions []string        `json:"versions"`
	Rows     map[string]*row `json:"variants"`
	Controls []difference    `json:"negative_controls"` // of the wrong edit
	Half     []difference    `json:"fp16"`
	Real     []difference    `json:"static_dynamic"`
	Legacy   []legacyRow     `json:"legacy"`

	Quantisers []quantised `json:"quantisers"`
}

// row is one variant.
type row struct {
	FreeDims int                `json:"free_dims"`
	Probe    float64            `json:"probe_difference"` // from transformers' logits, relative to the largest
	Coverage map[string]float64 `json:"coverage"`         // by profile, of the bf16 folder
	Equal    int                `json:"bit_equal"`        // comparisons that came out equal: all that were made
	Skipped  int                `json:"skipped"`          // that transformers cannot make
	Undone   int                `json:"undone_equal"`
}

// difference is a largest difference of logits, relative to the largest logit.
type difference struct {
	Name     string  `json:"name"`
	Relative float64 `json:"relative"`
}

type legacyRow struct {
	Name  string  `json:"name"`
	Worst float64 `json:"worst_relative"`
	Exact float64 `json:"exact_share"`
}

func (r *report) row(variant string) *row {
	if r.Rows[variant] == nil {
		r.Rows[variant] = &row{Coverage: map[string]float64{}}
	}
	return r.Rows[variant]
}

func (r *row) coverage(x sealed, share float64) {
	if x.kind == "bf16" {
		r.Coverage[x.profile] = share
	}
}

// writeReport writes JSON to path, and a Markdown table beside it.
func (s *shared) writeReport(path string) error {
	data, err := json.MarshalIndent(&s.report, "", "  ")
	if err != nil {
		return err
	}
	table := strings.TrimSuffix(path, filepath.Ext(path)) + ".md"
	return errors.Join(os.WriteFile(path, append(data, '\n'), 0o666), os.WriteFile(table, s.markdown(), 0o666))
}

func (s *shared) markdown() []byte {
	r := &s.report
	var b strings.Builder
	fmt.Fprintf(&b, "Measured with %s.\n\n", strings.Join(r.Versions, ", "))
	b.WriteString("| Variant | Free dimensions | Logits of the probe against transformers | Coverage portable / strong / max | Bit-equal comparisons | Not offered by transformers |\n")
	b.WriteString("|---|---|---|---|---|---|\n")
	for _, v := range slices.Sorted(maps.Keys(r.Rows)) {
		x := r.Rows[v]
		fmt.Fprintf(&b, "| %s | %d | %.1e | %.1f%% / %.1f%% / %.1f%% | %d | %d |\n", v, x.FreeDims, x.Probe,
			100*x.Coverage["portable"], 100*x.Coverage["strong"], 100*x.Coverage["max"], x.Equal, x.Skipped)
	}
	section := func(title string, rows []difference) {
		fmt.Fprintf(&b, "\n| %s | Largest difference of logits, of the largest logit |\n|---|---|\n", title)
		slices.SortFunc(rows, func(a, b difference) int { return strings.Compare(a.Name, b.Name) })
		for _, d := range rows {
			fmt.Fprintf(&b, "| %s | %.1e |\n", d.Name, d.Relative)
		}
	}
	section("Negative control", r.Controls)
	section("Portable seal loaded as fp16", r.Half)
	section("Original tool's method", r.Real)
	b.WriteString("\n| Lock of the original tool, undone | Worst element | Exact elements |\n|---|---|---|\n")
	for _, l := range r.Legacy {
		fmt.Fprintf(&b, "| %s | %.1e | %.1f%% |\n", l.Name, l.Worst, 100*l.Exact)
	}
	return []byte(b.String())
}
