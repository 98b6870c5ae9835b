package quant

import (
	"encoding/json"
	"fmt"
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
	var blocks [][2]int
	switch {
	case c.Scheme != "" && c.Scheme != "dynamic":
		act.still = true
	case len(c.Block) == 2 && c.Block[0] > 0 && c.Block[1] > 0:
		act.block, blocks = c.Block[1], [][2]int{{c.Block[0], c.Block[1]}}
	case c.Block == nil:
		act.block = -1
	default:
		return fmt.Errorf("weight_block_size %v", c.Block)
	}
	for _, base := range t.bases(".weight_scale_inv") {
		if err := t.scaled(base, base+".weight_scale_inv", nil, blocks, act); err != nil {
			return fmt.Errorf("%s: %w", base, err)
		}
		t.found[len(t.found)-1].Format = "fine-grained FP8"
	}
	return t.some()
}
