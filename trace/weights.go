package trace

import (
	"slices"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/onnx"
	"github.com/neuroseal/neuroseal/quant"
)

// weights shows a checkpoint of any format as numbers, by the names that a
// seal's plan has for them.
type weights struct {
	path  string
	ck    *checkpoint.Checkpoint
	quant *quant.Set  // quantised weights; nil: none
	hub   *hubWeights // the Hub's names of a GGUF's weights; nil: it is none
}

// openWeights opens a folder or file of safetensors, quantised or not, a GGUF,
// or an ONNX model.
func openWeights(path string) (*weights, error) {
	w := &weights{path: path}
	switch {
	case gguf.Is(path):
		return w, w.openGGUF()
	case onnx.Is(path):
		ck, err := onnx.OpenCheckpoint(path)
		w.ck = ck
		return w, err
	}
	ck, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	w.ck = ck
	err = ck.Interpret(quant.Narrow(ck))
	if err == nil {
		w.quant, err = quant.Open(ck)
	}
	if err != nil {
		ck.Close()
		return nil, err
	}
	return w, nil
}

func (w *weights) openGGUF() error {
	m, err := gguf.Open(w.path)
	if err != nil {
		return err
	}
	defer m.Close()
	w.hub = hubWeightsOf(arch.GGUFWeights(m))
	w.ck, err = m.Checkpoint()
	return err
}

func (w *weights) Close() error { return w.ck.Close() }

// find tells how a plan's tensor of a given shape can be read; ok is false if it
// cannot.
func (w *weights) find(name string, shape []int) (r reader, ok bool) {
	n := elements(shape)
	if n == 0 || len(shape) == 0 {
		return r, false
	}
	r = reader{w: w, width: shape[len(shape)-1]}
	if q := w.quant.Weight(name); q != nil {
		r.quantised = q
		return r, slices.Equal(q.Shape, shape)
	}
	if h, there := w.hub.weight(name); there {
		r.row = h.Row
		return r, elements(h.Shape) == n && h.Shape[len(h.Shape)-1] == r.width && r.reaches(0) && r.reaches(n/r.width-1)
	}
	var there bool
	if r.t, there = w.ck.Tensor(name); !there || !r.t.Scalable() || r.t.Elements() != int64(n) {
		return r, false
	}
	// A plan may see a tensor of scales with more axes than it is stored with.
	if r.t.Format != nil {
		return r, slices.Equal(r.t.Shape, shape) && whole(r.t, r.width)
	}
	return r, true
}

// whole reports whether rows of so many elements are whole blocks.
func whole(t checkpoint.Tensor, width int) bool {
	if t.Format == nil {
		return true
	}
	n, _ := t.Format.Block()
	return width%n == 0
}

func elements(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// reader reads a weight by the rows of its last axis, which are counted over all
// leading ones.
type reader struct {
	w         *weights
	width     int
	quantised *quant.Weight
	t         checkpoint.Tensor
	row       func(i int) arch.GGUFRow // where a GGUF has them; nil: in t, in order
}

// read returns the elements in some rows and columns, row by row.
func (r reader) read(rows, cols []int) ([]float32, error) {
	if r.row != nil {
		return r.gather(rows, cols)
	}
	out := make([]float32, 0, len(rows)*len(cols))
	buf := make([]float32, sampleRun*r.width)
	for len(rows) > 0 {
		n := 1
		for n < min(len(rows), sampleRun) && rows[n] == rows[0]+n {
			n++
		}
		if err := r.neighbours(rows[0], buf[:n*r.width]); err != nil {
			return nil, err
		}
		for k := range n {
			out = pick(out, buf[k*r.width:], cols)
		}
		rows = rows[n:]
	}
	return out, nil
}

func pick(out, row []float32, cols []int) []float32 {
	for _, j := range cols {
		out = append(out, row[j])
	}
	return out
}

// neighbours fills dst with rows from first on.
func (r reader) neighbours(first int, dst []float32) error {
	if r.quantised != nil {
		p := make([]byte, 4*len(dst))
		if err := r.quantised.Read(r.w.ck, p, 4*int64(first)*int64(r.width)); err != nil {
			return err
		}
		dtype.ToFloat32(dtype.F32, dst, p)
		return nil
	}
	return r.w.stored(r.t, int64(first)*int64(r.width), dst)
}

// stored fills dst from an element of a tensor on: of blocks, whole ones.
func (w *weights) stored(t checkpoint.Tensor, at int64, dst []float32) error {
	if f := t.Format; f != nil {
		elements, size := f.Block()
		p := make([]byte, len(dst)/elements*size)
		if err := w.ck.ReadAt(t, p, at/int64(elements)*int64(size)); err != nil {
			return err
		}
		f.Dequantise(dst, p)
		return nil
	}
	size := t.DType.Bits() / 8
	p := make([]byte, len(dst)*size)
	if err := w.ck.ReadAt(t, p, at*int64(size)); err != nil {
		return err
	}
	dtype.ToFloat32(t.DType, dst, p)
	return nil
}

// foreign is the error for a checkpoint without any of the weights that the
// registered seals move.
func foreign(path string) error {
	return fault.New(fault.Unsupported, "%s holds none of the weights that the registered seals move, in name and shape: it is another architecture, or stored in a way that is not known", path).
		WithHint("convert it to safetensors with the names that transformers uses, or compare neuroseal inspect of both")
}
