package pt2

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// names finds the checkpoint's tensors for the program's parameters. They may
// stand there under another name (a prefix more or less), once for several that
// are tied, or in pieces (an expert each).
type names struct {
	l       *lowering
	shapes  map[string][]int // the checkpoint's; nil: none is given
	conv    *conversion
	prefix  string
	ties    map[string][]string // all names of a shared parameter
	wants   map[string][]int    // parameters of the program
	order   []string
	done    map[string]*value
	moved   map[string]*value
	nodes   map[string]int  // which node of the conversion makes a value
	used    map[string]bool // tensors of the checkpoint that a leaf stands for
	buffers map[string]bool // tensors of the checkpoint that hold buffers
	missing []string
	wrong   []string
}

func newNames(l *lowering, p *Program, shapes map[string][]int) *names {
	n := &names{
		l: l, shapes: shapes, conv: p.conv, prefix: p.prefix, ties: map[string][]string{}, wants: map[string][]int{},
		done: map[string]*value{}, moved: map[string]*value{}, nodes: map[string]int{}, used: map[string]bool{}, buffers: map[string]bool{},
	}
	for _, group := range p.ties {
		for _, name := range group {
			n.ties[name] = group
		}
	}
	if n.conv != nil {
		for i, c := range n.conv.Nodes {
			for _, o := range c.Out {
				n.nodes[o] = i
			}
		}
	}
	return n
}

// known notes a parameter of the program.
func (n *names) known(name string, shape []int) {
	if _, ok := n.wants[name]; !ok {
		n.order = append(n.order, name)
	}
	n.wants[name] = shape
}

// buffer notes a buffer whose values the program brings itself.
func (n *names) buffer(name string) {
	for _, v := range n.variants(name) {
		if _, ok := n.shapes[v]; ok {
			n.buffers[v] = true
		}
	}
}

func (n *names) has(name string, shape []int) bool {
	_, ok := n.find(name, shape)
	return ok
}

// variants are names under which a checkpoint may hold a tensor: the base
// model's prefix may be there or not, and old files name norms otherwise.
func (n *names) variants(name string) []string {
	out := []string{name}
	if n.prefix != "" {
		if short, ok := strings.CutPrefix(name, n.prefix+"."); ok {
			out = append(out, short)
		} else {
			out = append(out, n.prefix+"."+name)
		}
	}
	for _, v := range slices.Clone(out) {
		if s, ok := strings.CutSuffix(v, "LayerNorm.weight"); ok {
			out = append(out, s+"LayerNorm.gamma")
		}
		if s, ok := strings.CutSuffix(v, "LayerNorm.bias"); ok {
			out = append(out, s+"LayerNorm.beta")
		}
	}
	return out
}

// find returns the checkpoint's name of a tensor that stands there whole.
func (n *names) find(name string, shape []int) (string, bool) {
	for _, v := range n.variants(name) {
		if s, ok := n.shapes[v]; ok && slices.Equal(s, shape) {
			return v, true
		}
	}
	return "", false
}

// weight returns the value of a parameter.
func (n *names) weight(name string, shape []int) *value {
	group := n.ties[name]
	if group == nil {
		group = []string{name}
	}
	if v, ok := n.done[group[0]]; ok {
		return v
	}
	v := n.resolve(name, group, shape)
	if !slices.Equal(v.shape, shape) {
		n.l.stop("tensor %s becomes %v; the program says %v", name, v.shape, shape)
	}
	n.done[group[0]] = v
	return v
}

func (n *names) resolve(name string, group []string, shape []int) *value {
	if n.shapes == nil {
		return n.leaf(group[0], shape)
	}
	if v := n.tied(group, shape); v != nil {
		return v
	}
	for _, g := range group {
		if v := n.converted(g); v != nil {
			return v
		}
	}
	for _, g := range group {
		if v := n.experts(g, shape); v != nil {
			return v
		}
	}
	if s, ok := n.shapes[name]; ok {
		n.wrong = append(n.wrong, fmt.Sprintf("%s %v, expected %v", name, s, shape))
		n.used[name] = true
	} else {
		n.missing = append(n.missing, name)
	}
	return &value{id: n.l.b.Weight(name, shape...), shape: shape, kind: realKind}
}

// tied is the leaf of a parameter that stands in the checkpoint as it is,
// perhaps several times.
func (n *names) tied(group []string, shape []int) *value {
	var found []string
	for _, g := range group {
		if v, ok := n.find(g, shape); ok && !slices.Contains(found, v) {
			found = append(found, v)
		}
	}
	if len(found) == 0 {
		return nil
	}
	for _, other := range found[1:] {
		n.used[other] = true
		n.l.b.Tie(found[0], other)
	}
	return n.leaf(found[0], shape)
}

func (n *names) leaf(name string, shape []int) *value {
	n.used[name] = true
	return n.l.node(n.l.b.Weight(name, shape...), realKind)
}

// rest resolves the parameters that no operation reads, so that the checkpoint
// can be compared with all of them.
func (n *names) rest() {
	for _, name := range n.order {
		n.weight(name, n.wants[name])
	}
}

// compare demands that program and checkpoint hold the same tensors.
func (n *names) compare(g *graph.Graph, info *Info, opt Options) error {
	read := maps.Clone(g.Weights())
	for _, t := range g.Ties() {
		read[t[0]], read[t[1]] = 0, 0
	}
	for name := range n.used {
		if _, ok := read[name]; !ok {
			info.Unread = append(info.Unread, name)
		}
	}
	sort.Strings(info.Unread)
	var extra []string
	for name := range n.shapes {
		if !n.used[name] && !n.buffers[name] && !recomputed(name) {
			extra = append(extra, name)
		}
	}
	sort.Strings(extra)
	if opt.AllowUnsealed {
		info.Unknown, extra = extra, nil
	}
	var parts []string
	for _, l := range []struct {
		what string
		list []string
	}{{"missing", n.missing}, {"with another shape", n.wrong}, {"not known to the program", extra}} {
		if k := len(l.list); k > 0 {
			sort.Strings(l.list)
			parts = append(parts, fmt.Sprintf("%d tensors %s: %s", k, l.what, fault.List(l.list)))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	e := fault.New(fault.Unsupported, "the checkpoint does not match the exported program: %s", strings.Join(parts, "; "))
	if len(n.missing)+len(n.wrong) == 0 {
		return e.WithHint("--allow-unsealed leaves them as they are")
	}
	return e.WithHint("export the program from this checkpoint's config.json")
}

// recomputed tells tensors that old checkpoints store and every runtime
// computes anew.
func recomputed(name string) bool {
	return strings.HasSuffix(name, ".rotary_emb.inv_freq") || strings.HasSuffix(name, ".position_ids") ||
		strings.HasSuffix(name, ".num_batches_tracked")
}

// expertName splits the name of a parameter that holds all experts.
var expertName = regexp.MustCompile(`^(.*\bexperts)\.(gate_up_proj|down_proj|gate_proj|up_proj)(\.weight)?$`)

// pieces are the names that single experts have in checkpoints.
var pieces = map[string][][]string{
	"gate_up_proj": {{"gate_proj", "up_proj"}, {"w1", "w3"}},
	"down_proj":    {{"down_proj"}, {"w2"}},
	"gate_proj":    {{"gate_proj"}, {"w1"}},
	"up_proj":      {{"up_proj"}, {"w3"}},
}

// experts joins experts that the checkpoint holds one by one, for archives that
// do not say how the runtime loads them. Expert i's matrices are [out,in] and
// stand one above the other; a program that holds them [in,out] is turned.
func (n *names) experts(name string, shape []int) *value {
	m := expertName.FindStringSubmatch(name)
	if m == nil || len(shape) != 3 || shape[0] < 1 {
		return nil
	}
	for _, module := range []string{m[1], strings.Replace(m[1], ".mlp.experts", ".block_sparse_moe.experts", 1)} {
		for _, p := range pieces[m[2]] {
			if v := n.gathered(module, p, shape); v != nil {
				return v
			}
		}
	}
	return nil
}

func (n *names) gathered(module string, parts []string, shape []int) *value {
	rows, cols := shape[1]/len(parts), shape[2]
	if rows*len(parts) != shape[1] {
		return nil
	}
	var list []string
	for i := range shape[0] {
		for _, p := range parts {
			v, ok := n.find(module+"."+strconv.Itoa(i)+"."+p+".weight", []int{rows, cols})
			if !ok {
				return nil
			}
			list = append(list, v)
		}
	}
	if _, more := n.shapes[module+"."+strconv.Itoa(shape[0])+"."+parts[0]+".weight"]; more {
		return nil
	}
	var all []*value
	for _, v := range list {
		all = append(all, n.l.reshape(n.leaf(v, []int{rows, cols}), []int{1, rows, cols}))
	}
	var stacked []*value
	for i := 0; i < len(all); i += len(parts) {
		stacked = append(stacked, n.l.concat(1, all[i:i+len(parts)]...))
	}
	return n.l.concat(0, stacked...)
}
