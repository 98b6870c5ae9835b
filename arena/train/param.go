package train

import (
	"fmt"
	"hash/fnv"
	"math"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// Param is a tensor of the network: one of the checkpoint's, or an adapter's.
type Param struct {
	Name    string
	Shape   []int
	Data    []float32 // in rows; nil for what is frozen and kept as stored
	Grad    []float32 // of the last step; nil unless Trained
	Trained bool
	Adapter bool    // not in the checkpoint
	LRScale float64 // factor on the learning rate (LoRA+)
	Hidden  bool    // a matrix between hidden layers, for Muon

	stored []byte                                                          // bfloat16, in place of Data
	init   func(p *Param, seed uint64, weight func(name string) []float32) // fills Data

	module  string  // of an adapter: the tensor that its module is named after
	follows follows // of an adapter: its balanced coordinates
	merges  []merge // adapters of this tensor
	base    string  // how it is quantised
	flipped bool    // quantised as its transpose
}

func (p *Param) size() int { return count(p.Shape) }

// matrix returns the rows and columns; a vector is one row, and all but the last
// axis of more than two are rows.
func (p *Param) matrix() (rows, cols int) {
	n := p.size()
	if len(p.Shape) < 2 || n == 0 {
		return 1, n
	}
	cols = p.Shape[len(p.Shape)-1]
	return n / cols, cols
}

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// floats returns the values, widened if they are kept as stored.
func (p *Param) floats() []float32 {
	if p.stored == nil {
		return p.Data
	}
	x := make([]float32, p.size())
	dtype.ToFloat32(dtype.BF16, x, p.stored)
	return x
}

// load reads a checkpoint's tensor as float32, a chunk at a time, or BF16 as it is
// if asStored.
func (p *Param) load(src probe.Source, asStored bool) error {
	d, size, ok := src.Weight(p.Name)
	if !ok {
		return fault.New(fault.Unsupported, "tensor %s: not in the checkpoint", p.Name)
	}
	if !d.Scalable() {
		return fault.New(fault.Unsupported, "tensor %s: elements of type %v cannot be trained", p.Name, d).
			WithHint("give the checkpoint in BF16, F16 or F32")
	}
	n, width := p.size(), d.Bits()/8
	if size != int64(n)*int64(width) {
		return fault.New(fault.Mismatch, "tensor %s: %d bytes, expected %d for %v of %v", p.Name, size, n*width, p.Shape, d)
	}
	if asStored && d == dtype.BF16 {
		p.stored = make([]byte, size)
		if err := src.ReadWeight(p.Name, p.stored, 0); err != nil {
			return fmt.Errorf("tensor %s: %w", p.Name, err)
		}
		return nil
	}
	if p.Data == nil {
		p.Data = make([]float32, n)
	}
	buf := make([]byte, min(n, 1<<18)*width)
	for at := 0; at < n; at += len(buf) / width {
		k := min(len(buf)/width, n-at)
		if err := src.ReadWeight(p.Name, buf[:k*width], int64(at)*int64(width)); err != nil {
			return fmt.Errorf("tensor %s: %w", p.Name, err)
		}
		dtype.ToFloat32(d, p.Data[at:at+k], buf[:k*width])
	}
	return nil
}

// uniform fills x with values of [-bound, bound): SplitMix64 of a counter that
// starts at the FNV-1a hash of the name plus the seed, so that any language can
// compute the same.
func uniform(x []float32, seed uint64, name string, bound float64) {
	at := start(seed, name)
	for i := range x {
		x[i] = float32((2*unit(at+uint64(i)) - 1) * bound)
	}
}

// normal fills x with standard normal values (Box-Muller), times sigma.
func normal(x []float32, seed uint64, name string, sigma float64) {
	at := start(seed, name)
	for i := range x {
		u, v := unit(at+2*uint64(i)), unit(at+2*uint64(i)+1)
		x[i] = float32(sigma * math.Sqrt(-2*math.Log(1-u)) * math.Cos(2*math.Pi*v))
	}
}

func start(seed uint64, name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64() + seed*0x9E3779B97F4A7C15
}

// unit is a value of [0, 1) with 24 random bits.
func unit(x uint64) float64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
	x = (x ^ (x >> 27)) * 0x94D049BB133111EB
	return float64((x^(x>>31))>>40) / (1 << 24)
}
