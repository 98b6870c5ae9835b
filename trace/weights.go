package trace

import (
	"fmt"
	"slices"

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
	path    string
	ck      *checkpoint.Checkpoint
	quant   *quant.Set           // quantised weights; nil: none
	aliases map[string]ggufAlias // the Hub's names of a GGUF's tensors
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
	w.aliases = aliasesOf(m)
	w.ck, err = m.Checkpoint()
	return err
}

func (w *weights) Close() error { return w.ck.Close() }

// find tells how a plan's tensor of a given shape can be read; ok is false if it
// cannot.
func (w *weights) find(name string, shape []int) (r reader, ok bool) {
	n := 1
	for _, d := range shape {
		n *= d
	}
	if n == 0 || len(shape) == 0 {
		return r, false
	}
	r = reader{w: w, width: shape[len(shape)-1]}
	if q := w.quant.Weight(name); q != nil {
		r.quantised = q
		return r, slices.Equal(q.Shape, shape)
	}
	stored := name
	if a, alias := w.aliases[name]; alias {
		stored, r.first, r.dim = a.stored, a.part*n, a.pairs
		if t, ok := w.ck.Tensor(stored); !ok || t.Elements() != int64(n)*int64(a.parts) {
			return r, false
		}
		if a.pairs > 0 && n/r.width%a.pairs != 0 {
			return r, false
		}
	}
	var there bool
	if r.t, there = w.ck.Tensor(stored); !there || !r.t.Scalable() {
		return r, false
	}
	if stored == name && r.t.Elements() != int64(n) {
		return r, false
	}
	// A plan may see a tensor of scales with more axes than it is stored with.
	plain := slices.Equal(r.t.Shape, shape)
	if !plain && stored == name && r.t.Format != nil {
		return r, false
	}
	if r.t.Format != nil {
		elements, _ := r.t.Format.Block()
		return r, r.width%elements == 0
	}
	return r, true
}

// reader reads the rows of a weight's last axis.
type reader struct {
	w         *weights
	width     int
	quantised *quant.Weight
	t         checkpoint.Tensor
	first     int // element at which it begins in the stored tensor
	dim       int // width of heads whose rotary pairs stand side by side; 0: they do not
}

// rows reads n rows of the last axis, counted over all leading axes, from row
// first on into dst.
func (r reader) rows(first, n int, dst []float32) error {
	if r.quantised != nil {
		p := make([]byte, 4*len(dst))
		if err := r.quantised.Read(r.w.ck, p, 4*int64(first)*int64(r.width)); err != nil {
			return err
		}
		dtype.ToFloat32(dtype.F32, dst, p)
		return nil
	}
	for k := range n {
		if err := r.row(first+k, dst[k*r.width:(k+1)*r.width]); err != nil {
			return err
		}
	}
	return nil
}

// row reads one row of a tensor that is stored by rows.
func (r reader) row(i int, dst []float32) error {
	if d := r.dim; d > 0 {
		head, at := i/d, i%d
		i = head*d + at%(d/2)*2 + at/(d/2)
	}
	at := int64(r.first) + int64(i)*int64(r.width)
	if f := r.t.Format; f != nil {
		elements, size := f.Block()
		p := make([]byte, r.width/elements*size)
		if err := r.w.ck.ReadAt(r.t, p, at/int64(elements)*int64(size)); err != nil {
			return err
		}
		f.Dequantise(dst, p)
		return nil
	}
	size := r.t.DType.Bits() / 8
	p := make([]byte, r.width*size)
	if err := r.w.ck.ReadAt(r.t, p, at*int64(size)); err != nil {
		return err
	}
	dtype.ToFloat32(r.t.DType, dst, p)
	return nil
}

// foreign is the error for a checkpoint without any of the weights that the
// registered seals move.
func foreign(path string) error {
	return fault.New(fault.Unsupported, "%s holds none of the weights that the registered seals move, in name and shape: it is another architecture, or stored in a way that is not known", path).
		WithHint("convert it to safetensors with the names that transformers uses, or compare neuroseal inspect of both")
}

func (r reader) String() string { return fmt.Sprintf("%s of %s", r.t.Name, r.w.path) }
