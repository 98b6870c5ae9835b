package probe

import (
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// move evaluates operations that rearrange elements.
func (r *runner) move(n *graph.Node, in [][]float32) ([]float32, error) {
	switch n.Op {
	case graph.OpConcat:
		return r.concat(n, in), nil
	case graph.OpPad:
		return r.pad(n, in[0]), nil
	case graph.OpIndex:
		return r.index(n, in[0], in[1])
	case graph.OpGather:
		out := make([]float32, count(n.Shape))
		err := r.along1(n, in[1], func(i, at int) { out[i] = in[0][at] })
		return out, err
	}
	return r.strided(n, in[0]), nil
}

// strided evaluates transpose, slice, expand and flip.
func (r *runner) strided(n *graph.Node, x []float32) []float32 {
	from := r.g.Shape(n.In[0])
	st := strides(from)
	base, to := 0, slices.Clone(st)
	switch n.Op {
	case graph.OpTranspose:
		for i, p := range n.Perm {
			to[i] = st[p]
		}
	case graph.OpSlice:
		base = n.Start * st[n.Axis]
	case graph.OpFlip:
		base, to[n.Axis] = (from[n.Axis]-1)*st[n.Axis], -st[n.Axis]
	case graph.OpExpand:
		for i := range to {
			if from[i] == 1 {
				to[i] = 0
			}
		}
	}
	out := make([]float32, count(n.Shape))
	l := layout{shape: n.Shape, strides: [][]int{to}, base: []int{base}}
	l.each(func(at, k int, from, step []int) {
		if step[0] == 1 {
			copy(out[at:at+k], x[from[0]:])
			return
		}
		p := from[0]
		for i := range k {
			out[at+i] = x[p]
			p += step[0]
		}
	})
	return out
}

func (r *runner) concat(n *graph.Node, in [][]float32) []float32 {
	out := make([]float32, 0, count(n.Shape))
	for o := range count(n.Shape[:n.Axis]) {
		for i, x := range in {
			k := count(r.g.Shape(n.In[i])[n.Axis:])
			out = append(out, x[o*k:(o+1)*k]...)
		}
	}
	return out
}

func (r *runner) pad(n *graph.Node, x []float32) []float32 {
	out := make([]float32, count(n.Shape))
	inner := count(n.Shape[n.Axis+1:])
	old, wide := r.g.Shape(n.In[0])[n.Axis]*inner, n.Shape[n.Axis]*inner
	for o := range count(n.Shape[:n.Axis]) {
		copy(out[o*wide+n.Start*inner:], x[o*old:(o+1)*old])
	}
	return out
}

// index takes elements of one axis; the ids' axes take its place.
func (r *runner) index(n *graph.Node, x, ids []float32) ([]float32, error) {
	from := r.g.Shape(n.In[0])
	inner, axis := count(from[n.Axis+1:]), from[n.Axis]
	out := make([]float32, 0, count(n.Shape))
	for o := range count(from[:n.Axis]) {
		for _, v := range ids {
			i, err := place(v, axis)
			if err != nil {
				return nil, err
			}
			at := (o*axis + i) * inner
			out = append(out, x[at:at+inner]...)
		}
	}
	return out, nil
}

// along1 calls f for every element i of ids with the place in the first operand
// that it names: the same indices but for the axis, where the id stands.
func (r *runner) along1(n *graph.Node, ids []float32, f func(i, at int)) error {
	from, shape := r.g.Shape(n.In[0]), r.g.Shape(n.In[1])
	st := strides(from)
	index := make([]int, len(shape))
	for i, v := range ids {
		p, err := place(v, from[n.Axis])
		if err != nil {
			return err
		}
		at := p * st[n.Axis]
		for a, k := range index {
			if a != n.Axis {
				at += k * st[a]
			}
		}
		f(i, at)
		for a := len(index) - 1; a >= 0; a-- {
			if index[a]++; index[a] < shape[a] {
				break
			}
			index[a] = 0
		}
	}
	return nil
}

// scatter writes or adds the last operand's elements where the ids say, one
// after the other.
func (r *runner) scatter(n *graph.Node, in [][]float32) ([]float32, error) {
	out := slices.Clone(in[0])
	put := func(i, at int) { out[at] = in[2][i] }
	if n.Op == graph.OpScatterAdd {
		put = func(i, at int) { out[at] += in[2][i] }
	}
	return out, r.along1(n, in[1], put)
}
