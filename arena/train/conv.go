package train

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// conv is the geometry of a convolution over the images of all sequences.
type conv struct {
	graph.Conv
	images, nx, nw int   // results; different inputs and weights, which repeat
	perW           int   // images that share a weight
	in, out        int   // channels of a group
	x, y, kernel   []int // spatial axes
}

func (c *compiler) convolution(id graph.ID) conv {
	node := &c.nodes[id]
	x, w := c.shape(node.In[0]), c.shape(node.In[1])
	g := node.Conv.Groups
	return conv{Conv: node.Conv, images: c.rows(id) * x[0], nx: c.rows(node.In[0]) * x[0], nw: c.rows(node.In[1]), perW: x[0],
		in: x[1] / g, out: w[0] / g, x: x[2:], y: node.Shape[2:], kernel: w[2:]}
}

func (v *conv) taps() int { return v.in * count(v.kernel) }

// weight is where the weight of an image and a group begins.
func (v *conv) weight(image, group int) int {
	return (image/v.perW%v.nw*v.Groups + group) * v.out * v.taps()
}

// input and result are where an image's group begins.
func (v *conv) input(image, group int) int {
	return (image%v.nx*v.Groups + group) * v.in * count(v.x)
}

func (v *conv) result(image, group int) int {
	return (image*v.Groups + group) * v.out * count(v.y)
}

// direct reports whether rows are summed where they lie: one axis, no strides and
// one channel in a group, as state space models mix neighbouring tokens.
func (v *conv) direct() bool { return v.in == 1 && len(v.x) == 1 && v.Stride[0] == 1 }

// work is an estimate for sharing.
func (v *conv) work() int { return v.images * v.Groups * v.out * v.taps() * count(v.y) / 8 }

// slots are the goroutines that have columns of their own.
func (c *compiler) slots(v *conv) int { return min(c.workers, v.images) }

// columns is memory for the patches of one image and group in each slot.
func (c *compiler) columns(v *conv) *buf { return c.newBuf(c.slots(v) * v.taps() * count(v.y)) }

// each runs f for jobs [0,n), with the columns of its slot.
func (c *compiler) each(v *conv, n int, cols []float32, f func(job int, cols []float32)) {
	slots := c.slots(v)
	size := len(cols) / slots
	parallel(slots, slots, v.work(), func(lo, hi int) {
		for s := lo; s < hi; s++ {
			for j := n * s / slots; j < n*(s+1)/slots; j++ {
				f(j, cols[s*size:(s+1)*size])
			}
		}
	})
}

func (c *compiler) conv(id graph.ID, x, w *buf) {
	out, v := c.result(id), c.convolution(id)
	if v.direct() {
		c.emit(instr{reads: []*buf{x, w}, writes: []*buf{out}, run: func() {
			parallel(c.workers, v.images*v.Groups, v.work(), func(lo, hi int) {
				for j := lo; j < hi; j++ {
					v.slide(j/v.Groups, j%v.Groups, x.f(), w.f(), out.f())
				}
			})
		}})
		return
	}
	cols := c.columns(&v)
	c.emit(instr{reads: []*buf{x, w}, writes: []*buf{out, cols}, run: func() {
		c.each(&v, v.images, cols.f(), func(i int, cols []float32) {
			for g := range v.Groups {
				v.unfold(cols, x.f()[v.input(i, g):], false)
				k, n := v.taps(), count(v.y)
				tensor.Gemm(false, false, v.out, n, k, 1, w.f()[v.weight(i, g):], k, cols, n, 0, out.f()[v.result(i, g):], n)
			}
		})
	}})
}

// span returns the outputs [lo,hi) of a row that tap k reads inside the input, and
// where the first of them reads.
func (v *conv) span(axis, k int) (lo, hi, at int) {
	shift := k*v.Dilation[axis] - v.Before[axis]
	s := v.Stride[axis]
	if shift < 0 {
		lo = (s - 1 - shift) / s
	}
	hi = 0
	if last := v.x[axis] - 1 - shift; last >= 0 {
		hi = min(last/s+1, v.y[axis])
	}
	return min(lo, hi), hi, lo*s + shift
}

// slide is the direct convolution of one channel.
func (v *conv) slide(image, group int, x, w, y []float32) {
	t, n := v.x[0], v.y[0]
	x, w, y = x[v.input(image, group):][:t], w[v.weight(image, group):][:v.out*v.kernel[0]], y[v.result(image, group):][:v.out*n]
	clear(y)
	for o := range v.out {
		for k := range v.kernel[0] {
			if lo, hi, at := v.span(0, k); lo < hi {
				tensor.VecAxpy(y[o*n+lo:o*n+hi], x[at:at+hi-lo], w[o*v.kernel[0]+k])
			}
		}
	}
}

// slideBack adds the gradients of one channel's input and weight; either may be nil.
func (v *conv) slideBack(image, group int, x, w, g, dx, dw []float32) {
	t, n, taps := v.x[0], v.y[0], v.kernel[0]
	xi, wi := v.input(image, group), v.weight(image, group)
	g = g[v.result(image, group):]
	for o := range v.out {
		for k := range taps {
			lo, hi, at := v.span(0, k)
			if lo >= hi {
				continue
			}
			u := g[o*n+lo : o*n+hi]
			if dx != nil {
				d := dx[xi : xi+t][at : at+hi-lo]
				tensor.VecAxpy(d, u, w[wi+o*taps+k])
			}
			if dw != nil {
				dw[wi+o*taps+k] += tensor.VecDot(u, x[xi+at:xi+at+hi-lo])
			}
		}
	}
}

// unfold sets cols, taps × outputs, to what each tap reads of a group's input x;
// backwards it adds cols to x.
func (v *conv) unfold(cols, x []float32, back bool) {
	n, axes := count(v.y), len(v.x)
	last := axes - 1
	tap, row := make([]int, axes), make([]int, last)
	for k := range v.taps() {
		rest := k
		for a := last; a >= 0; a-- {
			tap[a] = rest % v.kernel[a]
			rest /= v.kernel[a]
		}
		lo, hi, first := v.span(last, tap[last])
		for r := range n / v.y[last] {
			at, inside := v.rowAt(rest, tap, row, r)
			line := cols[k*n+r*v.y[last]:][:v.y[last]]
			switch {
			case inside && back && lo < hi:
				copyRow(x[at+first:], v.Stride[last], line[lo:], 1, hi-lo, true)
			case inside && lo < hi:
				clear(line[:lo])
				copyRow(line[lo:], 1, x[at+first:], v.Stride[last], hi-lo, false)
				clear(line[hi:])
			case !back:
				clear(line)
			}
		}
	}
}

// rowAt is where an output row r begins to read in channel in of the input, and
// whether it reads there or in the padding. row is scratch.
func (v *conv) rowAt(in int, tap, row []int, r int) (at int, inside bool) {
	for a := len(row) - 1; a >= 0; a-- {
		row[a] = r%v.y[a]*v.Stride[a] + tap[a]*v.Dilation[a] - v.Before[a]
		if row[a] < 0 || row[a] >= v.x[a] {
			return 0, false
		}
		r /= v.y[a]
	}
	at = in
	for a, i := range row {
		at = at*v.x[a] + i
	}
	return at * v.x[len(v.x)-1], true
}

func (c *compiler) convBack(id graph.ID, g *buf) {
	node, v := &c.nodes[id], c.convolution(id)
	x, w := c.val[node.In[0]], c.val[node.In[1]]
	for i, in := range node.In {
		if !c.needs(in) {
			continue
		}
		dst, add := c.target(in)
		ins := instr{reads: []*buf{x, w, g, dst}, writes: []*buf{dst}}
		run := c.slideBack
		if !v.direct() {
			cols := c.columns(&v)
			ins.writes = append(ins.writes, cols)
			run = func(v *conv, toX bool, x, w, g, dst []float32) {
				if toX {
					c.foldInput(v, w, g, dst, cols.f())
				} else {
					c.foldWeight(v, x, g, dst, cols.f())
				}
			}
		}
		ins.run = func() {
			if !add {
				clear(dst.f())
			}
			run(&v, i == 0, x.f(), w.f(), g.f(), dst.f())
		}
		c.emit(ins)
	}
}

// slideBack shares channels among goroutines, so that every sum has one order.
func (c *compiler) slideBack(v *conv, toX bool, x, w, g, dst []float32) {
	parallel(c.workers, v.Groups, v.work(), func(lo, hi int) {
		for i := range v.images {
			for group := lo; group < hi; group++ {
				if toX {
					v.slideBack(i, group, x, w, g, dst, nil)
				} else {
					v.slideBack(i, group, x, w, g, nil, dst)
				}
			}
		}
	})
}

// foldInput adds the gradient of the input, one of the different inputs at a time.
func (c *compiler) foldInput(v *conv, w, g, dx, cols []float32) {
	k, n := v.taps(), count(v.y)
	c.each(v, v.nx, cols, func(j int, cols []float32) {
		for i := j; i < v.images; i += v.nx {
			for group := range v.Groups {
				tensor.Gemm(true, false, k, n, v.out, 1, w[v.weight(i, group):], k, g[v.result(i, group):], n, 0, cols, n)
				v.unfold(cols, dx[v.input(i, group):], true)
			}
		}
	})
}

// foldWeight adds the gradient of the weight, all of whose images come in order.
func (c *compiler) foldWeight(v *conv, x, g, dw, cols []float32) {
	k, n := v.taps(), count(v.y)
	cols = cols[:k*n]
	for i := range v.images {
		for group := range v.Groups {
			v.unfold(cols, x[v.input(i, group):], false)
			tensor.GemmParallel(c.workers, false, true, v.out, k, n, 1, g[v.result(i, group):], n, cols, n, 1, dw[v.weight(i, group):], k)
		}
	}
}
