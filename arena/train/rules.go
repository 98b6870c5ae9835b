package train

import (
	"math"

	"github.com/neuroseal/neuroseal/tensor"
)

type adamW struct{ b1, b2, eps, decay float64 }

func (o adamW) needs(p *Param) needs {
	return needs{states: []need{{"m", p.size()}, {"v", p.size()}}}
}

func (o adamW) constants(u *update) tensor.AdamWConstants {
	c1, c2 := 1-math.Pow(o.b1, float64(u.step)), 1-math.Pow(o.b2, float64(u.step))
	return tensor.AdamWConstants{float32(1 - u.lr*o.decay), float32(1 - o.b1), float32(o.b2), float32(1 - o.b2),
		float32(math.Sqrt(c2)), float32(o.eps), float32(-u.lr / c1)}
}

func (o adamW) update(u *update) {
	p := u.p
	m, v := u.state("m"), u.state("v")
	c := o.constants(u)
	parallel(u.workers, len(p.Data), 4*len(p.Data), func(lo, hi int) {
		tensor.AdamW(p.Data[lo:hi], p.Grad[lo:hi], m[lo:hi], v[lo:hi], &c)
	})
}

// lamb is Adam's direction, scaled in every row to the row's own norm.
type lamb struct{ adamW }

func (o lamb) update(u *update) {
	p := u.p
	m, v := u.state("m"), u.state("v")
	rows, cols := u.p.matrix()
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

func (o sgd) needs(p *Param) needs {
	if o.momentum == 0 {
		return needs{}
	}
	return needs{states: []need{{"momentum", p.size()}}}
}

func (o sgd) update(u *update) {
	p := u.p
	d := p.Grad
	if o.decay != 0 {
		tensor.VecAxpy(d, p.Data, o.decay)
	}
	if o.momentum != 0 {
		m := u.state("momentum")
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

func (o lion) needs(p *Param) needs { return needs{states: []need{{"m", p.size()}}} }

func (o lion) update(u *update) {
	p, m := u.p, u.state("m")
	keep, lr := float32(1-u.lr*o.decay), float32(u.lr)
	for i, g := range p.Grad {
		w := p.Data[i] * keep
		switch d := o.b1*m[i] + (1-o.b1)*g; {
		case d > 0:
			w -= lr
		case d < 0:
			w += lr
		} // torch.sign of NaN is 0: the weight stays
		p.Data[i] = w
		m[i] = o.b2*m[i] + (1-o.b2)*g
	}
}
