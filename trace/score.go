package trace

import (
	"math"
	"strconv"

	"github.com/neuroseal/neuroseal/seal"
)

// candidate is a registered seal that is compared with what is seen.
type candidate struct {
	p       *plan
	e       [][]int16 // exponents of all classes
	layouts []layout
	// ideal stands what the key says in place of what is seen: how much could be
	// told at best.
	ideal bool
	tb    tables

	classes, matched int // of those that were seen: how many agree with the key
}

// unit is the classes of one group that one axis of one piece shows.
type unit struct {
	group  int
	role   string // alike in all layers
	name   string // of the piece and the axis
	values []value
}

// value is a class that is seen: the difference between what is seen and what
// the key says, in bits, and among how many equally likely exponents it was
// drawn.
type value struct {
	diff float64
	n    int
	at   float64 // what is seen, less what follows from earlier stages
	mid  float64 // middle of the exponents' range
}

// evidence is log2 of the likelihood ratio of this key against an unknown one.
func (c *candidate) evidence() float64 {
	c.tb = tables{}
	plain := c.look(func(o *observation) *fitted { return o.plain }, false)
	compared := false
	for i := range c.layouts {
		compared = compared || c.layouts[i].o.ratio != nil
	}
	if !compared {
		return plain
	}
	// An original that is none would hide the pattern: weights alone count, too.
	c.classes, c.matched = 0, 0
	ratio := c.look(func(o *observation) *fitted { return o.ratio }, true)
	return addLog2(plain, ratio) - 1
}

// look adds up the evidence of all stages, from one way of looking.
func (c *candidate) look(see func(*observation) *fitted, exact bool) float64 {
	sum := 0.0
	for st := 1; st < stages; st++ {
		var units []unit
		for i := range c.layouts {
			l := &c.layouts[i]
			if f := see(l.o); f != nil {
				units = c.side(units, st, l, &l.row, &l.col, f, f.row, f.col, ".rows")
				units = c.side(units, st, l, &l.col, &l.row, f, f.col, f.row, ".columns")
			}
		}
		if len(units) > 0 {
			sum += c.weigh(units, exact)
		}
	}
	return sum
}

// side reads one axis of a piece; other is the piece's other axis.
func (c *candidate) side(units []unit, st int, l *layout, s, other *side, f *fitted, seen, across []float64, suffix string) []unit {
	cells := s.stages[st]
	if len(cells) == 0 {
		return units
	}
	base := f.level - c.typical(st, other, across)
	index := map[int]int{}
	for _, x := range cells {
		g := &c.p.Groups[x.own.group]
		e := int(c.e[x.own.group][x.own.class])
		n := c.likely(g, e)
		if n < 2 {
			continue
		}
		var list []float64
		for _, k := range x.at {
			list = append(list, seen[k])
		}
		key := float64(x.own.coef * e)
		at := medianKnown(list) + base - c.sum(x.extra)
		if at-at != 0 {
			continue
		}
		if c.ideal {
			at = key
		}
		i, there := index[x.own.group]
		if !there {
			i = len(units)
			index[x.own.group] = i
			suffix := suffix + strconv.Itoa(x.own.coef)
			units = append(units, unit{group: x.own.group, role: l.o.role + suffix, name: l.o.key() + suffix})
		}
		lo, hi := g.Offsets[0]+g.Lo, g.Offsets[len(g.Offsets)-1]+g.Hi
		units[i].values = append(units[i].values, value{diff: at - key, n: n, at: at, mid: float64(x.own.coef*(lo+hi)) / 2})
	}
	return units
}

// likely is how many exponents were equally likely for a class; 1 if it tells
// nothing. Given which classes are outliers, the others' are independent, and
// only those count.
func (c *candidate) likely(g *seal.Group, e int) int {
	if g.Outliers.Count > 0 {
		for _, o := range g.Offsets {
			for _, x := range []int{g.Outliers.Low, g.Outliers.High} {
				if x >= o+g.Lo && x <= o+g.Hi {
					return 1 // cannot be told from the others
				}
			}
		}
		if e == g.Outliers.Low || e == g.Outliers.High {
			return 1
		}
	}
	return g.Hi - g.Lo + 1
}

// sum is what factors add to a logarithm.
func (c *candidate) sum(list []factor) float64 {
	n := 0
	for _, f := range list {
		n += f.coef * int(c.e[f.group][f.class])
	}
	return float64(n)
}

// typical is the median along an axis of what factors of earlier stages add.
// Those of later ones are not known yet: they shift all that is seen.
func (c *candidate) typical(st int, s *side, seen []float64) float64 {
	var list []float64
	for k, fs := range s.factors {
		if seen[k] != seen[k] && !(len(seen) == 1) {
			continue
		}
		n := 0
		for _, f := range fs {
			if stage(c.p.Groups[f.group].Kind) < st {
				n += f.coef * int(c.e[f.group][f.class])
			}
		}
		list = append(list, float64(n))
	}
	return known(medianKnown(list))
}

// weigh combines the units of a stage. Each of several ways of looking gives a
// ratio whose mean is at most one, and so does their average:
//
//   - group by group, each with a shift of its own and, of the axes that show it,
//     any; each may tell nothing;
//   - all groups with one shift in common, role by role.
func (c *candidate) weigh(units []unit, exact bool) float64 {
	groups, roles := map[int][]unit{}, map[string][]unit{}
	var order []int
	var names []string
	for _, u := range units {
		if groups[u.group] == nil {
			order = append(order, u.group)
		}
		if len(groups[u.group]) < unitsPerGroup {
			groups[u.group] = append(groups[u.group], u)
		}
		if roles[u.role] == nil {
			names = append(names, u.role)
		}
		roles[u.role] = append(roles[u.role], u)
	}
	alone := make([]float64, len(settings))
	for _, g := range order {
		var each [][]float64
		best := 0.0
		var clear tally
		for _, u := range groups[g] {
			t := tallyOf([]unit{u}, exact)
			ev := t.evidence(c.tb, exact)
			each = append(each, ev)
			if m := meanLog2(ev); clear == nil || m > best {
				best, clear = m, t
			}
		}
		c.count(clear)
		for i := range alone {
			var col []float64
			for _, ev := range each {
				col = append(col, ev[i])
			}
			alone[i] += halfLog2(meanLog2(col))
		}
	}
	var together []float64
	for _, role := range names {
		seen := map[int]bool{}
		var first []unit
		for _, u := range roles[role] {
			if !seen[u.group] {
				seen[u.group] = true
				first = append(first, u)
			}
		}
		together = append(together, meanLog2(tallyOf(first, exact).evidence(c.tb, exact)))
	}
	return addLog2(meanLog2(alone), meanLog2(together)) - 1
}

// unitsPerGroup bounds the axes that a group is looked at on.
const unitsPerGroup = 6

// tallyOf counts differences. Without an original nobody knows how large the
// weights were: the likeliest shift is then where the middle of what is seen is
// the middle of the exponents' range, for which no key is needed.
func tallyOf(units []unit, exact bool) tally {
	centre := 0.0
	if !exact {
		var list []float64
		for _, u := range units {
			for _, v := range u.values {
				list = append(list, v.at-v.mid)
			}
		}
		centre = known(medianKnown(list))
	}
	var list [][2]int
	for _, u := range units {
		for _, v := range u.values {
			// Rounded so that numbers one apart stay one apart.
			list = append(list, [2]int{v.n, int(math.Floor((v.diff-centre)*resolution + 0.5))})
		}
	}
	return countBins(list)
}

// count adds up how many classes agree with the key, each group at its best
// shift.
func (c *candidate) count(t tally) {
	best := 0
	for _, s := range t.shifts() {
		k := 0
		for _, b := range t {
			if d := b.d - s; d >= -resolution/2 && d < resolution/2 {
				k += b.k
			}
		}
		best = max(best, k)
	}
	for _, b := range t {
		c.classes += b.k
	}
	c.matched += best
}
