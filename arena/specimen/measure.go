package specimen

import (
	"bytes"
	"context"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/probe"
)

// Loss is the mean loss, in nats per byte, of the checkpoint in dir over the
// first windows of a text, which do not overlap: a byte is predicted from those
// before it in its window. It computes in float32.
func Loss(ctx context.Context, dir string, text []byte, window, windows int) (float64, error) {
	f, err := open(dir, window)
	if err != nil {
		return 0, err
	}
	defer f.close()
	return network{f.net, f.ck}.loss(ctx, text, window, windows)
}

// ExpertShare tells, for every layer with experts and every expert in it, which
// part of the layer's choices it gets over the first windows of a text; every
// layer's parts sum to 1. It is empty for a model without experts.
func ExpertShare(ctx context.Context, dir string, text []byte, window, windows int) ([][]float64, error) {
	f, err := open(dir, window)
	if err != nil {
		return nil, err
	}
	defer f.close()
	return network{f.net, f.ck}.experts(ctx, text, window, windows)
}

// network is a forward pass with its weights.
type network struct {
	m   *arch.Model
	src probe.Source
}

// check refuses texts that the network cannot be asked about.
func (n network) check(text []byte, window, windows int) error {
	if window < 1 || windows < 1 || len(text) < window*windows+1 {
		return fault.New(fault.Usage, "%d windows of %d bytes cannot be taken from a text of %d bytes", windows, window, len(text))
	}
	if n.m.Vocab < Bytes {
		return fault.New(fault.Unsupported, "a vocabulary of %d: the tokens are not bytes", n.m.Vocab)
	}
	return nil
}

// evalBatch is how many windows are computed at once.
const evalBatch = 8

func (n network) loss(ctx context.Context, text []byte, window, windows int) (float64, error) {
	if err := n.check(text, window, windows); err != nil {
		return 0, err
	}
	size := min(evalBatch, windows)
	e, err := train.New(ctx, n.m.Graph, n.src, train.Options{Batch: size, Trainable: train.Trainable{Kind: train.Norms}})
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for at := 0; at < windows; at += size {
		if ctx.Err() != nil {
			return 0, fault.Wrap(fault.Interrupted, context.Cause(ctx), "measuring")
		}
		var b train.Batch
		for i := range size {
			w := min(at+i, windows-1) * window
			appendWindow(&b, text[w:w+window+1])
		}
		here := min(size, windows-at)
		for i := here * window; i < len(b.Targets); i++ {
			b.Targets[i] = -1 // fills the last batch up
		}
		l, err := e.Loss(b)
		if err != nil {
			return 0, err
		}
		sum += l * float64(here)
	}
	return sum / float64(windows), nil
}

func (n network) experts(ctx context.Context, text []byte, window, windows int) ([][]float64, error) {
	if err := n.check(text, window, windows); err != nil {
		return nil, err
	}
	layer := map[graph.ID]int{}
	var share [][]float64
	for i, x := range n.m.Graph.Nodes {
		if x.Op == graph.OpTopKMask {
			layer[graph.ID(i)] = len(share)
			share = append(share, make([]float64, x.Shape[1]))
		}
	}
	if len(share) == 0 {
		return nil, nil
	}
	for w := range windows {
		o := probe.Options{Tokens: ids(text[w*window : (w+1)*window]), Workers: 1, Observe: func(id graph.ID, x []float32) {
			l, ok := layer[id]
			if !ok {
				return
			}
			for i, v := range x {
				share[l][i%len(share[l])] += float64(v)
			}
		}}
		if _, err := probe.Run(ctx, n.m.Graph, n.src, o); err != nil {
			return nil, err
		}
	}
	for _, s := range share {
		total := 0.0
		for _, v := range s {
			total += v
		}
		for i := range s {
			s[i] /= total
		}
	}
	return share, nil
}

func ids(text []byte) []int {
	out := make([]int, len(text))
	for i, b := range text {
		out[i] = int(b)
	}
	return out
}

// greedy continues a prompt by the likeliest bytes to the end of its document,
// or of the window. What stands after a position does not count there, so one
// graph serves all lengths.
func (n network) greedy(ctx context.Context, prompt string, window int) (string, error) {
	text := []byte(prompt)
	for len(text) < window && !bytes.HasSuffix(text, []byte("\n\n")) {
		padded := make([]byte, window)
		copy(padded, text)
		out, err := probe.Run(ctx, n.m.Graph, n.src, probe.Options{Tokens: ids(padded), Workers: 1})
		if err != nil {
			return "", err
		}
		best, logits := 0, out[0][(len(text)-1)*n.m.Vocab:len(text)*n.m.Vocab]
		for i, v := range logits[:Bytes] {
			if v > logits[best] {
				best = i
			}
		}
		text = append(text, byte(best))
	}
	return string(text), nil
}
