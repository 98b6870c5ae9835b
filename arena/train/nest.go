package train

import (
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/tensor"
)

// nest is a loop over a box, in which each of up to three operands moves by a
// stride per axis. Axes that all operands run through alike are one axis, so that
// the innermost is as long as can be.
type nest struct {
	dims    []int
	strides [3][]int
	split   int // the axis that goroutines share
}

// newNest makes a nest. The first operand is the one that is written: only an
// axis along which it moves is split, so that every element has one writer, and
// its sums one order.
func newNest(dims []int, operands ...[]int) nest {
	n := nest{split: -1}
	for k, d := range dims {
		if d == 1 {
			continue
		}
		last := len(n.dims) - 1
		merge := last >= 0
		for i, st := range operands {
			merge = merge && n.strides[i][last] == st[k]*d
		}
		if merge {
			n.dims[last] *= d
		} else {
			n.dims = append(n.dims, d)
			last++
		}
		for i, st := range operands {
			n.strides[i] = append(n.strides[i][:last], st[k])
		}
	}
	if len(n.dims) == 0 {
		n.dims = []int{1}
		for i := range operands {
			n.strides[i] = []int{1}
		}
	}
	for i := range n.strides {
		if n.strides[i] == nil {
			n.strides[i] = make([]int, len(n.dims))
		}
	}
	for k, d := range n.dims {
		if n.strides[0][k] != 0 && (n.split < 0 || d > n.dims[n.split]) {
			n.split = k
		}
	}
	return n
}

// inner returns an operand's stride along the innermost axis.
func (n *nest) inner(i int) int { return n.strides[i][len(n.dims)-1] }

// run calls f for every innermost loop of w elements with the operands' offsets.
func (n *nest) run(workers int, f func(o [3]int, w int)) {
	if n.split < 0 {
		n.part(0, 0, n.dims[0], f)
		return
	}
	parallel(workers, n.dims[n.split], count(n.dims), func(lo, hi int) { n.part(n.split, lo, hi, f) })
}

func (n *nest) part(axis, lo, hi int, f func(o [3]int, w int)) {
	last := len(n.dims) - 1
	from, to := make([]int, last+1), slices.Clone(n.dims)
	from[axis], to[axis] = lo, hi
	at := slices.Clone(from)
	var o [3]int
	for i := range o {
		o[i] = from[axis] * n.strides[i][axis]
	}
	for {
		f(o, to[last]-from[last])
		k := last - 1
		for ; k >= 0; k-- {
			at[k]++
			for i := range o {
				o[i] += n.strides[i][k]
			}
			if at[k] < to[k] {
				break
			}
			for i := range o {
				o[i] -= (to[k] - from[k]) * n.strides[i][k]
			}
			at[k] = from[k]
		}
		if k < 0 {
			return
		}
	}
}

// parallel calls f on parts of [0,n) for work elements in all.
func parallel(workers, n, work int, f func(lo, hi int)) {
	const grain = 1 << 13 // elements that are worth a goroutine
	parts := min(workers, n, work/grain)
	if parts <= 1 {
		f(0, n)
		return
	}
	var wg sync.WaitGroup
	for p := range parts {
		wg.Go(func() { f(n*p/parts, n*(p+1)/parts) })
	}
	wg.Wait()
}

// dense returns the strides of a contiguous tensor.
func dense(shape []int) []int {
	st := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		st[i] = n
		n *= shape[i]
	}
	return st
}

// stretched returns the strides of a contiguous tensor of the given shape in a box
// of the same rank to which it is broadcast.
func stretched(shape []int) []int {
	st := dense(shape)
	for i, d := range shape {
		if d == 1 {
			st[i] = 0
		}
	}
	return st
}

// copyRow sets w elements of dst, ds apart, to those of src, or adds them.
func copyRow(dst []float32, ds int, src []float32, ss, w int, add bool) {
	switch {
	case ds == 1 && ss == 1 && add:
		tensor.VecAdd(dst[:w], dst[:w], src[:w])
	case ds == 1 && ss == 1:
		copy(dst[:w], src[:w])
	case ds == 0:
		var s float32
		for i := range w {
			s += src[i*ss]
		}
		if add {
			s += dst[0]
		}
		dst[0] = s
	case add:
		for i := range w {
			dst[i*ds] += src[i*ss]
		}
	default:
		for i := range w {
			dst[i*ds] = src[i*ss]
		}
	}
}

// mulRow adds to, or sets, dst the products of x and y.
func mulRow(dst []float32, ds int, x []float32, sx int, y []float32, sy, w int, add bool) {
	if sx == 0 && sy == 1 {
		x, sx, y, sy = y, sy, x, sx
	}
	switch {
	case ds == 1 && sx == 1 && sy == 1 && add:
		tensor.VecMulAdd(dst[:w], x[:w], y[:w])
	case ds == 1 && sx == 1 && sy == 1:
		tensor.VecMul(dst[:w], x[:w], y[:w])
	case ds == 1 && sx == 1 && sy == 0 && add:
		tensor.VecAxpy(dst[:w], x[:w], y[0])
	case ds == 1 && sx == 1 && sy == 0:
		tensor.VecScale(dst[:w], x[:w], y[0])
	case ds == 0 && sx == 1 && sy == 1:
		s := tensor.VecDot(x[:w], y[:w])
		if add {
			s += dst[0]
		}
		dst[0] = s
	default:
		for i := range w {
			v := x[i*sx] * y[i*sy]
			if add || ds == 0 && i > 0 {
				v += dst[i*ds]
			}
			dst[i*ds] = v
		}
	}
}
