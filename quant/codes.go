package quant

import (
	"math"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// Quantiser is somebody else's block quantiser, as far as it decides codes and
// scales. Factors of a power of two that are constant on its blocks, and under
// which its scales stay exact, leave its codes as they are.
type Quantiser struct {
	Name  string
	Block int         // elements that share a scale, along the last axis
	Scale dtype.DType // in which the scale is stored

	// encode writes a block's codes and returns its scales as they are stored.
	encode func(codes []byte, x []float32) [2]float32
}

// Quantisers returns the quantisers that a sealed checkpoint may meet later:
// llama.cpp's reference Q8_0, Q4_0 and Q4_1, bitsandbytes' NF4, and rounding to
// nearest in groups as compressed-tensors, GPTQ and AWQ start from.
func Quantisers() []Quantiser {
	return []Quantiser{
		{"Q8_0", 32, dtype.F16, q8_0},
		{"Q4_0", 32, dtype.F16, q4_0},
		{"Q4_1", 32, dtype.F16, q4_1},
		{"NF4", 64, dtype.F32, nf4},
		{"int8-g128", 128, dtype.F16, symmetric(127.5)},
		{"int4-g128", 128, dtype.F16, symmetric(7.5)},
	}
}

// Difference counts in how many blocks of two versions of a weight a quantiser
// finds other codes, or scales that differ by something else than a power of two.
type Difference struct {
	Blocks, Codes, Scales int64
}

// Compare quantises whole blocks of both versions, which are equally long.
func (q Quantiser) Compare(a, b []float32) (d Difference) {
	x, y := make([]byte, q.Block), make([]byte, q.Block)
	for i := 0; i+q.Block <= len(a); i += q.Block {
		s, t := q.encode(x, a[i:i+q.Block]), q.encode(y, b[i:i+q.Block])
		d.Blocks++
		if string(x) != string(y) {
			d.Codes++
		}
		if !power(s[0], t[0]) || !power(s[1], t[1]) {
			d.Scales++
		}
	}
	return d
}

// Add adds what other weights gave.
func (d *Difference) Add(o Difference) {
	d.Blocks, d.Codes, d.Scales = d.Blocks+o.Blocks, d.Codes+o.Codes, d.Scales+o.Scales
}

// power reports whether two scales differ by a power of two.
func power(a, b float32) bool {
	if a == 0 || b == 0 || math.IsInf(float64(a), 0) || math.IsInf(float64(b), 0) {
		return a == b
	}
	f, _ := math.Frexp(float64(a))
	g, _ := math.Frexp(float64(b))
	return f == g
}

// half rounds a scale to fp16.
func half(x float32) float32 {
	v := [1]float32{x}
	dtype.RoundF16(v[:])
	return v[0]
}

// inverse is 1/d, and 0 for 0, as llama.cpp has it.
func inverse(d float32) float32 {
	if d == 0 {
		return 0
	}
	return 1 / d
}

// q8_0 is quantize_row_q8_0_ref.
func q8_0(codes []byte, x []float32) [2]float32 {
	d := absmax(x) / 127
	id := inverse(d)
	for i, v := range x {
		codes[i] = byte(int8(math.Round(float64(v * id)))) // half away from zero
	}
	return [2]float32{half(d)}
}

// q4_0 is quantize_row_q4_0_ref.
func q4_0(codes []byte, x []float32) [2]float32 {
	var most, signed float32
	for _, v := range x {
		if a := abs(v); a > most {
			most, signed = a, v
		}
	}
	d := signed / -8
	id := inverse(d)
	for i, v := range x {
		w := float32(v*id) + 8.5 // rounded in between, as llama.cpp's is
		codes[i] = byte(min(15, int8(w)))
	}
	return [2]float32{half(d)}
}

// q4_1 is quantize_row_q4_1_ref.
func q4_1(codes []byte, x []float32) [2]float32 {
	lo, hi := x[0], x[0]
	for _, v := range x {
		lo, hi = min(lo, v), max(hi, v)
	}
	d := (hi - lo) / 15
	id := inverse(d)
	for i, v := range x {
		w := float32((v-lo)*id) + 0.5
		codes[i] = byte(min(15, int8(w)))
	}
	return [2]float32{half(d), half(lo)}
}

// nf4Levels are the quantiles of bitsandbytes' normal float.
var nf4Levels = [16]float32{
	-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
	-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
	0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
	0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
}

// nf4 is bitsandbytes' quantize_4bit: the nearest level of x/absmax.
func nf4(codes []byte, x []float32) [2]float32 {
	m := absmax(x)
	id := inverse(m)
	for i, v := range x {
		n := v * id
		k := 0
		for k < 15 && n > (nf4Levels[k]+nf4Levels[k+1])/2 {
			k++
		}
		codes[i] = byte(k)
	}
	return [2]float32{m}
}

// symmetric rounds to nearest, ties to even, by a scale of absmax/steps.
func symmetric(steps float32) func([]byte, []float32) [2]float32 {
	low, high := float64(-steps-0.5), float64(steps-0.5)
	return func(codes []byte, x []float32) [2]float32 {
		s := half(absmax(x) / steps)
		for i, v := range x {
			var n float64
			if s != 0 {
				n = math.RoundToEven(float64(v / s))
			}
			codes[i] = byte(int8(min(max(n, low), high)))
		}
		return [2]float32{s}
	}
}

func absmax(x []float32) (m float32) {
	for _, v := range x {
		m = max(m, abs(v))
	}
	return m
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
