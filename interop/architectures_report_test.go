//go:build interop

package interop_test

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The page keeps what stands outside of these lines.
const (
	tableBegin = "<!-- table: written by tools/architectures -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// writeArchitectures writes the table of a page anew.
func (s *shared) writeArchitectures(page string, rows []*architecture) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	head, rest, ok1 := strings.Cut(string(old), tableBegin)
	_, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		return fmt.Errorf("%s: no lines %q and %q", page, tableBegin, tableEnd)
	}
	return os.WriteFile(page, []byte(head+tableBegin+s.architectureTable(rows)+tableEnd+tail), 0o666)
}

// architectureTable is what was measured, in Markdown.
func (s *shared) architectureTable(rows []*architecture) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMeasured with %s.\n\n%s\n", strings.Join(s.report.Versions, ", "), summary(rows))
	section := func(title string, of func(*architecture) bool) {
		fmt.Fprintf(&b, "\n### %s\n\n", title)
		b.WriteString("| Family | Graph | Free dimensions | Coverage | Holes | fp32 | bf16 | fp16 | Refused, and why |\n|---|---|---|---|---|---|---|---|---|\n")
		for _, a := range rows {
			if of(a) {
				b.WriteString(a.line())
			}
		}
	}
	section("Families with a builder", func(a *architecture) bool { return a.Sources["builder"] != nil })
	for _, m := range slices.Sorted(maps.Keys(notInTransformers)) {
		fmt.Fprintf(&b, "| %s | builder | | | | | | | not compared here: %s |\n", m, notInTransformers[m])
	}
	section("Families without one, by their exported graph", func(a *architecture) bool { return a.Sources["builder"] == nil })
	if d := differences(rows); d != "" {
		fmt.Fprintf(&b, "\n### Where the two sources find other groups\n\n%s", d)
	}
	b.WriteString("\n")
	return b.String()
}

// summary counts the rows.
func summary(rows []*architecture) string {
	var builders, both, same, alone, exact, refused int
	for _, a := range rows {
		built, graph := a.Sources["builder"], a.Sources[".pt2"]
		switch {
		case built == nil && graph.Refused != "":
			refused++
		case built == nil:
			alone++
		case graph.Refused == "":
			both++
			if a.Differs == "" {
				same++
			}
		}
		if built != nil {
			builders++
		}
		if slices.ContainsFunc(slices.Collect(maps.Values(a.Sources)), (*sourced).exact) {
			exact++
		}
	}
	return fmt.Sprintf("%d families: %d with a builder, %d of them exported too and %d of these with the same groups from both; "+
		"%d without a builder sealed by their exported graph, %d refused. In %d, sealed by one source or both, every answer "+
		"in fp32 and bf16 is identical to the original's.\n", len(rows), builders, both, same, alone, refused, exact)
}

// exact tells whether all comparisons in the two precisions of profile max were
// made and came out equal.
func (x *sourced) exact() bool {
	return strings.HasPrefix(x.Exact["fp32"], "yes") && strings.HasPrefix(x.Exact["bf16"], "yes")
}

// line is a family's row.
func (a *architecture) line() string {
	var from []string
	for _, f := range graphSources {
		if x := a.Sources[f]; x != nil && x.Refused == "" {
			from = append(from, f)
		}
	}
	value := func(of func(*sourced) string) string {
		var list []string
		for _, f := range from {
			list = append(list, of(a.Sources[f]))
		}
		if len(slices.Compact(slices.Clone(list))) == 1 {
			return list[0]
		}
		return strings.Join(list, " / ")
	}
	cells := []string{
		a.Name, strings.Join(from, ", "),
		value(func(x *sourced) string { return fmt.Sprint(x.FreeDims) }),
		value(func(x *sourced) string { return fmt.Sprintf("%.1f%%", 100*x.Coverage) }),
		value((*sourced).holes),
	}
	for _, p := range precisions {
		cells = append(cells, value(func(x *sourced) string { return x.Exact[p.dtype] }))
	}
	var why []string
	for _, f := range graphSources {
		if x := a.Sources[f]; x != nil && x.Refused != "" {
			why = append(why, f+": "+strings.TrimPrefix(x.Refused, "error: "))
		}
	}
	cells = append(cells, strings.Join(why, "; "))
	for i, c := range cells {
		cells[i] = strings.ReplaceAll(strings.ReplaceAll(c, "\n", " "), "|", `\|`)
	}
	return "| " + strings.Join(cells, " | ") + " |\n"
}

// place is where in a network a hole's reason lies.
var place = regexp.MustCompile(` in [\w.]+`)

// holes says how many there are, and why most of them are.
func (x *sourced) holes() string {
	if len(x.Holes) == 0 {
		return "none"
	}
	count := map[string]int{}
	for _, h := range x.Holes {
		count[place.ReplaceAllString(h.Why, "")]++
	}
	reasons := slices.SortedFunc(maps.Keys(count), func(a, b string) int {
		return cmp.Or(count[b]-count[a], strings.Compare(a, b))
	})
	if len(reasons) == 1 {
		return fmt.Sprintf("%d: %s", len(x.Holes), reasons[0])
	}
	return fmt.Sprintf("%d, of these %d: %s", len(x.Holes), count[reasons[0]], reasons[0])
}

// differences lists the families whose groups differ by source, and why.
func differences(rows []*architecture) string {
	var b strings.Builder
	for _, a := range rows {
		if a.Differs == "" {
			continue
		}
		why := otherGroups[a.Name]
		if why == "" {
			why = "not explained"
		}
		fmt.Fprintf(&b, "- %s: %s. %s\n", a.Name, why, a.Differs)
	}
	return b.String()
}
