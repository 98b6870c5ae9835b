package onnx

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/fold"
)

// Element types of onnx.proto3.
const (
	elemFloat    = 1
	elemUint8    = 2
	elemInt8     = 3
	elemUint16   = 4
	elemInt16    = 5
	elemInt32    = 6
	elemInt64    = 7
	elemString   = 8
	elemBool     = 9
	elemFloat16  = 10
	elemDouble   = 11
	elemUint32   = 12
	elemUint64   = 13
	elemBfloat16 = 16
)

var dtypes = map[int64]dtype.DType{
	elemFloat: dtype.F32, elemUint8: dtype.U8, elemInt8: dtype.I8, elemUint16: dtype.U16, elemInt16: dtype.I16,
	elemInt32: dtype.I32, elemInt64: dtype.I64, elemBool: dtype.BOOL, elemFloat16: dtype.F16, elemDouble: dtype.F64,
	elemUint32: dtype.U32, elemUint64: dtype.U64, elemBfloat16: dtype.BF16, 17: dtype.F8E4M3, 18: dtype.F8E4M3FNUZ,
	19: dtype.F8E5M2, 20: dtype.F8E5M2FNUZ, 24: dtype.F8E8M0,
}

// subByte has the bits of types that pack several elements into a byte.
var subByte = map[int64]int64{21: 4, 22: 4, 23: 4, 25: 2, 26: 2}

// kindOf is how constants of a type are computed with; ok is false for types
// that are not.
func kindOf(elem int64) (k fold.Kind, ok bool) {
	switch elem {
	case elemBool:
		return fold.Bool, true
	case elemFloat, elemFloat16, elemBfloat16:
		return fold.Float, true
	case elemDouble:
		return fold.Double, true
	case elemUint8, elemInt8, elemUint16, elemInt16, elemInt32, elemInt64, elemUint32, elemUint64:
		return fold.Int, true
	}
	return 0, false
}

// place is where a tensor's data lie.
type place struct {
	file      int
	off, size int64
	// flat: the bytes are the elements in C order, little-endian. Otherwise they
	// are varints.
	flat bool
}

// shape returns the dimensions.
func (t *tensorProto) shape() ([]int, error) {
	out := make([]int, len(t.dims))
	for i, d := range t.dims {
		if d < 0 || d > math.MaxInt32 {
			return nil, fault.New(fault.Mismatch, "tensor %q has shape %v", t.name, t.dims)
		}
		out[i] = int(d)
	}
	if _, ok := fold.Size(out); !ok {
		return nil, fault.New(fault.Unsupported, "tensor %q of shape %v has 2^31 elements or more", t.name, t.dims)
	}
	return out, nil
}

// bytes returns the size of the data as raw bytes.
func (t *tensorProto) bytes() (int64, error) {
	shape, err := t.shape()
	if err != nil {
		return 0, err
	}
	n, _ := fold.Size(shape)
	bits := int64(dtypes[t.elem].Bits())
	if b, ok := subByte[t.elem]; ok {
		bits = b
	}
	return (int64(n)*bits + 7) / 8, nil
}

// locate finds the data of every tensor of the model.
func (m *Model) locate(open func(string) (dataFile, error)) error {
	return m.eachTensor(func(t *tensorProto) error {
		p, err := m.place(t, open)
		if err != nil {
			return err
		}
		m.places[t] = p
		return nil
	})
}

// eachTensor visits the tensors of the graph, its subgraphs and functions.
func (m *Model) eachTensor(visit func(*tensorProto) error) error {
	var graph func(*graphProto) error
	nodes := func(list []*nodeProto) error {
		for _, n := range list {
			for _, a := range n.attrs {
				if a.t != nil {
					if err := visit(a.t); err != nil {
						return err
					}
				}
				if a.g != nil {
					if err := graph(a.g); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	graph = func(g *graphProto) error {
		for _, t := range g.tensors {
			if err := visit(t); err != nil {
				return err
			}
		}
		return nodes(g.nodes)
	}
	if err := graph(m.proto.graph); err != nil {
		return err
	}
	for _, fn := range m.proto.functions {
		if err := nodes(fn.nodes); err != nil {
			return err
		}
	}
	return nil
}

func (m *Model) place(t *tensorProto, open func(string) (dataFile, error)) (place, error) {
	if t.elem == elemString {
		return place{}, nil
	}
	want, err := t.bytes()
	if err != nil {
		return place{}, err
	}
	switch {
	case t.outside:
		return m.placeOutside(t, want, open)
	case t.split:
		return place{}, fault.New(fault.Unsupported, "tensor %q is stored in pieces", t.name).
			WithHint("load and save the model with the onnx package, which stores it in one")
	case t.raw != nil:
		if got := t.raw.span.size(); got != want {
			return place{}, fault.New(fault.Mismatch, "tensor %q of shape %v has %d bytes, expected %d", t.name, t.dims, got, want)
		}
		return place{0, t.raw.span.off, want, true}, nil
	case t.typed != nil:
		return t.placeTyped(want)
	case want != 0:
		return place{}, fault.New(fault.Mismatch, "tensor %q of shape %v has no data", t.name, t.dims)
	}
	return place{flat: true}, nil
}

// placeTyped locates float_data and the like: packed floats are bytes in
// place, all else is varints.
func (t *tensorProto) placeTyped(want int64) (place, error) {
	s := t.typed.span
	field := map[int64]int{elemFloat: 4, elemDouble: 10, elemInt64: 7, elemUint32: 11, elemUint64: 11}[t.elem]
	if field == 0 {
		field = 5 // int32_data holds all smaller types
	}
	if int(t.typed.num) != field {
		return place{}, fault.New(fault.Mismatch, "tensor %q has its data in field %d, expected %d", t.name, t.typed.num, field)
	}
	if field != 4 && field != 10 {
		return place{0, s.off, s.size(), false}, nil
	}
	if s.size() != want {
		return place{}, fault.New(fault.Mismatch, "tensor %q of shape %v has %d bytes, expected %d", t.name, t.dims, s.size(), want)
	}
	return place{0, s.off, want, true}, nil
}

func (m *Model) placeOutside(t *tensorProto, want int64, open func(string) (dataFile, error)) (place, error) {
	name := t.external["location"]
	off, size := int64(0), want
	for key, to := range map[string]*int64{"offset": &off, "length": &size} {
		v, ok := t.external[key]
		if !ok || v == "" {
			continue
		}
		n, err := strconv.ParseInt(v, 10, 64)
		if err != nil || n < 0 {
			return place{}, fault.New(fault.Mismatch, "tensor %q: %s %q of its external data", t.name, key, v)
		}
		*to = n
	}
	if size != want {
		return place{}, fault.New(fault.Mismatch, "tensor %q of shape %v has %d bytes in %s, expected %d", t.name, t.dims, size, name, want)
	}
	i, ok := m.byName[name]
	if !ok {
		f, err := open(name)
		if err != nil {
			return place{}, fault.Wrap(fault.KindOf(err), err, "external data of tensor %q", t.name)
		}
		i = len(m.files)
		m.files = append(m.files, f)
		m.byName[name] = i
	}
	if f := m.files[i]; off > f.size || size > f.size-off {
		return place{}, fault.New(fault.Mismatch, "tensor %q lies at bytes %d to %d of %s, which has %d", t.name, off, off+size, name, f.size).
			WithHint("the download is incomplete; fetch the file again")
	}
	return place{i, off, size, true}, nil
}

// external opens an external data file. It must lie in the model's folder; a
// link may lead only to where the model file itself lies, as in the hub's cache.
func (m *Model) external(location string) (dataFile, error) {
	if err := atomicdir.CheckName(location); err != nil {
		return dataFile{}, err
	}
	if location == m.files[0].name {
		return dataFile{}, fault.New(fault.Mismatch, "%s names the model file itself", location)
	}
	path := filepath.Join(m.root, filepath.FromSlash(location))
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return dataFile{}, fault.New(fault.Mismatch, "file %s is missing", path).WithHint("put it beside the model file")
	}
	home, err1 := filepath.EvalSymlinks(m.root)
	model, err2 := filepath.EvalSymlinks(filepath.Join(m.root, m.files[0].name))
	if err := cmp.Or(err1, err2); err != nil {
		return dataFile{}, fault.Wrap(fault.General, err, "opening external data")
	}
	in, err1 := atomicdir.Within(real, home)
	beside, err2 := atomicdir.Within(real, filepath.Dir(model))
	if err1 != nil || err2 != nil || !in && !beside {
		return dataFile{}, fault.New(fault.Unsupported, "%s leads out of the model's folder, to %s", path, real).
			WithHint("do not trust this model; if the file is yours, copy it there")
	}
	f, err := os.Open(real)
	if err != nil {
		return dataFile{}, fault.Wrap(fault.General, err, "opening external data")
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		f.Close()
		return dataFile{}, fault.Wrap(fault.Unsupported, err, "opening external data")
	}
	return dataFile{location, info.Size(), f, f}, nil
}

// noOverlap refuses tensors that share some of their bytes. Those that share
// all of them are one tensor under two names.
func (m *Model) noOverlap() error {
	type at struct {
		t *tensorProto
		p place
	}
	var all []at
	for t, p := range m.places {
		if p.size > 0 {
			all = append(all, at{t, p})
		}
	}
	slices.SortFunc(all, func(a, b at) int {
		return cmp.Or(cmp.Compare(a.p.file, b.p.file), cmp.Compare(a.p.off, b.p.off), cmp.Compare(a.p.size, b.p.size), cmp.Compare(a.t.name, b.t.name))
	})
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if a.p.file != b.p.file || a.p.off+a.p.size <= b.p.off || a.p == b.p && a.t.elem == b.t.elem {
			continue
		}
		return fault.New(fault.Mismatch, "tensors %q and %q overlap in %s at byte %d", a.t.name, b.t.name, m.files[a.p.file].name, b.p.off)
	}
	return nil
}
