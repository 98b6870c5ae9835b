package onnx

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// match says which tensor of a checkpoint a weight of the model is.
type match struct {
	tensor     checkpoint.Tensor
	transposed bool
}

// GraphOf lowers the network as the graph of a checkpoint: its leaves are the
// checkpoint's tensors. A weight is the tensor of its name and shape (a prefix
// of the name may be missing in the checkpoint), else the only tensor that
// holds the same values in the same order, or transposed. Weights that are no
// parameters, masks and rotary tables, become constants. extra lists the
// tensors of more than one element that the network does not read.
//
// Weights without a tensor, and with several, give an error of kind
// Unsupported that lists them.
func (m *Model) GraphOf(ck *checkpoint.Checkpoint, opt Options) (g *graph.Graph, info *Info, extra []string, err error) {
	f := &matcher{m: m, ck: ck, found: map[string]match{}, tables: map[string][]float32{}, sums: sums{ck: ck}}
	if err := f.run(); err != nil {
		return nil, nil, nil, err
	}
	opt.Leaf = f.leaf
	if g, info, err = m.Graph(opt); err != nil {
		return nil, nil, nil, err
	}
	for _, t := range ck.Tensors() {
		if _, read := g.Weights()[t.Name]; !read && t.Elements() > 1 {
			extra = append(extra, t.Name)
		}
	}
	sort.Strings(extra)
	return g, info, extra, nil
}

type matcher struct {
	m      *Model
	ck     *checkpoint.Checkpoint
	found  map[string]match
	tables map[string][]float32 // weights that are constants
	sums   sums
}

func (f *matcher) run() error {
	var rest []Weight
	for _, w := range f.m.weights {
		if t, ok := f.byName(w); ok {
			f.found[w.Name] = match{tensor: t}
		} else {
			rest = append(rest, w)
		}
	}
	var missing, several []string
	var unknown []Weight
	for _, w := range rest {
		hits, err := f.byContent(w)
		switch {
		case err != nil:
			return err
		case len(hits) == 1:
			f.found[w.Name] = hits[0]
		case len(hits) > 1:
			several = append(several, fmt.Sprintf("%s (%s, %s)", w.Name, hits[0].tensor.Name, hits[1].tensor.Name))
		default:
			unknown = append(unknown, w)
		}
	}
	unknown, err := f.constants(unknown)
	if err != nil {
		return err
	}
	for _, w := range unknown {
		missing = append(missing, fmt.Sprintf("%s %v", w.Name, w.Shape))
	}
	return unmatched(missing, several)
}

func unmatched(missing, several []string) error {
	var parts []string
	for _, l := range []struct {
		what string
		list []string
	}{{"that the checkpoint does not hold", missing}, {"that may be more than one tensor", several}} {
		if n := len(l.list); n > 0 {
			parts = append(parts, fmt.Sprintf("%d weights %s: %s", n, l.what, fault.List(l.list)))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return fault.New(fault.Unsupported, "the ONNX graph is not that of this checkpoint: %s", strings.Join(parts, "; ")).
		WithHint("export the checkpoint itself, with torch.onnx.export(…, dynamo=True, optimize=False), which keeps names and values")
}

// byName finds a tensor whose name is that of the weight, or its end.
func (f *matcher) byName(w Weight) (checkpoint.Tensor, bool) {
	for name := w.Name; name != ""; {
		if t, ok := f.ck.Tensor(name); ok {
			return t, slices.Equal(t.Shape, w.Shape)
		}
		_, name, _ = strings.Cut(name, ".")
	}
	return checkpoint.Tensor{}, false
}

// byContent finds the tensors that hold the weight's values.
func (f *matcher) byContent(w Weight) ([]match, error) {
	var hits []match
	for _, t := range f.ck.Tensors() {
		if !t.DType.Scalable() {
			continue
		}
		straight := slices.Equal(plain(t.Shape), plain(w.Shape))
		turned := len(t.Shape) == 2 && len(w.Shape) == 2 && t.Shape[0] == w.Shape[1] && t.Shape[1] == w.Shape[0]
		for _, c := range []struct{ fits, turn bool }{{straight, false}, {turned, true}} {
			if !c.fits {
				continue
			}
			same, err := f.equal(w, t, c.turn)
			if err != nil {
				return nil, err
			}
			if same {
				hits = append(hits, match{t, c.turn})
			}
		}
	}
	return hits, nil
}

// plain leaves axes of length 1 out.
func plain(shape []int) []int {
	var out []int
	for _, d := range shape {
		if d != 1 {
			out = append(out, d)
		}
	}
	return out
}

// leaf builds the value of a weight from the checkpoint's tensor.
func (f *matcher) leaf(b *graph.Builder, w Weight) (graph.ID, error) {
	if data, ok := f.tables[w.Name]; ok {
		return b.Const(data, w.Shape...), nil
	}
	t, ok := f.found[w.Name]
	if !ok {
		return 0, fault.New(fault.Unsupported, "weight %q has no tensor", w.Name)
	}
	id := b.Weight(t.tensor.Name, t.tensor.Shape...)
	if t.transposed {
		return b.Transpose(id, 1, 0), nil
	}
	if !slices.Equal(t.tensor.Shape, w.Shape) {
		return b.Reshape(id, w.Shape...), nil
	}
	return id, nil
}

// constants takes out of list the weights that are masks or rotary tables by
// their values: nothing that could have been made from the checkpoint's tensors.
func (f *matcher) constants(list []Weight) ([]Weight, error) {
	var rest []Weight
	data := map[string][]float32{}
	for _, w := range list {
		if w.Size > maxTable {
			rest = append(rest, w)
			continue
		}
		x, err := f.m.floats(w)
		if err != nil {
			return nil, err
		}
		if mask(x) || strings.HasSuffix(w.Name, "inv_freq") {
			f.tables[w.Name] = x
			continue
		}
		data[w.Name] = x
	}
	for i, w := range list {
		x, ok := data[w.Name]
		if !ok {
			continue
		}
		for j, v := range list {
			if y := data[v.Name]; i != j && y != nil && slices.Equal(w.Shape, v.Shape) && circle(x, y) {
				f.tables[w.Name] = x
			}
		}
		if f.tables[w.Name] == nil {
			rest = append(rest, w)
		}
	}
	return rest, nil
}

// maxTable bounds the tables that are loaded, in bytes.
const maxTable = 16 << 20

// mask reports whether values are zeros, ones, and something that hides.
func mask(x []float32) bool {
	hides := false
	for _, v := range x {
		switch {
		case v <= -1e4:
			hides = true
		case v != 0 && v != 1:
			return false
		}
	}
	return hides
}

// circle reports whether two tables are cosines and sines of the same angles,
// up to one length, and not all alike.
func circle(x, y []float32) bool {
	r := 0.0
	varies := false
	for i := range x {
		s := float64(x[i])*float64(x[i]) + float64(y[i])*float64(y[i])
		if i == 0 {
			r = s
		}
		if r == 0 || math.Abs(s-r) > 1e-5*r {
			return false
		}
		varies = varies || x[i] != x[0]
	}
	return varies
}
