// Package fold computes with small typed constants: the shape arithmetic, masks,
// positions and tables that exporters leave in a graph. It evaluates the
// operations of package graph on integers, truth values and floating-point
// numbers, so that a reader of an exchange format can lower a constant
// expression to one constant.
package fold

import (
	"fmt"
	"math"
	"slices"
)

// Kind is the type of a constant's elements.
type Kind uint8

// The kinds, in the order in which arithmetic promotes them.
const (
	Bool   Kind = iota
	Int         // 64 bits, two's complement
	Float       // rounded to float32 after every operation
	Double      // float64
)

// Real reports whether elements are floating-point numbers.
func (k Kind) Real() bool { return k >= Float }

// MaxElements bounds a constant: whatever is larger is no shape arithmetic, and
// a file of a few bytes could ask for it.
const MaxElements = 1 << 22

// Tensor is a constant. It must not be changed once made: operations that only
// move or rename elements may share them.
type Tensor struct {
	Kind  Kind
	Shape []int
	I     []int64   // Bool (0 or 1) and Int, in C order
	F     []float64 // Float and Double, in C order
}

// New returns a constant of zeros.
func New(k Kind, shape ...int) (*Tensor, error) {
	n, ok := Size(shape)
	if !ok || n > MaxElements {
		return nil, fmt.Errorf("a constant of shape %v has more than %d elements", shape, MaxElements)
	}
	t := &Tensor{Kind: k, Shape: slices.Clone(shape)}
	if k.Real() {
		t.F = make([]float64, n)
	} else {
		t.I = make([]int64, n)
	}
	return t, nil
}

// Ints is a constant vector of integers.
func Ints(v ...int64) *Tensor { return &Tensor{Kind: Int, Shape: []int{len(v)}, I: v} }

// Scalar is a constant of rank 0; integers and truth values are truncated.
func Scalar(k Kind, v float64) *Tensor {
	if k.Real() {
		return &Tensor{Kind: k, F: []float64{k.round(v)}}
	}
	return (&Tensor{Kind: Double, F: []float64{v}}).Convert(k)
}

// maxSize is more elements than any value of a real network has; a product of
// two numbers up to it does not overflow.
const maxSize = 1<<31 - 1

// Size returns the product of a shape; ok is false where an axis is negative or
// the product exceeds 2^31-1.
func Size(shape []int) (n int, ok bool) {
	n = 1
	for _, d := range shape {
		if d < 0 || d > maxSize {
			return 0, false
		}
		n *= d
		if n > maxSize {
			return 0, false
		}
	}
	return n, true
}

// Len returns the number of elements.
func (t *Tensor) Len() int { return max(len(t.I), len(t.F)) }

// At returns an element as a float64.
func (t *Tensor) At(i int) float64 {
	if t.Kind.Real() {
		return t.F[i]
	}
	return float64(t.I[i])
}

// Int returns an element as an integer, truncated towards zero.
func (t *Tensor) Int(i int) int64 {
	if t.Kind.Real() {
		return truncate(t.F[i])
	}
	return t.I[i]
}

// Int64s returns all elements as integers.
func (t *Tensor) Int64s() []int64 {
	out := make([]int64, t.Len())
	for i := range out {
		out[i] = t.Int(i)
	}
	return out
}

// Float32s returns all elements as float32.
func (t *Tensor) Float32s() []float32 {
	out := make([]float32, t.Len())
	for i := range out {
		out[i] = float32(t.At(i))
	}
	return out
}

// Convert changes the kind: real numbers are truncated to integers, and
// whatever is not zero is true.
func (t *Tensor) Convert(k Kind) *Tensor {
	if k == t.Kind {
		return t
	}
	out := &Tensor{Kind: k, Shape: t.Shape}
	if k.Real() {
		out.F = make([]float64, t.Len())
		for i := range out.F {
			out.F[i] = k.round(t.At(i))
		}
		return out
	}
	out.I = make([]int64, t.Len())
	for i := range out.I {
		switch {
		case k == Bool:
			out.I[i] = truth(t.At(i) != 0)
		default:
			out.I[i] = t.Int(i)
		}
	}
	return out
}

func (k Kind) round(v float64) float64 {
	if k == Float {
		return float64(float32(v))
	}
	return v
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// truncate is a conversion that does not depend on the processor.
func truncate(v float64) int64 {
	switch {
	case v != v:
		return math.MinInt64
	case v >= math.MaxInt64:
		return math.MaxInt64
	case v <= math.MinInt64:
		return math.MinInt64
	}
	return int64(v)
}
