package main

import (
	_ "embed"
	"fmt"
	"math"
	"os"
	"strings"
	"text/template"

	"github.com/neuroseal/neuroseal/trace"
)

//go:embed page.md.tmpl
var pageText string

// page is everything that was measured.
type page []*study

// write makes the page from the template.
func (p page) write(path string) error {
	t, err := template.New("page").Funcs(template.FuncMap{"power": power}).Parse(pageText)
	if err != nil {
		return err
	}
	var b strings.Builder
	err = t.Execute(&b, map[string]any{
		"Models": p.models(), "Tables": p.tables(), "Did": p.did(), "Registered": registered, "Steps": steps,
		"Alpha": trace.DefaultAlpha, "Traces": p.traces(), "Wrong": p.wrong(), "Next": fmt.Sprintf("%.1f", p.next()),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(b.String()), 0o666)
}

func (p page) models() string {
	var list []string
	seen := map[string]bool{}
	for _, s := range p {
		if !seen[s.model.name] {
			seen[s.model.name] = true
			list = append(list, fmt.Sprintf("`%s` (%s)", s.model.name, s.model.about))
		}
	}
	return strings.Join(list, ", ")
}

// each calls f for the traces of every row.
func (p page) each(f func(*row, *found)) {
	for _, s := range p {
		for _, r := range s.Rows {
			f(r, &r.With)
			f(r, &r.Without)
		}
	}
}

func (p page) traces() (n int) {
	p.each(func(_ *row, f *found) { n += f.Tries })
	return n
}

func (p page) wrong() (n int) {
	p.each(func(_ *row, f *found) { n += f.Wrong })
	return n
}

// next is the most evidence that a copy got which had nothing to do with it.
func (p page) next() float64 {
	most := math.Inf(-1)
	p.each(func(_ *row, f *found) { most = max(most, f.other()) })
	return most
}

// other is the most evidence for a copy that had nothing to do with what was
// traced; where nothing was left to be seen, nobody had any.
func (f *found) other() float64 {
	if f.Blind > 0 && f.Next == 0 {
		return least
	}
	return f.Next
}

// tables are one for each model: a row for each change, a column for each seal.
func (p page) tables() string {
	var b strings.Builder
	for i := 0; i < len(p); {
		j := i
		for j < len(p) && p[j].model.name == p[i].model.name {
			j++
		}
		table(&b, p[i:j])
		i = j
	}
	return b.String()
}

func table(b *strings.Builder, list []*study) {
	fmt.Fprintf(b, "### %s: %s\n\n| what became of the copy |", list[0].model.name, list[0].model.about)
	for _, s := range list {
		fmt.Fprintf(b, " %s, with | without |", s.name())
	}
	b.WriteString("\n|---|" + strings.Repeat("---|---|", len(list)) + "\n")
	for k, r := range list[0].Rows {
		fmt.Fprintf(b, "| %s |", r.What)
		for _, s := range list {
			fmt.Fprintf(b, " %s | %s |", s.Rows[k].With.cell(r.Expect), s.Rows[k].Without.cell(r.Expect))
		}
		b.WriteString("\n")
	}
	b.WriteString("| most bits for another copy |")
	for _, s := range list {
		with, without := math.Inf(-1), math.Inf(-1)
		for _, r := range s.Rows {
			with, without = max(with, r.With.other()), max(without, r.Without.other())
		}
		fmt.Fprintf(b, " %.1f | %.1f |", with, without)
	}
	b.WriteString("\n\n")
}

// cell is what the traces of one row found.
func (f *found) cell(e expectation) string {
	text := ""
	switch {
	case f.Blind == f.Tries:
		return "cannot tell"
	case e == nobody:
		text = fmt.Sprintf("none %d/%d", f.Right, f.Tries)
	case f.Worst < 0:
		text = fmt.Sprintf("%d/%d, %s", f.Right, f.Tries, power(f.Worst))
	default:
		text = fmt.Sprintf("%d/%d", f.Right, f.Tries)
	}
	if f.Blind > 0 {
		text += fmt.Sprintf(", cannot tell %d", f.Blind)
	}
	if f.Wrong > 0 {
		text += fmt.Sprintf(", **wrong %d**", f.Wrong)
	}
	return text
}

// power writes a probability given as its logarithm, rounded up to a power of ten.
func power(log10 float64) string { return fmt.Sprintf("1e%.0f", math.Ceil(log10)) }

// did says what the fine-tunings did, on one copy of each seal.
func (p page) did() string {
	var b strings.Builder
	b.WriteString("| |")
	var rows []*row
	for _, r := range p[0].Rows {
		if r.Note != "" {
			rows = append(rows, r)
			fmt.Fprintf(&b, " %s |", r.What)
		}
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(rows)) + "\n")
	for _, s := range p {
		fmt.Fprintf(&b, "| %s, %s |", s.model.name, s.name())
		for _, r := range s.Rows {
			if r.Note != "" {
				fmt.Fprintf(&b, " %s |", r.Note)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
