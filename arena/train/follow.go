package train

import (
	"math"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// follows says how an adapter's rows and columns scale when those of the tensor
// that it sits on do.
type follows struct {
	base    string // that tensor
	rows    side
	cols    side
	inverse bool // with the reciprocals
	random  bool // starts with random values, which scale too
	flipped bool // that tensor is stored [in,out]
}

// side is a choice among a tensor's factors.
type side int8

const (
	neither   side = iota
	baseRows       // its rows'
	baseCols       // its columns'
	magnitude      // its rows', times the root mean square of its columns'
	position       // its columns', times the root mean square of its rows'
)

func (s side) of(c *coords) []float64 {
	f, out := 1.0, c.rows
	switch s {
	case neither:
		return nil
	case baseCols:
		out = c.cols
	case magnitude:
		f = rootMeanSquare(c.cols)
	case position:
		f, out = rootMeanSquare(c.rows), c.cols
	}
	scaled := make([]float64, len(out))
	for i, v := range out {
		scaled[i] = v * f
	}
	return scaled
}

func rootMeanSquare(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v * v
	}
	return math.Sqrt(sum / float64(len(x)))
}

// coords derives an adapter's coordinates from its tensor's.
func (f follows) coords(p *Param, base *coords) *coords {
	c := newCoords(p)
	for _, x := range []struct {
		dst []float64
		s   side
	}{{c.rows, f.rows}, {c.cols, f.cols}} {
		for i, v := range x.s.of(base) {
			if x.dst[i] = v; f.inverse {
				x.dst[i] = 1 / v
			}
		}
	}
	return c
}

// balance returns the coordinates of every trained parameter, and puts adapters
// that have learned nothing yet into them.
func (e *Engine) balance(o TrainOptions) ([]*coords, error) {
	var out []*coords
	for _, p := range e.Params() {
		c, err := e.coords(p, o)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		if p.follows.random && !e.touched {
			c.times(p.Data, e.o.Workers)
			if e.o.BF16 {
				dtype.RoundBF16(p.Data)
			}
		}
	}
	e.touched = true
	return out, nil
}

func (e *Engine) coords(p *Param, o TrainOptions) (*coords, error) {
	base := p
	if p.Adapter {
		if base = e.param(p.follows.base); base == nil {
			return newCoords(p), nil
		}
	}
	c, err := e.factors(base, o)
	if err != nil || !p.Adapter {
		return c, err
	}
	if o.Optimizer.Method == RowCol {
		// A tensor whose elements are of the size 1/√inputs, as networks start.
		inputs := c.width
		if p.follows.flipped {
			inputs, _ = c.matrix()
		}
		c.scale(math.Sqrt(float64(inputs)))
	}
	return p.follows.coords(p, c), nil
}

// factors are those of a tensor of the checkpoint.
func (e *Engine) factors(p *Param, o TrainOptions) (*coords, error) {
	if o.Optimizer.Method == RowCol {
		return equilibrate(p, p.floats()), nil
	}
	rows, cols := o.Scales(p.Name)
	return given(p, rows, cols)
}
