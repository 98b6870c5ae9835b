package neuroseal

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/mt19937"
	"github.com/neuroseal/neuroseal/manifest"
)

// LegacyOptions say how to undo a lock of the original Python tool.
type LegacyOptions struct {
	Source, Output string
	Password       string  // its randomised lock (V2); "" for the static one
	Scale          float64 // the --scale that it was given; 0: DefaultScale
	Force          bool
	Progress       Progress
	Notice         func(string) // told what the user should know; nil: nobody is
}

// legacySides are the four weights that the original tool scales in every
// layer, by the end of their names: it knows no others.
var legacySides = []struct {
	suffix string
	up     bool // multiplied by the layer's factor; the others are divided
}{
	{".self_attn.v_proj.weight", true}, {".self_attn.o_proj.weight", false},
	{".mlp.up_proj.weight", true}, {".mlp.down_proj.weight", false},
}

// UnlockLegacy undoes a lock of the original Python tool, to the rounding of
// the weights' type: that lock destroyed the exact bytes.
func UnlockLegacy(ctx context.Context, o LegacyOptions) (*UnlockResult, error) {
	o.Progress = orSilent(o.Progress)
	if o.Scale == 0 {
		o.Scale = DefaultScale
	}
	ck, err := checkpoint.Open(o.Source)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	if err := ck.CheckOutput(o.Output); err != nil {
		return nil, err
	}
	factors, err := legacyFactors(ck, o)
	if err != nil {
		return nil, err
	}
	if err := legacyPlausible(ctx, ck, factors, o.Progress); err != nil {
		return nil, err
	}
	res := &UnlockResult{Output: o.Output, Bytes: ck.TotalBytes()}
	w := rewriting{
		ck: ck, dst: o.Output, force: o.Force, notice: o.Notice, stage: "unlocking", progress: o.Progress,
		opt: checkpoint.RewriteOptions{
			Edit: func(t checkpoint.Tensor) checkpoint.Editor {
				if layer, up, ok := legacySide(t.Name); ok {
					return legacyEditor{t.DType, factors[layer], up}
				}
				return nil
			},
			Skip: func(rel string) bool { return rel == manifest.Name || sensitive(ck, rel) },
		},
	}
	err = w.run(ctx, func(_ *atomicdir.Dir, out *checkpoint.RewriteResult) error {
		res.Files = len(out.Files)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// legacySide splits the name of a weight that the original tool scales.
func legacySide(name string) (layer int, up, ok bool) {
	for _, s := range legacySides {
		head, found := strings.CutSuffix(name, s.suffix)
		if !found {
			continue
		}
		i := strings.LastIndex(head, "layers.")
		if i < 0 {
			continue
		}
		n, err := strconv.Atoi(head[i+len("layers."):])
		return n, s.up, err == nil && n >= 0
	}
	return 0, false, false
}

// legacyFactors returns the factor of every layer.
func legacyFactors(ck *checkpoint.Checkpoint, o LegacyOptions) (map[int]float64, error) {
	var layers []int
	for _, t := range ck.Tensors() {
		n, _, ok := legacySide(t.Name)
		if !ok {
			continue
		}
		if !t.DType.Scalable() {
			return nil, fault.New(fault.Unsupported, "tensor %s is %v: the original tool never sealed that", t.Name, t.DType)
		}
		layers = append(layers, n)
	}
	slices.Sort(layers)
	layers = slices.Compact(layers)
	if len(layers) == 0 {
		return nil, fault.New(fault.Unsupported, "%s has none of the weights that the original tool seals (v_proj, o_proj, up_proj, down_proj)", o.Source)
	}
	for i, n := range layers {
		if i != n {
			return nil, fault.New(fault.Unsupported, "layer %d has none of the weights that the original tool seals", i)
		}
	}
	out := map[int]float64{}
	scales := []float64(nil)
	if o.Password != "" {
		scales = mt19937.LegacyScales(o.Password, o.Scale, len(layers))
	}
	for i := range layers {
		out[i] = o.Scale
		if scales != nil {
			out[i] = scales[i]
		}
	}
	return out, nil
}

// legacyPlausible refuses factors that do not belong to a checkpoint. The
// original format has no check of its own, but its lock moves the two sides of
// every layer's pairs apart by the square of the factor: taking the right
// factors back leaves them about even, and alike in all layers.
func legacyPlausible(ctx context.Context, ck *checkpoint.Checkpoint, factors map[int]float64, p Progress) error {
	g := newGatherer()
	want := func(t checkpoint.Tensor) bool { _, _, ok := legacySide(t.Name); return ok }
	var bytes int64
	for _, t := range ck.Tensors() {
		if want(t) {
			bytes += t.Size
		}
	}
	p.Stage("checking", bytes)
	err := ck.Each(ctx, 0, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
		g.add(t.Name, figuresOf(t, start, buf, nil))
		p.Add(int64(len(buf)))
		return nil
	})
	if err != nil {
		return err
	}
	left := make([]float64, len(factors)) // what is left of each layer's imbalance, as log2
	pairs := make([]float64, len(factors))
	for name, s := range g.stats {
		layer, up, _ := legacySide(name)
		if !s.Finite() {
			continue
		}
		level := math.Log2(s.SumSq/float64(s.N))/2 - math.Log2(factors[layer])
		if !up {
			level = -(level + 2*math.Log2(factors[layer]))
		}
		left[layer] += level
		pairs[layer] += 0.5
	}
	for i := range left {
		left[i] /= max(pairs[i], 1)
	}
	mean, spread := meanAndDeviation(left)
	switch {
	case math.Abs(mean) > imbalanceLimit:
		return fault.New(fault.NotSealed, "taking these factors back would leave the two sides of the pairs 2^%.1f apart: the original tool did not seal this checkpoint with them", mean).
			WithHint("was it sealed with another --scale, or not at all?")
	case len(left) >= 4 && spread > 1:
		return fault.New(fault.WrongKey, "taking these factors back would leave the layers uneven, by 2^%.1f: the password or the --scale is wrong", spread)
	}
	return nil
}

func meanAndDeviation(x []float64) (mean, deviation float64) {
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		deviation += (v - mean) * (v - mean) / float64(len(x))
	}
	return mean, math.Sqrt(deviation)
}

// legacyEditor takes one weight's factor back.
type legacyEditor struct {
	d  dtype.DType
	f  float64
	up bool
}

func (e legacyEditor) Edit(_ int64, buf []byte) error {
	if e.f == 0 {
		return fmt.Errorf("factor 0")
	}
	if e.up {
		dtype.DivRow(e.d, buf, e.f)
	} else {
		dtype.MulRow(e.d, buf, e.f)
	}
	return nil
}
