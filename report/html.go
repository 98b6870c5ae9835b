package report

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/json"
	"html/template"
	"io"
	"strings"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

//go:embed assets/page.html assets/page.css assets/page.js
var assets embed.FS

// page is what the template sees.
type page struct {
	CSS     template.CSS
	Script  template.JS
	Data    template.JS
	Policy  string
	Title   string
	Tool    string
	Several bool
	Runs    []htmlRun
	Matrix  []matrixRow
}

// HTML writes one page that holds everything it needs: it asks no server for
// anything, which its own security policy enforces. Curves and sweeps are drawn
// by its script; every figure is also in its tables.
func HTML(w io.Writer, in []Input) error {
	if err := check(in); err != nil {
		return err
	}
	runs := view(in)
	p := page{Several: len(runs) > 1, Title: runs[0].Name}
	if p.Several {
		p.Title = "Several seals"
	}
	for i := range runs {
		p.Runs = append(p.Runs, htmlOf(i, &runs[i]))
	}
	p.Tool = plain(runs[0].sum.ToolVersion, nameLimit)
	p.Matrix = matrix(runs)
	data, err := json.Marshal(drawing(runs))
	if err != nil {
		return fault.Wrap(fault.General, err, "encoding the report's curves")
	}
	p.Data = template.JS(data) // package json has escaped <, > and &
	raw, err := p.render()
	if err != nil {
		return fault.Wrap(fault.General, err, "writing the report page")
	}
	return write(w, raw, "the report page")
}

func (p *page) render() ([]byte, error) {
	style, err := assets.ReadFile("assets/page.css")
	if err != nil {
		return nil, err
	}
	script, err := assets.ReadFile("assets/page.js")
	if err != nil {
		return nil, err
	}
	p.CSS, p.Script = template.CSS(style), template.JS(script)
	hash := sha256.Sum256(script)
	// No other script runs, and nothing is fetched.
	p.Policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; script-src 'sha256-" +
		base64.StdEncoding.EncodeToString(hash[:]) + "'"
	t, err := template.New("page.html").ParseFS(assets, "assets/page.html")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// htmlRun is a run as the template sees it.
type htmlRun struct {
	*run
	ID, Date, Time string
	Meta           []fact
	Lines          []fact
	Texts          []fact
	Limits         []string
	Rows           []htmlRow
	Informed       []informedRow
	HasRandom      bool
	HasCurves      bool
	Inconclusive   int
	NotRun         int
	HeldBelow      string
	Utility        string
	Trials, Spent  string
	Suite, Engine  string
	Table          string
}

type fact struct{ Name, Value string }

// htmlRow is a recipe with what sorts it: NaN sorts last.
type htmlRow struct {
	*recipe
	Mark                                         string
	BestSort, UnsealedSort, RandomSort           string
	LearnedSort, BoundedSort, CostSort, TimeSort string
	Bar                                          float64 // learned, in percent of the bar
}

type informedRow struct {
	*recipe
	Mark                  string
	Prepare, Train, Bytes string
}

func htmlOf(i int, r *run) htmlRun {
	s := r.sum
	out := htmlRun{run: r, ID: "run" + count(int64(i+1)), Date: day(s.Date), Limits: r.limits(),
		HeldBelow: share(arena.HeldBelow), Utility: share(arena.Utility),
		Trials: count(int64(s.Trials)), Spent: seconds(s.Seconds),
		Suite: plain(s.Suite, nameLimit), Engine: plain(s.Engine, nameLimit), Table: plain(s.TableVersion, nameLimit)}
	for i := range r.Classes {
		out.Inconclusive += r.Classes[i].Inconclusive
		out.NotRun += r.Classes[i].NotRun
	}
	out.Meta = facts("Family", plain(s.Sealed.Family, nameLimit), "Parameters", countOf(s.Sealed.Params),
		"Sealed model", plain(s.Sealed.Digest, nameLimit),
		"Compared with", strings.TrimSpace(plain(s.Reference.Name, nameLimit)+" "+plain(s.Reference.Digest, nameLimit)),
		"NeuroSeal", plain(s.ToolVersion, nameLimit))
	out.Lines = facts("Start: the sealed model before any training", loss(s.Start), "Unigram model of the target's training text", loss(s.Unigram),
		"Uniform guess", loss(s.Uniform), "Bound: the lower of start and unigram", loss(s.Bound))
	out.Texts = facts("Target text", textOf(s.Target), "Retained text", textOf(s.Retained))
	for i := range r.Recipes {
		rec := &r.Recipes[i]
		out.Rows = append(out.Rows, row(rec))
		out.HasRandom = out.HasRandom || rec.score.RandomBestLoss != nil
		out.HasCurves = out.HasCurves || r.result(rec.score.BestTrial) != nil || r.result(rec.score.UnsealedTrial) != nil
		if rec.Class == arena.Informed {
			out.Informed = append(out.Informed, informed(rec))
		}
	}
	return out
}

// facts pairs names with values and leaves out what has none.
func facts(pairs ...string) []fact {
	var out []fact
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out = append(out, fact{pairs[i], pairs[i+1]})
		}
	}
	return out
}

func countOf(n int64) string {
	if n <= 0 {
		return ""
	}
	return count(n)
}

func textOf(t arena.Text) string {
	out := plain(t.Name, nameLimit)
	if t.Tokens > 0 {
		out += ", " + count(int64(t.Tokens)) + " tokens to train on"
	}
	if d := plain(t.Digest, nameLimit); d != "" {
		out += " (" + d + ")"
	}
	return out
}

// markOf names the sign that stands beside a verdict's word.
func markOf(v arena.Verdict) string {
	switch v {
	case arena.Held:
		return "held"
	case arena.Broken:
		return "broken"
	case arena.Inconclusive:
		return "unsure"
	}
	return "notrun"
}

// Sign names the mark's look.
func (m mark) Sign() string { return markOf(m.Verdict) }

// At is where the mark stands, in percent of the line.
func (m mark) At() string { return short(100*min(1, max(0, m.Fraction)), 4) }

// Top is the mark's upper end: what broke stands taller.
func (m mark) Top() int {
	if m.Verdict == arena.Held {
		return 9
	}
	return 3
}

func row(r *recipe) htmlRow {
	s := r.score
	out := htmlRow{recipe: r, Mark: markOf(r.Verdict), BestSort: order(s.BestLoss), UnsealedSort: order(s.UnsealedBestLoss),
		RandomSort: order(s.RandomBestLoss), LearnedSort: order(s.LearnedFraction), BoundedSort: order(s.BoundedFraction)}
	if x, ok := known(s.LearnedFraction); ok {
		out.Bar = 100 * min(1, max(0, x))
	}
	cost, total := s.CostMultiplier, s.Seconds+s.PrepareSeconds
	if cost == nil && strings.HasPrefix(r.Cost, ">") {
		x := max(1, s.CostCensoredAt) + 0.01 // more than that
		cost = &x
	}
	out.CostSort = order(cost)
	if s.BestLoss != nil {
		out.TimeSort = order(&total)
	}
	return out
}

// order is a number as the page's script sorts it; "" sorts last.
func order(x *float64) string {
	if v, ok := known(x); ok {
		return short(v, 6)
	}
	return ""
}

func informed(r *recipe) informedRow {
	out := informedRow{recipe: r, Mark: markOf(r.Verdict), Prepare: wordNone, Train: wordNone, Bytes: wordNone}
	if s := r.score; s.BestLoss != nil {
		out.Prepare, out.Train, out.Bytes = seconds(s.PrepareSeconds), seconds(s.Seconds), size(s.BytesRead)
	}
	return out
}

// matrixRow is a recipe over several runs.
type matrixRow struct {
	Name  string
	Class arena.Class
	Cells []matrixCell
}

type matrixCell struct{ Learned, Mark, Verdict string }

// matrix sets the runs side by side, recipe by recipe; nil for one run.
func matrix(runs []run) []matrixRow {
	if len(runs) < 2 {
		return nil
	}
	var out []matrixRow
	index := map[string]int{}
	for i := range runs {
		for j := range runs[i].Recipes {
			r := &runs[i].Recipes[j]
			key := string(r.Class) + " " + r.Name
			at, ok := index[key]
			if !ok {
				at = len(out)
				index[key] = at
				out = append(out, matrixRow{r.Name, r.Class, make([]matrixCell, len(runs))})
			}
			out[at].Cells[i] = matrixCell{r.Learned, markOf(r.Verdict), string(r.Verdict)}
		}
	}
	return out
}
