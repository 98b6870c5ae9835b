package seal

import (
	"cmp"
	"math"
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
	lowerPart  = 9  // the middle lies a ninth of the range above its lower end
	nearest    = 11 // distance of the nearest outliers from the middle, where the range has it
	tiers      = 3  // of layers, by how far out their outliers lie
	golden     = math.Phi - 1
)

// depthsOf says for every group how far inside of the farthest its outliers lie,
// from 0, farthest out, to 1, nearest to the middle. Groups of one job, as all
// norms before an attention, take the ruler sequence along the layers: one of
// them stands out in the whole model, and one in every run of layers that is not
// short. Those of the last tier, most layers, take the multiples of the golden
// ratio, so that layers chosen by any rule lie apart.
//
// What it is for: a matrix whose rows nothing can scale, as a gate, can be
// trained through the input channel that lies farthest out, at a rate that fits
// it. Where several layers have that channel at one height they all learn at
// that rate. Where one layer has it higher than all others, it is the only one
// that learns at its own rate, and at theirs it is wrecked. The first layer lies
// nearest of all: what its gate sees are tokens, and one channel of them teaches
// more than one of any later layer.
func depthsOf(groups []gauge.Group) []float64 {
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
	along := map[int][]float64{} // by the number of layers
	out := make([]float64, len(groups))
	for i, p := range places {
		n := layers[p.job]
		if along[n] == nil {
			along[n] = depths(n)
		}
		out[i] = along[n][position[p]-1]
	}
	return out
}

// depths are those of the layers of one job.
func depths(layers int) []float64 {
	if layers == 1 { // the last norm: not level with a layer that stands out
		return []float64{1.0 / tiers}
	}
	out := make([]float64, layers)
	longest := bits.Len(uint(layers)) - 1
	last := min(longest, tiers-1)
	var most []int // the layers of the last tier
	for l := range out {
		tier := min(longest-bits.TrailingZeros(uint(l+1)), last)
		out[l] = float64(tier) / tiers
		if tier == last {
			most = append(most, l)
		}
	}
	slices.SortFunc(most, func(a, b int) int { return cmp.Compare(multiple(b), multiple(a)) })
	from := out[most[0]]
	for rank, l := range most {
		out[l] = 1
		if rank < len(most)-1 {
			out[l] = from + (1-from)*float64(rank)/float64(len(most)-1)
		}
	}
	return out
}

// multiple is the part behind the point of a multiple of the golden ratio.
func multiple(n int) float64 {
	_, part := math.Modf(float64(n) * golden)
	return part
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
func (g *Group) spread(depth float64, lo, hi int) {
	below := (hi - lo) / 2
	if g.Classes < 2 || below < outlierGap {
		g.Offsets, g.Lo, g.Hi = centre(lo, hi)
		return
	}
	if g.Kind != gauge.QK && below >= 2*outlierGap {
		// The upper end is what single matrices are trained by.
		below = max((hi-lo)/lowerPart, outlierGap)
	}
	middle := lo + below
	half := min(spread/2, below/8)
	g.Offsets, g.Lo, g.Hi = []int{middle}, -half, half
	g.Outliers = Outliers{Count: 1, Low: middle - away(depth, below), High: middle + away(depth, hi-middle)}
}

// away is how far from the middle an outlier lies that has room on its side.
func away(depth float64, room int) int {
	return room - int(depth*float64(max(room-nearest, 0)))
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
