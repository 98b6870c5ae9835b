package train

import (
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/tensor"
)

// coords are the balanced coordinates of a matrix, or of several one after
// another: an element is its balanced value times its row's and its column's
// factor. Products are made in float64: factors of 2^±100 meet no limit that the
// balanced values would not meet.
type coords struct {
	width int
	rows  []float64 // of every row
	cols  []float64 // of every column of every matrix
}

// newCoords has factors of one.
func newCoords(p *Param) *coords {
	n, width, matrices := p.size(), 0, 1
	if k := len(p.Shape); k > 0 {
		width = p.Shape[k-1]
		if k > 2 {
			matrices = count(p.Shape[:k-2])
		}
	}
	width = max(width, 1)
	c := &coords{width: width, rows: make([]float64, n/width), cols: make([]float64, matrices*width)}
	for _, x := range [][]float64{c.rows, c.cols} {
		for i := range x {
			x[i] = 1
		}
	}
	return c
}

// coordBytes is the memory of newCoords(p).
func coordBytes(p *Param) int64 {
	c := newCoords(&Param{Shape: p.Shape})
	return 8 * int64(len(c.rows)+len(c.cols))
}

// matrix is the number of rows and columns of each matrix.
func (c *coords) matrix() (rows, cols int) { return len(c.rows) * c.width / len(c.cols), c.width }

// row returns the factors of a row: its own, and its columns'.
func (c *coords) row(i int) (float64, []float64) {
	rows, _ := c.matrix()
	at := i / rows * c.width
	return c.rows[i], c.cols[at : at+c.width]
}

// times multiplies x by the factors: gradients in stored coordinates become those
// in balanced ones, balanced values become stored ones.
func (c *coords) times(x []float32, workers int) {
	parallel(workers, len(c.rows), len(x), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			r, cols := c.row(i)
			for j, v := range x[i*c.width : (i+1)*c.width] {
				x[i*c.width+j] = float32(float64(v) * (r * cols[j]))
			}
		}
	})
}

// scale multiplies all factors, half of it on either side.
func (c *coords) scale(f float64) {
	f = math.Sqrt(f)
	for _, x := range [][]float64{c.rows, c.cols} {
		for i := range x {
			x[i] *= f
		}
	}
}

// given takes a caller's factors.
func given(p *Param, rows, cols []float32) (*coords, error) {
	c := newCoords(p)
	if len(p.Shape) == 1 && cols == nil && len(rows) == p.size() {
		rows, cols = nil, rows
	}
	if err := fill(p, c.rows, rows); err != nil {
		return nil, err
	}
	return c, fill(p, c.cols, cols)
}

// fill sets factors; those of one matrix are repeated for all.
func fill(p *Param, dst []float64, src []float32) error {
	if src == nil {
		return nil
	}
	if len(src) == 0 || len(src) != len(dst) && len(p.Shape) < 3 || len(dst)%len(src) != 0 {
		return fault.New(fault.Usage, "tensor %s of %v: %d scales where %d are needed", p.Name, p.Shape, len(src), len(dst))
	}
	for i := range dst {
		v := float64(src[i%len(src)])
		if !(v > 0) || math.IsInf(v, 0) {
			return fault.New(fault.Usage, "tensor %s: a scale of %v, expected a positive number", p.Name, v)
		}
		dst[i] = v
	}
	return nil
}

// equilibrate estimates coordinates in which the root mean square of every row and
// of every column is 1, by normalising rows and columns in turn. A vector's
// factors are its magnitudes; what is zero gets its neighbours' mean.
func equilibrate(p *Param, w []float32) *coords {
	c := newCoords(p)
	if len(p.Shape) < 2 {
		for j, v := range w {
			c.cols[j] = math.Abs(float64(v))
		}
		replaceZeros(c.cols)
		return c
	}
	rows, cols := c.matrix()
	for m := range len(c.cols) / cols {
		at := m * rows
		sinkhorn(w[at*cols:(at+rows)*cols], c.rows[at:at+rows], c.cols[m*cols:(m+1)*cols])
	}
	return c
}

// sinkhorn sets row and column factors whose logarithms have the same mean.
func sinkhorn(w []float32, rows, cols []float64) {
	const rounds, enough = 50, 1e-9
	inverse, sums := make([]float64, len(cols)), make([]float64, len(cols))
	for range rounds {
		for j, c := range cols {
			inverse[j] = 1 / c
		}
		clear(sums)
		change := 0.0
		for i := range rows {
			line := w[i*len(cols) : (i+1)*len(cols)]
			sum := 0.0
			for j, v := range line {
				x := finite(v) * inverse[j]
				sum += x * x
			}
			r := math.Sqrt(sum / float64(len(cols)))
			if r == 0 {
				r = 1
			}
			change = max(change, math.Abs(r/rows[i]-1))
			rows[i] = r
			for j, v := range line {
				x := finite(v) / r
				sums[j] += x * x
			}
		}
		for j, s := range sums {
			if cols[j] = math.Sqrt(s / float64(len(rows))); s == 0 {
				cols[j] = 1
			}
		}
		if change < enough {
			break
		}
	}
	neutral(w, rows, cols)
	f := math.Exp((meanLog(cols) - meanLog(rows)) / 2)
	for i := range rows {
		rows[i] *= f
	}
	for j := range cols {
		cols[j] /= f
	}
}

// neutral gives rows and columns of zeros the geometric mean of the others.
func neutral(w []float32, rows, cols []float64) {
	row, col := make([]bool, len(rows)), make([]bool, len(cols))
	for i := range rows {
		for j := range cols {
			if finite(w[i*len(cols)+j]) != 0 {
				row[i], col[j] = true, true
			}
		}
	}
	for i, used := range row {
		if !used {
			rows[i] = 0
		}
	}
	for j, used := range col {
		if !used {
			cols[j] = 0
		}
	}
	replaceZeros(rows)
	replaceZeros(cols)
}

func finite(v float32) float64 {
	if v-v != 0 {
		return 0
	}
	return float64(v)
}

// replaceZeros sets what is no positive number to the geometric mean of the rest.
func replaceZeros(x []float64) {
	bad := func(v float64) bool { return !(v > 0) || math.IsInf(v, 0) }
	m := math.Exp(meanLog(slices.DeleteFunc(slices.Clone(x), bad)))
	for i, v := range x {
		if bad(v) {
			x[i] = m
		}
	}
}

// meanLog is the mean of logarithms; 0 of none.
func meanLog(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += math.Log(v)
	}
	return sum / float64(max(len(x), 1))
}

// balanced is AdamW in balanced coordinates. The gradient comes in them already.
type balanced struct{ adamW }

func (o balanced) update(u *update) {
	p, at := u.p, u.coords
	m, v := u.state("m"), u.state("v")
	c := o.constants(u)
	parallel(u.workers, len(at.rows), 8*len(p.Data), func(lo, hi int) {
		var old, now [chunk]float32
		for i := lo; i < hi; i++ {
			r, cols := at.row(i)
			for j := 0; j < at.width; j += chunk {
				k := min(chunk, at.width-j)
				a := i*at.width + j
				w := p.Data[a : a+k]
				for l, x := range w {
					old[l] = float32(float64(x) / (r * cols[j+l]))
				}
				copy(now[:k], old[:k])
				tensor.AdamW(now[:k], p.Grad[a:a+k], m[a:a+k], v[a:a+k], &c)
				for l, x := range w {
					w[l] = float32(float64(x) + (float64(now[l])-float64(old[l]))*(r*cols[j+l]))
				}
			}
		}
	})
}
