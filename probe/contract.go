package probe

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/tensor"
)

// chunkBytes is how much of a weight is in memory at a time, per goroutine.
const chunkBytes = 1 << 20

// manyRows is how many rows of activations it takes until packing a weight for
// a matrix product pays.
const manyRows = 32

// embedding reads the rows that the ids name, each once.
func (r *runner) embedding(n *graph.Node) ([]float32, error) {
	ids, err := r.operand(n.In[1])
	if err != nil {
		return nil, err
	}
	shape := r.g.Shape(n.In[0])
	m, err := r.matrix(n.In[0], shape[0], shape[1])
	if err != nil {
		return nil, err
	}
	out := make([]float32, len(ids)*m.width)
	seen := map[int]int{}
	var buf []float32
	for i, v := range ids {
		id, err := place(v, m.rows)
		if err != nil {
			return nil, fmt.Errorf("%w: a token beyond the vocabulary", err)
		}
		row := out[i*m.width : (i+1)*m.width]
		if j, ok := seen[id]; ok {
			copy(row, out[j*m.width:])
			continue
		}
		seen[id] = i
		x, err := r.floats(m, id, 1, &buf)
		if err != nil {
			return nil, err
		}
		copy(row, x)
	}
	return r.round(n, out), nil
}

// linear streams the weight's rows through all processors.
func (r *runner) linear(n *graph.Node) ([]float32, error) {
	x, err := r.operand(n.In[0])
	if err != nil {
		return nil, err
	}
	shape := r.g.Shape(n.In[1])
	m, err := r.matrix(n.In[1], shape[0], shape[1])
	if err != nil {
		return nil, err
	}
	out := make([]float32, count(n.Shape))
	if len(out) == 0 {
		return out, nil
	}
	if n.Transposed {
		err = r.linearT(out, x, m)
	} else {
		err = r.linearRows(out, x, m)
	}
	return r.round(n, out), err
}

func (r *runner) linearRows(out, x []float32, m matrix) error {
	rows := len(x) / max(m.width, 1)
	step := m.step()
	return r.parallel((m.rows+step-1)/step, func() func(int) error {
		var raw []byte
		var buf []float32
		return func(c int) error {
			first := c * step
			k := min(step, m.rows-first)
			if rows >= manyRows {
				w, err := r.floats(m, first, k, &buf)
				if err == nil {
					tensor.Gemm(false, true, rows, k, m.width, 1, x, m.width, w, m.width, 0, out[first:], m.rows)
				}
				return err
			}
			d, b, err := r.bytes(m, first, k, &raw, &buf)
			if err == nil {
				tensor.LinearRows(out, m.rows, first, x, rows, m.width, d, b, k)
			}
			return err
		}
	})
}

// linearT multiplies with a weight stored [in,out]. Its rows are summed in
// order, one chunk after the other.
func (r *runner) linearT(out, x []float32, m matrix) error {
	rows := len(x) / max(m.rows, 1)
	step := m.step()
	var raw []byte
	var buf []float32
	for first := 0; first < m.rows; first += step {
		k := min(step, m.rows-first)
		d, b, err := r.bytes(m, first, k, &raw, &buf)
		if err != nil {
			return err
		}
		tensor.Parallel(rows, 1, func(lo, hi int) {
			tensor.LinearTRows(out[lo*m.width:], hi-lo, m.width, x[lo*m.rows:], m.rows, first, d, b, k)
		})
	}
	return nil
}

// matmul multiplies batches of matrices. Of an operand that stands in the
// checkpoint (the chosen experts' weights), one matrix per goroutine is in
// memory at a time.
func (r *runner) matmul(n *graph.Node) ([]float32, error) {
	s := r.g.Shape(n.In[0])
	m, k := s[len(s)-2], s[len(s)-1]
	p := n.Shape[len(n.Shape)-1]
	batch := count(n.Shape[:len(n.Shape)-2])
	a, err := r.matrix(n.In[0], batch, m*k)
	if err != nil {
		return nil, err
	}
	b, err := r.matrix(n.In[1], batch, k*p)
	if err != nil {
		return nil, err
	}
	out := make([]float32, batch*m*p)
	if len(out) == 0 {
		return out, nil
	}
	// Batches of one large product are cut along its rows.
	const rows = 128
	cuts := 1
	if a.runs == nil && b.runs == nil {
		cuts = (m + rows - 1) / rows
	}
	err = r.parallel(batch*cuts, func() func(int) error {
		var bufA, bufB []float32
		return func(job int) error {
			i, lo := job/cuts, job%cuts*rows
			hi := m
			if cuts > 1 {
				hi = min(lo+rows, m)
			}
			x, err := r.floats(a, i, 1, &bufA)
			if err != nil {
				return err
			}
			y, err := r.floats(b, i, 1, &bufB)
			if err != nil {
				return err
			}
			product(out[(i*m+lo)*p:(i*m+hi)*p], x[lo*k:hi*k], y, hi-lo, k, p, m)
			return nil
		}
	})
	return r.round(n, out), err
}

// product multiplies x, rows × k, by y, k × p. The way there depends on the
// whole product's number of rows, all, not on how it is cut.
func product(dst, x, y []float32, rows, k, p, all int) {
	if all >= manyRows {
		tensor.Gemm(false, false, rows, p, k, 1, x, k, y, p, 0, dst, p)
		return
	}
	tensor.MatMul(dst, x, y, rows, k, p, false)
}
