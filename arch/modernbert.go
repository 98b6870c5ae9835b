package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// modernbert: an encoder of Llama's kind, that looks both ways, in most layers
// within a window; with a masked language model's head, a classifier, or bare.
func modernbert(m *model) []graph.ID {
	m.hidden, m.layers, m.vocab = m.dim("hidden_size", 768), m.depth("num_hidden_layers", 22), m.dim("vocab_size", 50368)
	for _, k := range []string{"embedding_dropout", "mlp_dropout", "deterministic_flash_attn", "sparse_prediction", "sparse_pred_ignore_index",
		"reference_compile", "repad_logits_with_grad", "initializer_cutoff_factor", "cls_token_id", "layer_norm_eps", "position_embedding_type"} {
		m.used[k] = true // training, speed; an epsilon that norm_eps stands for
	}
	n := modernNorm{bias: m.boolean("norm_bias", false)}
	n.eps, n.key = m.epsilon("norm_eps", 1e-5)
	e := modern{
		norm: n, look: m.looker(m.hidden, m.dim("num_attention_heads", 12), "", "", "", ".Wo"),
		dim: m.dim("intermediate_size", 1152), act: m.function("hidden_activation", "gelu"),
		bias: m.boolean("mlp_bias", false),
	}
	e.look.biasQ, e.look.biasO = m.boolean("attention_bias", false), m.boolean("attention_bias", false)
	local := m.dim("local_attention", 128)
	full := m.readRope("full_attention", m.number("global_rope_theta", 160000), 1)
	near := m.readRope("sliding_attention", m.number("local_rope_theta", 10000), 1)
	e.full, e.near = m.rope(full, e.look.dim), m.rope(near, e.look.dim)
	step := m.dim("global_attn_every_n_layers", 3)
	sliding := m.layerTypes(func(i int) bool { return i%step != 0 })
	if len(*m.errs) > 0 {
		return nil
	}
	p := m.prefix("embeddings.tok_embeddings.weight", "model.", "")
	embed := p + "embeddings.tok_embeddings.weight"
	m.Scope(p+"embeddings", -1)
	x := n.apply(m, m.Embedding(m.Weight(embed, m.vocab, m.hidden), m.TokenIDs()), p+"embeddings.norm")
	for i := range m.layers {
		e := e
		e.rope = e.full
		if sliding[i] {
			e.rope = e.near
			e.look = e.look.masked(m.nearby(local / 2))
		}
		x = e.layer(m, x, fmt.Sprintf("%slayers.%d", p, i), i)
	}
	m.Scope(p+"final_norm", -1)
	return m.modernTop(n.apply(m, x, p+"final_norm"), p, embed, n)
}

// modernTop applies the heads. What the config says of heads that are not there
// does not matter.
func (m *model) modernTop(x graph.ID, p, embed string, n modernNorm) []graph.ID {
	tie := m.boolean("tie_word_embeddings", true)
	bias, act := m.boolean("classifier_bias", false), m.function("classifier_activation", "gelu")
	pooling, decoderBias := m.text("classifier_pooling", "cls"), m.boolean("decoder_bias", true)
	if p == "" {
		return []graph.ID{x}
	}
	m.Scope("head", -1)
	head := func(x graph.ID) graph.ID {
		return n.apply(m, act(m.linear(x, "head.dense", m.hidden, bias)), "head.norm")
	}
	if m.has("classifier.weight") {
		// By the class: a classifier of tokens reads all of them, one of texts their
		// mean or the first.
		if m.class() != "ModernBertForTokenClassification" {
			if pooling == "mean" {
				t := m.opt.Tokens
				x = m.Transpose(m.MulScalar(m.Sum(m.Transpose(x, 1, 0)), 1/float64(t)), 1, 0)
			} else {
				x = m.first(x)
			}
		}
		return m.tops(top{"classifier", head(x)})
	}
	y := m.logits(head(x), "decoder", embed, m.vocab, tie)
	if decoderBias {
		y = m.Add(y, m.Weight("decoder.bias", m.vocab))
	}
	return []graph.ID{y}
}

// modernNorm is LayerNorm, here usually without a bias.
type modernNorm struct {
	eps  float64
	key  string
	bias bool
}

func (n modernNorm) apply(m *model, x graph.ID, name string) graph.ID {
	if n.bias {
		return m.affineNorm(x, name, n.eps, n.key)
	}
	return m.Mul(m.LayerNorm(x, n.eps, n.key), m.Weight(name+".weight", m.hidden))
}

// modern is one of ModernBERT's layers.
type modern struct {
	norm             modernNorm
	look             look
	rope, full, near rope
	dim              int
	act              function
	bias             bool
}

func (e modern) layer(m *model, x graph.ID, name string, i int) graph.ID {
	m.Scope(name+".attn", i)
	h := x
	if i > 0 { // the embedding's norm stands for the first
		h = e.norm.apply(m, x, name+".attn_norm")
	}
	n := e.look.heads * e.look.dim
	qkv := m.linear(h, name+".attn.Wqkv", 3*n, e.look.biasQ)
	cos, sin := e.rope.tables(m)
	turn := func(x graph.ID) graph.ID {
		return e.rope.apply(m, m.heads(x, e.look.heads, e.look.heads), e.look.dim, cos, sin)
	}
	q, k := turn(m.Slice(qkv, 1, 0, n)), turn(m.Slice(qkv, 1, n, 2*n))
	v := m.heads(m.Slice(qkv, 1, 2*n, 3*n), e.look.heads, e.look.heads)
	x = m.Add(x, m.linear(m.meet(q, k, v, e.look), name+".attn.Wo", m.hidden, e.look.biasO))
	m.Scope(name+".mlp", i)
	y := m.linear(e.norm.apply(m, x, name+".mlp_norm"), name+".mlp.Wi", 2*e.dim, e.bias)
	y = m.Mul(e.act(m.Slice(y, 1, 0, e.dim)), m.Slice(y, 1, e.dim, 2*e.dim))
	return m.Add(x, m.linear(y, name+".mlp.Wo", m.hidden, e.bias))
}

// nearby is added to scores: a token sees those at most so far away.
func (m *model) nearby(far int) graph.ID {
	t := m.opt.Tokens
	d := make([]float32, t*t)
	for i := range t {
		for j := range t {
			if i-j > far || j-i > far {
				d[i*t+j] = -math.MaxFloat32
			}
		}
	}
	return m.Const(d, t, t)
}
