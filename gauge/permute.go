package gauge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
)

// Permutation is a freedom to change the places of Count units: channels of an
// MLP, heads, groups of heads, experts.
type Permutation struct {
	ID    string // stable: the first tensor that it moves, and where
	Layer int    // transformer block, or -1
	Count int
}

// PlaceFactor is a factor of an axis: Count places, in the order of permutation Perm; of -1, as
// they were.
type PlaceFactor struct{ Perm, Count int }

// Stretch is a part of an axis: a product of factors, outermost first.
type Stretch []PlaceFactor

// PermutedAxis says how an axis is permuted: its stretches follow each other.
type PermutedAxis struct {
	Axis      int
	Stretches []Stretch
}

// PermutedTensor is a weight of which some axes are permuted.
type PermutedTensor struct {
	Name  string
	Shape []int
	Axes  []PermutedAxis
}

// Exchange permutes tensors as wholes: the experts of a mixture. Tensors are as
// many as the stretch has places.
type Exchange struct {
	Places  Stretch
	Tensors []string
}

// Permutations is what may change places in a network without changing its
// function, but for the order in which sums are taken.
type Permutations struct {
	List      []Permutation
	Tensors   []PermutedTensor
	Exchanges []Exchange
}

// PermuteOptions restrict what Permute finds.
type PermuteOptions struct {
	// Class tells weights that may be exchanged from each other, for example by
	// their element type; "" are those that must stay as they are.
	Class func(weight string) string
	// Block is the length of the blocks that must stay whole along an input axis
	// of the given width: places are as long as it takes.
	Block func(width int) int
}

// Permute finds the sub-axes of a network's weights whose elements all
// operations treat alike, so that one order is as good as another. It never
// touches the residual stream: what weights of several layers share stays.
func Permute(g *graph.Graph, o PermuteOptions) (*Permutations, error) {
	k := len(g.Nodes)
	s := &solver{g: g, param: make([]bool, k), live: reach(g), leafOf: map[graph.ID]int{}}
	for i := range g.Nodes {
		if g.Nodes[i].Op == graph.OpInvalid {
			return nil, fmt.Errorf("node %d: invalid operation", i)
		}
		s.param[i] = s.isParam(&g.Nodes[i])
	}
	s.readParts()
	s.matrices()
	p := &permuter{g: g, s: s, axes: make([][]sequence, k), domain: make([]sequence, k), branch: map[graph.ID]bool{}}
	p.stays = func(w string) bool { return o.Class(w) == "" }
	mixtures := p.mixtures(o)
	for i := range g.Nodes {
		if s.live[i] {
			p.node(graph.ID(i))
		}
	}
	for _, out := range g.Outputs {
		p.pinAxes(p.axes[out])
		p.pinAxis(p.domain[out])
	}
	for _, t := range g.Ties() {
		p.tie(g.Weights()[t[0]], g.Weights()[t[1]])
	}
	p.settle(mixtures)
	return p.result(mixtures, o), nil
}

// tie makes two weights, of which a runtime may load either, permute alike.
func (p *permuter) tie(a, b graph.ID) {
	x, y := p.axes[a], p.axes[b]
	if len(x) != len(y) { // nothing reads one of them
		p.pinAxes(x)
		p.pinAxes(y)
		return
	}
	for i := range x {
		p.align(x[i], y[i])
	}
}

// weights lists the weights that are read, in graph order.
func (p *permuter) weights() []graph.ID {
	var out []graph.ID
	for i := range p.g.Nodes {
		if p.g.Nodes[i].Op == graph.OpWeight && p.s.live[i] {
			out = append(out, graph.ID(i))
		}
	}
	return out
}

// settle pins what has no form in the result, and what layers share.
func (p *permuter) settle(mixtures []mixture) {
	layer := map[atomID]int{}
	see := func(s sequence, at int) {
		for _, q := range p.norm(s) {
			for _, x := range q {
				if len(p.atoms[x].parts) > 1 { // a sequence within a product
					p.pin(product{x})
				}
				if l, ok := layer[x]; ok && l != at {
					p.pin(product{x})
				}
				layer[x] = at
			}
		}
	}
	for _, m := range mixtures {
		if s := p.norm(m.axis(p)); len(s) != 1 {
			p.pinAxis(s)
		}
	}
	for _, w := range p.weights() {
		for _, s := range p.axes[w] {
			see(s, p.g.Nodes[w].Layer)
		}
	}
}

// found is a permutation in the making.
type found struct {
	index, unit int
}

func (p *permuter) result(mixtures []mixture, o PermuteOptions) *Permutations {
	out := &Permutations{}
	units := p.units(o)
	perms := map[atomID]found{}
	stretch := func(q product, id func(k int) string, layer int) (Stretch, bool) {
		var s Stretch
		moves := false
		still := func(n int) {
			if k := len(s) - 1; k >= 0 && s[k].Perm < 0 {
				s[k].Count *= n
			} else if n > 1 {
				s = append(s, PlaceFactor{-1, n})
			}
		}
		for k, x := range q {
			at := p.atoms[x]
			unit := max(units[x], 1)
			if at.pinned || len(at.parts) > 1 || unit == at.size {
				still(at.size)
				continue
			}
			f, ok := perms[x]
			if !ok {
				f = found{len(out.List), unit}
				perms[x] = f
				out.List = append(out.List, Permutation{id(k), layer, at.size / unit})
			}
			s = append(s, PlaceFactor{f.index, at.size / f.unit})
			still(f.unit)
			moves = true
		}
		if len(s) == 0 {
			s = Stretch{{-1, 1}}
		}
		return s, moves
	}
	for _, w := range p.weights() {
		n := &p.g.Nodes[w]
		t := PermutedTensor{Name: n.Name, Shape: n.Shape}
		for i, s := range p.axes[w] {
			ax := PermutedAxis{Axis: i}
			some := false
			for j, q := range p.norm(s) {
				st, moves := stretch(q, func(k int) string {
					return fmt.Sprintf("permute:%s#%d.%d.%d", strings.TrimSuffix(n.Name, ".weight"), i, j, k)
				}, n.Layer)
				ax.Stretches = append(ax.Stretches, st)
				some = some || moves
			}
			if some {
				t.Axes = append(t.Axes, ax)
			}
		}
		if len(t.Axes) > 0 {
			out.Tensors = append(out.Tensors, t)
		}
	}
	for _, m := range mixtures {
		s := p.norm(m.axis(p))
		if len(s) != 1 {
			continue
		}
		st, moves := stretch(s[0], func(k int) string {
			return fmt.Sprintf("permute:%s#experts.%d", strings.TrimSuffix(m.tensors[0][0], ".weight"), k)
		}, m.layer)
		for _, names := range m.tensors {
			if moves {
				out.Exchanges = append(out.Exchanges, Exchange{st, names})
			}
		}
	}
	return out
}

// units finds how many neighbours of each atom must stay together so that
// blocks along input axes stay whole.
func (p *permuter) units(o PermuteOptions) map[atomID]int {
	out := map[atomID]int{}
	for _, w := range p.weights() {
		axis := (&assembly{solver: p.s}).inputAxis(w)
		if axis < 0 {
			continue
		}
		shape := p.g.Shape(w)
		block := max(o.Block(shape[axis]), 1)
		begin := 0
		for _, q := range p.norm(p.axes[w][axis]) {
			inner := p.size(q)
			for _, x := range q {
				n := p.atoms[x].size
				inner /= n
				u := max(out[x], 1)
				for u < n && (n%u != 0 || u*inner%block != 0 || begin%block != 0) {
					u++
				}
				out[x] = u
			}
			begin += p.size(q)
		}
	}
	return out
}

// Sources evaluates an axis: for each of its places, the place that its element
// comes from, given every permutation as such a list.
func (ax PermutedAxis) Sources(perms [][]int32) []int32 {
	var out []int32
	for _, s := range ax.Stretches {
		begin := int32(len(out))
		for _, at := range s.Sources(perms) {
			out = append(out, begin+at)
		}
	}
	return out
}

// Sources evaluates a stretch, see PermutedAxis.Sources.
func (s Stretch) Sources(perms [][]int32) []int32 {
	out := []int32{0}
	for _, f := range s {
		next := make([]int32, 0, len(out)*f.Count)
		for _, at := range out {
			for i := range int32(f.Count) {
				if f.Perm >= 0 {
					next = append(next, at*int32(f.Count)+perms[f.Perm][i])
				} else {
					next = append(next, at*int32(f.Count)+i)
				}
			}
		}
		out = next
	}
	return out
}

// Len is the number of a stretch's places.
func (s Stretch) Len() int {
	n := 1
	for _, f := range s {
		n *= f.Count
	}
	return n
}

// Names lists what a permutation moves.
func (p *Permutations) Names(perm int) []string {
	var out []string
	for _, t := range p.Tensors {
		for _, ax := range t.Axes {
			for _, s := range ax.Stretches {
				if slices.ContainsFunc(s, func(f PlaceFactor) bool { return f.Perm == perm }) && !slices.Contains(out, t.Name) {
					out = append(out, t.Name)
				}
			}
		}
	}
	for _, e := range p.Exchanges {
		if slices.ContainsFunc(e.Places, func(f PlaceFactor) bool { return f.Perm == perm }) {
			out = append(out, e.Tensors...)
		}
	}
	return out
}
