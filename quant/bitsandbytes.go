package quant

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// quantState is what bitsandbytes stores beside four-bit codes.
type quantState struct {
	Type    string   `json:"quant_type"`
	Block   int      `json:"blocksize"`
	Shape   []int    `json:"shape"`
	DType   string   `json:"dtype"`
	Nested  int      `json:"nested_blocksize"`
	Offset  *float64 `json:"nested_offset"`
	NestedD string   `json:"nested_dtype"`
}

const stateMark = ".quant_state.bitsandbytes__"

// bitsandbytes reads NF4 and FP4 with scales that are not quantised themselves,
// and LLM.int8().
func bitsandbytes(t *tensors, _ json.RawMessage) error {
	for _, x := range t.ck.Tensors() {
		if name, kind, ok := strings.Cut(x.Name, stateMark); ok {
			if err := t.fourBits(x, name, kind); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	for _, base := range t.bases(".SCB") {
		if err := t.eightBits(base); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	if len(t.found) == 0 {
		return fmt.Errorf("no weight is quantised: the checkpoint is quantised when it is loaded")
	}
	return nil
}

func (t *tensors) fourBits(state checkpoint.Tensor, name, kind string) error {
	text, err := t.bytes(state, 1<<16)
	if err != nil {
		return err
	}
	var q quantState
	if err := json.Unmarshal(text, &q); err != nil {
		return fmt.Errorf("quant_state: %w", err)
	}
	if kind != "nf4" && kind != "fp4" || q.Type != kind {
		return fmt.Errorf("quant_type %q", q.Type)
	}
	if q.Nested != 0 || q.Offset != nil {
		return fmt.Errorf("its scales are quantised themselves (double quantisation), around an offset that all of them share: no factor fits")
	}
	t.own(state.Name)
	absmax, ok1 := t.own(name + ".absmax")
	levels, ok2 := t.own(name + ".quant_map")
	codes, ok3 := t.own(name)
	if !ok1 || !ok2 || !ok3 || absmax.DType != dtype.F32 || levels.DType != dtype.F32 || levels.Elements() != 16 || codes.DType != dtype.U8 {
		return fmt.Errorf("codes, absmax or quant_map are missing or of another type")
	}
	n, err := product(q.Shape)
	if err != nil || len(q.Shape) < 1 || q.Block < 2 || q.Block%2 != 0 || n%2 != 0 || int64(n/2) != codes.Size || int64((n+q.Block-1)/q.Block) != absmax.Elements() {
		return fmt.Errorf("%d codes and %d scales for shape %v in blocks of %d", 2*codes.Size, absmax.Elements(), q.Shape, q.Block)
	}
	raw, err := t.bytes(levels, 64)
	if err != nil {
		return err
	}
	var table [16]float32
	dtype.ToFloat32(dtype.F32, table[:], raw)
	w := &Weight{Name: name, Shape: q.Shape, Format: "bitsandbytes " + strings.ToUpper(kind)}
	w.flat(q.Block, absmax)
	w.Scales[0].High, w.Scales[0].Low = extent(table[:])
	w.rows = func(src Source, first, n int, dst []float32) error {
		return flatRows(src, codes.Name, absmax, table, q.Block, first*w.width(), dst)
	}
	t.found = append(t.found, w)
	return nil
}

// flat lays out scales of blocks that ignore where rows end.
func (w *Weight) flat(block int, scale checkpoint.Tensor) {
	last := len(w.Shape) - 1
	s := Scale{Tensor: scale.Name}
	if w.width()%block == 0 {
		for a, n := range w.Shape {
			s.View, s.Axis = append(s.View, n), append(s.Axis, a)
		}
		s.View[last] /= block
		w.Parts = []gauge.Partition{{Axis: last, Block: block}}
	} else {
		// Blocks lie across rows: one factor for the whole weight.
		s.View = []int{int(scale.Elements())}
		for a, n := range w.Shape {
			s.Axis = append(s.Axis, -1)
			w.Parts = append(w.Parts, gauge.Partition{Axis: a, Block: n})
		}
	}
	w.Scales = []Scale{s}
}

// flatRows dequantises elements from number first on, of which each byte holds
// two, the first in its upper half.
func flatRows(src Source, codes string, absmax checkpoint.Tensor, table [16]float32, block, first int, dst []float32) error {
	from, to := first/2, (first+len(dst)+1)/2
	p, err := bytesOf(src, codes, from, to-from)
	if err != nil {
		return err
	}
	lo, hi := first/block, (first+len(dst)-1)/block
	s, err := floats(src, absmax, lo, hi-lo+1)
	if err != nil {
		return err
	}
	for i := range dst {
		at := first + i
		c := p[at/2-from]
		if at%2 == 0 {
			c >>= 4
		}
		dst[i] = table[c&15] * s[at/block-lo]
	}
	return nil
}

// extent returns the exponents between which the magnitudes of a table's
// numbers lie.
func extent(table []float32) (high, low int) {
	high, low = math.MinInt, math.MaxInt
	for _, x := range table {
		if x == 0 || x != x {
			continue
		}
		f, e := math.Frexp(math.Abs(float64(x)))
		low = min(low, e-1)
		if f == 0.5 {
			e--
		}
		high = max(high, e)
	}
	if high < low {
		return 0, 0
	}
	return high, low
}

// eightBits reads a weight of LLM.int8(): at run time, columns whose activations
// exceed a threshold are computed in fp16, so activations must stay.
func (t *tensors) eightBits(base string) error {
	scb, _ := t.own(base + ".SCB")
	codes, ok := t.own(base + ".weight")
	if format, ok := t.own(base + ".weight_format"); ok {
		if p, err := t.bytes(format, 64); err != nil || slices.ContainsFunc(p, func(b byte) bool { return b != 0 }) {
			return fmt.Errorf("weight_format is not row by row")
		}
	}
	if !ok || codes.DType != dtype.I8 || len(codes.Shape) != 2 || scb.DType != dtype.F32 {
		return fmt.Errorf("weight or SCB are missing or of another type")
	}
	out, in := codes.Shape[0], codes.Shape[1]
	w := &Weight{
		Name: codes.Name, Shape: codes.Shape, Format: "bitsandbytes int8", Still: true,
		Parts:  []gauge.Partition{{Axis: 1, Block: in}},
		Scales: []Scale{{Tensor: scb.Name, View: []int{out}, Axis: []int{0, -1}, High: 1, Low: -7}},
	}
	w.rows = func(src Source, first, n int, dst []float32) error {
		p, err := bytesOf(src, codes.Name, first*in, n*in)
		if err != nil {
			return err
		}
		return perRow(src, scb, 1, in, first, n, dst, func(row int, dst, s []float32) error {
			f := s[0] / 127
			for i := range dst {
				dst[i] = float32(int8(p[(row-first)*in+i])) * f
			}
			return nil
		})
	}
	t.found = append(t.found, w)
	return nil
}

// product multiplies dimensions of a file that may say anything.
func product(shape []int) (int, error) {
	n := 1
	for _, d := range shape {
		if d <= 0 || n > math.MaxInt32*64/d {
			return 0, fmt.Errorf("shape %v", shape)
		}
		n *= d
	}
	return n, nil
}
