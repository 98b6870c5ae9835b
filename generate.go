package neuroseal

import (
	"context"
	"slices"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// Generate continues a sequence of token ids greedily by n tokens, in fp32. It
// runs the whole network for every token: for small models, to look at.
func Generate(ctx context.Context, path string, tokens []int, n int) ([]int, error) {
	if len(tokens) == 0 {
		return nil, fault.New(fault.Usage, "generation needs at least one token to start from")
	}
	m, err := openModel(path, arch.Options{Tokens: len(tokens), AllowUnsealed: true})
	if err != nil {
		return nil, err
	}
	defer m.ck.Close()
	if g := m.net.Graph; m.net.Vocab == 0 || g.Tokens == 0 || len(g.Outputs) == 0 || !slices.Equal(g.Shape(g.Outputs[0]), []int{g.Tokens, m.net.Vocab}) {
		return nil, fault.New(fault.Unsupported, "a %s network does not continue a text", m.net.Type)
	}
	seq := append([]int(nil), tokens...)
	for range n {
		m.opt.Tokens = len(seq)
		if err := m.build(); err != nil {
			return nil, err
		}
		out, err := probe.Run(ctx, m.net.Graph, m, probe.Options{Tokens: seq})
		if err != nil {
			return nil, err
		}
		logits := out[0][len(out[0])-m.net.Vocab:]
		best := 0
		for i, v := range logits {
			if v > logits[best] {
				best = i
			}
		}
		seq = append(seq, best)
	}
	return seq[len(tokens):], nil
}
