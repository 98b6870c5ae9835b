package seal

import (
	"math/bits"
	"slices"
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
	layers := map[job][]int{}
	jobs, position := make([]job, len(groups)), make([]int, len(groups))
	for i, g := range groups {
		j := job{g.Kind, withoutNumbers(g.ID)}
		layer := g.Layer
		if layer < 0 { // unknown, or outside of all layers: one of its own
			layer = -1 - i
		}
		p := slices.Index(layers[j], layer)
		if p < 0 {
			p = len(layers[j])
			layers[j] = append(layers[j], layer)
		}
		jobs[i], position[i] = j, p+1
	}
	out := make([]int, len(groups))
	for i, j := range jobs {
		switch n := uint(len(layers[j])); n {
		case 1: // the last norm: not level with the one that stands out
			out[i] = 1
		default:
			out[i] = min(bits.Len(n)-1-bits.TrailingZeros(uint(position[i])), tiers-1)
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
