package safetensors

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"os"
	"slices"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// ParseFile reads and checks the header of the file at path.
func ParseFile(path string) (*Header, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "opening safetensors file")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "reading safetensors file")
	}
	h, err := Parse(f, info.Size())
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "%s", path)
	}
	return h, nil
}

// Parse reads and checks the header of a file of size bytes. It reads the
// header only, and no more memory is used than a small multiple of its length,
// which is checked against size first. A file that breaks the format gives
// fault.Mismatch, an unknown element type fault.Unsupported.
func Parse(r io.ReaderAt, size int64) (*Header, error) {
	raw, err := readRaw(r, size)
	if err != nil {
		return nil, err
	}
	h, err := parseJSON(raw)
	if err != nil {
		return nil, err
	}
	if err := h.checkLayout(); err != nil {
		return nil, err
	}
	return h, h.checkSize(size)
}

func readRaw(r io.ReaderAt, size int64) ([]byte, error) {
	if size < lengthBytes {
		return nil, fault.New(fault.Mismatch, "file of %d bytes ends inside the header length, which takes %d", size, lengthBytes).
			WithHint("the file is truncated or is not a safetensors file; download it again")
	}
	var field [lengthBytes]byte
	if err := readFull(r, field[:], 0); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(field[:])
	if n > MaxHeader {
		return nil, fault.New(fault.Mismatch, "header length at byte 0 is %d, the format allows %d", n, MaxHeader).
			WithHint("the file is corrupt or is not a safetensors file")
	}
	if int64(n) > size-lengthBytes {
		return nil, fault.New(fault.Mismatch, "file ends at byte %d, inside the header, which ends at byte %d", size, n+lengthBytes).
			WithHint("the file is truncated; download it again")
	}
	raw := make([]byte, lengthBytes+n)
	copy(raw, field[:])
	return raw, readFull(r, raw[lengthBytes:], lengthBytes)
}

func readFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return fault.New(fault.Mismatch, "file ends at byte %d, inside the header", off+int64(n)).
			WithHint("the file is truncated; download it again")
	}
	return fault.Wrap(fault.General, err, "reading header at byte %d", off+int64(n))
}

func parseJSON(raw []byte) (*Header, error) {
	h := &Header{Raw: raw, DataStart: int64(len(raw))}
	s := &scanner{b: raw[lengthBytes:], base: lengthBytes, what: "header"}
	if len(s.b) == 0 || s.b[0] != '{' {
		return nil, s.errorf(0, "the header does not begin with '{'")
	}
	seen := make(map[string]struct{})
	err := s.object(func(key string, at int) error {
		if _, dup := seen[key]; dup {
			return s.errorf(at, "duplicate key %q", key)
		}
		seen[key] = struct{}{}
		if key == metadataKey {
			var err error
			h.Metadata, err = s.stringMap()
			return err
		}
		t, err := s.tensor(key)
		if err != nil {
			return inTensor(err, key)
		}
		h.Tensors = append(h.Tensors, t)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, s.end()
}

func inTensor(err error, name string) error {
	return fault.Wrap(fault.KindOf(err), err, "tensor %q", name)
}

func (s *scanner) stringMap() (map[string]string, error) {
	m := make(map[string]string)
	err := s.object(func(key string, at int) error {
		if _, dup := m[key]; dup {
			return s.errorf(at, "duplicate key %q in %s", key, metadataKey)
		}
		v, err := s.str()
		m[key] = v
		return err
	})
	return m, err
}

// tensor reads one tensor's description and checks its size.
func (s *scanner) tensor(name string) (TensorInfo, error) {
	t := TensorInfo{Name: name, Shape: []int{}}
	var seen [3]bool
	start := s.i
	err := s.object(func(key string, at int) error {
		field := slices.Index([]string{"dtype", "shape", "data_offsets"}, key)
		if field < 0 {
			return s.errorf(at, "unknown field %q", key)
		}
		if seen[field] {
			return s.errorf(at, "duplicate key %q", key)
		}
		seen[field] = true
		switch field {
		case 0:
			return s.dtype(&t)
		case 1:
			return s.shape(&t)
		default:
			return s.offsets(&t)
		}
	})
	if err != nil {
		return t, err
	}
	if !seen[0] || !seen[1] || !seen[2] {
		return t, s.errorf(start, "dtype, shape and data_offsets are not all there")
	}
	return t, t.checkSize()
}

func (s *scanner) dtype(t *TensorInfo) error {
	name, err := s.str()
	if err != nil {
		return err
	}
	d, ok := dtype.Parse(name)
	if !ok {
		return fault.New(fault.Unsupported, "unknown element type %q", name).
			WithHint("this version knows the types of safetensors 0.8; convert the tensor to one of them")
	}
	t.DType = d
	return nil
}

func (s *scanner) shape(t *TensorInfo) error {
	return s.array(func() error {
		at := s.i
		d, err := s.uint()
		if err != nil {
			return err
		}
		if d > math.MaxInt {
			return s.errorf(at, "dimension %d is too large for this machine", d)
		}
		t.Shape = append(t.Shape, int(d))
		return nil
	})
}

func (s *scanner) offsets(t *TensorInfo) error {
	at, n := s.i, 0
	var pair [2]int64
	err := s.array(func() error {
		v, err := s.uint()
		if err != nil {
			return err
		}
		if n == 2 {
			return s.errorf(at, "data_offsets has more than two numbers")
		}
		pair[n] = v
		n++
		return nil
	})
	if err != nil {
		return err
	}
	if n != 2 {
		return s.errorf(at, "data_offsets has %d numbers, not two", n)
	}
	if pair[0] > pair[1] {
		return s.errorf(at, "data_offsets end at %d, before they begin at %d", pair[1], pair[0])
	}
	t.Begin, t.End = pair[0], pair[1]
	return nil
}

// checkSize demands that the offsets span exactly what type and shape need.
func (t *TensorInfo) checkSize() error {
	size, err := t.bytes()
	if err != nil {
		return err
	}
	if size != t.End-t.Begin {
		return fault.New(fault.Mismatch, "%v of shape %v takes %d bytes, but data_offsets [%d, %d] span %d",
			t.DType, t.Shape, size, t.Begin, t.End, t.End-t.Begin)
	}
	return nil
}

// bytes returns the size that type and shape need.
func (t *TensorInfo) bytes() (int64, error) {
	bits := int64(t.DType.Bits())
	for _, d := range t.Shape {
		if d != 0 && bits > math.MaxInt64/int64(d) {
			return 0, fault.New(fault.Mismatch, "shape %v of %v overflows 63 bits", t.Shape, t.DType)
		}
		bits *= int64(d)
	}
	if bits%8 != 0 {
		return 0, fault.New(fault.Mismatch, "%v of shape %v takes %d bits, not whole bytes", t.DType, t.Shape, bits)
	}
	return bits / 8, nil
}
