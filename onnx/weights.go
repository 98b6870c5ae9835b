package onnx

import (
	"encoding/binary"
	"errors"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Weight is a tensor of floating-point numbers whose bytes can be edited in
// place: an initialiser, or the value of a Constant node.
type Weight struct {
	Name  string
	DType dtype.DType
	Shape []int
	File  int // 0: the model file; else an external data file
	// Offset is where the data begins in that file, and Size its length, both
	// in bytes.
	Offset, Size int64
}

// Weights returns the tensors that may be weights, in the order of the file.
// One-element tensors are constants and no weights; of two that share their
// bytes, the first counts. The slice must not be changed.
func (m *Model) Weights() []Weight { return m.weights }

// list fills weights: the initialisers of the graph, and the values of its
// Constant nodes, which have the name of the node's output.
func (m *Model) list() error {
	m.leaf = map[*tensorProto]int{}
	names := map[string]bool{}
	shared := map[place]int{}
	elsewhere := m.elsewhere()
	add := func(name string, t *tensorProto) error {
		p := m.places[t]
		d := dtypes[t.elem]
		shape, err := t.shape()
		if err != nil {
			return err
		}
		if n, _ := fold.Size(shape); !p.flat || !d.Scalable() || n < 2 || elsewhere[p] || t.external["checksum"] != "" {
			return nil
		}
		if i, ok := shared[p]; ok {
			m.leaf[t] = i
			return nil
		}
		if name == "" || names[name] {
			return fault.New(fault.Mismatch, "two tensors are called %q", name)
		}
		names[name] = true
		shared[p], m.leaf[t] = len(m.weights), len(m.weights)
		m.weights = append(m.weights, Weight{name, d, shape, p.file, p.off, p.size})
		return nil
	}
	for _, t := range m.proto.graph.tensors {
		if err := add(t.name, t); err != nil {
			return err
		}
	}
	for _, n := range m.proto.graph.nodes {
		if n.op != "Constant" || n.domain != "" || len(n.out) != 1 {
			continue
		}
		for _, a := range n.attrs {
			if a.name == "value" && a.t != nil {
				if err := add(n.out[0], a.t); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// elsewhere returns where tensors of subgraphs and functions lie: bytes that
// are not edited, as those are not lowered as weights.
func (m *Model) elsewhere() map[place]bool {
	top := map[*tensorProto]bool{}
	for _, t := range m.proto.graph.tensors {
		top[t] = true
	}
	for _, n := range m.proto.graph.nodes {
		for _, a := range n.attrs {
			if n.op == "Constant" && n.domain == "" && a.t != nil {
				top[a.t] = true
			}
		}
	}
	out := map[place]bool{}
	for t, p := range m.places {
		if !top[t] {
			out[p] = true
		}
	}
	return out
}

// constant loads a small tensor.
func (m *Model) constant(t *tensorProto) (*fold.Tensor, error) {
	kind, ok := kindOf(t.elem)
	if !ok {
		return nil, fault.New(fault.Unsupported, "tensor %q: element type %d as a constant", t.name, t.elem)
	}
	shape, err := t.shape()
	if err != nil {
		return nil, err
	}
	out, err := fold.New(kind, shape...)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "tensor %q", t.name)
	}
	p := m.places[t]
	if p.size > int64(out.Len())*10 {
		return nil, fault.New(fault.Mismatch, "tensor %q has %d bytes for %d elements", t.name, p.size, out.Len())
	}
	data := make([]byte, p.size)
	if p.size > 0 {
		if n, err := m.files[p.file].r.ReadAt(data, p.off); n < len(data) && !errors.Is(err, io.EOF) {
			return nil, fault.Wrap(fault.General, err, "reading tensor %q", t.name)
		}
	}
	if !p.flat {
		if data, err = unpack(data, t.elem, out.Len()); err != nil {
			return nil, fault.Wrap(fault.Mismatch, err, "tensor %q", t.name)
		}
	}
	if err := decode(out, dtypes[t.elem], data); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "tensor %q", t.name)
	}
	return out, nil
}

// unpack turns packed varints into the bytes that raw_data would hold.
func unpack(data []byte, elem int64, n int) ([]byte, error) {
	width := dtypes[elem].Bits() / 8
	out := make([]byte, 0, n*width)
	for len(data) > 0 {
		v, k := protowire.ConsumeVarint(data)
		if k < 0 {
			return nil, protowire.ParseError(k)
		}
		data = data[k:]
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		out = append(out, b[:width]...)
	}
	return out, nil
}

// decode fills a constant from raw bytes.
func decode(out *fold.Tensor, d dtype.DType, data []byte) error {
	width := d.Bits() / 8
	if len(data) != out.Len()*width {
		return fault.New(fault.Mismatch, "%d bytes for %d elements of %v", len(data), out.Len(), d)
	}
	if d == dtype.F64 {
		for i := range out.F {
			out.F[i] = math.Float64frombits(binary.LittleEndian.Uint64(data[8*i:]))
		}
		return nil
	}
	if d.Scalable() {
		f := make([]float32, out.Len())
		dtype.ToFloat32(d, f, data)
		for i, v := range f {
			out.F[i] = float64(v)
		}
		return nil
	}
	for i := range out.I {
		out.I[i] = integer(d, data[i*width:])
	}
	return nil
}

func integer(d dtype.DType, b []byte) int64 {
	switch d {
	case dtype.BOOL:
		return min(int64(b[0]), 1)
	case dtype.U8:
		return int64(b[0])
	case dtype.I8:
		return int64(int8(b[0]))
	case dtype.U16:
		return int64(binary.LittleEndian.Uint16(b))
	case dtype.I16:
		return int64(int16(binary.LittleEndian.Uint16(b)))
	case dtype.U32:
		return int64(binary.LittleEndian.Uint32(b))
	case dtype.I32:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	}
	return int64(binary.LittleEndian.Uint64(b))
}
