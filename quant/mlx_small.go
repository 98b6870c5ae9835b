package quant

import (
	"fmt"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// mlxMode is one of MLX's modes of small floats.
type mlxMode struct {
	format      string
	bits, group int
	scale       *narrow
	code        func(int) float32
	high, low   int // of the codes, as Scale has them
}

// mlxModes are by their names in a config. The group's size and the codes' bits
// are fixed by the mode.
var mlxModes = map[string]mlxMode{
	"mxfp4": {"MLX MXFP4", 4, 32, e8m0, fromE2M1, 3, -1},
	"mxfp8": {"MLX MXFP8", 8, 32, e8m0, func(c int) float32 { return e4m3.number[c] }, 9, -9},
	"nvfp4": {"MLX NVFP4", 4, 16, e4m3, fromE2M1, 3, -1},
}

func fromE2M1(c int) float32 { return e2m1[c] }

// mlxScales returns the format of MLX's scales of one byte, which the shapes
// show: codes of 4 bits in groups of 16 make two words for a scale, in groups of
// 32 four, and codes of 8 bits eight. nil: these are no such scales.
func mlxScales(ck *checkpoint.Checkpoint, scale checkpoint.Tensor, base string) checkpoint.Format {
	codes, ok := ck.Tensor(base + ".weight")
	if !ok || codes.DType != dtype.U32 || len(codes.Shape) != 2 || len(scale.Shape) != 2 || scale.Shape[1] == 0 {
		return nil
	}
	for _, m := range mlxModes {
		if codes.Shape[1]*32 == scale.Shape[1]*m.group*m.bits {
			return m.scale
		}
	}
	return nil
}

// small reads a weight [out, in] of small floats in groups along in.
func (t *tensors) small(base string, m mlxMode) error {
	scale, _ := t.own(base + ".scales")
	codes, ok := t.own(base + ".weight")
	if !ok || codes.DType != dtype.U32 || len(codes.Shape) != 2 || scale.Format != m.scale || len(scale.Shape) != 2 {
		return fmt.Errorf("weight or scales are missing or of another type")
	}
	out, parts := scale.Shape[0], scale.Shape[1]
	in := parts * m.group
	if codes.Shape[0] != out || codes.Shape[1]*32 != in*m.bits {
		return fmt.Errorf("weight %v and scales %v do not fit %s", codes.Shape, scale.Shape, m.format)
	}
	w := &Weight{
		Name: codes.Name, Shape: []int{out, in}, Format: m.format,
		Parts:  []gauge.Partition{{Axis: 1, Block: m.group}},
		Scales: []Scale{{Tensor: scale.Name, View: []int{out, parts}, Axis: []int{0, 1}, High: m.high, Low: m.low}},
	}
	w.rows = func(src Source, first, n int, dst []float32) error {
		stride := 4 * codes.Shape[1]
		p, err := bytesOf(src, codes.Name, first*stride, n*stride)
		if err != nil {
			return err
		}
		return perRow(src, scale, parts, in, first, n, dst, func(row int, dst, s []float32) error {
			line := p[(row-first)*stride:]
			for i := range dst {
				dst[i] = m.code(code(line, i, m.bits)) * s[i/m.group]
			}
			return nil
		})
	}
	t.found = append(t.found, w)
	return nil
}
