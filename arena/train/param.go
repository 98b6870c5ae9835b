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
	Data    []float32 // in rows
	Grad    []float32 // of the last step; nil unless Trained
	Trained bool
	Adapter bool    // not in the checkpoint
	LRScale float64 // factor on the learning rate (LoRA+)
	Hidden  bool    // a matrix between hidden layers, for Muon

	init func(p *Param, weight func(name string) []float32)
}

func (p *Param) size() int { return count(p.Shape) }

func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// load reads a checkpoint's tensor as float32, a chunk at a time.
func (p *Param) load(src probe.Source) error {
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
	p.Data = make([]float32, n)
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
