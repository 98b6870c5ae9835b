package arena

import (
	"math"
	"slices"
	"strconv"
)

// point is a trial of a sweep: a learning rate in eighths of a decade, a seed,
// and whether it is the long run behind the cost multiplier.
type point struct {
	rate int // 10^(rate/8)
	only float64
	seed uint64
	long bool
}

const (
	perDecade = 8
	farthest  = 36 * perDecade // beyond, a rate is no float32
)

// lr is the point's learning rate, to four digits.
func (p point) lr() float64 {
	if p.only > 0 {
		return p.only
	}
	x, err := strconv.ParseFloat(strconv.FormatFloat(math.Pow(10, float64(p.rate)/perDecade), 'e', 3, 64), 64)
	if err != nil {
		panic(err) // it has just been formatted
	}
	return x
}

// sweep decides, from what is known, which trials of a recipe on a model to run
// next: decades first; then further while the best lies at an end, or nothing was learned; then ever
// finer around the best; then other seeds at the best; then the long run. An
// attacker tunes, so nothing here depends on what the seal's author would like.
type sweep struct {
	rates          Rates
	refine, extend int
	seeds          int
	bound          float64 // only a loss below it was learned
	thorough       bool    // a sealed model, and a suite that looks far
	long           bool
	result         func(point) *Result // nil: not run yet
}

// next returns the trials to run now; none when the sweep is complete.
func (s *sweep) next() []point {
	if len(s.rates.Only) > 0 {
		return s.missing(s.fixed())
	}
	grid := s.decades()
	if slices.ContainsFunc(grid, s.impossible) {
		return nil
	}
	if m := s.missing(grid); len(m) > 0 {
		return m
	}
	grid, m := s.extended(grid)
	if len(m) > 0 {
		return m
	}
	for {
		more := s.gaps(grid)
		if len(more) == 0 {
			break
		}
		if m := s.missing(more); len(m) > 0 {
			return m
		}
		grid = append(grid, more...)
	}
	for i := range s.refine {
		var finer []point
		for _, rate := range s.around(grid, (perDecade*s.stride())>>(i+1)) {
			finer = append(finer, point{rate: rate, seed: 1})
		}
		if m := s.missing(finer); len(m) > 0 {
			return m
		}
		grid = append(grid, finer...)
	}
	best, ok := s.best(grid)
	if !ok {
		// Nothing was learnt at any rate: other seeds get the rate that came
		// nearest to breaking.
		best, ok = s.brink(grid)
	}
	if !ok {
		return nil
	}
	var more []point
	for seed := 2; seed <= s.seeds; seed++ {
		more = append(more, point{rate: best.rate, seed: uint64(seed)})
	}
	if s.long {
		more = append(more, point{rate: best.rate, seed: 1, long: true})
	}
	return s.missing(more)
}

// known returns every point of the sweep that has been run; next decides the
// same way again, so nothing of another sweep is taken in.
func (s *sweep) known() []point {
	var out []point
	seen := map[point]bool{}
	inner := s.result
	s.result = func(p point) *Result {
		r := inner(p)
		if r != nil && !seen[p] {
			seen[p] = true
			out = append(out, p)
		}
		return r
	}
	s.next()
	s.result = inner
	return out
}

func (s *sweep) fixed() []point {
	var out []point
	for _, lr := range s.rates.Only {
		for seed := 1; seed <= s.seeds; seed++ {
			out = append(out, point{only: lr, seed: uint64(seed)})
		}
	}
	if s.long {
		out = append(out, point{only: s.rates.Only[0], seed: 1, long: true})
	}
	return out
}

func (s *sweep) decades() []point {
	var out []point
	for d := s.rates.From; d <= s.rates.To; d += s.stride() {
		out = append(out, point{rate: d * perDecade, seed: 1})
	}
	return out
}

// stride is the decades between the first rates.
func (s *sweep) stride() int { return max(1, s.rates.Every) }

func (s *sweep) missing(ps []point) []point {
	var out []point
	for _, p := range ps {
		if s.result(p) == nil {
			out = append(out, p)
		}
	}
	return out
}

// extended returns the grid with the rates beyond its ends that the results ask
// for; the second list is what of it has not been run.
func (s *sweep) extended(grid []point) (all, missing []point) {
	lo, hi, up := grid[0].rate, grid[len(grid)-1].rate, perDecade*s.stride()
	for range s.extend {
		below, above := s.wants(grid)
		var more []point
		for range chunk {
			if below && lo > -farthest {
				// Two decades: what a rate can train on a sealed model lies within
				// about as many, so larger steps would pass over it.
				lo = max(lo-2*perDecade, -farthest)
				more = append(more, point{rate: lo, seed: 1})
			}
		}
		if above && hi < farthest {
			hi = min(hi+up, farthest)
			more = append(more, point{rate: hi, seed: 1})
			if s.flat(point{rate: grid[len(grid)-1].rate, seed: 1}) {
				up *= 2
			}
		}
		if len(more) == 0 {
			break
		}
		if m := s.missing(more); len(m) > 0 {
			return grid, m
		}
		grid = append(grid, more...)
		slices.SortFunc(grid, func(a, b point) int { return a.rate - b.rate })
	}
	return grid, nil
}

// chunk is how many smaller rates are tried at once.
const chunk = 3

// gaps returns rates between the best one, or the brink, and its neighbours
// where growing steps have left more than the first distance.
func (s *sweep) gaps(grid []point) []point {
	mid, ok := s.best(grid)
	if !ok {
		if mid, ok = s.brink(grid); !ok {
			return nil
		}
	}
	below, above := math.MinInt, math.MaxInt
	for _, p := range grid {
		if p.rate < mid.rate {
			below = max(below, p.rate)
		}
		if p.rate > mid.rate {
			above = min(above, p.rate)
		}
	}
	var out []point
	for _, next := range []int{below, above} {
		if d := (next - mid.rate) / 2; next != math.MinInt && next != math.MaxInt && max(d, -d) >= perDecade*s.stride() {
			out = append(out, point{rate: mid.rate + d, seed: 1})
		}
	}
	return out
}

// wants says on which side the sweep should go on. On a sealed model: to smaller
// rates until they change nothing, since its best may lie anywhere, and to
// larger ones while they change nothing or are the best. Elsewhere, and with a
// budget for few rates: where the best rate is the last one.
func (s *sweep) wants(grid []point) (down, up bool) {
	first, last := grid[0], grid[len(grid)-1]
	best, ok := s.best(grid)
	learned := ok && s.learned(s.result(best))
	if learned && !s.thorough {
		return best.rate == first.rate, best.rate == last.rate
	}
	return !s.flat(first), s.flat(last) || ok && best.rate == last.rate
}

// learned reports whether a result came clearly below what no learning explains.
func (s *sweep) learned(r *Result) bool {
	return r.Best() < (1-taught)*math.Min(s.bound, r.Start())
}

// finished reports whether the sweep has seen all rates at which anything
// happens: below its smallest nothing changes, above its largest nothing lives.
func (s *sweep) finished() bool {
	grid := s.decades()
	if len(s.rates.Only) > 0 || slices.ContainsFunc(grid, s.impossible) {
		return len(s.rates.Only) == 0
	}
	grid, missing := s.extended(grid)
	if len(missing) > 0 {
		return false
	}
	down, up := s.wants(grid)
	return !(down && grid[0].rate > -farthest) && !(up && grid[len(grid)-1].rate < farthest)
}

// flat reports whether a rate was too small to change anything.
func (s *sweep) flat(p point) bool {
	r := s.result(p)
	if r == nil || r.Status != Done || len(r.Evals) == 0 {
		return false
	}
	end := float64(r.Evals[len(r.Evals)-1].Target)
	return math.Abs(end-r.Start()) <= noise*r.Start()
}

func (s *sweep) impossible(p point) bool {
	r := s.result(p)
	return r != nil && r.Status == Impossible
}

// best is the rate with the lowest loss among those that learned anything.
func (s *sweep) best(grid []point) (point, bool) {
	var best point
	found := false
	low := math.Inf(1)
	for _, p := range grid {
		r := s.result(p)
		if r == nil {
			continue
		}
		if x := r.Best(); x < low && x < r.Start()*(1-noise) {
			best, low, found = p, x, true
		}
	}
	return best, found
}

// noise is the relative change of a loss that is not learning.
const noise = 1e-4

// brink is the largest rate that did not diverge.
func (s *sweep) brink(grid []point) (point, bool) {
	var out point
	found := false
	for _, p := range grid {
		if r := s.result(p); r != nil && r.Status == Done && (!found || p.rate > out.rate) {
			out, found = p, true
		}
	}
	return out, found
}

// around returns the rates to look at next, step eighths of a decade from the
// best one; where nothing was learnt, from the brink upwards, since what lies
// between no effect and divergence may have been stepped over.
func (s *sweep) around(grid []point, step int) []int {
	if step == 0 {
		return nil
	}
	if best, ok := s.best(grid); ok {
		return []int{best.rate - step, best.rate + step}
	}
	if edge, ok := s.brink(grid); ok {
		return []int{edge.rate + step}
	}
	return nil
}
