package quant

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// Weight is a quantised weight.
type Weight struct {
	Name   string // as the network calls it
	Shape  []int  // as the network sees it
	Format string // "NF4", "GPTQ int4": for people
	// Parts say which elements share a scale, axis by axis: the factors must be
	// constant on them. Axes that are not named are free.
	Parts []gauge.Partition
	// Still: what the weight is multiplied by must not move, since the runtime
	// quantises it by a scale that is stored, or by fixed thresholds.
	Still bool
	// Dynamic: the runtime quantises what the weight is multiplied by, by scales
	// that it finds each time and keeps above a smallest one; so it must not shrink.
	Dynamic bool
	// Input is the stored scale of the activations that the weight multiplies, of
	// one element, which must move as they do; "": there is none. They may then
	// move only as a whole, which Parts demand.
	Input string
	// Scales are the tensors that a factor of the weight multiplies.
	Scales []Scale

	// rows dequantises n rows of the last axis, from number first on.
	rows func(src Source, first, n int, dst []float32) error
}

// Scale is a stored tensor that a weight's factors multiply.
type Scale struct {
	Tensor string
	// View is the shape as which the factors see the tensor: it has as many
	// elements, in the same order.
	View []int
	// Axis is, for every axis of the weight, the axis of View that runs along it,
	// part by part; -1 where one scale serves the whole axis.
	Axis []int
	// High and Low bound the magnitude of what a scale of 1 stands for, as log2:
	// 2^Low ≤ |code| ≤ 2^High for every code but zero.
	High, Low int
	// Half: runtimes hold the scale in fp16, whatever type the file has it in.
	Half bool
}

// Source gives stored tensors' bytes, as checkpoint.Checkpoint does.
type Source interface {
	ReadWeight(name string, p []byte, off int64) error
}

// part returns the partition of an axis.
func (w *Weight) part(axis int) gauge.Partition {
	for _, p := range w.Parts {
		if p.Axis == axis {
			return p
		}
	}
	return gauge.Partition{Axis: axis, Block: 1}
}

// parts counts the parts of an axis.
func (w *Weight) parts(axis int) int {
	p := w.part(axis)
	if p.Of != nil {
		return int(slices.Max(p.Of)) + 1
	}
	return (w.Shape[axis] + p.Block - 1) / p.Block
}

// width is the length of the last axis.
func (w *Weight) width() int { return w.Shape[len(w.Shape)-1] }

// check demands that shapes fit together, so that nothing later has to.
func (w *Weight) check(ck *checkpoint.Checkpoint) error {
	for a, n := range w.Shape {
		if n <= 0 {
			return fmt.Errorf("shape %v", w.Shape)
		}
		if p := w.part(a); p.Of != nil && (len(p.Of) != n || slices.Min(p.Of) < 0) || p.Of == nil && p.Block < 1 {
			return fmt.Errorf("%d groups for an axis of %d", len(p.Of), n)
		}
	}
	for _, s := range w.Scales {
		t, ok := ck.Tensor(s.Tensor)
		if !ok {
			return fmt.Errorf("tensor %s is missing", s.Tensor)
		}
		if !t.Scalable() {
			return fmt.Errorf("scales %s are %v, which cannot be scaled", s.Tensor, t.DType)
		}
		n := int64(1)
		for _, d := range s.View {
			n *= int64(d)
		}
		if n != t.Elements() {
			return fmt.Errorf("scales %s are %v, expected %v", s.Tensor, t.Shape, s.View)
		}
		for a, v := range s.Axis {
			if v >= 0 && s.View[v] != w.parts(a) || v < 0 && w.parts(a) != 1 {
				return fmt.Errorf("scales %s are %v for %v in parts of %v", s.Tensor, t.Shape, w.Shape, w.Parts)
			}
		}
	}
	return nil
}

// Size is the number of bytes of the weight in fp32.
func (w *Weight) Size() int64 {
	n := int64(4)
	for _, d := range w.Shape {
		n *= int64(d)
	}
	return n
}

// Read fills p with the weight's numbers as little-endian fp32, from byte off
// on. src gives the stored tensors.
func (w *Weight) Read(src Source, p []byte, off int64) error {
	if off%4 != 0 || len(p)%4 != 0 || off < 0 || off+int64(len(p)) > w.Size() {
		return fmt.Errorf("weight %s: bytes %d to %d of %d", w.Name, off, off+int64(len(p)), w.Size())
	}
	if len(p) == 0 {
		return nil
	}
	width := int64(w.width())
	from, to := off/4, off/4+int64(len(p)/4)
	first, last := from/width, (to+width-1)/width
	x := make([]float32, (last-first)*width)
	if err := w.rows(src, int(first), int(last-first), x); err != nil {
		return fmt.Errorf("weight %s: %w", w.Name, err)
	}
	dtype.FromFloat32(dtype.F32, p, x[from-first*width:to-first*width])
	return nil
}
