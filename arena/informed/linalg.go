package informed

import (
	"cmp"
	"math"
	"slices"
)

// matrix is a dense matrix in columns: the decompositions work on columns.
type matrix struct {
	rows, cols int
	x          []float64
}

func newMatrix(rows, cols int) matrix { return matrix{rows, cols, make([]float64, rows*cols)} }

func (m matrix) at(i, j int) float64     { return m.x[j*m.rows+i] }
func (m matrix) set(i, j int, v float64) { m.x[j*m.rows+i] = v }
func (m matrix) col(j int) []float64     { return m.x[j*m.rows : (j+1)*m.rows] }

func (m matrix) transposed() matrix {
	t := newMatrix(m.cols, m.rows)
	for j := range m.cols {
		for i, v := range m.col(j) {
			t.set(j, i, v)
		}
	}
	return t
}

func (m matrix) times(b matrix) matrix {
	out := newMatrix(m.rows, b.cols)
	for j := range b.cols {
		dst := out.col(j)
		for k, v := range b.col(j) {
			axpy(dst, v, m.col(k))
		}
	}
	return out
}

func dot(x, y []float64) float64 {
	s := 0.0
	for i, v := range x {
		s += v * y[i]
	}
	return s
}

func axpy(dst []float64, a float64, x []float64) {
	if a == 0 {
		return
	}
	for i, v := range x {
		dst[i] += a * v
	}
}

// qr is the thin QR decomposition by Householder reflections: q has orthonormal
// columns, min(rows, cols) of them. Columns of very different sizes do no harm:
// a power of two on a column of m is the same on that of r, bit for bit.
func (m matrix) qr() (q, r matrix) {
	k := min(m.rows, m.cols)
	a := matrix{m.rows, m.cols, slices.Clone(m.x)}
	reflections := make([][]float64, k) // unit vectors, from their own row on
	for j := range k {
		v := slices.Clone(a.col(j)[j:])
		n := math.Sqrt(dot(v, v))
		if n == 0 {
			continue
		}
		v[0] += math.Copysign(n, v[0])
		n = math.Sqrt(dot(v, v))
		for i := range v {
			v[i] /= n
		}
		reflections[j] = v
		for c := j; c < a.cols; c++ {
			col := a.col(c)[j:]
			axpy(col, -2*dot(v, col), v)
		}
	}
	r = newMatrix(k, m.cols)
	for c := range m.cols {
		copy(r.col(c)[:min(c+1, k)], a.col(c))
	}
	q = newMatrix(m.rows, k)
	for c := range k {
		col := q.col(c)
		col[c] = 1
		for j := k - 1; j >= 0; j-- {
			if v := reflections[j]; v != nil {
				axpy(col[j:], -2*dot(v, col[j:]), v)
			}
		}
	}
	return q, r
}

// Limits of the Jacobi iteration: sweeps converge quadratically, so that ten or
// so do; orthogonal is the cosine at which two columns count as orthogonal.
const (
	jacobiSweeps = 60
	orthogonal   = 1e-15
)

// svd decomposes a small matrix by one-sided Jacobi rotations: m = u·s·wᵀ, with
// min(rows, cols) singular values in falling order. The largest element of each
// column of u is positive, which makes the form unique.
func (m matrix) svd() (u matrix, s []float64, w matrix) {
	if m.rows < m.cols {
		w, s, u = m.transposed().svd()
		normaliseSigns(u, w)
		return u, s, w
	}
	a := matrix{m.rows, m.cols, slices.Clone(m.x)}
	v := newMatrix(m.cols, m.cols)
	for j := range m.cols {
		v.set(j, j, 1)
	}
	for sweep, turned := 0, true; turned && sweep < jacobiSweeps; sweep++ {
		turned = false
		for p := range a.cols {
			for q := p + 1; q < a.cols; q++ {
				if rotate(a, v, p, q) {
					turned = true
				}
			}
		}
	}
	order := make([]int, m.cols)
	size := make([]float64, m.cols)
	for j := range order {
		order[j], size[j] = j, math.Sqrt(dot(a.col(j), a.col(j)))
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(size[j], size[i]) })
	u, w, s = newMatrix(m.rows, m.cols), newMatrix(m.cols, m.cols), make([]float64, m.cols)
	for k, j := range order {
		s[k] = size[j]
		copy(w.col(k), v.col(j))
		if s[k] > 0 {
			axpy(u.col(k), 1/s[k], a.col(j))
		}
	}
	normaliseSigns(u, w)
	return u, s, w
}

// rotate makes two columns orthogonal, and reports whether they were not.
func rotate(a, v matrix, p, q int) bool {
	x, y := a.col(p), a.col(q)
	alpha, beta, gamma := dot(x, x), dot(y, y), dot(x, y)
	if gamma == 0 || math.Abs(gamma) <= orthogonal*math.Sqrt(alpha)*math.Sqrt(beta) {
		return false
	}
	zeta := (beta - alpha) / (2 * gamma)
	t := math.Copysign(1, zeta) / (math.Abs(zeta) + math.Hypot(1, zeta))
	c := 1 / math.Hypot(1, t)
	s := c * t
	for _, z := range []matrix{a, v} {
		x, y := z.col(p), z.col(q)
		for i := range x {
			x[i], y[i] = c*x[i]-s*y[i], s*x[i]+c*y[i]
		}
	}
	return true
}

func normaliseSigns(u, w matrix) {
	for j := range u.cols {
		top := 0.0
		for _, v := range u.col(j) {
			if math.Abs(v) > math.Abs(top) {
				top = v
			}
		}
		if top >= 0 {
			continue
		}
		for _, z := range []matrix{u, w} {
			for i := range z.col(j) {
				z.col(j)[i] *= -1
			}
		}
	}
}
