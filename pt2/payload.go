package pt2

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"path"
	"slices"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// payload is where a buffer's or a constant's values stand in the archive.
type payload struct {
	file    string // raw bytes of a storage; "" where the value is inline
	inline  string // base64 of zlib of the elements, from the exporter script
	pickled bool
	dtype   int
	shape   []int
	strides []int
	offset  int
}

// payloadConfig is data/weights/NAME_weights_config.json.
type payloadConfig struct {
	Config map[string]struct {
		Path    string      `json:"path_name"`
		Pickled bool        `json:"use_pickle"`
		Meta    *tensorMeta `json:"tensor_meta"`
	} `json:"config"`
}

// readPayloads lists the tensors that torch 2.7 and later store as raw bytes.
func (p *Program) readPayloads(a *archive, model string) error {
	for _, dir := range []string{"weights", "constants"} {
		name := fmt.Sprintf("data/%s/%s_%s_config.json", dir, model, dir)
		if _, ok := a.files[name]; !ok {
			continue
		}
		var c payloadConfig
		if err := a.json(name, &c); err != nil {
			return err
		}
		for tensor, e := range c.Config {
			if e.Meta == nil {
				continue
			}
			pl := payload{file: path.Join("data", dir, e.Path), pickled: e.Pickled, dtype: e.Meta.DType}
			var err error
			if pl.shape, err = e.Meta.sizes(); err == nil {
				pl.strides, err = dims(e.Meta.Strides)
			}
			if off, ok := e.Meta.Offset.number(); err != nil || !ok || off < 0 || len(pl.strides) != len(pl.shape) {
				return fault.New(fault.Unsupported, "%s: tensor %s has no fixed layout", name, tensor)
			} else if off <= maxPayload {
				pl.offset = int(off)
			}
			p.payloads[tensor] = pl
		}
	}
	return nil
}

// complexConstant is a constant with a real and perhaps an imaginary part.
type complexConstant struct{ re, im *fold.Tensor }

// constant reads a tensor's values. Whatever is stored as a pickle is refused.
func (p *Program) constant(name string) (complexConstant, error) {
	var none complexConstant
	pl, ok := p.payloads[name]
	if !ok {
		return none, fault.New(fault.Unsupported, "the archive does not hold the values of buffer %s", name).
			WithHint("export with the script that `neuroseal graph script` prints: it keeps them")
	}
	if pl.pickled {
		return none, fault.Wrap(fault.Unsupported, errPickled, "buffer %s", name).
			WithHint("export with the script that `neuroseal graph script` prints")
	}
	raw, err := p.raw(pl)
	if err != nil {
		return none, fault.Wrap(fault.Unsupported, err, "buffer %s", name)
	}
	c, err := decode(raw, pl)
	if err != nil {
		return none, fault.Wrap(fault.Unsupported, err, "buffer %s", name)
	}
	return c, nil
}

func (p *Program) raw(pl payload) ([]byte, error) {
	if pl.file != "" {
		return p.archive.read(pl.file, maxPayload)
	}
	packed, err := base64.StdEncoding.DecodeString(pl.inline)
	if err != nil {
		return nil, err
	}
	n := fold.MaxElements * 8
	if count, ok := fold.Size(pl.shape); ok {
		n = min(n, count*16)
	}
	z, err := zlib.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, int64(n)+1))
}

// decode turns a storage into a constant.
func decode(raw []byte, pl payload) (complexConstant, error) {
	var none complexConstant
	count, ok := fold.Size(pl.shape)
	if !ok || count > fold.MaxElements {
		return none, fmt.Errorf("shape %v has more than %d elements", pl.shape, fold.MaxElements)
	}
	kind, known := kindOf(pl.dtype)
	width := widths[pl.dtype]
	if !known || width == 0 {
		return none, fmt.Errorf("element type %d is unknown", pl.dtype)
	}
	parts := 1
	if pl.dtype >= typeComplexHalf && pl.dtype <= typeComplex {
		parts = 2
	}
	out := [2]*fold.Tensor{}
	for i := range parts {
		t, err := fold.New(kind, pl.shape...)
		if err != nil {
			return none, err
		}
		out[i] = t
	}
	strides := pl.strides
	if strides == nil {
		strides = rowMajor(pl.shape)
	}
	for i := range count {
		at, rest := pl.offset, i
		for a := len(pl.shape) - 1; a >= 0; a-- {
			at += rest % pl.shape[a] * strides[a]
			rest /= pl.shape[a]
		}
		if at < 0 || at >= len(raw)/(width*parts) {
			return none, fmt.Errorf("element %d of shape %v lies beyond its %d bytes", i, pl.shape, len(raw))
		}
		for j := range parts {
			set(out[j], i, pl.dtype, raw[(at*parts+j)*width:])
		}
	}
	return complexConstant{out[0], out[1]}, nil
}

func rowMajor(shape []int) []int {
	out := slices.Clone(shape)
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		out[i], n = n, n*shape[i]
	}
	return out
}

// widths are bytes per element, of a complex number per part.
var widths = map[int]int{
	1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 2, 10: 4, 11: 8, 12: 1, 13: 2, 28: 2, 34: 4, 35: 8,
}

func set(t *fold.Tensor, i, typ int, b []byte) {
	le := binary.LittleEndian
	var f [1]float32
	switch typ {
	case typeBool:
		if b[0] != 0 {
			t.I[i] = 1
		}
	case 1:
		t.I[i] = int64(b[0])
	case 2:
		t.I[i] = int64(int8(b[0]))
	case 3:
		t.I[i] = int64(int16(le.Uint16(b)))
	case 28:
		t.I[i] = int64(le.Uint16(b))
	case 4:
		t.I[i] = int64(int32(le.Uint32(b)))
	case 34:
		t.I[i] = int64(le.Uint32(b))
	case 5, 35:
		t.I[i] = int64(le.Uint64(b))
	case 6, typeComplexHalf:
		dtype.ToFloat32(dtype.F16, f[:], b[:2])
		t.F[i] = float64(f[0])
	case 13:
		dtype.ToFloat32(dtype.BF16, f[:], b[:2])
		t.F[i] = float64(f[0])
	case 7, typeComplexFloat:
		t.F[i] = float64(math.Float32frombits(le.Uint32(b)))
	default:
		t.F[i] = math.Float64frombits(le.Uint64(b))
	}
}
