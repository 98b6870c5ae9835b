package quant

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// e2m1 are the numbers of MXFP4's and NVFP4's codes.
var e2m1 = [16]float32{
	0, 0.5, 1, 1.5, 2, 3, 4, 6,
	float32(math.Copysign(0, -1)), -0.5, -1, -1.5, -2, -3, -4, -6,
}

// mxfp4 reads gpt-oss's experts: [experts, out, in/32] blocks of 16 bytes, which
// the network sees as [experts, in, out].
func mxfp4(t *tensors, _ json.RawMessage) error {
	for _, base := range t.bases("_blocks") {
		codes, _ := t.own(base + "_blocks")
		scale, ok := t.own(base + "_scales")
		s := codes.Shape
		if !ok || scale.Format != e8m0 || codes.DType != dtype.U8 || len(s) != 4 || s[3] != 16 || len(scale.Shape) != 3 {
			return fmt.Errorf("%s: blocks %v of %v, scales %v", base, s, codes.DType, scale.Shape)
		}
		n, out, parts := s[0], s[1], s[2]
		w := &Weight{
			Name: base, Shape: []int{n, 32 * parts, out}, Format: "MXFP4",
			Parts:  []gauge.Partition{{Axis: 1, Block: 32}},
			Scales: []Scale{{Tensor: scale.Name, View: []int{n, out, parts}, Axis: []int{0, 2, 1}, High: 3, Low: -1}},
		}
		w.rows = func(src Source, first, count int, dst []float32) error {
			return expertRows(src, codes, scale, first, count, dst)
		}
		t.found = append(t.found, w)
	}
	return t.some()
}

// expertRows dequantises rows of [experts, in, out] from blocks along in.
func expertRows(src Source, codes, scale checkpoint.Tensor, first, count int, dst []float32) error {
	out, parts := codes.Shape[1], codes.Shape[2]
	in := 32 * parts
	for count > 0 {
		e, i := first/in, first%in
		n := min(count, in-i)
		lo, hi := i/32, (i+n-1)/32+1 // blocks
		for o := range out {
			at := (e*out+o)*parts + lo
			p, err := bytesOf(src, codes.Name, 16*at, 16*(hi-lo))
			if err != nil {
				return err
			}
			s, err := floats(src, scale, at, hi-lo)
			if err != nil {
				return err
			}
			for k := range n {
				j := i + k - 32*lo
				dst[k*out+o] = e2m1[code(p, j, 4)] * s[j/32]
			}
		}
		dst, first, count = dst[n*out:], first+n, count-n
	}
	return nil
}

// modelopt reads NVIDIA's NVFP4 and its FP8 with one scale for a tensor.
func modelopt(t *tensors, raw json.RawMessage) error {
	var c struct {
		Algo string `json:"quant_algo"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	if !slices.Contains([]string{"NVFP4", "W4A16_NVFP4", "FP8"}, c.Algo) { // W4A16: without scales of the input
		return fmt.Errorf("quant_algo %q; NVFP4, W4A16_NVFP4 and FP8 are known", c.Algo)
	}
	for _, base := range t.bases(".weight_scale") {
		var err error
		if _, ok := t.ck.Tensor(base + ".weight_scale_2"); ok {
			err = t.nvfp4(base, base+".weight", base+".weight_scale_2", false, base+".input_scale", activations{})
		} else {
			err = t.scaled(base, base+".weight_scale", nil, nil, activations{})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
	}
	return t.some()
}

// nvfp4 reads a weight [out, in] in blocks of 16 whose scales are E4M3, times (or
// divided by) a global scale. With a stored scale of the input, the runtime
// quantises activations into blocks whose own scales are E4M3, too: these have
// no room that could be known beforehand, so the input stays.
func (t *tensors) nvfp4(base, codesName, globalName string, divide bool, inputName string, act activations) error {
	scale, _ := t.own(base + ".weight_scale")
	codes, ok1 := t.own(codesName)
	global, ok2 := t.own(globalName)
	if _, ok := t.own(inputName); ok || act.block != 0 {
		act = activations{still: true}
	}
	if !ok1 || !ok2 || codes.DType != dtype.U8 || scale.Format != e4m3 || global.DType != dtype.F32 || global.Elements() != 1 || len(codes.Shape) != 2 {
		return fmt.Errorf("codes, scales or the global scale are missing or of another type")
	}
	p, err := t.bytes(global, 4)
	if err != nil {
		return err
	}
	var g [1]float32
	dtype.ToFloat32(dtype.F32, g[:], p)
	factor := float64(g[0])
	if divide {
		factor = 1 / factor
	}
	if !(factor > 0) || math.IsInf(factor, 0) {
		return fmt.Errorf("global scale %g", g[0])
	}
	out, in := codes.Shape[0], 2*codes.Shape[1]
	w := &Weight{Name: base + ".weight", Shape: []int{out, in}, Format: "NVFP4", Parts: []gauge.Partition{{Axis: 1, Block: 16}}}
	_, e := math.Frexp(factor)
	w.Scales = []Scale{{Tensor: scale.Name, View: []int{out, in / 16}, Axis: []int{0, 1}, High: 3 + e, Low: -2 + e}}
	w.rows = func(src Source, first, n int, dst []float32) error {
		p, err := bytesOf(src, codes.Name, first*in/2, n*in/2)
		if err != nil {
			return err
		}
		return perRow(src, scale, in/16, in, first, n, dst, func(row int, dst, s []float32) error {
			line := p[(row-first)*in/2:]
			for i := range dst {
				x := s[i/16]
				if divide {
					x /= g[0]
				} else {
					x *= g[0]
				}
				dst[i] = e2m1[code(line, i, 4)] * x
			}
			return nil
		})
	}
	act.apply(w)
	t.found = append(t.found, w)
	return nil
}
