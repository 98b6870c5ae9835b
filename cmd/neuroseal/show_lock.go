package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"regexp"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// lockJSON is what lock --json prints.
type lockJSON struct {
	Output    string                  `json:"output"`
	DryRun    bool                    `json:"dry_run"`
	Method    string                  `json:"method"`
	Profile   string                  `json:"profile,omitempty"`
	Scale     float64                 `json:"scale,omitempty"`
	SealID    string                  `json:"seal_id,omitempty"`
	ModelType string                  `json:"model_type"`
	FreeDims  int                     `json:"free_dims"`
	Coverage  float64                 `json:"coverage"`
	Bytes     int64                   `json:"bytes"` // of the checkpoint
	Kinds     []kindRow               `json:"kinds"`
	Holes     []neuroseal.Hole        `json:"holes"`
	Promise   manifest.Promise        `json:"promise"`
	Notes     []string                `json:"notes,omitempty"`
	LeftOut   []string                `json:"left_out,omitempty"`
	KeyFile   string                  `json:"key_file,omitempty"`
	Detached  string                  `json:"detached_key,omitempty"`
	Keyslots  []string                `json:"keyslots,omitempty"` // ids
	Explain   []neuroseal.Explanation `json:"explain,omitempty"`
	Signature string                  `json:"signature,omitempty"` // path
}

func (r *lockOutcome) object(rows []kindRow, explain bool) lockJSON {
	m := r.Manifest
	o := lockJSON{
		Method: m.Method, Profile: m.Profile, Scale: m.Scale, SealID: m.SealID, ModelType: m.ModelType,
		FreeDims: m.FreeDims, Coverage: m.Coverage, Bytes: r.Bytes, Kinds: rows, Holes: holesOf(m), Promise: m.Promise,
		Notes: m.Notes, LeftOut: r.LeftOut, KeyFile: r.KeyFile, Detached: r.Detached,
		Signature: r.LockResult.Signature,
	}
	for _, s := range m.Keyslots {
		o.Keyslots = append(o.Keyslots, s.ID)
	}
	if explain {
		o.Explain = r.Explain
	}
	return o
}

// show prints the result of lock.
func (r *lockOutcome) show(u *ui.UI, explain bool) error {
	out := filepath.Clean(r.Output)
	rows := kinds(groupRows(r.Manifest), r.Manifest.Groups)
	object := r.object(rows, explain)
	object.Output = out
	return u.Result(object, out, func(w io.Writer) {
		m := r.Manifest
		fmt.Fprintf(w, "Sealed %s (%s, %s) as %s\n", m.ModelType, ui.Bytes(r.Bytes), r.how(), out)
		fmt.Fprintf(w, "%d factors of %d free dimensions; %s of the parameters move; %d holes (neuroseal inspect %s names them)\n",
			factors(rows), m.FreeDims, percent(m.Coverage), len(m.Holes), out)
		if r.Signature != "" {
			fmt.Fprintf(w, "Signed as %s\n", r.Signature)
		}
		writePromise(w, m.Promise)
		writeNotes(w, m.Notes)
		if explain {
			r.writeExplain(w)
		}
	})
}

// how names method and profile.
func (r *lockOutcome) how() string {
	if r.Manifest.Method == string(seal.Gauge) {
		return "profile " + r.Manifest.Profile
	}
	return fmt.Sprintf("method %s, scale %g", r.Manifest.Method, r.Manifest.Scale)
}

// factors counts the factors that a plan draws.
func factors(rows []kindRow) int {
	n := 0
	for _, k := range rows {
		n += k.Factors
	}
	return n
}

// showDryRun prints what lock would do.
func showDryRun(ctx context.Context, u *ui.UI, o lockOptions, r *lockOutcome) error {
	profile := o.Profile
	if o.Method != seal.Gauge {
		profile = seal.Max // these methods have no blocks
	}
	in, err := neuroseal.Inspect(ctx, neuroseal.InspectOptions{Path: o.Source, Profile: profile, AllowUnsealed: o.AllowUnsealed})
	if err != nil {
		return err
	}
	rows := kinds(in.Groups, r.Manifest.Groups)
	object := r.object(rows, o.Explain)
	object.DryRun = true
	return u.Result(object, "", func(w io.Writer) {
		m := r.Manifest
		gauge := m.Method == string(seal.Gauge)
		fmt.Fprintf(w, "Dry run: %s (%s, %s); nothing was written\n", m.ModelType, ui.Bytes(r.Bytes), r.how())
		writeKinds(w, rows, gauge)
		fmt.Fprintf(w, "Free dimensions: %d; %s of the %d parameters would move\n", m.FreeDims, percent(m.Coverage), in.Parameters)
		fmt.Fprintf(w, "The output would take %s\n", ui.Bytes(r.Bytes))
		writeHoles(w, holesOf(m), false)
		writePromise(w, m.Promise)
		writeNotes(w, m.Notes)
		if o.Explain {
			r.writeExplain(w)
		}
	})
}

// ownExponents are the exponents of one tensor in an explanation: for people
// they hide that layers are alike. --json has them.
var ownExponents = regexp.MustCompile(`: exponents -?\d+ to -?\d+`)

// writeExplain says why ranges are what they are.
func (r *lockOutcome) writeExplain(w io.Writer) {
	if len(r.Explain) == 0 {
		fmt.Fprintf(w, "Ranges: method %s has none; its factors come from --scale\n", r.Manifest.Method)
		return
	}
	var lines [][2]string
	for _, e := range r.Explain {
		lines = append(lines, [2]string{e.Group, span(e.Lo, e.Hi) + "\t" + ownExponents.ReplaceAllString(e.Why, "")})
	}
	fmt.Fprintln(w, "Ranges of the exponents, and what limits them:")
	writeFolded(w, fold(lines, false))
}

func writePromise(w io.Writer, p manifest.Promise) {
	list := func(title string, items []string) {
		if len(items) > 0 {
			fmt.Fprintf(w, "%s: %s\n", title, join(items))
		}
	}
	list("Bit-exact in", p.BitExact)
	if p.Reordered {
		fmt.Fprintln(w, "Permuted: exact up to the order in which sums are taken")
	}
	list("Stays finite in", p.Runs)
	list("May be quantised later by", p.Quantisers)
}
