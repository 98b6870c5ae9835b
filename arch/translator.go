package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// side is the encoder or the decoder of BART and its relatives.
type side struct {
	prefix  string
	layers  int
	dim     int // of the MLP
	look    look
	act     function
	pre     bool // norms stand before each half layer
	decoder bool
}

// norm is LayerNorm with the epsilon that these families have in their code.
func (side) norm(m *model, x graph.ID, name string) graph.ID { return m.affineNorm(x, name, 1e-5, "") }

// readSide reads "encoder_layers" and the like.
func (m *model) readSide(p, which string, act function, pre bool) side {
	s := side{prefix: p + which + ".", layers: m.depth(which+"_layers", 12), dim: m.dim(which+"_ffn_dim", 4096),
		act: act, pre: pre, decoder: which == "decoder"}
	s.look = m.looker(m.hidden, m.dim(which+"_attention_heads", 16), ".q_proj", ".k_proj", ".v_proj", ".out_proj")
	return s
}

// run runs the layers on x; a decoder looks at the encoder's output y.
func (s side) run(m *model, x, y graph.ID) graph.ID {
	self := s.look
	if s.decoder {
		self = self.masked(m.causal(m.Shape(x)[0]))
	}
	for i := range s.layers {
		name := fmt.Sprintf("%slayers.%d", s.prefix, i)
		m.Scope(name+".self_attn", i)
		x = s.half(m, x, name+".self_attn_layer_norm", func(h graph.ID) graph.ID {
			return m.look(h, h, name+".self_attn", self)
		})
		if s.decoder {
			m.Scope(name+".encoder_attn", i)
			x = s.half(m, x, name+".encoder_attn_layer_norm", func(h graph.ID) graph.ID {
				return m.look(h, y, name+".encoder_attn", s.look)
			})
		}
		m.Scope(name, i)
		x = s.half(m, x, name+".final_layer_norm", func(h graph.ID) graph.ID {
			return m.perceptron(h, name+".fc1", name+".fc2", s.dim, s.act)
		})
	}
	return x
}

// half is a half layer: residual, and a norm before it or after.
func (s side) half(m *model, x graph.ID, norm string, f func(graph.ID) graph.ID) graph.ID {
	if s.pre {
		return m.Add(x, f(s.norm(m, x, norm)))
	}
	return s.norm(m, m.Add(x, f(x)), norm)
}

// script is what tells BART, mBART and Marian apart.
type script struct {
	pre        bool // norms before the half layers, and one behind the last
	embedNorm  bool // a norm behind the embeddings
	sinusoidal bool // positions in code, not learned
	scale      bool // default of scale_embedding
}

// bart: norms after the half layers, learned positions.
func bart(m *model) []graph.ID { return m.translator(script{embedNorm: true}) }

// mbart: norms before the half layers.
func mbart(m *model) []graph.ID { return m.translator(script{pre: true, embedNorm: true}) }

// marian: sinusoidal positions, no norm behind the embeddings.
func marian(m *model) []graph.ID {
	m.only("share_encoder_decoder_embeddings", "true")
	m.count("decoder_vocab_size", 0)
	return m.translator(script{sinusoidal: true})
}

// translator builds an encoder and a decoder of tokens that share one table.
func (m *model) translator(v script) []graph.ID {
	m.hidden, m.vocab = m.dim("d_model", 1024), m.dim("vocab_size", 50265)
	for _, k := range []string{"normalize_before", "normalize_embedding", "add_final_layer_norm", "add_bias_logits", "classif_dropout",
		"static_position_embeddings", "extra_pos_embeddings", "force_bos_token_to_be_generated", "save_step"} {
		m.used[k] = true // of the code before transformers 4.3; none reads them now
	}
	m.boolean("is_encoder_decoder", true)
	m.only("is_decoder", "false")
	m.count("num_hidden_layers", 12) // encoder_layers again
	tie := m.boolean("tie_word_embeddings", true)
	scale := 1.0
	if m.boolean("scale_embedding", v.scale) {
		scale = math.Sqrt(float64(m.hidden))
	}
	rows := m.dim("max_position_embeddings", 1024)
	act := m.function("activation_function", "gelu")
	p := m.prefix("shared.weight", "model.", "")
	enc, dec := m.readSide(p, "encoder", act, v.pre), m.readSide(p, "decoder", act, v.pre)
	m.layers = enc.layers + dec.layers
	if len(*m.errs) > 0 {
		return nil
	}
	m.atMost(rows)
	t := m.opt.Tokens
	x := m.spell(v, enc, m.TokenIDs(), p+"shared.weight", rows, scale)
	y := m.spell(v, dec, m.InputIDs("decoder_input_ids", m.vocab, t), p+"shared.weight", rows, scale)
	if x = enc.run(m, x, 0); v.pre {
		x = enc.norm(m, x, enc.prefix+"layer_norm")
	}
	if y = dec.run(m, y, x); v.pre {
		y = dec.norm(m, y, dec.prefix+"layer_norm")
	}
	if p == "" {
		return []graph.ID{y}
	}
	y = m.logits(y, "lm_head", p+"shared.weight", m.vocab, tie)
	if m.has("final_logits_bias") {
		y = m.Add(y, m.Weight("final_logits_bias", 1, m.vocab))
	}
	return []graph.ID{y}
}

// spell embeds tokens and their positions.
func (m *model) spell(v script, s side, ids graph.ID, shared string, rows int, scale float64) graph.ID {
	m.Scope(s.prefix+"embed_tokens", -1)
	x := m.scaled(m.table(ids, s.prefix+"embed_tokens.weight", shared), scale)
	name, t := s.prefix+"embed_positions.weight", m.Shape(ids)[0]
	switch {
	case !v.sinusoidal:
		x = m.Add(x, m.positions(name, rows+2, m.hidden, 2, t)) // two rows are for fairseq's padding
	case m.has(name):
		x = m.Add(x, m.positions(name, rows, m.hidden, 0, t))
	default:
		x = m.Add(x, m.sinusoids(t, m.hidden))
	}
	if v.embedNorm {
		x = s.norm(m, x, s.prefix+"layernorm_embedding")
	}
	return x
}

// table looks ids up in a module's own table, if the checkpoint stores it
// beside the shared one, else in the latter.
func (m *model) table(ids graph.ID, own, shared string) graph.ID {
	name := shared
	if m.has(own) {
		name = own
		if m.has(shared) {
			m.Weight(shared, m.vocab, m.hidden)
			m.Tie(shared, own)
		}
	}
	return m.Embedding(m.Weight(name, m.vocab, m.hidden), ids)
}

// sinusoids are positions as sines in the first half and cosines in the second.
func (m *model) sinusoids(t, dim int) graph.ID {
	d := make([]float32, t*dim)
	half := (dim + 1) / 2
	for p := range t {
		for i := range dim {
			a := float64(p) / math.Pow(10000, 2*float64(i/2)/float64(dim))
			if i%2 == 0 {
				d[p*dim+i/2] = float32(math.Sin(a))
			} else {
				d[p*dim+half+i/2] = float32(math.Cos(a))
			}
		}
	}
	return m.Const(d, t, dim)
}

// whisperPositions bounds the encoder's positions in the graph, half as many as
// mel frames: the rows of its tables are alike to a seal.
const whisperPositions = 32

// whisper: convolutions over mel frames, then BART's kind of encoder and
// decoder with norms before the half layers.
func whisper(m *model) []graph.ID {
	m.hidden, m.vocab = m.dim("d_model", 384), m.dim("vocab_size", 51865)
	for _, k := range []string{"apply_spec_augment", "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob",
		"mask_feature_length", "mask_feature_min_masks", "median_filter_width", "classifier_proj_size", "use_weighted_layer_sum",
		"scale_embedding", "num_hidden_layers", "alignment_heads", "lang_ids", "is_multilingual", "max_source_positions", "max_target_positions"} {
		m.used[k] = true // training, decoding, other heads; scale_embedding is not read
	}
	m.boolean("is_encoder_decoder", true)
	m.only("is_decoder", "false")
	tie := m.boolean("tie_word_embeddings", true)
	mels, source, target := m.dim("num_mel_bins", 80), m.dim("max_source_positions", 1500), m.dim("max_target_positions", 448)
	act := m.function("activation_function", "gelu")
	p := m.prefix("decoder.embed_tokens.weight", "model.", "")
	enc, dec := m.readSide(p, "encoder", act, true), m.readSide(p, "decoder", act, true)
	enc.look.biasK, dec.look.biasK = false, false
	m.layers = enc.layers + dec.layers
	if !m.fits(mels) || len(*m.errs) > 0 {
		return nil
	}
	m.atMost(target)
	x := m.hear(enc, mels, source)
	x = enc.norm(m, enc.run(m, x, 0), enc.prefix+"layer_norm")
	m.Scope(dec.prefix+"embed_tokens", -1)
	embed := dec.prefix + "embed_tokens.weight"
	y := m.Embedding(m.Weight(embed, m.vocab, m.hidden), m.InputIDs("decoder_input_ids", m.vocab, m.opt.Tokens))
	y = m.Add(y, m.positions(dec.prefix+"embed_positions.weight", target, m.hidden, 0, m.opt.Tokens))
	y = dec.norm(m, dec.run(m, y, x), dec.prefix+"layer_norm")
	if p == "" {
		return []graph.ID{y}
	}
	return []graph.ID{m.logits(y, "proj_out", embed, m.vocab, tie)}
}

// hear turns mel frames into the encoder's sequence, two frames a position.
func (m *model) hear(s side, mels, rows int) graph.ID {
	n := min(rows, whisperPositions)
	m.Scope(s.prefix+"conv1", -1)
	x := m.Input("input_features", 1, mels, 2*n)
	for i, stride := range []int{1, 2} {
		name := fmt.Sprintf("%sconv%d", s.prefix, i+1)
		x = m.Conv(x, m.Weight(name+".weight", m.hidden, m.Shape(x)[1], 3), graph.Conv{
			Stride: []int{stride}, Before: []int{1}, After: []int{1}, Dilation: []int{1}, Groups: 1,
		})
		x = m.Apply(graph.OpGELU, m.Add(x, m.Reshape(m.Weight(name+".bias", m.hidden), m.hidden, 1)))
	}
	x = m.Transpose(m.Reshape(x, m.hidden, n), 1, 0)
	return m.Add(x, m.positions(s.prefix+"embed_positions.weight", rows, m.hidden, 0, n))
}
