package quant

import (
	"encoding/json"
	"fmt"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// mlx reads MLX's quantisation: code times scale plus bias in groups along the
// input, or in its other modes a small float times a scale of one byte. Modules
// may have bits and modes of their own.
func mlx(t *tensors, raw json.RawMessage) error {
	var c struct {
		Group int    `json:"group_size"`
		Bits  int    `json:"bits"`
		Mode  string `json:"mode"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	var each map[string]json.RawMessage
	if err := json.Unmarshal(raw, &each); err != nil {
		return err
	}
	for _, base := range t.bases(".scales") {
		o := c
		if own := each[base]; len(own) > 0 && own[0] == '{' {
			if err := json.Unmarshal(own, &o); err != nil {
				return fmt.Errorf("%s: %w", base, err)
			}
		}
		var err error
		if m, ok := mlxModes[o.Mode]; ok {
			err = t.small(base, m)
		} else if o.Mode == "" || o.Mode == "affine" {
			err = t.affine(base, o.Group, o.Bits)
		} else {
			err = fmt.Errorf("mode %q; affine, mxfp4, mxfp8 and nvfp4 are known", o.Mode)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return t.some()
}

func (t *tensors) affine(base string, group, bitsOf int) error {
	scale, _ := t.own(base + ".scales")
	bias, ok1 := t.own(base + ".biases")
	codes, ok2 := t.own(base + ".weight")
	if !ok1 || !ok2 || codes.DType != dtype.U32 || len(codes.Shape) != 2 || len(scale.Shape) != 2 || bias.DType != scale.DType {
		return fmt.Errorf("weight, scales or biases are missing or of another type")
	}
	if bitsOf < 2 || bitsOf > 8 || bitsOf == 7 || group < 1 {
		return fmt.Errorf("%d bits in groups of %d", bitsOf, group)
	}
	out, parts := scale.Shape[0], scale.Shape[1]
	in := parts * group
	if codes.Shape[0] != out || codes.Shape[1]*32 != in*bitsOf || bias.Elements() != scale.Elements() {
		return fmt.Errorf("weight %v and scales %v do not fit %d bits in groups of %d", codes.Shape, scale.Shape, bitsOf, group)
	}
	w := &Weight{
		Name: codes.Name, Shape: []int{out, in}, Format: fmt.Sprintf("MLX int%d", bitsOf),
		Parts: []gauge.Partition{{Axis: 1, Block: group}},
	}
	for _, s := range []checkpoint.Tensor{scale, bias} {
		w.Scales = append(w.Scales, Scale{Tensor: s.Name, View: []int{out, parts}, Axis: []int{0, 1}})
	}
	w.Scales[0].High = bitsOf
	w.rows = func(src Source, first, n int, dst []float32) error {
		stride := 4 * codes.Shape[1]
		p, err := bytesOf(src, codes.Name, first*stride, n*stride)
		if err != nil {
			return err
		}
		b, err := floats(src, bias, first*parts, n*parts)
		if err != nil {
			return err
		}
		return perRow(src, scale, parts, in, first, n, dst, func(row int, dst, s []float32) error {
			line := p[(row-first)*stride:]
			for i := range dst {
				v := float32(code(line, i, bitsOf)) * s[i/group]
				dst[i] = v + b[(row-first)*parts+i/group]
			}
			return nil
		})
	}
	t.found = append(t.found, w)
	return nil
}
