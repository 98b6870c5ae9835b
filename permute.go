package neuroseal

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

// reorderedTolerance is by how much, relative to the largest of them, outputs in
// fp32 may differ where weights are permuted: sums are taken in another order.
const reorderedTolerance = 1e-4

// permute finds what may change places, and records it.
func (l *locker) permute() error {
	if !l.o.Permute {
		return nil
	}
	p, err := gauge.Permute(l.m.net.Graph, gauge.PermuteOptions{
		Class: func(name string) string {
			t, _ := l.m.ck.Tensor(name)
			if !l.plain(name) || !slices.Equal(t.Shape, l.m.net.Graph.Shape(l.m.net.Graph.Weights()[name])) {
				return ""
			}
			return t.DType.String()
		},
		Block: func(width int) int { return keptTogether(width, l.o.Profile) },
	})
	if err != nil {
		return fault.Wrap(fault.Unsupported, err, "deriving permutations")
	}
	if len(p.List) == 0 {
		return fault.New(fault.Unsupported, "profile %s finds nothing in this checkpoint that may change places", l.o.Profile).
			WithHint("only whole quantisation blocks are moved; profile max moves single channels")
	}
	l.places = p
	l.man.Permute = encodePermute(p)
	l.man.Promise.BitExact = []string{}
	l.man.Promise.Reordered = true
	l.man.Notes = append(l.man.Notes, fmt.Sprintf("permuted: outputs are the original's up to the order in which sums are taken (in fp32 within %g of the largest); unlock restores every byte", reorderedTolerance))
	return nil
}

// keptTogether is how many neighbours along an input axis stay together: a
// block of the quantisers that the profile's promise covers, or what smaller
// block divides the width.
func keptTogether(width int, p seal.Profile) int {
	if p == seal.Max {
		return 1
	}
	if b := blockOf(width, blockLimit(p)); b < width || width%64 == 0 {
		return b
	}
	if width%32 == 0 {
		return 32
	}
	return width
}

// blockLimit is the longest block that a profile keeps whole.
func blockLimit(p seal.Profile) int {
	if p == seal.Strong {
		return 64
	}
	return 256
}

func encodeStretch(s gauge.Stretch) [][2]int {
	out := make([][2]int, len(s))
	for i, f := range s {
		out[i] = [2]int{f.Perm, f.Count}
	}
	return out
}

func encodePermute(p *gauge.Permutations) *manifest.Permute {
	m := &manifest.Permute{Axes: []manifest.PermutedAxis{}}
	for _, x := range p.List {
		m.Permutations = append(m.Permutations, manifest.Permutation{ID: x.ID, Layer: x.Layer, Count: x.Count})
	}
	for _, t := range p.Tensors {
		for _, ax := range t.Axes {
			a := manifest.PermutedAxis{Tensor: t.Name, Shape: t.Shape, Axis: ax.Axis}
			for _, s := range ax.Stretches {
				a.Stretches = append(a.Stretches, encodeStretch(s))
			}
			m.Axes = append(m.Axes, a)
		}
	}
	for _, e := range p.Exchanges {
		m.Exchanges = append(m.Exchanges, manifest.Exchange{Places: encodeStretch(e.Places), Tensors: e.Tensors})
	}
	return m
}

// decodePermute reads the permutations of a manifest and checks them against
// the checkpoint; nil where there are none.
func decodePermute(m *manifest.Manifest, ck *checkpoint.Checkpoint) (*gauge.Permutations, error) {
	p, err := seal.DecodePermutations(m)
	if p == nil || err != nil {
		return nil, err
	}
	movable := func(name string, like checkpoint.Tensor) error {
		t, ok := ck.Tensor(name)
		if !ok || t.Format != nil || t.DType != like.DType || !slices.Equal(t.Shape, like.Shape) || t.DType.Bits()%8 != 0 {
			return fault.New(fault.Mismatch, "tensor %s is missing or has another shape or type than when it was sealed", name)
		}
		return nil
	}
	for _, t := range p.Tensors {
		like, _ := ck.Tensor(t.Name)
		like.Shape = t.Shape
		if err := movable(t.Name, like); err != nil {
			return nil, err
		}
	}
	for _, e := range p.Exchanges {
		first, _ := ck.Tensor(e.Tensors[0])
		for _, name := range e.Tensors {
			if err := movable(name, first); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// reorder moves the elements of a checkpoint's tensors.
type reorder struct {
	ck     *checkpoint.Checkpoint
	axes   map[string][]gauge.PermutedAxis // per sealed tensor
	orders [][]int32
	from   map[string]string // of sealed tensors that are exchanged, the original's name
	to     map[string]string // the inverse
}

// newReorder draws the orders; ck is what is read. Without permutations it is nil.
func newReorder(ck *checkpoint.Checkpoint, p *gauge.Permutations, key keys.SealKey) *reorder {
	if p == nil {
		return nil
	}
	orders := seal.Shuffles(p.List, key)
	r := &reorder{ck: ck, axes: map[string][]gauge.PermutedAxis{}, orders: orders, from: map[string]string{}, to: map[string]string{}}
	for _, t := range p.Tensors {
		r.axes[t.Name] = t.Axes
	}
	for _, e := range p.Exchanges {
		for i, from := range e.Places.Sources(orders) {
			r.from[e.Tensors[i]], r.to[e.Tensors[from]] = e.Tensors[from], e.Tensors[i]
		}
	}
	return r
}

// sealed returns the editor of a sealed tensor, which reads the original, scales
// it by the editors that scale returns, and moves it.
func (r *reorder) sealed(t checkpoint.Tensor, scale func(checkpoint.Tensor) checkpoint.Editor) checkpoint.Editor {
	source, axes := r.exchanged(t, r.from), r.axes[t.Name]
	if source.Name == t.Name && len(axes) == 0 {
		return scale(t)
	}
	return r.mover(t, source, axes, false, scale(source), nil)
}

// original returns the editor of an original's tensor, which reads the sealed
// one, moves it back, and scales it.
func (r *reorder) original(t checkpoint.Tensor, scale func(checkpoint.Tensor) checkpoint.Editor) checkpoint.Editor {
	source := r.exchanged(t, r.to)
	axes := r.axes[source.Name]
	if source.Name == t.Name && len(axes) == 0 {
		return scale(t)
	}
	return r.mover(t, source, axes, true, nil, scale(t))
}

// exchanged returns the tensor whose content comes in place of t's; t itself
// if it stays.
func (r *reorder) exchanged(t checkpoint.Tensor, by map[string]string) checkpoint.Tensor {
	name, ok := by[t.Name]
	if !ok || name == t.Name {
		return t
	}
	source, _ := r.ck.Tensor(name)
	return source
}

func (r *reorder) mover(t, source checkpoint.Tensor, axes []gauge.PermutedAxis, back bool, before, after checkpoint.Editor) checkpoint.Editor {
	m := &seal.Mover{
		Shape: t.Shape, Size: t.DType.Bits() / 8, Orders: make([][]int32, len(t.Shape)), Before: before, After: after,
		Read: func(p []byte, off int64) error { return r.ck.ReadAt(source, p, off) },
	}
	for _, ax := range axes {
		order := ax.Sources(r.orders)
		if back {
			order = seal.Inverse(order)
		}
		m.Orders[ax.Axis] = order
	}
	return m
}

// unmove finds the orders of a permuted seal, so that readSealed takes them back.
func (v *verifier) unmove() error {
	if v.man.Permute == nil {
		return nil
	}
	key, err := v.o.Key(v.man)
	if err != nil {
		return err
	}
	if err := v.man.Verify(key); err != nil {
		return err
	}
	places, err := decodePermute(v.man, v.ck)
	v.moved = newReorder(v.ck, places, key)
	return err
}

// readSealed reads a part of a sealed tensor, in the original's order.
func (v *verifier) readSealed(t checkpoint.Tensor, p []byte, off int64) error {
	if v.moved == nil {
		return v.ck.ReadAt(t, p, off)
	}
	ed, ok := v.movers.Load(t.Name)
	if !ok {
		ed, _ = v.movers.LoadOrStore(t.Name, v.movedBack(t))
	}
	if m, ok := ed.(*seal.Mover); ok {
		return m.Edit(elementAt(t, off), p)
	}
	return v.ck.ReadAt(t, p, off)
}

// reordered reports whether outputs agree as far as permuted weights promise.
func (v *verifier) reordered(r probe.Report) bool {
	return v.man.Permute != nil && (r.Equal || r.Precision != probe.FP32 || r.Finite && r.MaxDiff <= reorderedTolerance*r.MaxAbs)
}

// forcible is how many runs with forced routing there are. They choose experts
// by their places, so that a permuted network takes part in its original's
// order; without the key, that is not known.
func (v *verifier) forcible(sealed *model) (int, error) {
	routes := probe.Routes(sealed.net.Graph)
	switch {
	case routes == 0 || v.man.Permute == nil:
		return routes, nil
	case v.o.Key == nil:
		v.res.Notes = append(v.res.Notes, "experts: not run with forced routing: the weights are permuted, and only the key tells which expert is which")
		return 0, nil
	case v.moved == nil:
		return routes, v.unmove()
	}
	return routes, nil
}

// movedBack returns the editor that brings a sealed tensor into the original's
// order, without scaling it.
func (v *verifier) movedBack(t checkpoint.Tensor) checkpoint.Editor {
	return v.moved.original(t, func(checkpoint.Tensor) checkpoint.Editor { return nil })
}
