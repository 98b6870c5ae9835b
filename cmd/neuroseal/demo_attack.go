package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/arena"
	"github.com/neuroseal/neuroseal/arena/attack"
	"github.com/neuroseal/neuroseal/arena/embedded"
)

// demoRun is the folder of the demo's attack.
const demoRun = "attack"

// attack fine-tunes the original and the sealed model in a few ways and shows
// what was learned. What the arena finds is shown whatever it is; the checks say
// only what must hold for the figures to mean anything.
func (d *demonstration) attack() error {
	profile := demoProfiles[len(demoProfiles)-1]
	d.u.Note("attacking the original and the seal of profile %s", profile)
	table, suite, err := arena.Load("demo")
	if err != nil {
		return err
	}
	engine := embedded.New(1, neuroseal.Version)
	p := newTrialProgress(d.u)
	sum, err := attack.Run(d.ctx, attack.Options{
		Model: d.path(demoSealed(profile)), Against: d.path(demoOriginal), Dir: d.path(demoRun), Table: table, Suite: suite,
		Engine:  engine.Name(),
		Execute: p.local(arena.Local(engine, runtime.GOMAXPROCS(0), arena.FreeMemory(), nil)),
		Planned: p.planned,
	})
	if err != nil {
		return err
	}
	if err := writeReports(d.path(demoRun), []string{d.path(demoRun)}); err != nil {
		return err
	}
	d.sum.Attack = sum
	d.sum.Report = filepath.Join(demoRun, reportHTML)
	d.check(sum.Tried > 0 && sum.Held == sum.Tried,
		"fine-tuning off the shelf: %d of %d recipes learned less than %.0f%% of what the original teaches them, at the few rates tried (held-out loss %s)",
		sum.Held, sum.Tried, 100*arena.HeldBelow, losses(sum))
	d.check(sum.InformedTried > 0 && sum.InformedHeld == 0,
		"the informed attacker learns as if there were no seal: undo first, then the same fine-tuning, %s", cheapest(sum))
	return nil
}

// losses are the attackers' best, of the original and of the sealed model.
func losses(s *arena.Summary) string {
	var out []string
	for _, r := range s.Recipes {
		if r.Class == arena.WeightSpace && r.LearnedFraction != nil {
			out = append(out, fmt.Sprintf("%s %s and %s", r.Name, loss(r.UnsealedBestLoss), loss(r.BestLoss)))
		}
	}
	return strings.Join(out, "; ") + fmt.Sprintf("; counting bytes %.3f", s.Unigram)
}

func cheapest(s *arena.Summary) string {
	for _, r := range s.Recipes {
		if r.Class == arena.Informed && r.BestLoss != nil {
			return fmt.Sprintf("%s in %.1f s", loss(r.BestLoss), r.Seconds+r.PrepareSeconds)
		}
	}
	return "not measured"
}
