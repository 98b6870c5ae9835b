package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/internal/ui"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// kindRow sums up the groups of one kind.
type kindRow struct {
	Kind    string `json:"kind"`
	Groups  int    `json:"groups"`
	Classes int    `json:"classes,omitempty"` // free dimensions: factors that the network allows
	Factors int    `json:"factors"`           // under the profile's blocks
	Moving  int    `json:"moving"`            // groups that have room; with a plan only
	Lo      int    `json:"lo"`                // smallest and largest exponent; with a plan only
	Hi      int    `json:"hi"`
}

// kinds sums up groups in the order in which their kinds first appear. planned
// are the manifest's groups by id, nil if there is no plan.
func kinds(rows []neuroseal.GroupRow, planned []manifest.Group) []kindRow {
	plan := map[string]seal.Group{}
	for _, g := range planned {
		plan[g.ID] = seal.Group{Classes: g.Classes, Offsets: g.Offsets, Lo: g.Lo, Hi: g.Hi}
		if o := g.Outliers; o != nil {
			p := plan[g.ID]
			p.Outliers = seal.Outliers(*o)
			plan[g.ID] = p
		}
	}
	var out []kindRow
	for _, r := range rows {
		i := slices.IndexFunc(out, func(k kindRow) bool { return k.Kind == r.Kind })
		if i < 0 {
			i = len(out)
			out = append(out, kindRow{Kind: r.Kind})
		}
		k := &out[i]
		k.Groups++
		k.Classes += r.Classes
		g, ok := plan[r.ID]
		if !ok || !g.Fixed() {
			k.Factors += r.Factors
		}
		if ok && !g.Fixed() {
			lo, hi := g.Span()
			k.Lo, k.Hi = min(k.Lo, lo), max(k.Hi, hi)
			if k.Moving == 0 {
				k.Lo, k.Hi = lo, hi
			}
			k.Moving++
		}
	}
	return out
}

// kindNames says in words what the library's kinds are.
var kindNames = map[string]string{
	"residual": "residual stream", "norm": "norm gains", "qk": "query/key", "vo": "value/output", "ffn": "up/down",
}

func (k kindRow) name() string {
	if n := kindNames[k.Kind]; n != "" {
		return k.Kind + " (" + n + ")"
	}
	return k.Kind
}

// writeKinds prints the table of groups; with a plan, also their exponents.
func writeKinds(w io.Writer, rows []kindRow, plan bool) {
	head := []string{"KIND", "GROUPS", "FREE DIMENSIONS", "FACTORS"}
	if plan {
		head = append(head, "EXPONENTS")
	}
	table := [][]string{head}
	for _, k := range rows {
		line := []string{k.name(), strconv.Itoa(k.Groups), strconv.Itoa(k.Classes), strconv.Itoa(k.Factors)}
		switch {
		case plan && k.Moving == 0:
			line = append(line, "no room")
		case plan && k.Moving < k.Groups:
			line = append(line, fmt.Sprintf("%s, in %d of %d groups", span(k.Lo, k.Hi), k.Moving, k.Groups))
		case plan:
			line = append(line, span(k.Lo, k.Hi))
		}
		table = append(table, line)
	}
	ui.Table(w, "  ", table)
}

func span(lo, hi int) string {
	if lo == hi {
		return strconv.Itoa(lo)
	}
	return fmt.Sprintf("%d … %d", lo, hi)
}

// folded is a set of lines that differ only in the number of their layer.
type folded struct {
	what, why string
	count     int
}

// fold brings lines together that differ only in numbers between dots. With
// all set it leaves them as they are.
func fold(lines [][2]string, all bool) []folded {
	var out []folded
	at := map[[2]string]int{}
	for _, l := range lines {
		if !all {
			l = [2]string{anyLayer(l[0]), anyLayer(l[1])}
		}
		i, known := at[l]
		if !known {
			i = len(out)
			at[l] = i
			out = append(out, folded{what: l[0], why: l[1]})
		}
		out[i].count++
	}
	return out
}

// layerNumber is a number between dots after a word, as in layers.0.mlp.
var layerNumber = regexp.MustCompile(`([a-z_])\.\d+(\.|\s|:|$)`)

func anyLayer(s string) string { return layerNumber.ReplaceAllString(s, "$1.*$2") }

// writeHoles prints what no factor touches, and why.
func writeHoles(w io.Writer, holes []neuroseal.Hole, all bool) {
	if len(holes) == 0 {
		fmt.Fprintln(w, "Holes: none")
		return
	}
	var lines [][2]string
	for _, h := range holes {
		lines = append(lines, [2]string{h.Tensor, h.Why})
	}
	fmt.Fprintf(w, "Holes: %d tensors that no factor touches\n", len(holes))
	writeFolded(w, fold(lines, all))
}

func writeFolded(w io.Writer, rows []folded) {
	var table [][]string
	for _, f := range rows {
		count := ""
		if f.count > 1 {
			count = fmt.Sprintf("%d×", f.count)
		}
		table = append(table, []string{count, f.what, f.why})
	}
	ui.Table(w, "  ", table)
}

// writeNotes prints remarks, one per line.
func writeNotes(w io.Writer, notes []string) {
	for _, n := range notes {
		fmt.Fprintf(w, "Note: %s\n", ui.Line(n))
	}
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) }

func holesOf(m *manifest.Manifest) []neuroseal.Hole {
	out := []neuroseal.Hole{}
	for _, h := range m.Holes {
		out = append(out, neuroseal.Hole(h))
	}
	return out
}

// groupRows lists the groups of a plan, whose classes nobody has counted.
func groupRows(m *manifest.Manifest) []neuroseal.GroupRow {
	out := []neuroseal.GroupRow{}
	for _, g := range m.Groups {
		out = append(out, neuroseal.GroupRow{ID: g.ID, Kind: g.Kind, Factors: g.Classes, Block: g.Block, Layer: g.Layer})
	}
	return out
}

func join(items []string) string { return strings.Join(items, ", ") }
