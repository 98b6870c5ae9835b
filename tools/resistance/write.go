package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/neuroseal/neuroseal/arena"
)

//go:embed page.md.tmpl
var page string

// write makes the page from the summaries that are there.
func (o *options) write() error {
	d := data{Effects: effects, Seals: seals}
	for _, m := range models {
		row := measured{model: m}
		for _, s := range seals {
			sum, err := o.latest(m, s.name)
			if err != nil {
				return err
			}
			row.sums = append(row.sums, sum)
			d.note(sum)
		}
		d.Models = append(d.Models, row)
	}
	for _, s := range effects {
		sum, err := o.summary("few", models[0].name, s.name)
		if err != nil {
			return err
		}
		d.study = append(d.study, sum)
	}
	var err error
	if d.Tuners, err = optional(filepath.Join(filepath.Dir(o.doc), "tuners.md")); err != nil {
		return err
	}
	t, err := template.New("page").Parse(page)
	if err != nil {
		return err
	}
	var b strings.Builder
	if err := t.Execute(&b, &d); err != nil {
		return err
	}
	return os.WriteFile(o.doc, []byte(b.String()), 0o666)
}

func optional(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(raw), err
}

// latest is the summary of the largest suite that was measured.
func (o *options) latest(m model, seal string) (sum *arena.Summary, err error) {
	for _, suite := range suites(m, seal) {
		more, err := o.summary(suite, m.name, seal)
		if err != nil {
			return nil, err
		}
		if more != nil {
			sum = more
		}
	}
	return sum, nil
}

// summary reads one; nil if it has not been measured.
func (o *options) summary(suite, model, seal string) (*arena.Summary, error) {
	raw, err := os.ReadFile(filepath.Join(o.out, "summaries", suite+"-"+model+"-"+seal+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(arena.Summary)
	return s, json.Unmarshal(raw, s)
}

// measured is a model and its summaries, one for each seal.
type measured struct {
	model
	sums []*arena.Summary
}

// data is what the page is made from.
type data struct {
	Models  []measured
	Seals   []sealing
	Effects []sealing
	study   []*arena.Summary
	Tuners  string

	Date, Table string
	Trials      int
	Hours       float64
}

func (d *data) note(s *arena.Summary) {
	if s == nil {
		return
	}
	d.Date, d.Table = max(d.Date, s.Date), s.TableVersion
	d.Trials += s.Trials
	d.Hours += s.Seconds / 3600
}

// Name and About are for the template.
func (s sealing) Name() string  { return s.name }
func (s sealing) About() string { return s.about }

// Names are the models, in a row.
func (d *data) Names() string {
	var out []string
	for _, m := range d.Models {
		out = append(out, fmt.Sprintf("`%s` (%s)", m.name, m.about))
	}
	return strings.Join(out, ", ")
}

// Targets is the table of what each profile reached on each model.
func (d *data) Targets() string {
	var b strings.Builder
	b.WriteString("| | start, unigram | " + d.header() + "\n|---|---|" + strings.Repeat("---|", len(d.Seals)) + "\n")
	for _, m := range d.Models {
		cells := []string{m.name + ", " + m.about, "not measured"}
		for _, s := range m.sums {
			if s == nil {
				cells = append(cells, "not measured")
				continue
			}
			cells[1] = fmt.Sprintf("%.2f, %.2f", s.Start, s.Unigram)
			name, worst := "none", 0.0
			for _, r := range s.Recipes {
				if r.Class == arena.WeightSpace && r.LearnedFraction != nil && *r.LearnedFraction > worst {
					name, worst = r.Name, *r.LearnedFraction
				}
			}
			cells = append(cells, fmt.Sprintf("%s: held %d of %d; worst %.0f%% (%s)", s.Suite, s.Held, s.Tried, 100*worst, name))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String()
}

func (d *data) header() string {
	var out []string
	for _, s := range d.Seals {
		out = append(out, s.name)
	}
	return strings.Join(out, " | ") + " |"
}

// Recipes is the table of a class: the largest learned fraction over all models.
func (d *data) Recipes(class string) string {
	var b strings.Builder
	b.WriteString("| recipe | models | " + d.header() + " what |\n|---|---|" + strings.Repeat("---|", len(d.Seals)+1) + "\n")
	for _, r := range arena.Builtin().Recipes {
		if string(r.Class) != class || r.Name == "seed-lora" {
			continue
		}
		cells := make([]string, len(d.Seals))
		n := 0
		for i := range d.Seals {
			cells[i], n = d.cell(r.Name, i)
		}
		fmt.Fprintf(&b, "| %s | %d | %s | %s |\n", r.Name, n, strings.Join(cells, " | "), r.About)
	}
	return b.String()
}

// cell is a recipe's worst figure under a seal, and on how many models it
// stands.
func (d *data) cell(recipe string, seal int) (string, int) {
	worst, n, unclear := -1.0, 0, false
	for _, m := range d.Models {
		if m.sums[seal] == nil {
			continue
		}
		for _, r := range m.sums[seal].Recipes {
			switch {
			case r.Name != recipe || r.Verdict == arena.NotRun:
			case r.LearnedFraction == nil:
				unclear = true
			default:
				worst = max(worst, *r.LearnedFraction)
				n++
			}
		}
	}
	switch {
	case n > 0:
		return fmt.Sprintf("%.0f%%", 100*worst), n
	case unclear:
		return "teaches nothing", 0
	}
	return "not run", 0
}

// Study is the table of effects.
func (d *data) Study() string {
	var names []string
	for _, s := range d.study {
		if s == nil {
			continue
		}
		for _, r := range s.Recipes {
			if !slices.Contains(names, r.Name) {
				names = append(names, r.Name)
			}
		}
	}
	var b strings.Builder
	b.WriteString("| seal | " + strings.Join(names, " | ") + " |\n|---|" + strings.Repeat("---|", len(names)) + "\n")
	for i, s := range d.study {
		if s == nil {
			continue
		}
		cells := []string{d.Effects[i].name + ": " + d.Effects[i].about}
		for _, name := range names {
			cells = append(cells, effect(s, name))
		}
		b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
	}
	return b.String()
}

func effect(s *arena.Summary, name string) string {
	for _, r := range s.Recipes {
		if r.Name == name && r.LearnedFraction != nil {
			return fmt.Sprintf("%.0f%%", 100**r.LearnedFraction)
		}
	}
	return "–"
}

// Informed is what the informed attacks cost on the first model under the last
// seal.
func (d *data) Informed() string {
	var b strings.Builder
	b.WriteString("| recipe | learned | preparation, s | training, s | read, MB |\n|---|---|---|---|---|\n")
	s := d.Models[0].sums[len(d.Seals)-1]
	if s == nil {
		return "not measured\n"
	}
	for _, r := range s.Recipes {
		if r.Class == arena.Informed && r.LearnedFraction != nil {
			fmt.Fprintf(&b, "| %s | %.0f%% | %.2f | %.1f | %.1f |\n", r.Name, 100**r.LearnedFraction, r.PrepareSeconds, r.Seconds, float64(r.BytesRead)/1e6)
		}
	}
	return b.String()
}
