package train

import (
	"math"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/tensor"
)

// shampoo is Shampoo as Meta's distributed_shampoo has it on one machine: averages
// of G·Gᵀ and Gᵀ·G with bias correction, their inverse fourth roots (a vector's
// square root) applied to the averaged gradient, and the norm of Adam's step
// grafted on. The roots are computed every so many steps; before the first time
// the step is Adam's. Axes that are longer than a limit keep the diagonal only,
// where Meta's cuts the tensor into blocks.
type shampoo struct {
	adam       adamW // the grafted step
	eps        float64
	every, max int
}

// axis is one of a matrix: its rows or its columns.
type axis struct {
	name string
	n    int
	full bool
}

func (o shampoo) axes(p *Param) []axis {
	rows, cols := p.matrix()
	out := []axis{{"cols", cols, cols <= o.max}}
	if len(p.Shape) >= 2 {
		out = append(out, axis{"rows", rows, rows <= o.max})
	}
	return out
}

// size is the length of an axis' factor and of its root.
func (a axis) size() int {
	if a.full {
		return a.n * a.n
	}
	return a.n
}

func (o shampoo) needs(p *Param) needs {
	n := p.size()
	out := needs{states: []need{{"m", n}, {"v", n}}, scratch: 2 * n}
	for _, a := range o.axes(p) {
		out.states = append(out.states, need{a.name, a.size()}, need{a.name + " root", a.size()})
		if a.full {
			out.scratch += a.n * a.n
			out.wide += a.n*a.n + 2*a.n
		}
	}
	return out
}

func (o shampoo) update(u *update) {
	p, n := u.p, len(u.p.Data)
	axes := o.axes(p)
	for _, a := range axes {
		o.average(u, a)
	}
	step, other := u.floats(n), u.floats(n)
	adam := o.graft(u, step, other)
	if u.step%o.every == 0 {
		o.roots(u, axes)
	}
	if u.step < o.every {
		step = other
	} else {
		for _, a := range axes {
			multiply(u, a, step, other)
			step, other = other, step
		}
		tensor.VecScale(step, step, adam/(norm(step)+1e-16))
	}
	tensor.VecScale(p.Data, p.Data, float32(1-u.lr*o.adam.decay))
	tensor.VecAxpy(p.Data, step, -float32(u.lr))
}

// average updates an axis' factor with the gradient.
func (o shampoo) average(u *update, a axis) {
	g, l := u.p.Grad, u.state(a.name)
	rows, cols := u.p.matrix()
	b := float32(o.adam.b2)
	switch {
	case a.full && a.name == "cols":
		tensor.GemmParallel(u.workers, true, false, cols, cols, rows, 1-b, g, cols, g, cols, b, l, cols)
	case a.full:
		tensor.GemmParallel(u.workers, false, true, rows, rows, cols, 1-b, g, cols, g, cols, b, l, rows)
	case a.name == "cols":
		tensor.VecScale(l, l, b)
		for at := 0; at < len(g); at += cols {
			for j, v := range g[at : at+cols] {
				l[j] += (1 - b) * (v * v)
			}
		}
	default:
		for i := range rows {
			row := g[i*cols : (i+1)*cols]
			l[i] = b*l[i] + (1-b)*tensor.VecDot(row, row)
		}
	}
}

// graft updates the moments, sets mean to the averaged gradient and adam to Adam's
// step, and returns the norm of the latter.
func (o shampoo) graft(u *update, mean, adam []float32) float32 {
	m, v := u.state("m"), u.state("v")
	b1, b2, eps := float32(o.adam.b1), float32(o.adam.b2), float32(o.adam.eps)
	c1, c2 := float32(1-math.Pow(o.adam.b1, float64(u.step))), float32(1-math.Pow(o.adam.b2, float64(u.step)))
	parallel(u.workers, len(m), 4*len(m), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			g := u.p.Grad[i]
			m[i] += (1 - b1) * (g - m[i])
			v[i] = b2*v[i] + (1-b2)*(g*g)
			mean[i] = m[i] / c1
			adam[i] = mean[i] / (sqrt(v[i]/c2) + eps)
		}
	})
	return norm(adam)
}

// roots computes the inverse roots of all axes, at the same time.
func (o shampoo) roots(u *update, axes []axis) {
	power := -0.5 / float64(len(axes))
	c2 := 1 - math.Pow(o.adam.b2, float64(u.step))
	var wg sync.WaitGroup
	for _, a := range axes {
		l, root := u.state(a.name), u.state(a.name+" root")
		if !a.full {
			for i, v := range l {
				root[i] = float32(math.Pow(float64(v)/c2+o.eps, power))
			}
			continue
		}
		v, d, e, y := u.doubles(a.n*a.n), u.doubles(a.n), u.doubles(a.n), u.floats(a.n*a.n)
		run := func() { inverseRoot(root, l, v, d, e, y, a.n, c2, o.eps, power) }
		if u.workers > 1 {
			wg.Go(run)
		} else {
			run()
		}
	}
	wg.Wait()
}

// inverseRoot sets root to (l/c + eps)^power. Eigenvalues that rounding made
// negative are lifted, with all others.
func inverseRoot(root, l []float32, v, d, e []float64, y []float32, n int, c, eps, power float64) {
	for i, x := range l {
		v[i] = float64(x) / c
	}
	if !eigen(v, d, e, n) {
		for i := range root {
			root[i] = float32(math.NaN())
		}
		return
	}
	lift := eps + max(0, -slices.Min(d[:n]))
	for j := range n {
		f := math.Pow(d[j]+lift, power/2)
		for k := range n {
			y[j*n+k] = float32(f * v[j*n+k])
		}
	}
	tensor.Gemm(true, false, n, n, n, 1, y, n, y, n, 0, root, n)
}

// multiply sets dst to x with an axis' root applied.
func multiply(u *update, a axis, x, dst []float32) {
	rows, cols := u.p.matrix()
	root := u.state(a.name + " root")
	switch {
	case a.full && a.name == "cols":
		tensor.GemmParallel(u.workers, false, false, rows, cols, cols, 1, x, cols, root, cols, 0, dst, cols)
	case a.full:
		tensor.GemmParallel(u.workers, false, false, rows, cols, rows, 1, root, rows, x, cols, 0, dst, cols)
	case a.name == "cols":
		copy(dst, x)
		scaleColumns(dst, root)
	default:
		copy(dst, x)
		scaleRows(dst, root)
	}
}
