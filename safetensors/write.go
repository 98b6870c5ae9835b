package safetensors

import (
	"cmp"
	"encoding/binary"
	"io"
	"maps"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Tensor is a tensor to write: a description, of which Begin and End are
// ignored, and the data.
type Tensor struct {
	TensorInfo
	Data []byte
}

// Write writes a file as the reference writer does: tensors ordered by element
// type, widest first, then by name; the JSON without spaces and padded to a
// multiple of 8 bytes. Metadata keys, which the reference writes in random
// order, are sorted, so equal input gives equal bytes. A nil metadata map
// leaves __metadata__ out.
func Write(w io.Writer, metadata map[string]string, tensors []Tensor) error {
	infos := make([]TensorInfo, len(tensors))
	data := make(map[string][]byte, len(tensors))
	for i, t := range tensors {
		infos[i], data[t.Name] = t.TensorInfo, t.Data
	}
	h, err := NewHeader(metadata, infos)
	if err != nil {
		return err
	}
	for _, t := range h.Tensors {
		if int64(len(data[t.Name])) != t.Size() {
			return fault.New(fault.Mismatch, "tensor %q: %d bytes of data, %v of shape %v takes %d",
				t.Name, len(data[t.Name]), t.DType, t.Shape, t.Size())
		}
	}
	if _, err := w.Write(h.Raw); err != nil {
		return err
	}
	for _, i := range h.Order {
		if _, err := w.Write(data[h.Tensors[i].Name]); err != nil {
			return err
		}
	}
	return nil
}

// NewHeader lays tensors out as Write does; their Begin and End are ignored.
// A caller that streams a large file writes Raw, then the data in Order.
func NewHeader(metadata map[string]string, tensors []TensorInfo) (*Header, error) {
	h := &Header{Metadata: maps.Clone(metadata), Tensors: slices.Clone(tensors)}
	slices.SortStableFunc(h.Tensors, func(a, b TensorInfo) int {
		return cmp.Or(cmp.Compare(rank(b.DType), rank(a.DType)), cmp.Compare(a.Name, b.Name))
	})
	if err := h.place(); err != nil {
		return nil, err
	}
	h.Raw = h.appendRaw(nil)
	h.DataStart = int64(len(h.Raw))
	if h.DataStart-lengthBytes > MaxHeader {
		return nil, fault.New(fault.Unsupported, "header of %d bytes, the format allows %d", h.DataStart-lengthBytes, MaxHeader).
			WithHint("split the checkpoint into more shards")
	}
	return h, h.checkLayout()
}

// rank orders types as the reference implementation's enumeration does, which
// is its sort key. Only C64, which it puts before F64, stands elsewhere here.
func rank(d dtype.DType) int {
	if d == dtype.C64 {
		return 2*int(dtype.F32) + 1
	}
	return 2 * int(d)
}

// place gives the tensors consecutive offsets in their order.
func (h *Header) place() error {
	names := make(map[string]struct{}, len(h.Tensors))
	var end int64
	for i := range h.Tensors {
		t := &h.Tensors[i]
		if err := checkName(t.Name, names); err != nil {
			return err
		}
		if t.DType == dtype.Invalid || t.DType.Bits() == 0 {
			return inTensor(fault.New(fault.Unsupported, "no element type"), t.Name)
		}
		for _, d := range t.Shape {
			if d < 0 {
				return inTensor(fault.New(fault.Mismatch, "shape %v is negative", t.Shape), t.Name)
			}
		}
		size, err := t.bytes()
		if err != nil {
			return inTensor(err, t.Name)
		}
		if t.Begin, t.End = end, end+size; t.End < end {
			return inTensor(fault.New(fault.Mismatch, "the file's size overflows 63 bits"), t.Name)
		}
		end = t.End
	}
	return nil
}

func checkName(name string, names map[string]struct{}) error {
	if _, dup := names[name]; dup || name == metadataKey {
		return fault.New(fault.Mismatch, "two tensors or a reserved name: %q", name)
	}
	if !utf8.ValidString(name) {
		return fault.New(fault.Mismatch, "tensor name %q is not valid UTF-8", name)
	}
	names[name] = struct{}{}
	return nil
}

func (h *Header) appendRaw(b []byte) []byte {
	b = append(b, make([]byte, lengthBytes)...)
	sep := byte('{')
	if h.Metadata != nil {
		b = appendMetadata(append(b, sep), h.Metadata)
		sep = ','
	}
	for i := range h.Tensors {
		b = appendTensor(append(b, sep), &h.Tensors[i])
		sep = ','
	}
	if sep == '{' {
		b = append(b, sep)
	}
	b = append(b, '}')
	for len(b)%8 != 0 {
		b = append(b, ' ')
	}
	binary.LittleEndian.PutUint64(b, uint64(len(b)-lengthBytes))
	return b
}

func appendMetadata(b []byte, metadata map[string]string) []byte {
	b = append(b, `"`+metadataKey+`":{`...)
	for i, k := range slices.Sorted(maps.Keys(metadata)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, k)
		b = append(b, ':')
		b = appendString(b, metadata[k])
	}
	return append(b, '}')
}

func appendTensor(b []byte, t *TensorInfo) []byte {
	b = appendString(b, t.Name)
	b = append(b, `:{"dtype":"`...)
	b = append(b, t.DType.String()...)
	b = append(b, `","shape":[`...)
	for i, d := range t.Shape {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(d), 10)
	}
	b = append(b, `],"data_offsets":[`...)
	b = strconv.AppendInt(b, t.Begin, 10)
	b = append(b, ',')
	b = strconv.AppendInt(b, t.End, 10)
	return append(b, ']', '}')
}

// appendString appends s as the reference writer's JSON library does: only what
// JSON demands is escaped.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	short := map[byte]byte{'"': '"', '\\': '\\', '\b': 'b', '\f': 'f', '\n': 'n', '\r': 'r', '\t': 't'}
	b = append(b, '"')
	for i := range len(s) {
		c := s[i]
		if e, ok := short[c]; ok {
			b = append(b, '\\', e)
		} else if c < 0x20 {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return append(b, '"')
}
