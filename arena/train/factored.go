package train

import (
	"math"

	"github.com/neuroseal/neuroseal/tensor"
)

// adafactor has transformers' constants: eps (1e-30, 1e-3), clip_threshold 1,
// decay_rate -0.8, no first moment.
type adafactor struct{ decay float64 }

const (
	adafactorEps   = 1e-30
	adafactorScale = 1e-3
)

func (o adafactor) needs(p *Param) needs {
	if len(p.Shape) < 2 {
		return needs{states: []need{{"v", p.size()}}, scratch: p.size()}
	}
	rows, cols := p.matrix()
	return needs{states: []need{{"rows", rows}, {"cols", cols}}, scratch: p.size() + cols}
}

func (o adafactor) update(u *update) {
	p, n := u.p, len(u.p.Data)
	lr := u.lr * math.Max(adafactorScale, float64(norm(p.Data))/math.Sqrt(float64(n)))
	b2 := float32(1 - math.Pow(float64(u.step), -0.8))
	d := u.floats(n)
	if len(p.Shape) >= 2 {
		o.factored(u, d, b2)
	} else {
		v := u.state("v")
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
	rows, cols := u.p.matrix()
	vr, vc, sum := u.state("rows"), u.state("cols"), u.floats(cols)
	clear(sum)
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

func (o muon) needs(p *Param) needs {
	if !p.Hidden {
		return o.rest.needs(p)
	}
	rows, cols := p.matrix()
	n, m := p.size(), min(rows, cols)
	return needs{states: []need{{"momentum", n}}, scratch: 3*n + 2*m*m}
}

func (o muon) update(u *update) {
	if !u.p.Hidden {
		u.lr *= o.ratio
		o.rest.update(u)
		return
	}
	p, m := u.p, u.state("momentum")
	rows, cols := p.matrix()
	d, other := u.floats(len(m)), u.floats(len(m))
	for i, g := range p.Grad {
		m[i] += (1 - o.momentum) * (g - m[i])
		d[i] = g + o.momentum*(m[i]-g)
	}
	if rows > cols {
		transpose(other, d, rows, cols)
		d, other = other, d
	}
	orthogonalise(u, d, min(rows, cols), max(rows, cols), o.eps)
	if rows > cols {
		transpose(other, d, cols, rows)
		d = other
	}
	lr := u.lr * math.Sqrt(math.Max(1, float64(rows)/float64(cols)))
	tensor.VecScale(p.Data, p.Data, float32(1-u.lr*o.decay))
	tensor.VecAxpy(p.Data, d, -float32(lr))
}

// transpose sets dst to the transpose of x.
func transpose(dst, x []float32, rows, cols int) {
	for i := range rows {
		for j := range cols {
			dst[j*rows+i] = x[i*cols+j]
		}
	}
}

// orthogonalise replaces x, m × n with m ≤ n, by about the orthogonal factor of
// its polar decomposition.
func orthogonalise(u *update, x []float32, m, n int, eps float32) {
	const a, b, c = 3.4445, -4.7750, 2.0315
	s := max(norm(x), eps)
	for i := range x {
		x[i] /= s
	}
	gram, poly, next := u.floats(m*m), u.floats(m*m), u.floats(m*n)
	for range 5 {
		tensor.GemmParallel(u.workers, false, true, m, m, n, 1, x, n, x, n, 0, gram, m)
		copy(poly, gram)
		tensor.GemmParallel(u.workers, false, false, m, m, m, c, gram, m, gram, m, b, poly, m)
		copy(next, x)
		tensor.GemmParallel(u.workers, false, false, m, n, m, 1, poly, m, x, n, a, next, n)
		copy(x, next)
	}
}
