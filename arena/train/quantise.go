package train

import (
	"math"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// The formats of Options.Base: how the frozen linear maps are stored, as
// bitsandbytes has it and transformers loads it. The output head and everything
// that is no linear map stays as it is. What is quantised is frozen: train
// adapters on it.
//
// The engine computes with the dequantised values, which it keeps as float32
// (rounded to bfloat16 with Options.BF16): results are those of the format, memory
// is not. With Int8 the weights are bitsandbytes', by way of float16, while
// activations are not rounded to eight bits as its kernels do.
const (
	NF4   = "nf4"    // blocks of 64, one float32 scale each
	NF4DQ = "nf4-dq" // the scales in eight bits: double quantisation
	Int8  = "int8"   // LLM.int8(): one scale for each output
)

const (
	nf4Block   = 64
	scaleBlock = 256
)

var nf4Code = [16]float32{-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
	-0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634,
	0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1}

// NF4Numbers returns the sixteen numbers that NormalFloat4's codes stand for, of
// a block whose largest magnitude is 1. Source: bitsandbytes' create_normal_map.
func NF4Numbers() [16]float32 { return nf4Code }

// quantise marks what a base of that format holds quantised.
func (n *net) quantise(base string) error {
	switch base {
	case "":
		return nil
	case NF4, NF4DQ, Int8:
	default:
		return fault.New(fault.Usage, "unknown format %q of the base", base).WithHint("known: nf4, nf4-dq, int8; empty for none")
	}
	for i := range n.nodes {
		x := &n.nodes[i]
		if x.Op != graph.OpLinear {
			continue
		}
		p := n.nodes[x.In[1]].param
		if p == nil || p.Adapter || p.Name == n.head {
			continue
		}
		if p.Trained {
			return fault.New(fault.Usage, "tensor %s: it cannot be trained in format %s", p.Name, base).
				WithHint("train adapters, norms, the embedding or the head")
		}
		p.base, p.flipped = base, x.Transposed
	}
	return nil
}

// quantise rounds the values to the format of the base.
func (p *Param) quantise() {
	w, rows := p.Data, p.Shape[0]
	if p.flipped {
		w = make([]float32, len(w))
		transpose(w, p.Data, rows, len(w)/rows)
		rows = len(w) / rows
	}
	switch p.base {
	case Int8:
		roundInt8(w, rows)
	case NF4:
		code, scales := QuantiseNF4(w)
		fromNF4(w, code, scales)
	case NF4DQ:
		code, scales := QuantiseNF4(w)
		roundScales(scales, mean(scales))
		fromNF4(w, code, scales)
	}
	if p.flipped {
		transpose(p.Data, w, rows, len(w)/rows)
	}
}

// QuantiseNF4 returns the NF4 codes of w, one to a byte, and the largest magnitude
// of each block of 64. As in
// bitsandbytes the values of a whole block are multiplied by a reciprocal, those
// of a last, partial one are divided.
func QuantiseNF4(w []float32) (code []byte, scales []float32) {
	code = make([]byte, len(w))
	var bounds [15]float32
	for i := range bounds {
		bounds[i] = (nf4Code[i] + nf4Code[i+1]) / 2
	}
	for at := 0; at < len(w); at += nf4Block {
		block := w[at:min(at+nf4Block, len(w))]
		top := largest(block)
		least := max(top, 1e-38)
		inverse := 1 / least
		for i, v := range block {
			x := v * inverse
			if len(block) < nf4Block {
				x = v / least
			}
			k := 15 // of what is no number, too
			if x == x {
				k, _ = slices.BinarySearch(bounds[:], x)
			}
			code[at+i] = byte(k)
		}
		if len(block) < nf4Block {
			top = least
		}
		scales = append(scales, top)
	}
	return code, scales
}

func fromNF4(w []float32, code []byte, scales []float32) {
	for i, k := range code {
		w[i] = nf4Code[k] * scales[i/nf4Block]
	}
}

// largest is the largest magnitude; NaN if there is one.
func largest(x []float32) float32 {
	var top float32
	for _, v := range x {
		top = max(top, float32(math.Abs(float64(v))))
	}
	return top
}

// mean is rounded once. bitsandbytes sums in float32, in an order that depends on
// the processor, so its mean may differ in the last place.
func mean(x []float32) float32 {
	sum := 0.0
	for _, v := range x {
		sum += float64(v)
	}
	return float32(sum / float64(len(x)))
}

// roundScales rounds scales to eight bits in blocks, less their mean.
func roundScales(scales []float32, mean float32) {
	t := dynamicCode()
	for at := 0; at < len(scales); at += scaleBlock {
		block := scales[at:min(at+scaleBlock, len(scales))]
		var top float32
		for i, v := range block {
			block[i] = v - mean
			if a := float32(math.Abs(float64(block[i]))); a > top {
				top = a
			}
		}
		inverse := 1 / top
		for i, v := range block {
			if top == 0 {
				block[i] = mean // its code is the first, times nothing
				continue
			}
			block[i] = float32(t.code[t.nearest[place(v*inverse)]]*top) + mean
		}
	}
}

// place is the entry of a value of [-1, 1] in the table that bitsandbytes' CPU
// kernels look codes up in.
func place(x float32) uint16 {
	x = min(max(x, -1), 1)
	return uint16(float32((x+1)*0.5*math.MaxUint16) + 0.5)
}

type dynamic struct {
	code    [256]float32
	nearest [1 << 16]byte
}

// dynamicCode is bitsandbytes' dynamic map: per decade 10⁻⁶…1 and sign, the
// centres of 1, 2, 4, … 64 equal parts of [0.1, 1] of it; and 0 and 1.
var dynamicCode = sync.OnceValue(func() *dynamic {
	values := []float32{0, 1}
	const low, high = float32(0.1), float32(1)
	for i := range 7 {
		parts := 1 << i
		step := float64((high - low) / float32(parts))
		edge := func(k int) float32 {
			if k < (parts+1)/2 {
				return float32(float64(low) + step*float64(k))
			}
			return float32(float64(high) - step*float64(parts-k))
		}
		for k := range parts {
			centre := (edge(k) + edge(k+1)) / 2
			v := float32(math.Pow10(i-6)) * centre
			values = append(values, v, -v)
		}
	}
	slices.Sort(values)
	t := new(dynamic)
	copy(t.code[:], values)
	k := 0
	for i := range t.nearest {
		x := -1 + float32(2*float32(i)/math.MaxUint16)
		for k < 255 && (t.code[k]+t.code[k+1])*0.5 < x {
			k++
		}
		t.nearest[i] = byte(k)
	}
	return t
})

// roundInt8 rounds each row to 127 steps of its largest magnitude, by way of
// float16: what leaves its range becomes no number, as on a GPU.
func roundInt8(w []float32, rows int) {
	dtype.RoundF16(w)
	cols := len(w) / rows
	for r := range rows {
		row := w[r*cols : (r+1)*cols]
		top := largest(row)
		up, down := 127*(1/top), top*(1/float32(127)) // PyTorch divides a number by a tensor so
		for i, v := range row {
			q := math.RoundToEven(float64(v * up))
			if q != q {
				q = 0
			}
			row[i] = float32(int8(q)) * down // an integer has no negative zero
		}
	}
}
