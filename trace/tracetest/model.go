// Package tracetest does to sealed checkpoints what others do to a copy that
// they were given: train it on, merge adapters, prune, convert, quantise, and
// average it with another. What it makes is read by tests and by tools/trace.
package tracetest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/safetensors"
)

// Tensor is a tensor in memory.
type Tensor struct {
	Name  string
	DType dtype.DType // as which it is stored
	Shape []int
	Data  []float32
}

// Model is a small checkpoint in memory.
type Model struct {
	Config  []byte // config.json
	Tensors []Tensor
}

// Load reads a checkpoint of floats.
func Load(dir string) (*Model, error) {
	ck, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	m := &Model{Config: ck.ConfigJSON()}
	for _, t := range ck.Tensors() {
		buf := make([]byte, t.Size)
		if err := ck.ReadAt(t, buf, 0); err != nil {
			return nil, err
		}
		x := Tensor{Name: t.Name, DType: t.DType, Shape: t.Shape, Data: make([]float32, t.Elements())}
		dtype.ToFloat32(t.DType, x.Data, buf)
		m.Tensors = append(m.Tensors, x)
	}
	return m, nil
}

// Write makes a folder of config.json and model.safetensors.
func (m *Model) Write(dir string) error {
	var list []safetensors.Tensor
	for _, t := range m.Tensors {
		buf := make([]byte, len(t.Data)*t.DType.Bits()/8)
		dtype.FromFloat32(t.DType, buf, t.Data)
		list = append(list, safetensors.Tensor{TensorInfo: safetensors.TensorInfo{Name: t.Name, DType: t.DType, Shape: t.Shape}, Data: buf})
	}
	return write(dir, m.Config, list)
}

func write(dir string, config []byte, list []safetensors.Tensor) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), config, 0o666); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "model.safetensors"))
	if err != nil {
		return err
	}
	defer f.Close()
	return safetensors.Write(f, map[string]string{"format": "pt"}, list)
}

// matrix reports whether runtimes treat a tensor as a linear map's weight.
func (t *Tensor) matrix() bool { return len(t.Shape) == 2 }

// As stores all tensors as another type.
func (m *Model) As(d dtype.DType) {
	for i := range m.Tensors {
		m.Tensors[i].DType = d
	}
}

// Prune sets a share of every matrix to zero: the smallest elements, or random
// ones.
func (m *Model) Prune(share float64, smallest bool, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range m.Tensors {
		t := &m.Tensors[i]
		if !t.matrix() {
			continue
		}
		size := make([]float64, len(t.Data))
		for k, v := range t.Data {
			size[k] = random.Float64()
			if smallest {
				size[k] = math.Abs(float64(v))
			}
		}
		sorted := slices.Clone(size)
		slices.Sort(sorted)
		limit := sorted[int(share*float64(len(sorted)))]
		for k := range t.Data {
			if size[k] < limit {
				t.Data[k] = 0
			}
		}
	}
}

// Average replaces every weight by its mean in both models.
func (m *Model) Average(o *Model) error {
	for i := range m.Tensors {
		a, b := &m.Tensors[i], &o.Tensors[i]
		if a.Name != b.Name || len(a.Data) != len(b.Data) {
			return fmt.Errorf("tensors %s and %s do not match", a.Name, b.Name)
		}
		for k := range a.Data {
			a.Data[k] = (a.Data[k] + b.Data[k]) / 2
		}
	}
	return nil
}

// Take replaces the tensors that choose accepts by another model's.
func (m *Model) Take(o *Model, choose func(name string) bool) {
	for i := range m.Tensors {
		if choose(m.Tensors[i].Name) {
			m.Tensors[i].Data = o.Tensors[i].Data
		}
	}
}

// Weight and ReadWeight make a model the source of a network's weights.
func (m *Model) Weight(name string) (dtype.DType, int64, bool) {
	t := m.tensor(name)
	if t == nil {
		return dtype.Invalid, 0, false
	}
	return dtype.F32, 4 * int64(len(t.Data)), true
}

// ReadWeight fills p from byte off of a tensor in fp32 on.
func (m *Model) ReadWeight(name string, p []byte, off int64) error {
	t := m.tensor(name)
	if t == nil || off+int64(len(p)) > 4*int64(len(t.Data)) {
		return fmt.Errorf("tensor %s has no bytes %d to %d", name, off, off+int64(len(p)))
	}
	for i := 0; i < len(p); i += 4 {
		binary.LittleEndian.PutUint32(p[i:], math.Float32bits(t.Data[(off+int64(i))/4]))
	}
	return nil
}

func (m *Model) tensor(name string) *Tensor {
	for i := range m.Tensors {
		if m.Tensors[i].Name == name {
			return &m.Tensors[i]
		}
	}
	return nil
}

// Changed is the median, over all matrices' elements, of how much they differ
// from another model's, relative to these.
func (m *Model) Changed(o *Model) float64 {
	var all []float64
	for i := range m.Tensors {
		if t := &m.Tensors[i]; t.matrix() {
			for k := 0; k < len(t.Data); k += 17 {
				if was := float64(o.Tensors[i].Data[k]); was != 0 {
					all = append(all, math.Abs(float64(t.Data[k])-was)/math.Abs(was))
				}
			}
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
}
