package train

import (
	"math"

	"github.com/neuroseal/neuroseal/tensor"
)

type adamW struct{ b1, b2, eps, decay float64 }

func (o adamW) update(u *update) {
	p := u.p
	m, v := u.state("m", len(p.Data)), u.state("v", len(p.Data))
	c1, c2 := 1-math.Pow(o.b1, float64(u.step)), 1-math.Pow(o.b2, float64(u.step))
	c := tensor.AdamWConstants{float32(1 - u.lr*o.decay), float32(1 - o.b1), float32(o.b2), float32(1 - o.b2),
		float32(math.Sqrt(c2)), float32(o.eps), float32(-u.lr / c1)}
	parallel(u.workers, len(p.Data), 4*len(p.Data), func(lo, hi int) {
		tensor.AdamW(p.Data[lo:hi], p.Grad[lo:hi], m[lo:hi], v[lo:hi], &c)
	})
}

// lamb is Adam's direction, scaled in every row to the row's own norm.
type lamb struct{ adamW }

func (o lamb) update(u *update) {
	p := u.p
	m, v := u.state("m", len(p.Data)), u.state("v", len(p.Data))
	rows, cols := u.matrix()
	c1, c2 := float32(1-math.Pow(o.b1, float64(u.step))), float32(1-math.Pow(o.b2, float64(u.step)))
	b1, b2, eps, decay := float32(o.b1), float32(o.b2), float32(o.eps), float32(o.decay)
	parallel(u.workers, rows, 4*len(p.Data), func(lo, hi int) {
		d := make([]float32, cols)
		for r := lo; r < hi; r++ {
			w, g, m, v := p.Data[r*cols:(r+1)*cols], p.Grad[r*cols:(r+1)*cols], m[r*cols:(r+1)*cols], v[r*cols:(r+1)*cols]
			for i, x := range g {
				m[i] = b1*m[i] + (1-b1)*x
				v[i] = b2*v[i] + (1-b2)*x*x
				d[i] = m[i]/c1/(sqrt(v[i]/c2)+eps) + decay*w[i]
			}
			trust, nw, nd := float32(1), norm(w), norm(d)
			if nw > 0 && nd > 0 {
				trust = nw / nd
			}
			tensor.VecAxpy(w, d, -float32(u.lr)*trust)
		}
	})
}

type sgd struct{ momentum, decay float32 }

func (o sgd) update(u *update) {
	p := u.p
	d := p.Grad
	if o.decay != 0 {
		tensor.VecAxpy(d, p.Data, o.decay)
	}
	if o.momentum != 0 {
		m := u.state("momentum", len(d))
		if u.step == 1 {
			copy(m, d)
		} else {
			for i, g := range d {
				m[i] = o.momentum*m[i] + g
			}
		}
		d = m
	}
	tensor.VecAxpy(p.Data, d, -float32(u.lr))
}

type lion struct {
	b1, b2 float32
	decay  float64
}

func (o lion) update(u *update) {
	p, m := u.p, u.state("m", len(u.p.Data))
	keep, lr := float32(1-u.lr*o.decay), float32(u.lr)
	for i, g := range p.Grad {
		w := p.Data[i] * keep
		switch d := o.b1*m[i] + (1-o.b1)*g; {
		case d > 0:
			w -= lr
		case d < 0:
			w += lr
		case d != d:
			w = d
		}
		p.Data[i] = w
		m[i] = o.b2*m[i] + (1-o.b2)*g
	}
}

// adafactor has transformers' constants: eps (1e-30, 1e-3), clip_threshold 1,
// decay_rate -0.8, no first moment.
type adafactor struct{ decay float64 }

const (
	adafactorEps   = 1e-30
	adafactorScale = 1e-3
)

func (o adafactor) update(u *update) {
	p, n := u.p, len(u.p.Data)
	lr := u.lr * math.Max(adafactorScale, float64(norm(p.Data))/math.Sqrt(float64(n)))
	b2 := float32(1 - math.Pow(float64(u.step), -0.8))
	d := make([]float32, n)
	if len(p.Shape) >= 2 {
		o.factored(u, d, b2)
	} else {
		v := u.state("v", n)
		for i, g := range p.Grad {
			v[i] = v[i]*b2 + (1-b2)*(g*g+adafactorEps)
			d[i] = 1 / sqrt(v[i]) * g
		}
	}
	rms := norm(d) / float32(math.Sqrt(float64(n)))
	if !(rms <= 1) {
		for i := range d {
			d[i] /= rms
		}
	}
	if o.decay != 0 {
		tensor.VecScale(p.Data, p.Data, float32(1-o.decay*lr))
	}
	tensor.VecAxpy(p.Data, d, -float32(lr))
}

// factored keeps the second moments as a product of row and column means.
func (o adafactor) factored(u *update, d []float32, b2 float32) {
	rows, cols := u.matrix()
	vr, vc := u.state("rows", rows), u.state("cols", cols)
	sum := make([]float32, cols)
	var mean float32
	for r := range rows {
		var s float32
		for j, g := range u.p.Grad[r*cols : (r+1)*cols] {
			q := g*g + adafactorEps
			s += q
			sum[j] += q
		}
		vr[r] = vr[r]*b2 + (1-b2)*(s/float32(cols))
		mean += vr[r]
	}
	mean /= float32(rows)
	for j, s := range sum {
		vc[j] = vc[j]*b2 + (1-b2)*(s/float32(rows))
		sum[j] = 1 / sqrt(vc[j])
	}
	for r := range rows {
		f := 1 / sqrt(vr[r]/mean)
		for j := range cols {
			d[r*cols+j] = f * sum[j] * u.p.Grad[r*cols+j]
		}
	}
}

// muon orthogonalises the momentum of hidden matrices by five Newton-Schulz
// steps, in float32 where torch uses bfloat16.
type muon struct {
	rest          adamW
	momentum, eps float32
	decay, ratio  float64
}

func (o muon) update(u *update) {
	if !u.p.Hidden {
		u.lr *= o.ratio
		o.rest.update(u)
		return
	}
	p, m := u.p, u.state("momentum", len(u.p.Data))
	rows, cols := u.matrix()
	d := make([]float32, len(m))
	for i, g := range p.Grad {
		m[i] += (1 - o.momentum) * (g - m[i])
		d[i] = g + o.momentum*(m[i]-g)
	}
	if rows > cols {
		d = transposed(d, rows, cols)
	}
	orthogonalise(d, min(rows, cols), max(rows, cols), o.eps, u.workers)
	if rows > cols {
		d = transposed(d, cols, rows)
	}
	lr := u.lr * math.Sqrt(math.Max(1, float64(rows)/float64(cols)))
	tensor.VecScale(p.Data, p.Data, float32(1-u.lr*o.decay))
	tensor.VecAxpy(p.Data, d, -float32(lr))
}

func transposed(x []float32, rows, cols int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = x[i*cols+j]
		}
	}
	return out
}

// orthogonalise replaces x, m × n with m ≤ n, by about the orthogonal factor of
// its polar decomposition.
func orthogonalise(x []float32, m, n int, eps float32, workers int) {
	const a, b, c = 3.4445, -4.7750, 2.0315
	s := max(norm(x), eps)
	for i := range x {
		x[i] /= s
	}
	gram, poly, next := make([]float32, m*m), make([]float32, m*m), make([]float32, m*n)
	for range 5 {
		tensor.GemmParallel(workers, false, true, m, m, n, 1, x, n, x, n, 0, gram, m)
		copy(poly, gram)
		tensor.GemmParallel(workers, false, false, m, m, m, c, gram, m, gram, m, b, poly, m)
		copy(next, x)
		tensor.GemmParallel(workers, false, false, m, n, m, 1, poly, m, x, n, a, next, n)
		copy(x, next)
	}
}
