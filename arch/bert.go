package arch

import (
	"fmt"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
)

// post is an encoder of BERT's kind: the norms stand after each half layer.
type post struct {
	eps    float64
	epsKey string
	dim    int // of the MLP
	act    function
	look   look
	// Names below the layer's: attention's norm, MLP, MLP's norm.
	norm1, up, down, norm2 string
}

func (e post) layer(m *model, x graph.ID, name string) graph.ID {
	x = m.affineNorm(m.Add(m.look(x, x, name+".attention", e.look), x), name+e.norm1, e.eps, e.epsKey)
	h := m.perceptron(x, name+e.up, name+e.down, e.dim, e.act)
	return m.affineNorm(m.Add(h, x), name+e.norm2, e.eps, e.epsKey)
}

// bertEncoder reads the sizes that BERT and RoBERTa share.
func (m *model) bertEncoder() post {
	m.hidden, m.layers, m.vocab = m.dim("hidden_size", 768), m.depth("num_hidden_layers", 12), m.dim("vocab_size", 30522)
	m.only("position_embedding_type", `"absolute"`)
	m.boolean("tie_word_embeddings", true) // of the head, if there is one
	e := post{dim: m.dim("intermediate_size", 3072), act: m.function("hidden_act", "gelu"),
		norm1: ".attention.output.LayerNorm", up: ".intermediate.dense", down: ".output.dense", norm2: ".output.LayerNorm"}
	e.eps, e.epsKey = m.epsilon("layer_norm_eps", 1e-12)
	e.look = m.looker(m.hidden, m.dim("num_attention_heads", 12), ".self.query", ".self.key", ".self.value", ".output.dense")
	return e
}

// encode embeds the tokens and runs the layers.
func (m *model) encode(e post, p string, positions graph.ID, ids graph.ID) graph.ID {
	m.Scope(p+"embeddings", -1)
	types := m.dim("type_vocab_size", 2)
	n := p + "embeddings."
	x := m.Embedding(m.Weight(n+"word_embeddings.weight", m.vocab, m.hidden), ids)
	kinds := m.InputIDs("token_type_ids", types, m.opt.Tokens)
	x = m.Add(m.Add(x, m.Embedding(m.Weight(n+"token_type_embeddings.weight", types, m.hidden), kinds)), positions)
	x = m.affineNorm(x, n+"LayerNorm", e.eps, e.epsKey)
	if m.boolean("is_decoder", false) {
		e.look = e.look.masked(m.causal(m.opt.Tokens))
	}
	for i := range m.layers {
		name := fmt.Sprintf("%sencoder.layer.%d", p, i)
		m.Scope(name, i)
		x = e.layer(m, x, name)
	}
	return x
}

// pool is what BERT makes of the first token.
func (m *model) pool(x graph.ID, name string) graph.ID {
	m.Scope(name, -1)
	return m.Apply(graph.OpTanh, m.linear(m.first(x), name+".dense", m.hidden, true))
}

// vocabulary is the head of a masked language model: a transform, then the
// embedding's scores; a stored decoder is the embedding's and the bias's twin.
func (m *model) vocabulary(x graph.ID, dense, norm, head, bias, embed string, e post, act function) graph.ID {
	m.Scope(dense, -1)
	x = m.affineNorm(act(m.linear(x, dense, m.hidden, true)), norm, e.eps, e.epsKey)
	x = m.logits(x, head, embed, m.vocab, m.boolean("tie_word_embeddings", true))
	b := m.Weight(bias, m.vocab)
	if twin := head + ".bias"; twin != bias && m.has(twin) {
		m.Weight(twin, m.vocab)
		m.Tie(bias, twin)
	}
	return m.Add(x, b)
}

// bert: BERT with any of its heads, or bare.
func bert(m *model) []graph.ID {
	e := m.bertEncoder()
	rows := m.dim("max_position_embeddings", 512)
	m.atMost(rows)
	p := m.prefix("embeddings.word_embeddings.weight", "bert.", "")
	x := m.encode(e, p, m.positions(p+"embeddings.position_embeddings.weight", rows, m.hidden, 0, m.opt.Tokens), m.TokenIDs())
	pooler, pooled := m.has(p+"pooler.dense.weight"), x
	if pooler {
		pooled = m.pool(x, p+"pooler")
	}
	const head = "cls.predictions."
	var out []graph.ID
	tops := m.tops(append(m.classified("classifier", x, pooled), top{"cls.seq_relationship", pooled}, top{"qa_outputs", x})...)
	if m.has(head+"transform.dense.weight") || p != "" && len(tops) == 0 {
		out = append(out, m.vocabulary(x, head+"transform.dense", head+"transform.LayerNorm", head+"decoder", head+"bias",
			p+"embeddings.word_embeddings.weight", e, e.act))
	}
	out = append(out, tops...)
	if len(out) == 0 {
		out = append(out, x)
	}
	if pooler && len(tops) == 0 {
		out = append(out, pooled)
	}
	return out
}

// top is a linear head that a checkpoint may have.
type top struct {
	name string
	x    graph.ID
}

// classified is a classifier, of each token or of what was pooled from the
// first: the class says which, not the tensors, since a checkpoint may keep a
// pooler that its class does not read. Of an unknown class, it is both.
func (m *model) classified(name string, tokens, pooled graph.ID) []top {
	switch c := m.class(); {
	case tokens == pooled, strings.HasSuffix(c, "ForTokenClassification"):
		return []top{{name, tokens}}
	case strings.HasSuffix(c, "ForSequenceClassification"), strings.HasSuffix(c, "ForMultipleChoice"):
		return []top{{name, pooled}}
	}
	return []top{{name, tokens}, {name, pooled}}
}

// tops applies the heads that the checkpoint has.
func (m *model) tops(all ...top) (out []graph.ID) {
	for _, t := range all {
		if m.has(t.name + ".weight") {
			m.Scope(t.name, -1)
			out = append(out, m.linear(t.x, t.name, m.labels(t.name), true))
		}
	}
	return out
}

// roberta: RoBERTa and XLM-RoBERTa, whose positions count from the padding
// token's id, skipping it.
func roberta(m *model) []graph.ID {
	e := m.bertEncoder()
	rows, pad := m.dim("max_position_embeddings", 512), m.count("pad_token_id", 1)
	if rows < pad+2 {
		m.failf("config.json: max_position_embeddings %d leaves no position after pad_token_id %d", rows, pad)
		return nil
	}
	m.atMost(rows - pad - 1)
	p := m.prefix("embeddings.word_embeddings.weight", "roberta.", "")
	m.Scope(p+"embeddings", -1)
	ids := m.TokenIDs()
	there := m.Not(m.Compare(graph.OpEqual, ids, m.ConstInts([]int{pad}, 1)))
	at := m.AddScalar(m.Mul(m.CumSum(there), there), float64(pad))
	x := m.encode(e, p, m.Embedding(m.Weight(p+"embeddings.position_embeddings.weight", rows, m.hidden), at), ids)
	var out []graph.ID
	pooler, pooled := m.has(p+"pooler.dense.weight"), x
	if pooler {
		pooled = m.pool(x, p+"pooler")
	}
	tops := m.tops(append(m.classified("classifier", x, pooled), top{"qa_outputs", x})...)
	switch {
	case m.has("classifier.dense.weight"):
		m.Scope("classifier", -1)
		h := m.Apply(graph.OpTanh, m.linear(m.first(x), "classifier.dense", m.hidden, true))
		tops = append(tops, m.linear(h, "classifier.out_proj", m.labels("classifier.out_proj"), true))
	case m.has("lm_head.dense.weight") || p != "" && len(tops) == 0:
		out = append(out, m.vocabulary(x, "lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head.bias",
			p+"embeddings.word_embeddings.weight", e, m.apply(graph.OpGELU)))
	}
	out = append(out, tops...)
	if len(out) == 0 {
		out = append(out, x)
	}
	if pooler {
		out = append(out, pooled)
	}
	return out
}

// distilbert: half of BERT's layers, without token types.
func distilbert(m *model) []graph.ID {
	m.hidden, m.layers, m.vocab = m.dim("dim", 768), m.depth("n_layers", 6), m.dim("vocab_size", 30522)
	for _, k := range []string{"qa_dropout", "seq_classif_dropout", "sinusoidal_pos_embds", "tie_weights_"} {
		m.used[k] = true // how training and a first model begin
	}
	e := post{eps: 1e-12, dim: m.dim("hidden_dim", 3072), act: m.function("activation", "gelu"),
		norm1: ".sa_layer_norm", up: ".ffn.lin1", down: ".ffn.lin2", norm2: ".output_layer_norm"}
	e.look = m.looker(m.hidden, m.dim("n_heads", 12), ".q_lin", ".k_lin", ".v_lin", ".out_lin")
	rows := m.dim("max_position_embeddings", 512)
	m.atMost(rows)
	m.boolean("tie_word_embeddings", true)
	p := m.prefix("embeddings.word_embeddings.weight", "distilbert.", "")
	embed := p + "embeddings.word_embeddings.weight"
	m.Scope(p+"embeddings", -1)
	x := m.Embedding(m.Weight(embed, m.vocab, m.hidden), m.TokenIDs())
	x = m.Add(x, m.positions(p+"embeddings.position_embeddings.weight", rows, m.hidden, 0, m.opt.Tokens))
	x = m.affineNorm(x, p+"embeddings.LayerNorm", e.eps, e.epsKey)
	for i := range m.layers {
		name := fmt.Sprintf("%stransformer.layer.%d", p, i)
		m.Scope(name, i)
		x = e.layer(m, x, name)
	}
	if p == "" {
		return []graph.ID{x}
	}
	classes := x
	if m.has("pre_classifier.weight") {
		m.Scope("pre_classifier", -1)
		classes = m.Apply(graph.OpReLU, m.linear(m.first(x), "pre_classifier", m.hidden, true))
	}
	if tops := m.tops(append(m.classified("classifier", x, classes), top{"qa_outputs", x})...); len(tops) > 0 {
		return tops
	}
	return []graph.ID{m.vocabulary(x, "vocab_transform", "vocab_layer_norm", "vocab_projector", "vocab_projector.bias", embed, e, e.act)}
}
