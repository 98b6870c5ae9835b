package arena

import (
	"fmt"
	"math"
	"time"
)

// Summarize scores a run by its finished trials; it may be unfinished.
func Summarize(m *Meta, get func(id string) *Result) *Summary {
	s := &Summary{
		TableVersion: m.TableVersion, Suite: m.Suite.Name, Engine: m.Engine, ToolVersion: m.ToolVersion,
		Sealed: m.Sealed, Reference: m.Reference, Target: m.Target, Retained: m.Retained,
		Unigram: m.Unigram, Uniform: math.Log(float64(m.Vocabulary)),
		Notes: append([]string{}, m.Notes...),
	}
	c := &scorer{m: m, get: get, sum: s, seen: map[string]*Result{}}
	for _, r := range m.Recipes {
		c.collect(r)
	}
	c.bound()
	for i := range m.Recipes {
		s.Recipes = append(s.Recipes, c.score(m.Recipes[i], c.runs[i]))
	}
	c.count()
	return s
}

// runs are a recipe's trials on each model.
type runs map[Role][]tried

type tried struct {
	p point
	r *Result
}

type scorer struct {
	m    *Meta
	get  func(id string) *Result
	sum  *Summary
	runs []runs
	seen map[string]*Result
}

func (c *scorer) collect(r Recipe) {
	all := runs{}
	if c.m.unable(r) == "" {
		for _, role := range c.m.roles(r) {
			for _, p := range c.m.sweep(r, role, c.get).known() {
				res := c.get(c.m.trial(r, role, p).ID())
				all[role] = append(all[role], tried{p, res})
				c.seen[res.ID] = res
			}
		}
	}
	c.runs = append(c.runs, all)
}

// bound finds the loss from which on something was learned, and the totals.
func (c *scorer) bound() {
	s := c.sum
	s.Start = c.start(Sealed)
	if math.IsNaN(s.Start) {
		s.Start = s.Uniform
		s.Notes = append(s.Notes, "The sealed model's loss before training is not known: no trial of it had a finite one.")
	} else if x := c.start(Unsealed); math.Abs(x-s.Start) > sameStart*s.Start {
		s.Notes = append(s.Notes, fmt.Sprintf("The reference is not the same function: it starts at %.4f, the sealed model at %.4f. Learned fractions mean little.", x, s.Start))
	}
	s.Bound = min(s.Start, s.Unigram)
	var newest time.Time
	versions := map[string]bool{}
	for _, r := range c.seen {
		s.Trials++
		s.Seconds += r.Seconds
		if at, err := time.Parse(time.RFC3339, r.Time); err == nil && at.After(newest) {
			newest = at
		}
		if v := r.Versions["neuroseal"]; v != "" {
			versions[v] = true
		}
	}
	if len(versions) > 1 {
		s.Notes = append(s.Notes, "Some of the trials were run by another version of the program.")
	}
	if !newest.IsZero() {
		s.Date = newest.UTC().Format(time.RFC3339)
	}
}

// sameStart is the relative difference of two losses that rounding explains.
const sameStart = 1e-3

// start is a model's loss before any training: that of a trial in fp32 that
// changes nothing beforehand, or else the smallest of the others'.
func (c *scorer) start(role Role) float64 {
	plain, other := math.NaN(), math.NaN()
	for _, all := range c.runs {
		for _, t := range all[role] {
			x, r := t.r.Start(), t.r.Trial.Recipe
			switch {
			case math.IsNaN(x) || math.IsInf(x, 0):
			case len(r.Prepare) == 0 && r.Train.Virtual == 0 && r.Train.Kind != "dora" && r.Base == "" && (r.Precision == "" || r.Precision == "fp32"):
				plain = x
			case !(x >= other):
				other = x
			}
		}
	}
	if math.IsNaN(plain) {
		return other
	}
	return plain
}

// best is the attacker's best run within the suite's budget, by a measure.
func best(all []tried, by func(*Result) float64) *Result {
	var out *Result
	low := math.Inf(1)
	for _, t := range all {
		if x := by(t.r); !t.p.long && x < low {
			out, low = t.r, x
		}
	}
	return out
}

func (c *scorer) score(r Recipe, all runs) Score {
	out := Score{Name: r.Name, Class: r.Class, Informed: r.Class == Informed, About: r.About, Verdict: NotRun,
		CostCensoredAt: max(1, float64(c.m.Suite.Long)), Points: points(all)}
	if out.Reason = c.m.unable(r); out.Reason != "" {
		return out
	}
	for _, t := range all[Sealed] {
		if t.r.Status == Impossible {
			out.Reason = t.r.Reason
			return out
		}
	}
	sealed, plain := best(all[Sealed], (*Result).Best), best(all[Unsealed], (*Result).Best)
	if sealed == nil && len(all[Sealed]) > 0 {
		// Not even the start could be computed: the attacker is left with what he had.
		sealed = all[Sealed][0].r
	}
	if sealed == nil || plain == nil {
		out.Reason = "not run yet"
		return out
	}
	out.BestTrial, out.SweepFinished = sealed.ID, c.m.sweep(r, Sealed, c.get).finished()
	got := sealed.Best()
	if math.IsNaN(got) {
		got = c.sum.Start // the attacker keeps the model as it was
	} else {
		out.BestLoss = &got
	}
	reached := plain.Best()
	out.UnsealedBestLoss, out.UnsealedTrial = &reached, plain.ID
	if random := best(all[Random], (*Result).Best); random != nil {
		x := random.Best()
		out.RandomBestLoss, out.RandomTrial = &x, random.ID
	}
	out.Seconds, out.PrepareSeconds, out.BytesRead = sealed.Seconds, sealed.PrepareSeconds, sealed.BytesRead
	out.LearnedFraction = fraction(c.sum.Bound, got, reached)
	out.DropFraction = fraction(c.sum.Start, got, reached)
	within := func(r *Result) float64 { return r.BestWithin(Utility) }
	if a, b := best(all[Sealed], within), best(all[Unsealed], within); b != nil {
		x := c.sum.Start
		if a != nil {
			x = within(a)
		}
		out.BoundedFraction = fraction(c.sum.Bound, x, within(b))
	}
	if out.LearnedFraction != nil {
		out.CostMultiplier = c.cost(all, plain)
	}
	for _, t := range all[Sealed] {
		if t.p.long {
			out.LongFraction = fraction(c.sum.Bound, t.r.Best(), reached)
		}
	}
	out.Verdict, out.Reason = c.verdict(&out, got)
	return out
}

// taught is the part of the bound by which a loss must fall before anything
// counts as learned from it.
const taught = 0.01

// fraction is (from - got) / (from - reached), at least 0; nil where reached
// is not below from.
func fraction(from, got, reached float64) *float64 {
	if !(from-reached > taught*from) {
		return nil
	}
	x := max(0, (from-got)/(from-reached))
	return &x
}

func (c *scorer) verdict(s *Score, got float64) (Verdict, string) {
	f := s.LearnedFraction
	switch {
	case f != nil && *f >= HeldBelow:
		return Broken, ""
	case f == nil && c.sum.Bound-got > taught*c.sum.Bound:
		return Broken, "learns from the sealed model what it does not learn from the unsealed one"
	case f == nil && s.Class != WeightSpace && s.DropFraction != nil && *s.DropFraction >= HeldBelow:
		return Broken, fmt.Sprintf("the loss falls %.0f%% as far as without the seal, on neither model below counting tokens", 100**s.DropFraction)
	case f == nil:
		return Inconclusive, "comes below counting tokens on neither model within this budget"
	case c.m.Suite.Extend >= Far && !s.SweepFinished:
		return Inconclusive, "the sweep ended before its rates changed nothing"
	case s.LongFraction != nil && *s.LongFraction >= HeldBelow:
		return Broken, fmt.Sprintf("learns %.0f%% in %.0f times the steps", 100**s.LongFraction, s.CostCensoredAt)
	case s.BestLoss == nil:
		return Held, "no run had a finite loss"
	}
	return Held, ""
}

// cost is how many times the steps the sealed model needs to come where the
// unsealed one came; nil if it never did.
func (c *scorer) cost(all runs, plain *Result) *float64 {
	target, at := plain.Best(), 0
	// Within a hundredth of the fall: the last bit of a loss is no criterion.
	target += 0.01 * (plain.Start() - target)
	if at = reaches(plain, target); at <= 0 {
		return nil
	}
	var out *float64
	for _, t := range all[Sealed] {
		if n := reaches(t.r, target); n > 0 {
			if x := float64(n) / float64(at); out == nil || x < *out {
				out = &x
			}
		}
	}
	return out
}

// reaches returns the step of the first evaluation at or below a loss; -1 if
// there is none.
func reaches(r *Result, loss float64) int {
	for _, e := range r.Evals {
		if float64(e.Target) <= loss {
			return e.Step
		}
	}
	return -1
}

func points(all runs) []Point {
	out := []Point{}
	for _, role := range []Role{Sealed, Unsealed, Random} {
		for _, t := range all[role] {
			p := Point{Trial: t.r.ID, Role: role, LR: t.r.Trial.LR, Seed: t.r.Trial.Seed, Status: t.r.Status,
				Best: Number(t.r.Best()), Final: Number(math.NaN()), Long: t.p.long}
			if n := len(t.r.Evals); n > 0 && t.r.Status == Done {
				p.Final = t.r.Evals[n-1].Target
			}
			out = append(out, p)
		}
	}
	return out
}

// count counts verdicts by class and finds the cheapest break.
func (c *scorer) count() {
	s := c.sum
	for i := range s.Recipes {
		r := &s.Recipes[i]
		held := 0
		switch r.Verdict {
		case NotRun:
			continue
		case Inconclusive:
			s.Inconclusive++
			continue
		case Held:
			held = 1
		case Broken:
			b := Break{Recipe: r.Name, Class: r.Class, Seconds: r.Seconds + r.PrepareSeconds, BytesRead: r.BytesRead}
			if s.Cheapest == nil || b.Seconds < s.Cheapest.Seconds {
				s.Cheapest = &b
			}
		}
		switch r.Class {
		case WeightSpace:
			s.Tried, s.Held = s.Tried+1, s.Held+held
		case Invariant:
			s.InvariantTry, s.InvariantHeld = s.InvariantTry+1, s.InvariantHeld+held
		case Informed:
			s.InformedTried, s.InformedHeld = s.InformedTried+1, s.InformedHeld+held
		}
	}
}
