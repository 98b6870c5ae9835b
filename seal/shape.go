package seal

import (
	"math/bits"
	"strings"

	"github.com/neuroseal/neuroseal/gauge"
)

// What distributes exponents over a range; docs/resistance.md has the
// measurements.
const (
	spread     = 8  // width of the middle, and of either half of a small range
	outlierGap = 8  // smallest distance from the middle that makes an outlier
	nearest    = 20 // distance of the nearest outliers from the middle, where the range has it
	tiers      = 3  // how far out the outliers of layers lie
)

// tiersOf says for every group how far out its outliers lie: 0 is farthest,
// tiers-1 nearest. Groups of one job, as all norms before an attention, take the
// ruler sequence along the layers: one of them stands out in the whole model, and
// one in every run of layers that is not short.
//
// What it is for: a matrix whose rows nothing can scale, as a gate, can be
// trained through the input channel that lies farthest out, at a rate that fits
// it. Where several layers have that channel at one height they all learn at
// that rate. Where one layer has it higher than all others, it is the only one
// that learns at its own rate, and at theirs it is wrecked.
func tiersOf(groups []gauge.Group) []int {
	type job struct {
		kind gauge.Kind
		name string
	}
	type place struct {
		job
		layer int
	}
	layers := map[job]int{} // of each job: how many
	position := map[place]int{}
	places := make([]place, len(groups))
	for i, g := range groups {
		p := place{job{g.Kind, withoutNumbers(g.ID)}, g.Layer}
		if g.Layer < 0 { // unknown, or outside of all layers: one of its own
			p.layer = -1 - i
		}
		if position[p] == 0 {
			layers[p.job]++
			position[p] = layers[p.job]
		}
		places[i] = p
	}
	out := make([]int, len(groups))
	for i, p := range places {
		out[i] = 1 // the last norm, the only one of its job: not level with the one that stands out
		if n := layers[p.job]; n > 1 {
			out[i] = min(bits.Len(uint(n))-1-bits.TrailingZeros(uint(position[p])), tiers-1)
		}
	}
	return out
}

// withoutNumbers is a group's id without what tells layers and experts apart.
func withoutNumbers(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, id)
}

// spread distributes the classes of a group over its range. All lie in the
// middle, close together, but for one at each end. On either side of the pair
// the smallest is then the only one that a small learning rate can train, and a
// rate large enough for the others wrecks it. An even distribution over the
// range leaves an attacker a tenth of the classes at any rate, and every further
// outlier leaves him one more.
func (g *Group) spread(tier, lo, hi int) {
	below := (hi - lo) / 2
	if g.Classes < 2 || below < outlierGap {
		g.Offsets, g.Lo, g.Hi = centre(lo, hi)
		return
	}
	if g.Kind != gauge.QK && below >= 2*outlierGap {
		below /= 2 // the upper end is what single matrices are trained by
	}
	middle := lo + below
	half := min(spread/2, below/8)
	g.Offsets, g.Lo, g.Hi = []int{middle}, -half, half
	g.Outliers = Outliers{Count: 1, Low: middle - height(tier, below), High: middle + height(tier, hi-middle)}
}

// height is how far from the middle an outlier lies that has room on its side.
func height(tier, room int) int {
	return room - tier*max(room-nearest, 0)/(tiers-1)
}

// centre splits a range into a spread around one or two offsets: the offsets
// lie as far out as the spread allows; one much nearer to zero is left out.
func centre(lo, hi int) (offsets []int, from, to int) {
	s := min(spread, (hi-lo)/2)
	if s == 0 {
		return []int{0}, lo, hi
	}
	down, up := lo+s, hi-s
	switch {
	case down >= up:
		return []int{0}, lo, hi
	case up >= -2*down:
		return []int{up}, -s, s
	case -down >= 2*up:
		return []int{down}, -s, s
	}
	return []int{down, up}, -s, s
}
