package quant

import (
	"math"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// narrow is a format of scales that have a byte each.
type narrow struct {
	name   string
	number [256]float32
	code   map[float32]byte
	d      dtype.DType
}

// The formats of scales. Each element is a block by itself.
var (
	e8m0 = newNarrow("E8M0", dtype.F8E8M0, func(b byte) float32 {
		if b == 0xFF {
			return float32(math.NaN())
		}
		return float32(math.Ldexp(1, int(b)-127))
	})
	e4m3 = newNarrow("E4M3", dtype.F8E4M3, fromE4M3)
)

// fromE4M3 reads the variant without infinities.
func fromE4M3(b byte) float32 {
	e, m := int(b>>3&15), float64(b&7)
	x := math.Ldexp(m/8+1, e-7)
	switch {
	case b&0x7F == 0x7F:
		x = math.NaN()
	case e == 0:
		x = math.Ldexp(m/8, -6)
	}
	if b&0x80 != 0 {
		x = -x
	}
	return float32(x)
}

func newNarrow(name string, d dtype.DType, f func(byte) float32) *narrow {
	n := &narrow{name: name, code: map[float32]byte{}, d: d}
	for b := range 256 {
		x := f(byte(b))
		n.number[b] = x
		if x == x && x != 0 {
			n.code[x] = byte(b)
		}
	}
	return n
}

func (n *narrow) String() string               { return n.name }
func (n *narrow) Block() (elements, bytes int) { return 1, 1 }
func (n *narrow) ScaleType() dtype.DType       { return n.d }

func (n *narrow) Dequantise(dst []float32, blocks []byte) {
	for i, b := range blocks {
		dst[i] = n.number[b]
	}
}

// Scale multiplies by 2^e. Zeros and NaN keep their bits.
func (n *narrow) Scale(blocks []byte, e int) (bad int) {
	var to [256]int16 // -1: not representable
	for b := range to {
		to[b] = int16(b)
		if x := n.number[b]; x == x && x != 0 && e != 0 {
			to[b] = -1
			if c, ok := n.code[float32(math.Ldexp(float64(x), e))]; ok {
				to[b] = int16(c)
			}
		}
	}
	for i, b := range blocks {
		if to[b] < 0 {
			return i
		}
		blocks[i] = byte(to[b])
	}
	return -1
}

// Room returns by how much all of the scales may move.
func (n *narrow) Room(blocks []byte) (lo, hi int) {
	var seen [256]bool
	for _, b := range blocks {
		seen[b] = true
	}
	const far = 512
	lo, hi = -far, far
	for b, s := range seen {
		x := float64(n.number[b])
		if !s || x != x || x == 0 {
			continue
		}
		fits := func(e int) bool {
			_, ok := n.code[float32(math.Ldexp(x, e))]
			return ok
		}
		for e := 0; e > lo; e-- {
			if !fits(e - 1) {
				lo = e
			}
		}
		for e := 0; e < hi; e++ {
			if !fits(e + 1) {
				hi = e
			}
		}
	}
	return lo, hi
}

// Narrow returns the formats of those tensors of a checkpoint that hold scales
// of a byte each: MXFP4's, NVFP4's and those of MLX's modes of small floats.
func Narrow(ck *checkpoint.Checkpoint) map[string]checkpoint.Format {
	var out map[string]checkpoint.Format
	set := func(name string, f checkpoint.Format) {
		if out == nil {
			out = map[string]checkpoint.Format{}
		}
		out[name] = f
	}
	for _, t := range ck.Tensors() {
		if t.DType != dtype.U8 && t.DType != dtype.F8E8M0 && t.DType != dtype.F8E4M3 {
			continue
		}
		if base, ok := strings.CutSuffix(t.Name, "_scales"); ok && t.DType != dtype.F8E4M3 {
			if _, there := ck.Tensor(base + "_blocks"); there {
				set(t.Name, e8m0)
			}
		}
		if base, ok := strings.CutSuffix(t.Name, ".weight_scale"); ok && nvfp4Codes(ck, base) && t.DType == dtype.F8E4M3 {
			set(t.Name, e4m3)
		}
		if base, ok := strings.CutSuffix(t.Name, ".scales"); ok && t.DType == dtype.U8 {
			if f := mlxScales(ck, t, base); f != nil {
				set(t.Name, f)
			}
		}
	}
	return out
}

// nvfp4Codes reports whether a module's codes are pairs of four bits.
func nvfp4Codes(ck *checkpoint.Checkpoint, base string) bool {
	for _, name := range []string{base + ".weight_packed", base + ".weight"} {
		if t, ok := ck.Tensor(name); ok && t.DType == dtype.U8 {
			return true
		}
	}
	return false
}
