package fold

import (
	"fmt"
	"slices"
)

// Reshape keeps the elements and their order.
func (t *Tensor) Reshape(shape ...int) (*Tensor, error) {
	if n, ok := Size(shape); !ok || n != t.Len() {
		return nil, fmt.Errorf("reshape of a constant of shape %v to %v", t.Shape, shape)
	}
	out := *t
	out.Shape = slices.Clone(shape)
	return &out, nil
}

// Expand broadcasts to a shape.
func (t *Tensor) Expand(shape ...int) (*Tensor, error) {
	if s, ok := Broadcast(t.Shape, shape); !ok || !slices.Equal(s, shape) {
		return nil, fmt.Errorf("expand of a constant of shape %v to %v", t.Shape, shape)
	}
	return t.pick(shape, walk(t.Shape, shape))
}

// Transpose permutes the axes: axis i of the result is axis perm[i].
func (t *Tensor) Transpose(perm ...int) (*Tensor, error) {
	stride, shape := strides(t.Shape), make([]int, len(perm))
	to := make([]int, len(perm))
	for i, p := range perm {
		if p < 0 || p >= len(t.Shape) || slices.Contains(perm[:i], p) || len(perm) != len(t.Shape) {
			return nil, fmt.Errorf("transpose of a constant of shape %v by %v", t.Shape, perm)
		}
		shape[i], to[i] = t.Shape[p], stride[p]
	}
	return t.pick(shape, func(i int) int { return dot(i, shape, to) })
}

// Slice takes elements start, start+step, … of one axis, count of them.
func (t *Tensor) Slice(axis, start, step, count int) (*Tensor, error) {
	ids := make([]int64, count)
	for i := range ids {
		ids[i] = int64(start + i*step)
	}
	return t.Index(&Tensor{Kind: Int, Shape: []int{count}, I: ids}, axis)
}

// Index takes elements of one axis by ids, whose axes take that axis's place.
func (t *Tensor) Index(ids *Tensor, axis int) (*Tensor, error) {
	if axis < 0 || axis >= len(t.Shape) {
		return nil, fmt.Errorf("index of axis %d of a constant of shape %v", axis, t.Shape)
	}
	width := t.Shape[axis]
	for i := range ids.Len() {
		if v := ids.Int(i); v < 0 || v >= int64(width) {
			return nil, fmt.Errorf("index %d of an axis of length %d", v, width)
		}
	}
	shape := slices.Concat(t.Shape[:axis], ids.Shape, t.Shape[axis+1:])
	inner, _ := Size(t.Shape[axis+1:])
	n := ids.Len()
	return t.pick(shape, func(i int) int {
		return (i/(inner*n)*width+int(ids.Int(i/inner%n)))*inner + i%inner
	})
}

// Gather takes result[i…] = t[i… with ids[i…] in place of i at axis].
func (t *Tensor) Gather(ids *Tensor, axis int) (*Tensor, error) {
	if axis < 0 || axis >= len(t.Shape) || len(ids.Shape) != len(t.Shape) {
		return nil, fmt.Errorf("gather along axis %d of a constant of shape %v", axis, t.Shape)
	}
	for i, d := range ids.Shape {
		if i != axis && d > t.Shape[i] {
			return nil, fmt.Errorf("gather of a constant of shape %v by ids of shape %v", t.Shape, ids.Shape)
		}
	}
	for i := range ids.Len() {
		if v := ids.Int(i); v < 0 || v >= int64(t.Shape[axis]) {
			return nil, fmt.Errorf("index %d of an axis of length %d", v, t.Shape[axis])
		}
	}
	stride := strides(t.Shape)
	rest := slices.Clone(stride)
	rest[axis] = 0
	return t.pick(ids.Shape, func(i int) int { return dot(i, ids.Shape, rest) + int(ids.Int(i))*stride[axis] })
}

// Concat joins constants along one axis.
func Concat(axis int, ts ...*Tensor) (*Tensor, error) {
	if len(ts) == 0 || axis < 0 || axis >= len(ts[0].Shape) {
		return nil, fmt.Errorf("concat of %d constants along axis %d", len(ts), axis)
	}
	shape := slices.Clone(ts[0].Shape)
	kind := ts[0].Kind
	shape[axis] = 0
	for _, t := range ts {
		if len(t.Shape) != len(shape) {
			return nil, fmt.Errorf("concat of constants of shapes %v and %v", ts[0].Shape, t.Shape)
		}
		for i, d := range t.Shape {
			if i != axis && d != shape[i] {
				return nil, fmt.Errorf("concat of constants of shapes %v and %v", ts[0].Shape, t.Shape)
			}
		}
		shape[axis] += t.Shape[axis]
		kind = max(kind, t.Kind)
	}
	out, err := New(kind, shape...)
	if err != nil {
		return nil, err
	}
	inner, _ := Size(shape[axis+1:])
	at := 0
	for o := 0; at < out.Len(); o++ {
		for _, t := range ts {
			k := t.Shape[axis] * inner
			c := t.Convert(kind)
			for j := range k {
				out.copy(at, c, o*k+j)
				at++
			}
		}
	}
	return out, nil
}

// Pad puts a value before and after one axis.
func (t *Tensor) Pad(axis, before, after int, v float64) (*Tensor, error) {
	if axis < 0 || axis >= len(t.Shape) || before < 0 || after < 0 {
		return nil, fmt.Errorf("pad (%d,%d) of axis %d of a constant of shape %v", before, after, axis, t.Shape)
	}
	parts := make([]*Tensor, 0, 3)
	for _, n := range []int{before, -1, after} {
		if n < 0 {
			parts = append(parts, t)
			continue
		}
		shape := slices.Clone(t.Shape)
		shape[axis] = n
		p, err := Scalar(t.Kind, v).Expand(shape...)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
	}
	return Concat(axis, parts...)
}

// pick builds a constant of the given shape from the elements at those places.
func (t *Tensor) pick(shape []int, at func(int) int) (*Tensor, error) {
	out, err := New(t.Kind, shape...)
	if err != nil {
		return nil, err
	}
	for i := range out.Len() {
		out.copy(i, t, at(i))
	}
	return out, nil
}

func strides(shape []int) []int {
	out := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i] = n
		n *= shape[i]
	}
	return out
}

// dot maps a flat index into shape to one with other strides.
func dot(i int, shape, stride []int) int {
	at := 0
	for a := len(shape) - 1; a >= 0; a-- {
		at += i % shape[a] * stride[a]
		i /= shape[a]
	}
	return at
}
