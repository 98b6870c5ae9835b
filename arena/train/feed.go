package train

import (
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// tokenLimit is the smallest table that the tokens themselves are looked up in;
// vocab if there is none.
func (n *net) tokenLimit(vocab int) int {
	limit := 0
	for i := range n.nodes {
		x := &n.nodes[i]
		if x.Op != graph.OpEmbedding || !n.areTokens(x.In[1]) {
			continue
		}
		if v := n.shape(x.In[0])[0]; limit == 0 || v < limit {
			limit = v
		}
	}
	if limit == 0 {
		return vocab
	}
	return limit
}

// areTokens reports whether a value is the tokens, perhaps in another shape.
func (n *net) areTokens(id graph.ID) bool {
	for n.nodes[id].Op == graph.OpReshape {
		id = n.nodes[id].In[0]
	}
	return n.nodes[id].Op == graph.OpTokens
}

// set checks a batch and puts it in place, after the virtual tokens.
func (e *Engine) set(b Batch) error {
	t, r, p := e.net.tokens, e.net.rows, e.net.prefix
	if len(b.Tokens) != e.o.Batch*(t-p) || len(b.Targets) != e.o.Batch*(r-p) {
		return fault.New(fault.Usage, "a batch of %d tokens and %d targets, expected %d sequences of %d and %d",
			len(b.Tokens), len(b.Targets), e.o.Batch, t-p, r-p)
	}
	for _, v := range b.Tokens {
		if v < 0 || int(v) >= e.limit {
			return fault.New(fault.Usage, "token %d: the vocabulary has %d", v, e.limit)
		}
	}
	e.counted = 0
	for _, v := range b.Targets {
		if int(v) >= e.vocab {
			return fault.New(fault.Usage, "target %d: the vocabulary has %d", v, e.vocab)
		}
	}
	for s := range e.o.Batch {
		ids, targets := e.tokens.f()[s*t:(s+1)*t], e.targets[s*r:(s+1)*r]
		from := b.Tokens[s*(t-p) : (s+1)*(t-p)]
		for i := range p {
			ids[i], targets[i] = 0, -1
		}
		if p > 0 {
			targets[p-1] = from[0]
		}
		for i, v := range from {
			ids[p+i] = float32(v)
		}
		copy(targets[p:], b.Targets[s*(r-p):(s+1)*(r-p)])
	}
	for _, v := range e.targets {
		if v >= 0 {
			e.counted++
		}
	}
	if e.counted == 0 {
		return fault.New(fault.Usage, "a batch without targets")
	}
	return e.feed(b.Inputs)
}

// feed puts the further inputs in place.
func (e *Engine) feed(inputs map[string][]float32) error {
	for name := range inputs {
		if e.inputs[name] == nil {
			return fault.New(fault.Usage, "input %s: the network has none of that name", name)
		}
	}
	for i := range e.net.nodes {
		x := &e.net.nodes[i]
		if x.Op != graph.OpInput {
			continue
		}
		b, from := e.inputs[x.Name], inputs[x.Name]
		switch {
		case from == nil && x.Int:
			clear(b.data)
			continue
		case from == nil:
			return fault.New(fault.Usage, "input %s of %v: the batch has none", x.Name, x.Shape).
				WithHint("give it in Batch.Inputs")
		case len(from) != b.size:
			return fault.New(fault.Usage, "input %s: %d values, expected %d of %v", x.Name, len(from), e.o.Batch, x.Shape)
		}
		for _, v := range from {
			if x.Int && !(v >= 0 && v < float32(x.K) && v == float32(int(v))) {
				return fault.New(fault.Usage, "input %s: %g is no integer below %d", x.Name, v, x.K)
			}
		}
		copy(b.data, from)
		if e.o.BF16 && !x.Int {
			dtype.RoundBF16(b.data)
		}
	}
	return nil
}
