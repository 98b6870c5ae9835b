package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/ui"
	impact "github.com/neuroseal/neuroseal/report"
)

// What attack leaves in a run folder, beside the trials.
const (
	reportHTML  = "report.html"
	reportPNG   = "neuroseal_impact.png"
	cardJSON    = "card.json"
	cardMD      = "card.md"
	summaryFile = "summary.json"
	lossFolder  = "losses"
)

// trialProgress shows how many trials of a round are done: what follows a round
// depends on it, so nobody knows the total.
type trialProgress struct {
	u    *ui.UI
	mu   sync.Mutex
	done int
	more int
	said time.Time
}

func newTrialProgress(u *ui.UI) *trialProgress { return &trialProgress{u: u, said: time.Now()} }

// planned hears of trials that are to be run, besides those that are done.
func (p *trialProgress) planned(done, more int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done, p.more = done, more
}

// counting passes results on and says now and then how far the run has come.
func (p *trialProgress) counting(each func(*arena.Result) error) func(*arena.Result) error {
	return func(r *arena.Result) error {
		if err := each(r); err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done, p.more = p.done+1, p.more-1
		if time.Since(p.said) > sayEvery || p.more == 0 {
			p.said = time.Now()
			p.u.Note("%d trials done, %d to go in this round; the last: %s on the %s model, rate %.2g: %s, held-out loss %.3f",
				p.done, p.more, r.Trial.Recipe.Name, r.Trial.Role, r.Trial.LR, r.Status, r.Best())
		}
		return nil
	}
}

// local is an executor whose results are counted.
func (p *trialProgress) local(run arena.Executor) arena.Executor {
	return func(ctx context.Context, tasks []arena.Task, each func(*arena.Result) error) error {
		return run(ctx, tasks, p.counting(each))
	}
}

// sayEvery is the time between two lines about a run.
const sayEvery = 5 * time.Second

// writeOut writes a file that becomes visible when it is complete.
func writeOut(path string, data []byte) error {
	return atomicdir.WriteFile(path, data, 0o666, true)
}

func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fault.Wrap(fault.General, err, "writing %s", path)
	}
	return writeOut(path, append(raw, '\n'))
}

// loadRuns reads run folders for a report.
func loadRuns(dirs []string) ([]impact.Input, error) {
	var out []impact.Input
	for _, dir := range dirs {
		m, err := arena.ReadMeta(dir)
		if err != nil {
			return nil, err
		}
		results, err := arena.ReadResults(dir)
		if err != nil {
			return nil, err
		}
		byID := map[string]*arena.Result{}
		for i := range results {
			byID[results[i].ID] = &results[i]
		}
		sum := arena.Summarize(m, func(id string) *arena.Result { return byID[id] })
		out = append(out, impact.Input{Summary: sum, Results: results})
	}
	return out, nil
}

// writeReports writes all reports of runs into a folder.
func writeReports(dst string, dirs []string) error {
	in, err := loadRuns(dirs)
	if err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		draw func(io.Writer, []impact.Input) error
	}{{reportHTML, impact.HTML}, {reportPNG, impact.PNG}, {cardJSON, impact.CardJSON}, {cardMD, impact.CardMarkdown}} {
		if err := draw(filepath.Join(dst, f.name), in, f.draw); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dst, summaryFile), in[0].Summary); err != nil {
		return err
	}
	return writeLosses(filepath.Join(dst, lossFolder), in[0])
}

// draw writes one report.
func draw(path string, in []impact.Input, f func(io.Writer, []impact.Input) error) error {
	var b bytes.Buffer
	if err := f(&b, in); err != nil {
		return fault.Wrap(fault.General, err, "drawing %s", path)
	}
	return writeOut(path, b.Bytes())
}

// writeLosses writes the losses of every recipe's best runs as plain lists, as
// the original tool did.
func writeLosses(dir string, in impact.Input) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return fault.Wrap(fault.General, err, "creating the folder of losses")
	}
	byID := map[string]*arena.Result{}
	for i := range in.Results {
		byID[in.Results[i].ID] = &in.Results[i]
	}
	for _, s := range in.Summary.Recipes {
		for name, id := range map[string]string{"sealed": s.BestTrial, "normal": s.UnsealedTrial} {
			if r := byID[id]; r != nil {
				if err := writeOut(filepath.Join(dir, s.Name+"-"+name+".json"), arena.LossList(r)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// writeSummary shows a summary on the terminal.
func writeSummary(w io.Writer, s *arena.Summary) {
	fmt.Fprintf(w, "%s, %s; suite %s of table %s\n", s.Sealed.Name, orElse(s.Sealed.Seal, "not sealed"), s.Suite, s.TableVersion)
	fmt.Fprintf(w, "Held-out target loss: start %.3f, counts alone %.3f, uniform guess %.3f\n\n", s.Start, s.Unigram, s.Uniform)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLASS\tRECIPE\tSEALED\tUNSEALED\tLEARNED\tCOST\tVERDICT")
	for _, r := range s.Recipes {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Class, r.Name, loss(r.BestLoss), loss(r.UnsealedBestLoss),
			percentOf(r.LearnedFraction), times(r), verdict(r))
	}
	t.Flush()
	fmt.Fprintf(w, "\nOff the shelf, on weights (A): %d of %d held (below %.0f%%)\n", s.Held, s.Tried, 100*arena.HeldBelow)
	fmt.Fprintf(w, "Off the shelf, on activations (B; no seal can hold these): %d of %d held\n", s.InvariantHeld, s.InvariantTry)
	fmt.Fprintf(w, "Informed (C; no seal can hold these): %d of %d held\n", s.InformedHeld, s.InformedTried)
	if s.Inconclusive > 0 {
		fmt.Fprintf(w, "%d inconclusive, which counts nowhere\n", s.Inconclusive)
	}
	if c := s.Cheapest; c != nil {
		fmt.Fprintf(w, "Cheapest break: %s, %.1f s, %s read beforehand\n", c.Recipe, c.Seconds, ui.Bytes(c.BytesRead))
	}
	for _, n := range s.Notes {
		fmt.Fprintf(w, "Note: %s\n", n)
	}
}

func verdict(s arena.Score) string {
	if s.Reason == "" {
		return string(s.Verdict)
	}
	return string(s.Verdict) + ": " + s.Reason
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func loss(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.3f", *x)
}

func percentOf(x *float64) string {
	if x == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f%%", 100**x)
}

func times(s arena.Score) string {
	switch {
	case s.CostMultiplier != nil:
		return fmt.Sprintf("%.1f×", *s.CostMultiplier)
	case s.BestLoss == nil || s.LearnedFraction == nil:
		return "-"
	}
	return fmt.Sprintf(">%.0f×", s.CostCensoredAt)
}
