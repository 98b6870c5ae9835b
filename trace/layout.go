package trace

import (
	"slices"
	"sort"

	"github.com/neuroseal/neuroseal/gauge"
)

// factor is a class that moves an element, and to which power.
type factor struct{ group, class, coef int }

// cell is the places of a row or column axis that one class moves, besides
// others that are the same for all of them.
type cell struct {
	own   factor
	extra []factor
	at    []int // positions among the sampled ones
}

// side is one axis of an observed piece, as a plan sees it.
type side struct {
	factors [][]factor // per sampled position
	stages  map[int][]cell
}

// layout says which classes move which sampled rows and columns of a piece.
type layout struct {
	o        *observation
	row, col side
}

// stage is when groups of a kind are looked at: those of earlier stages are then
// taken to be what a candidate's key says, those of later ones to be unknown.
// Within a stage, evidence from one group does not bear on another's.
func stage(k gauge.Kind) int {
	switch k {
	case gauge.Residual:
		return 0 // the same for all keys
	case gauge.Norm:
		return 1
	case gauge.QK:
		return 2
	case gauge.VO:
		return 3
	}
	return 4
}

// stages is their number.
const stages = 5

// layouts places a plan's classes on the observed pieces; ord is nil for a copy
// whose elements kept their places.
func (p *plan) layouts(obs observations, ord *orders) []layout {
	var out []layout
	for i := range p.Tensors {
		for _, q := range piecesOf(&p.Tensors[i]) {
			o := obs[q.key()]
			if o == nil {
				continue
			}
			t := &p.Tensors[i]
			var moved [][]int32
			if ord != nil {
				moved = ord.axes[q.name]
				if from := ord.from[q.name]; from != "" {
					if t = p.tensors[from]; t == nil || !slices.Equal(t.Shape, q.shape) {
						continue
					}
				}
			}
			out = append(out, layout{o: o, row: p.rowSide(t, o, moved), col: p.colSide(t, o, moved)})
		}
	}
	return out
}

func (p *plan) rowSide(t *gauge.Tensor, o *observation, moved [][]int32) side {
	return p.side(t, moved, o.rows, func(i int, at []int) {
		for a := len(t.Shape) - 2; a >= 0; a-- {
			at[a], i = i%t.Shape[a], i/t.Shape[a]
		}
	}, false)
}

func (p *plan) colSide(t *gauge.Tensor, o *observation, moved [][]int32) side {
	first := o.rows[0]
	return p.side(t, moved, o.cols, func(j int, at []int) {
		i := first
		for a := len(t.Shape) - 2; a >= 0; a-- {
			at[a], i = i%t.Shape[a], i/t.Shape[a]
		}
		at[len(at)-1] = j
	}, true)
}

// side finds the factors along one axis: those of the terms that run along the
// last axis, or of the others. locate turns a position into a place.
func (p *plan) side(t *gauge.Tensor, moved [][]int32, positions []int, locate func(i int, at []int), last bool) side {
	rank := len(t.Shape)
	s := side{factors: make([][]factor, len(positions)), stages: map[int][]cell{}}
	var terms []gauge.Axis
	for _, ax := range t.Terms {
		along := len(ax.Axes) > 0 && ax.Axes[len(ax.Axes)-1] == rank-1
		if along == last {
			ax.Segments = slices.Clone(ax.Segments)
			sort.SliceStable(ax.Segments, func(i, j int) bool { return ax.Segments[i].Start < ax.Segments[j].Start })
			terms = append(terms, ax)
		}
	}
	at := make([]int, rank)
	for k, i := range positions {
		locate(i, at)
		for a := range at {
			if a < len(moved) && moved[a] != nil {
				at[a] = int(moved[a][at[a]])
			}
		}
		for _, ax := range terms {
			n := 0
			for _, a := range ax.Axes {
				n = n*t.Shape[a] + at[a]
			}
			for _, sg := range ax.Segments {
				if sg.Start > n {
					break
				}
				if n < sg.Start+sg.Count && sg.Coef != 0 {
					s.factors[k] = append(s.factors[k], factor{sg.Group, sg.First + (n-sg.Start)/sg.Div, sg.Coef})
				}
			}
		}
	}
	p.cells(&s)
	return s
}

// cells gathers, for each stage, the positions that one class of it moves, and
// no other class of it or of a later one. A class that stands among different
// others in different places is looked at in the first of them.
func (p *plan) cells(s *side) {
	type id struct{ group, class int }
	for st := 1; st < stages; st++ {
		index := map[id]int{}
		var list []cell
		for k, fs := range s.factors {
			own, extra := -1, []factor(nil)
			for i, f := range fs {
				switch at := stage(p.Groups[f.group].Kind); {
				case at < st:
					extra = append(extra, f)
				case at == st && own < 0:
					own = i
				default:
					own = len(fs) // two of this stage, or one of a later
				}
			}
			if own < 0 || own >= len(fs) {
				continue
			}
			x := id{fs[own].group, fs[own].class}
			i, there := index[x]
			if !there {
				i = len(list)
				index[x] = i
				list = append(list, cell{own: fs[own], extra: extra})
			}
			if c := &list[i]; c.own == fs[own] && slices.Equal(c.extra, extra) {
				c.at = append(c.at, k)
			}
		}
		if len(list) > 0 {
			s.stages[st] = list
		}
	}
}
