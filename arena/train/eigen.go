package train

import "math"

// eigen decomposes a symmetric matrix of n × n: on return v holds its eigenvectors
// one after another, d their eigenvalues. It is EISPACK's tred2 and tql2. The
// lower triangle of v is read; e is scratch. It reports whether it converged,
// which it does for finite numbers.
func eigen(v, d, e []float64, n int) bool {
	for _, x := range v[:n*n] {
		if x-x != 0 {
			return false
		}
	}
	if n == 0 {
		return true
	}
	tridiagonal(v, d, e, n)
	return diagonal(v, d, e, n)
}

// tridiagonal reduces v to diagonal d and subdiagonal e by Householder's
// reflections, whose product it leaves in v.
func tridiagonal(v, d, e []float64, n int) {
	for j := range n {
		d[j] = v[j*n+n-1]
	}
	for i := n - 1; i > 0; i-- {
		scale, h := 0.0, 0.0
		for _, x := range d[:i] {
			scale += math.Abs(x)
		}
		if scale == 0 {
			e[i] = d[i-1]
			for j := range i {
				d[j] = v[j*n+i-1]
				v[j*n+i], v[i*n+j] = 0, 0
			}
			d[i] = 0
			continue
		}
		for k := range i {
			d[k] /= scale
			h += d[k] * d[k]
		}
		g := math.Sqrt(h)
		if d[i-1] > 0 {
			g = -g
		}
		e[i] = scale * g
		h -= d[i-1] * g
		d[i-1] -= g
		reflect(v, d, e, n, i, h)
		d[i] = h
	}
	accumulate(v, d, n)
	e[0] = 0
}

// reflect applies a reflection to the leading i rows and columns.
func reflect(v, d, e []float64, n, i int, h float64) {
	clear(e[:i])
	for j := range i {
		f := d[j]
		v[i*n+j] = f
		col := v[j*n : j*n+i]
		g := e[j] + col[j]*f
		for k := j + 1; k < i; k++ {
			g += col[k] * d[k]
			e[k] += col[k] * f
		}
		e[j] = g
	}
	f := 0.0
	for j := range i {
		e[j] /= h
		f += e[j] * d[j]
	}
	hh := f / (h + h)
	for j := range i {
		e[j] -= hh * d[j]
	}
	for j := range i {
		f, g := d[j], e[j]
		col := v[j*n : j*n+i]
		for k := j; k < i; k++ {
			col[k] -= f*e[k] + g*d[k]
		}
		d[j] = v[j*n+i-1]
		v[j*n+i] = 0
	}
}

// accumulate multiplies the reflections.
func accumulate(v, d []float64, n int) {
	for i := range n - 1 {
		v[i*n+n-1], v[i*n+i] = v[i*n+i], 1
		next := v[(i+1)*n : (i+1)*n+i+1]
		if h := d[i+1]; h != 0 {
			for k, x := range next {
				d[k] = x / h
			}
			for j := range i + 1 {
				col := v[j*n : j*n+i+1]
				g := 0.0
				for k, x := range next {
					g += x * col[k]
				}
				for k := range col {
					col[k] -= g * d[k]
				}
			}
		}
		clear(next)
	}
	for j := range n {
		d[j], v[j*n+n-1] = v[j*n+n-1], 0
	}
	v[n*n-1] = 1
}

// diagonal is the QL algorithm with implicit shifts.
func diagonal(v, d, e []float64, n int) bool {
	const rounds = 100
	copy(e, e[1:n])
	e[n-1] = 0
	f, size := 0.0, 0.0
	for l := range n {
		size = max(size, math.Abs(d[l])+math.Abs(e[l]))
		m := l
		for m < n-1 && math.Abs(e[m]) > size*0x1p-52 {
			m++
		}
		for round := 0; m > l; round++ {
			if round == rounds {
				return false
			}
			g := d[l]
			p := (d[l+1] - g) / (2 * e[l])
			r := math.Copysign(math.Hypot(p, 1), p)
			d[l], d[l+1] = e[l]/(p+r), e[l]*(p+r)
			h := g - d[l]
			for i := l + 2; i < n; i++ {
				d[i] -= h
			}
			f += h
			sweep(v, d, e, n, l, m)
			if math.Abs(e[l]) <= size*0x1p-52 {
				break
			}
		}
		d[l] += f
		e[l] = 0
	}
	return true
}

// sweep is one QL step on rows l to m.
func sweep(v, d, e []float64, n, l, m int) {
	p, next, first := d[m], d[l+1], e[l+1]
	c, c2, c3, s, s2 := 1.0, 1.0, 1.0, 0.0, 0.0
	for i := m - 1; i >= l; i-- {
		c3, c2, s2 = c2, c, s
		g, h := c*e[i], c*p
		r := math.Hypot(p, e[i])
		e[i+1] = s * r
		s, c = e[i]/r, p/r
		p = c*d[i] - s*g
		d[i+1] = h + s*(c*g+s*d[i])
		x, y := v[i*n:(i+1)*n], v[(i+1)*n:(i+2)*n]
		for k, a := range x {
			b := y[k]
			y[k], x[k] = s*a+c*b, c*a-s*b
		}
	}
	p = -s * s2 * c3 * first * e[l] / next
	e[l], d[l] = s*p, c*p
}
