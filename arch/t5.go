package arch

import (
	"fmt"
	"math"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
)

// t5Stack is T5's encoder or decoder.
type t5Stack struct {
	look         look
	buckets, far int
	width        int // of the MLP
	gated        bool
	act          function
	eps          float64
	decoder      bool
	prefix       string
	layers       int
}

// t5: T5, plain or gated, whole, without its head, or the encoder alone.
func t5(m *model) []graph.ID {
	m.hidden, m.vocab = m.dim("d_model", 512), m.dim("vocab_size", 32128)
	s := t5Stack{
		look:    look{heads: m.dim("num_heads", 8), dim: m.dim("d_kv", 64), scale: 1, q: ".q", k: ".k", v: ".v", o: ".o"},
		buckets: m.dim("relative_attention_num_buckets", 32), far: m.dim("relative_attention_max_distance", 128),
		width: m.dim("d_ff", 2048), prefix: "encoder.", layers: m.depth("num_layers", 6),
	}
	s.look.kv = s.look.heads
	s.eps, m.epsKey = m.epsilon("layer_norm_epsilon", 1e-6)
	m.t5Activation(&s)
	m.only("is_decoder", "false")
	m.boolean("is_encoder_decoder", true)
	m.count("n_positions", 512) // not read
	below := m.depth("num_decoder_layers", s.layers)
	// Whether the tied head's input is scaled: transformers 4 asks the tie itself.
	tie := m.boolean("tie_word_embeddings", true)
	scaled := m.boolean("scale_decoder_outputs", tie)
	m.layers = s.layers
	if !m.fits(s.look.heads*s.look.dim, s.width) || len(*m.errs) > 0 {
		return nil
	}
	m.Scope("encoder", -1)
	ids := m.TokenIDs()
	x := s.run(m, m.table(ids, "encoder.embed_tokens.weight", "shared.weight"), 0)
	if !m.has("decoder.final_layer_norm.weight") && m.has("encoder.final_layer_norm.weight") {
		return []graph.ID{x}
	}
	d := s
	d.decoder, d.prefix, d.layers = true, "decoder.", below
	m.layers += below
	m.Scope("decoder", -1)
	ids = m.InputIDs("decoder_input_ids", m.vocab, m.opt.Tokens)
	y := d.run(m, m.table(ids, "decoder.embed_tokens.weight", "shared.weight"), x)
	if m.class() == "T5Model" && !m.has("lm_head.weight") {
		return []graph.ID{y}
	}
	if scaled {
		y = m.MulScalar(y, 1/math.Sqrt(float64(m.hidden)))
	}
	return []graph.ID{m.logits(y, "lm_head", "shared.weight", m.vocab, tie || !m.has("lm_head.weight"))}
}

// t5Activation reads feed_forward_proj: an activation, perhaps gated. What
// transformers derives from it stands beside it, and wins when it differs.
func (m *model) t5Activation(s *t5Stack) {
	name := m.text("feed_forward_proj", "relu")
	name, s.gated = strings.CutPrefix(name, "gated-")
	if s.gated && name == "gelu" {
		name = "gelu_new"
	}
	s.gated = m.boolean("is_gated_act", s.gated)
	s.act = m.named("feed_forward_proj", m.text("dense_act_fn", name))
}

// run computes the stack's last hidden state from embedded tokens; a decoder
// looks at the encoder's output y.
func (s t5Stack) run(m *model, x, y graph.ID) graph.ID {
	self, cross := s.look, s.look
	t := m.Shape(x)[0]
	self = self.masked(s.bias(m, t))
	if s.decoder {
		self = self.masked(m.causal(t))
	}
	for i := range s.layers {
		name := fmt.Sprintf("%sblock.%d.layer.", s.prefix, i)
		m.Scope(name+"0.SelfAttention", i)
		h := m.rmsNorm(x, name+"0.layer_norm", m.hidden, s.eps)
		x = m.Add(x, m.look(h, h, name+"0.SelfAttention", self))
		last := 1
		if s.decoder {
			m.Scope(name+"1.EncDecAttention", i)
			h = m.rmsNorm(x, name+"1.layer_norm", m.hidden, s.eps)
			x = m.Add(x, m.look(h, y, name+"1.EncDecAttention", cross))
			last = 2
		}
		name = fmt.Sprintf("%s%d.", name, last)
		m.Scope(name+"DenseReluDense", i)
		x = m.Add(x, s.dense(m, m.rmsNorm(x, name+"layer_norm", m.hidden, s.eps), name+"DenseReluDense"))
	}
	m.Scope(s.prefix+"final_layer_norm", -1)
	return m.rmsNorm(x, s.prefix+"final_layer_norm", m.hidden, s.eps)
}

func (s t5Stack) dense(m *model, x graph.ID, name string) graph.ID {
	if !s.gated {
		return m.linear(s.act(m.linear(x, name+".wi", s.width, false)), name+".wo", m.hidden, false)
	}
	h := m.Mul(s.act(m.linear(x, name+".wi_0", s.width, false)), m.linear(x, name+".wi_1", s.width, false))
	return m.linear(h, name+".wo", m.hidden, false)
}

// bias is what the distance of two tokens adds to their scores [heads,t,t]. The
// first layer's table serves all.
func (s t5Stack) bias(m *model, t int) graph.ID {
	ids := make([]int, t*t)
	for i := range t {
		for j := range t {
			ids[i*t+j] = s.bucket(j - i)
		}
	}
	table := m.Weight(s.prefix+"block.0.layer.0.SelfAttention.relative_attention_bias.weight", s.buckets, s.look.heads)
	return m.Transpose(m.Embedding(table, m.ConstInts(ids, t, t)), 2, 0, 1)
}

// bucket numbers a distance: exactly while it is short, then by its logarithm.
// An encoder has half of the buckets for each direction.
func (s t5Stack) bucket(distance int) int {
	n, base := s.buckets, 0
	if s.decoder {
		distance = max(-distance, 0)
	} else {
		n /= 2
		if distance > 0 {
			base = n
		}
		distance = max(distance, -distance)
	}
	exact := n / 2
	if distance < exact {
		return base + distance
	}
	part := float32(math.Log(float64(float32(distance)/float32(exact)))) / float32(math.Log(float64(s.far)/float64(exact)))
	return base + min(exact+int(part*float32(n-exact)), n-1)
}
