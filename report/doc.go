// Package report draws what the arena measured: an HTML page that needs no
// network, a chart, and a card for a model's README.
//
// A report may hold several runs, for instance several profiles of one model.
// It keeps the three classes of attack apart wherever it counts, names what was
// inconclusive or not run beside what held, and shows a number that is not
// finite as "diverged". Names and reasons come from whoever made the model and
// the table: they are shown as text and never as markup.
package report

import (
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Input is one run of the arena.
type Input struct {
	Summary *arena.Summary
	// Results are the run's finished trials. Curves are drawn from those that the
	// summary names as best; without them a report has its figures and no curves.
	Results []arena.Result
}

// maxRuns bounds a report: more runs than this are no longer a page to look at.
const maxRuns = 64

// check refuses what cannot be drawn at all.
func check(in []Input) error {
	if len(in) == 0 {
		return fault.New(fault.Usage, "a report of no runs").WithHint("name at least one folder that neuroseal attack wrote")
	}
	if len(in) > maxRuns {
		return fault.New(fault.Usage, "a report of %d runs; at most %d", len(in), maxRuns).WithHint("make several reports")
	}
	for i := range in {
		s := in[i].Summary
		if s == nil {
			return fault.New(fault.Usage, "run %d of the report has no summary", i+1)
		}
		if len(s.Recipes) == 0 {
			return fault.New(fault.Usage, "run %d of the report (%s) names no recipes", i+1, plain(s.Sealed.Name, nameLimit)).
				WithHint("was the attack started? neuroseal attack goes on where it stopped")
		}
	}
	return nil
}
