package train

import (
	"bytes"
	"fmt"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// sameTies returns an error if the checkpoint holds two tensors with different
// values that the network takes for one: runtimes differ in which they load.
func (n *net) sameTies(src probe.Source) error {
	for second, first := range n.alias {
		_, a, ok1 := src.Weight(first)
		_, b, ok2 := src.Weight(second)
		if !ok1 || !ok2 {
			continue // only one of them is stored
		}
		same := a == b
		x, y := make([]byte, min(a, 1<<20)), make([]byte, min(a, 1<<20))
		for at := int64(0); at < a && same; at += int64(len(x)) {
			k := min(int64(len(x)), a-at)
			if err := src.ReadWeight(first, x[:k], at); err != nil {
				return fmt.Errorf("tensor %s: %w", first, err)
			}
			if err := src.ReadWeight(second, y[:k], at); err != nil {
				return fmt.Errorf("tensor %s: %w", second, err)
			}
			same = bytes.Equal(x[:k], y[:k])
		}
		if !same {
			return fault.New(fault.Unsupported, "tensors %s and %s are tied, but differ", first, second).
				WithHint("set tie_word_embeddings to false in config.json if they are not meant to be one")
		}
	}
	return nil
}
