package report

import (
	"math"
	"strconv"

	"github.com/neuroseal/neuroseal/arena"
)

// classText says what a class is, in words that every output shares.
type classText struct {
	Class arena.Class
	Name  string // what the attacks are
	Short string
	Means string // one sentence: what a seal can do about it
}

var classTexts = []classText{
	{arena.WeightSpace, "Off the shelf, training weights", "off the shelf, weights",
		"Fine-tuning, LoRA and merging as anyone would run them. A seal can hold these."},
	{arena.Invariant, "Off the shelf, acting on activations", "off the shelf, activations",
		"Soft prompts, IA3 and the like. The model computes what it did, so no seal can hold these."},
	{arena.Informed, "Informed", "informed",
		"The attacker knows of the seal and re-balances the weights first, without any key. No seal can hold these."},
}

// run is an input, ready to be shown. All its strings are plain.
type run struct {
	sum     *arena.Summary
	results map[string]*arena.Result

	Name, Seal string
	Label      string // tells the run from the others of the report
	Classes    []class
	Recipes    []recipe
	Break      *cheapest
}

// class is what became of one class of attack.
type class struct {
	classText
	Held, Tried, Broken  int
	Inconclusive, NotRun int
	Marks                []mark
	Worst                *recipe // that learned most; nil if nothing was tried
	Each                 []each  // B and C: every recipe, by name
}

// each is a recipe's outcome in a few words.
type each struct{ Name, Outcome string }

// mark is a recipe on a line from nothing learned to everything.
type mark struct {
	Name     string
	Fraction float64
	Verdict  arena.Verdict
}

// recipe is a score with its figures in words.
type recipe struct {
	score *arena.Score

	Index                                 int
	Name, About, Reason                   string
	Class                                 arena.Class
	Verdict                               arena.Verdict
	Best, Unsealed, Random                string
	Learned, Bounded, Drop, Cost, Seconds string
	Diverged                              string // "3 of 7 diverged"
}

type cheapest struct {
	Recipe, Seconds, Bytes string
	Class                  arena.Class
}

// view prepares all inputs.
func view(in []Input) []run {
	out := make([]run, len(in))
	for i := range in {
		out[i] = prepare(&in[i])
	}
	same := map[string]bool{}
	for i := range out {
		r := &out[i]
		r.Label = r.Name
		if len(out) > 1 {
			r.Label += " · " + r.Seal
		}
		if same[r.Label] {
			r.Label += " (" + strconv.Itoa(i+1) + ")"
		}
		same[r.Label] = true
	}
	return out
}

func prepare(in *Input) run {
	s := in.Summary
	r := run{sum: s, results: map[string]*arena.Result{}, Name: plain(s.Sealed.Name, nameLimit), Seal: plain(s.Sealed.Seal, nameLimit)}
	if r.Name == "" {
		r.Name = "unnamed model"
	}
	if r.Seal == "" {
		r.Seal = "not sealed"
	}
	for i := range in.Results {
		r.results[in.Results[i].ID] = &in.Results[i]
	}
	for i := range s.Recipes {
		r.Recipes = append(r.Recipes, describe(i, &s.Recipes[i]))
	}
	for _, text := range classTexts {
		r.Classes = append(r.Classes, r.class(text))
	}
	if b := s.Cheapest; b != nil {
		r.Break = &cheapest{plain(b.Recipe, nameLimit), seconds(b.Seconds), size(b.BytesRead), b.Class}
	}
	return r
}

func describe(i int, s *arena.Score) recipe {
	return recipe{
		score: s, Index: i, Class: s.Class, Verdict: s.Verdict,
		Name: plain(s.Name, nameLimit), About: plain(s.About, textLimit), Reason: plain(s.Reason, textLimit),
		Best: lossOf(s.BestLoss), Unsealed: lossOf(s.UnsealedBestLoss), Random: lossOf(s.RandomBestLoss),
		Learned: percentOf(s.LearnedFraction), Bounded: percentOf(s.BoundedFraction), Drop: percentOf(s.DropFraction),
		Cost: costOf(s), Seconds: spent(s), Diverged: divergedOf(s.Points),
	}
}

// costOf is the cost multiplier. Where the sealed model never came as far, it
// says how long it was given; where the unsealed one came nowhere, there is
// nothing to compare with.
func costOf(s *arena.Score) string {
	switch {
	case s.CostMultiplier != nil:
		return times(*s.CostMultiplier)
	case s.BestLoss == nil || s.LearnedFraction == nil && s.DropFraction == nil:
		return wordNone
	}
	return ">" + times(max(1, s.CostCensoredAt))
}

func spent(s *arena.Score) string {
	if s.BestLoss == nil {
		return wordNone
	}
	return seconds(s.Seconds + s.PrepareSeconds)
}

// divergedOf counts the sealed model's diverged trials.
func divergedOf(points []arena.Point) string {
	all, diverged := 0, 0
	for _, p := range points {
		if p.Role != arena.Sealed {
			continue
		}
		all++
		if p.Status == arena.Diverged {
			diverged++
		}
	}
	switch {
	case diverged == 0:
		return ""
	case diverged == all:
		return "all " + wordDiverged
	}
	return strconv.Itoa(diverged) + " of " + strconv.Itoa(all) + " " + wordDiverged
}

func (r *run) class(text classText) class {
	c := class{classText: text}
	switch s := r.sum; text.Class {
	case arena.WeightSpace:
		c.Held, c.Tried = s.Held, s.Tried
	case arena.Invariant:
		c.Held, c.Tried = s.InvariantHeld, s.InvariantTry
	case arena.Informed:
		c.Held, c.Tried = s.InformedHeld, s.InformedTried
	}
	c.Broken = max(0, c.Tried-c.Held)
	most := math.Inf(-1)
	for i := range r.Recipes {
		rec := &r.Recipes[i]
		if rec.Class != text.Class {
			continue
		}
		switch rec.Verdict {
		case arena.Inconclusive:
			c.Inconclusive++
		case arena.NotRun:
			c.NotRun++
		}
		if text.Class != arena.WeightSpace {
			c.Each = append(c.Each, each{rec.Name, rec.outcome()})
		}
		if x, ok := known(rec.score.LearnedFraction); ok {
			c.Marks = append(c.Marks, mark{rec.Name, x, rec.Verdict})
			if x > most {
				c.Worst, most = rec, x
			}
		}
	}
	return c
}

// outcome is what a recipe learned; where the unsealed model learns nothing, how
// far the loss fell in comparison.
func (r *recipe) outcome() string {
	if _, ok := known(r.score.LearnedFraction); ok {
		return r.Learned
	}
	if _, ok := known(r.score.DropFraction); ok && r.Verdict != arena.NotRun {
		return r.Drop + " of the fall"
	}
	return string(r.Verdict)
}

// Rest names what stands beside held and tried: "2 inconclusive, 1 not run".
func (c *class) Rest() string {
	out := ""
	add := func(n int, what string) {
		if n == 0 {
			return
		}
		if out != "" {
			out += ", "
		}
		out += strconv.Itoa(n) + " " + what
	}
	add(c.Inconclusive, string(arena.Inconclusive))
	add(c.NotRun, string(arena.NotRun))
	return out
}

// result is a trial that the summary names, if the report has it.
func (r *run) result(id string) *arena.Result {
	if id == "" {
		return nil
	}
	return r.results[id]
}

// lowest is the lowest finite loss that any best run reached.
func (r *run) lowest() float64 {
	low := math.Inf(1)
	for i := range r.sum.Recipes {
		s := &r.sum.Recipes[i]
		for _, x := range []*float64{s.BestLoss, s.UnsealedBestLoss, s.RandomBestLoss} {
			if v, ok := known(x); ok {
				low = min(low, v)
			}
		}
	}
	return low
}

// limits are the sentences that a reader needs to judge the figures.
func (r *run) limits() []string {
	var out []string
	if p := plain(r.sum.Sealed.Promise, textLimit); p != "" {
		out = append(out, "The seal's promise: "+p)
	}
	switch n := r.sum.Sealed.Holes; {
	case n == 1:
		out = append(out, "One tensor is a hole: no factor touches it, and training it alone meets no seal.")
	case n > 1:
		out = append(out, count(int64(n))+" tensors are holes: no factor touches them, and training them alone meets no seal.")
	}
	for _, n := range r.sum.Notes {
		if n = plain(n, textLimit); n != "" {
			out = append(out, n)
		}
	}
	return out
}
