package informed

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
)

// Tensor is one tensor of a model.
type Tensor struct {
	Name   string
	Shape  []int       // slowest axis first
	Stored dtype.DType // the type in the file that it came from
	Data   []float32   // in C order; nil where Stored is no float type

	raw []byte // the elements of a type that is not computed with
}

// Model is a checkpoint in memory, as float32, with its configuration. It is a
// probe.Source, so that package probe and arena/train can run it.
type Model struct {
	Type string // the config's model_type

	config  []byte
	tensors []*Tensor
	byName  map[string]*Tensor
	read    int64 // bytes of the files that it came from
	beside  []besideFile
}

// besideFile is a file of the folder that Save copies.
type besideFile struct{ rel, path string }

// Load reads a checkpoint: a folder, or one safetensors file with a config.json
// beside it. An architecture that package arch does not know, and weights that
// are quantised, give fault.Unsupported; config keys and tensors that nobody
// knows are taken on trust.
func Load(ctx context.Context, path string) (*Model, error) {
	ck, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	m := &Model{config: slices.Clone(ck.ConfigJSON()), byName: map[string]*Tensor{}}
	m.read = int64(len(m.config))
	for _, s := range ck.Shards() {
		m.read += s.Size
	}
	for _, t := range ck.Tensors() {
		x := &Tensor{Name: t.Name, Shape: slices.Clone(t.Shape), Stored: t.DType}
		m.tensors = append(m.tensors, x)
		m.byName[t.Name] = x
	}
	net, err := m.network(1)
	if err != nil {
		return nil, err
	}
	m.Type = net.Type
	for name := range net.Graph.Weights() {
		if d := m.byName[name].Stored; !d.Scalable() {
			return nil, fault.New(fault.Unsupported, "tensor %s is %v: only bf16, fp16, fp32 and fp64 weights can be transformed", name, d).
				WithHint("dequantise the checkpoint first")
		}
	}
	if err := m.fill(ctx, ck); err != nil {
		return nil, err
	}
	for _, f := range ck.OtherFiles() {
		if copied(f) {
			m.beside = append(m.beside, besideFile{f.Path, filepath.Join(ck.Root(), filepath.FromSlash(f.Path))})
		}
	}
	return m, nil
}

// copied reports whether Save takes a file over: not what may hold the weights
// once more, nor what Save writes itself, nor the record of a seal.
func copied(f checkpoint.File) bool {
	return !f.Sensitive() && f.Path != configName && f.Path != indexName && f.Path != manifest.Name
}

// fill reads the weights.
func (m *Model) fill(ctx context.Context, ck *checkpoint.Checkpoint) error {
	for _, t := range ck.Tensors() {
		if x := m.byName[t.Name]; t.DType.Scalable() {
			x.Data = make([]float32, t.Elements())
		} else {
			x.raw = make([]byte, t.Size)
		}
	}
	return ck.Each(ctx, 0, nil, func(t checkpoint.Tensor, start int64, buf []byte) error {
		x := m.byName[t.Name]
		if x.Data == nil {
			copy(x.raw[start*int64(t.DType.Bits())/8:], buf)
			return nil
		}
		dtype.ToFloat32(t.DType, x.Data[start:], buf)
		return nil
	})
}

// Config returns the model's config.json. It must not be changed.
func (m *Model) Config() []byte { return m.config }

// Tensors returns all tensors in the order of the files. The slice must not be
// changed; the tensors' data may be.
func (m *Model) Tensors() []*Tensor { return m.tensors }

// Tensor returns the tensor with the given name.
func (m *Model) Tensor(name string) (*Tensor, bool) {
	t, ok := m.byName[name]
	return t, ok
}

// BytesRead is the size of the files that the model was loaded from.
func (m *Model) BytesRead() int64 { return m.read }

// Build returns the model's forward pass.
func (m *Model) Build(opt arch.Options) (*arch.Model, error) {
	shapes := make(map[string][]int, len(m.tensors))
	for _, t := range m.tensors {
		shapes[t.Name] = t.Shape
	}
	return arch.Build(m.config, shapes, opt)
}

// network is the forward pass as an attacker takes it: what is not known is
// taken on trust, and every expert sees every token.
func (m *Model) network(tokens int) (*arch.Model, error) {
	return m.Build(arch.Options{Tokens: tokens, AllEx: true, AllowUnsealed: true})
}

// Clone returns a copy that shares nothing with m that may change.
func (m *Model) Clone() *Model {
	c := &Model{Type: m.Type, config: slices.Clone(m.config), read: m.read, beside: m.beside, byName: make(map[string]*Tensor, len(m.tensors))}
	for _, t := range m.tensors {
		x := &Tensor{Name: t.Name, Shape: t.Shape, Stored: t.Stored, Data: slices.Clone(t.Data), raw: t.raw}
		c.tensors = append(c.tensors, x)
		c.byName[x.Name] = x
	}
	return c
}

// Weight and ReadWeight make a model a probe.Source of float32 tensors.
func (m *Model) Weight(name string) (d dtype.DType, size int64, ok bool) {
	t, ok := m.byName[name]
	if !ok {
		return dtype.Invalid, 0, false
	}
	if t.Data == nil {
		return t.Stored, int64(len(t.raw)), true
	}
	return dtype.F32, 4 * int64(len(t.Data)), true
}

// ReadWeight fills p with a tensor's bytes from byte off on.
func (m *Model) ReadWeight(name string, p []byte, off int64) error {
	t, ok := m.byName[name]
	if !ok {
		return fault.New(fault.General, "no tensor %s", name)
	}
	_, size, _ := m.Weight(name)
	if off < 0 || off > size || int64(len(p)) > size-off || t.Data != nil && (off%4 != 0 || len(p)%4 != 0) {
		return fault.New(fault.General, "tensor %s: bytes %d to %d of %d", name, off, off+int64(len(p)), size)
	}
	if t.Data == nil {
		copy(p, t.raw[off:])
		return nil
	}
	for i, v := range t.Data[off/4:][:len(p)/4] {
		binary.LittleEndian.PutUint32(p[4*i:], math.Float32bits(v))
	}
	return nil
}

// number reads a numeric key of the config; ok is false where there is none.
func (m *Model) number(key string) (v float64, ok bool) {
	var raw map[string]json.RawMessage
	if json.Unmarshal(m.config, &raw) != nil || raw[key] == nil {
		return 0, false
	}
	return v, json.Unmarshal(raw[key], &v) == nil
}

// setConfig replaces keys of the config; all other values keep their text.
func (m *Model) setConfig(values map[string]any) error {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(m.config, &raw); err != nil {
		return fault.Wrap(fault.Mismatch, err, "config.json")
	}
	for k, v := range values {
		b, err := json.Marshal(v)
		if err != nil {
			return fault.Wrap(fault.General, err, "config.json: %s", k)
		}
		raw[k] = b
	}
	out, err := json.MarshalIndent(raw, "", "  ")
	if err != nil {
		return fault.Wrap(fault.General, err, "config.json")
	}
	m.config = append(out, '\n')
	return nil
}

// alike demands that two models hold the same tensors.
func alike(m, other *Model, what string) error {
	if len(m.tensors) != len(other.tensors) {
		return unlike(what, fmt.Sprintf("%d tensors, the victim has %d", len(other.tensors), len(m.tensors)))
	}
	for _, t := range m.tensors {
		o, ok := other.byName[t.Name]
		switch {
		case !ok:
			return unlike(what, "no tensor "+t.Name)
		case !slices.Equal(t.Shape, o.Shape) || (t.Data == nil) != (o.Data == nil):
			return unlike(what, fmt.Sprintf("tensor %s is %v of %v, the victim's is %v of %v", t.Name, o.Shape, o.Stored, t.Shape, t.Stored))
		}
	}
	return nil
}

func unlike(what, why string) error {
	return fault.New(fault.Usage, "the %s does not match the victim: %s", what, why).
		WithHint("give a checkpoint of the same architecture and size")
}
