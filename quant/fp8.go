package quant

import (
	"encoding/json"
	"fmt"

	"github.com/neuroseal/neuroseal/gauge"
)

// fineGrained reads DeepSeek's FP8: blocks of weight_block_size, activations in
// groups as wide as a block, whose scale the runtime finds for each token.
func fineGrained(t *tensors, raw json.RawMessage) error {
	var c struct {
		Block  []int  `json:"weight_block_size"`
		Scheme string `json:"activation_scheme"`
		Format string `json:"fmt"`
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return err
	}
	if c.Format != "" && c.Format != "e4m3" && c.Format != "float8_e4m3fn" {
		return fmt.Errorf("fmt %q", c.Format)
	}
	var act activations
	switch {
	case c.Scheme != "" && c.Scheme != "dynamic":
		act.still = true
	case len(c.Block) == 2 && c.Block[0] > 0 && c.Block[1] > 0:
		act.block = c.Block[1]
	case c.Block == nil:
		act.block = -1
	default:
		return fmt.Errorf("weight_block_size %v", c.Block)
	}
	for _, base := range t.bases(".weight_scale_inv") {
		if err := t.scaled(base, base+".weight_scale_inv", nil, act); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
		w := t.found[len(t.found)-1]
		w.Format = "fine-grained FP8"
		if len(c.Block) == 2 {
			for a, n := range w.Shape {
				b := w.part(a).Block
				if b != c.Block[a] && w.parts(a) != (n+c.Block[a]-1)/c.Block[a] {
					return fmt.Errorf("%s: blocks of %d along axis %d, weight_block_size is %v", base, b, a, c.Block)
				}
				w.setBlock(a, min(c.Block[a], n))
			}
		}
	}
	return t.some()
}

// setBlock replaces the partition of an axis into blocks.
func (w *Weight) setBlock(axis, block int) {
	for i, p := range w.Parts {
		if p.Axis == axis {
			w.Parts[i] = gauge.Partition{Axis: axis, Block: block}
			return
		}
	}
}
