// Package diagram draws one block of a computation graph with the pairs that
// package gauge has found in it, each group of classes in a colour of its own:
// as DOT for Graphviz, or as an SVG that needs nothing else.
package diagram

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// Diagram is what there is to draw of one block.
type Diagram struct {
	Title  string
	Groups []gauge.Group // those that occur, in order; their index is the colour
	Note   string        // what is left out

	items []item
	edges []edge
}

// shape is how an item is drawn.
type shape int

const (
	operation shape = iota
	weight
	move    // an operation that only rearranges
	outside // a value that another block computes
)

type item struct {
	lines  []string
	shape  shape
	groups []int // into Diagram.Groups
}

type edge struct {
	from, to int
	groups   []int
}

// drawnExperts is how many experts of a mixture are drawn: all are alike.
const drawnExperts = 2

// itemLimit bounds what is still readable, or of any use to a browser.
const itemLimit = 1500

// Layers returns the numbers of the blocks that g has, sorted; -1 stands for
// what lies outside of all, like the embedding.
func Layers(g *graph.Graph) []int {
	seen := map[int]bool{}
	for i := range g.Nodes {
		if g.Nodes[i].Op != graph.OpConst {
			seen[g.Nodes[i].Layer] = true
		}
	}
	var out []int
	for l := range seen {
		out = append(out, l)
	}
	slices.Sort(out)
	return out
}

// New selects what belongs to a block. It fails when g has no such block, or
// one that is too large to draw.
func New(g *graph.Graph, sol *gauge.Solution, layer int, title string) (*Diagram, error) {
	if !slices.Contains(Layers(g), layer) {
		return nil, fmt.Errorf("the graph has no layer %d", layer)
	}
	d := &Diagram{Title: title}
	s := selection{
		g: g, sol: sol, d: d, layer: layer, at: map[graph.ID]int{}, alias: map[graph.ID]graph.ID{},
		color: map[int]int{}, moved: map[string][]int{},
	}
	s.weights()
	s.elide()
	for i := range g.Nodes {
		if n := &g.Nodes[i]; n.Layer == layer && n.Op != graph.OpConst && n.Op != graph.OpWeight {
			s.node(graph.ID(i))
		}
		if len(d.items) > itemLimit {
			return nil, fmt.Errorf("layer %d has more than %d operations: too many to draw", layer, itemLimit)
		}
	}
	if s.dropped > 0 {
		d.Note = fmt.Sprintf("%d of %d experts are drawn", drawnExperts, s.dropped)
	}
	return d, nil
}

// selection is the state of New.
type selection struct {
	g       *graph.Graph
	sol     *gauge.Solution
	d       *Diagram
	layer   int
	at      map[graph.ID]int      // item of a value
	alias   map[graph.ID]graph.ID // value that stands for another; -1: not drawn
	color   map[int]int           // group of the solution → of the diagram
	moved   map[string][]int      // groups that move a tensor
	dropped int                   // experts in all, if some are not drawn
}

// weights finds the groups that move each tensor.
func (s *selection) weights() {
	for _, t := range s.sol.Tensors {
		var groups []int
		for _, ax := range t.Terms {
			for _, seg := range ax.Segments {
				groups = append(groups, seg.Group)
			}
		}
		slices.Sort(groups)
		s.moved[t.Name] = slices.Compact(groups)
	}
}

var expert = regexp.MustCompile(`experts\.(\d+)\.`)

// elide leaves out all experts but the first: what is computed from a further
// expert's weights, and the sums to which nothing else contributes.
func (s *selection) elide() {
	for i := range s.g.Nodes {
		n := &s.g.Nodes[i]
		id := graph.ID(i)
		if n.Op == graph.OpWeight {
			if m := expert.FindStringSubmatch(n.Name); m != nil && n.Layer == s.layer {
				if k, err := strconv.Atoi(m[1]); err == nil && k >= drawnExperts {
					s.alias[id] = -1
					s.dropped = max(s.dropped, k+1)
				}
			}
			continue
		}
		var kept []graph.ID
		for _, in := range n.In {
			if a := s.resolve(in); a >= 0 {
				kept = append(kept, a)
			}
		}
		switch {
		case len(kept) == len(n.In):
		case n.Op == graph.OpAdd && len(kept) == 1:
			s.alias[id] = kept[0]
		default:
			s.alias[id] = -1
		}
	}
}

func (s *selection) resolve(id graph.ID) graph.ID {
	if a, ok := s.alias[id]; ok {
		return a
	}
	return id
}

// node adds an operation of the block, with its inputs.
func (s *selection) node(id graph.ID) {
	if _, gone := s.alias[id]; gone {
		return
	}
	n := &s.g.Nodes[id]
	it := item{lines: []string{n.Op.String(), dims(n.Shape)}, groups: s.groups(id)}
	if n.Op == graph.OpOpaque {
		it.lines[0] = n.Name
	}
	if n.Op.Move() {
		it.shape = move
	}
	to := s.add(id, it)
	for _, in := range n.In {
		in = s.resolve(in)
		if s.g.Nodes[in].Op == graph.OpConst {
			continue
		}
		from, ok := s.at[in]
		if !ok {
			from = s.leaf(in)
		}
		e := edge{from, to, s.d.items[from].groups}
		if !slices.ContainsFunc(s.d.edges, func(o edge) bool { return o.from == e.from && o.to == e.to }) {
			s.d.edges = append(s.d.edges, e)
		}
	}
}

// leaf adds a weight, an input, or a value of another block.
func (s *selection) leaf(id graph.ID) int {
	n := &s.g.Nodes[id]
	switch n.Op {
	case graph.OpWeight:
		return s.add(id, item{lines: []string{shorten(n.Name), dims(n.Shape)}, shape: weight, groups: s.colors(s.moved[n.Name])})
	case graph.OpTokens:
		return s.add(id, item{lines: []string{"tokens", dims(n.Shape)}, shape: outside})
	case graph.OpInput:
		return s.add(id, item{lines: []string{n.Name, dims(n.Shape)}, shape: outside})
	}
	from := n.Scope
	if from == "" {
		from = n.Op.String()
	}
	return s.add(id, item{lines: []string{shorten(from), dims(n.Shape)}, shape: outside, groups: s.groups(id)})
}

func (s *selection) add(id graph.ID, it item) int {
	s.d.items = append(s.d.items, it)
	s.at[id] = len(s.d.items) - 1
	return s.at[id]
}

// groups returns the colours of the groups with which a value moves.
func (s *selection) groups(id graph.ID) []int {
	var out []int
	for _, part := range s.sol.Values[id] {
		for _, sig := range part {
			for _, f := range sig {
				out = append(out, f.Group)
			}
		}
	}
	slices.Sort(out)
	return s.colors(slices.Compact(out))
}

func (s *selection) colors(groups []int) []int {
	out := make([]int, len(groups))
	for i, g := range groups {
		c, ok := s.color[g]
		if !ok {
			c = len(s.d.Groups)
			s.color[g] = c
			s.d.Groups = append(s.d.Groups, s.sol.Groups[g])
		}
		out[i] = c
	}
	return out
}

func dims(shape []int) string {
	t := make([]string, len(shape))
	for i, n := range shape {
		t[i] = strconv.Itoa(n)
	}
	return "[" + strings.Join(t, "×") + "]"
}

// shorten keeps the last components of a tensor's name or module's path.
func shorten(name string) string {
	parts := strings.Split(name, ".")
	if len(parts) <= 3 {
		return name
	}
	return "…" + strings.Join(parts[len(parts)-3:], ".")
}

// palette holds colours that the usual colour blindnesses keep apart; more
// groups than colours repeat them.
var palette = []string{
	"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9", "#7a3e9d", "#e69f00", "#5c5c5c", "#a50026", "#1b7837", "#4d4dff",
}

func color(group int) string { return palette[group%len(palette)] }
