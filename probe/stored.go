package probe

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// run is a run of consecutive elements of a stored tensor.
type run struct {
	name         string
	d            dtype.DType
	first, count int
}

// stored notes where a value stands in the checkpoint: a weight, or a move of
// weights that keeps long runs of elements together, as the choice of some
// experts does. Such a value is never in memory as a whole unless an operation
// needs it whole.
func (r *runner) stored(id graph.ID, n *graph.Node) (bool, error) {
	if n.Op == graph.OpWeight {
		w, err := r.weight(n)
		r.runs[id] = []run{w}
		return true, err
	}
	outer, inner := 0, 0 // around the axis of the move; its first operand is what is moved
	switch n.Op {
	case graph.OpReshape:
		outer = 1
	case graph.OpSlice, graph.OpIndex, graph.OpConcat:
		outer = count(n.Shape[:n.Axis])
		inner = count(r.g.Shape(n.In[0])[n.Axis+1:])
	}
	if outer != 1 {
		return false, nil
	}
	var parts [][]run
	for i, in := range n.In {
		p, ok := r.runs[in]
		if !ok && (i == 0 || n.Op != graph.OpIndex) {
			return false, nil
		}
		parts = append(parts, p)
	}
	var out []run
	switch n.Op {
	case graph.OpReshape:
		out = parts[0]
	case graph.OpSlice:
		out = between(out, parts[0], n.Start*inner, n.End*inner)
	case graph.OpConcat:
		for _, p := range parts {
			out = append(out, p...)
		}
	case graph.OpIndex:
		ids, err := r.operand(n.In[1])
		if err != nil {
			return false, err
		}
		for _, v := range ids {
			i, err := place(v, r.g.Shape(n.In[0])[n.Axis])
			if err != nil {
				return false, err
			}
			out = between(out, parts[0], i*inner, (i+1)*inner)
		}
	}
	r.runs[id] = out
	return true, nil
}

// movedWeight reports whether a node only moves weights and constants.
func (r *runner) movedWeight(n *graph.Node) bool {
	if !n.Op.Move() {
		return false
	}
	weights := false
	for _, in := range n.In {
		_, stored := r.runs[in]
		_, later := r.later[in]
		weights = weights || stored || later
		if !stored && !later && r.g.Nodes[in].Op != graph.OpConst {
			return false
		}
	}
	return weights
}

// weight checks that a leaf can be read as numbers of the graph's shape.
func (r *runner) weight(n *graph.Node) (run, error) {
	d, size, ok := r.src.Weight(n.Name)
	if !ok || !d.Scalable() {
		return run{}, fmt.Errorf("tensor %s: cannot be read as numbers (%v)", n.Name, d)
	}
	w := run{n.Name, d, 0, count(n.Shape)}
	if size != int64(w.count)*int64(d.Bits()/8) {
		return run{}, fmt.Errorf("tensor %s: %d bytes for %v of %v", n.Name, size, n.Shape, d)
	}
	return w, nil
}

// between appends to out the runs of elements [from,to) of a value.
func between(out, runs []run, from, to int) []run {
	at := 0
	for _, p := range runs {
		lo, hi := max(from-at, 0), min(to-at, p.count)
		at += p.count
		if lo >= hi {
			continue
		}
		q := run{p.name, p.d, p.first + lo, hi - lo}
		if k := len(out) - 1; k >= 0 && out[k].name == q.name && out[k].first+out[k].count == q.first {
			out[k].count += q.count
		} else {
			out = append(out, q)
		}
	}
	return out
}

// load reads runs into memory, rounded to the run's precision.
func (r *runner) load(runs []run, n int) ([]float32, error) {
	out := make([]float32, n)
	return out, r.loadInto(out, runs)
}

func (r *runner) loadInto(out []float32, runs []run) error {
	var buf []byte
	at := 0
	for _, p := range runs {
		size := p.d.Bits() / 8
		for done := 0; done < p.count; {
			k := min(p.count-done, chunkBytes/size)
			if len(buf) < k*size {
				buf = make([]byte, k*size)
			}
			if err := r.read(p.name, buf[:k*size], int64(p.first+done)*int64(size)); err != nil {
				return err
			}
			dtype.ToFloat32(p.d, out[at:at+k], buf[:k*size])
			at, done = at+k, done+k
		}
	}
	r.toPrecision(out)
	return nil
}

func (r *runner) read(name string, p []byte, off int64) error {
	if err := r.src.ReadWeight(name, p, off); err != nil {
		return err
	}
	if r.opt.Progress != nil {
		r.opt.Progress(int64(len(p)))
	}
	return nil
}

// matrix is a weight of rows × width elements, in the checkpoint or in memory.
type matrix struct {
	rows, width int
	runs        []run     // where it stands in the checkpoint, or
	data        []float32 // its elements
}

func (r *runner) matrix(id graph.ID, rows, width int) (m matrix, err error) {
	m = matrix{rows: rows, width: width, runs: r.runs[id]}
	if m.runs == nil {
		m.data, err = r.operand(id)
	}
	return m, err
}

// step is how many rows are in memory at a time, per goroutine.
func (m matrix) step() int {
	size := 4
	for _, p := range m.runs {
		size = max(size, p.d.Bits()/8)
	}
	return min(max(chunkBytes/max(m.width*size, 1), 1), max(m.rows, 1))
}

// floats returns rows [first,first+n) as numbers, in buf if they must be read.
func (r *runner) floats(m matrix, first, n int, buf *[]float32) ([]float32, error) {
	from, to := first*m.width, (first+n)*m.width
	if m.runs == nil {
		return m.data[from:to], nil
	}
	if len(*buf) < to-from {
		*buf = make([]float32, to-from)
	}
	out := (*buf)[:to-from]
	return out, r.loadInto(out, between(nil, m.runs, from, to))
}

// bytes returns rows [first,first+n) as they are stored, in buf, if they stand
// in one place and in a type that has the run's precision; else as fp32.
func (r *runner) bytes(m matrix, first, n int, buf *[]byte, nums *[]float32) (dtype.DType, []byte, error) {
	as := map[Precision]dtype.DType{BF16: dtype.BF16, FP16: dtype.F16}[r.opt.Precision]
	runs := between(nil, m.runs, first*m.width, (first+n)*m.width)
	direct := len(runs) == 1 && (runs[0].d == as || as == dtype.Invalid && runs[0].d != dtype.F64)
	size := 4
	if direct {
		size = runs[0].d.Bits() / 8
	}
	if len(*buf) < n*m.width*size {
		*buf = make([]byte, n*m.width*size)
	}
	out := (*buf)[:n*m.width*size]
	if direct {
		return runs[0].d, out, r.read(runs[0].name, out, int64(runs[0].first)*int64(size))
	}
	x, err := r.floats(m, first, n, nums)
	if err == nil {
		dtype.FromFloat32(dtype.F32, out, x)
	}
	return dtype.F32, out, err
}

// place turns an id into an index below n.
func place(id float32, n int) (int, error) {
	i := int(id)
	if i < 0 || i >= n || float32(i) != id {
		return 0, fmt.Errorf("index %v of an axis of %d", id, n)
	}
	return i, nil
}
