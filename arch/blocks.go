package arch

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// stem is what every decoder here has: sizes and the final head.
type stem struct {
	prefix string // "model." or, for a checkpoint of the bare decoder, ""
	eps    float64
	tie    bool
}

// open reads the sizes that all families share.
func (m *model) open(eps float64, tie bool) stem {
	m.hidden = m.dim("hidden_size", 0)
	m.layers = m.dim("num_hidden_layers", 0)
	if m.layers > len(m.shapes) {
		// Said before anything of that size is built.
		m.failf("config.json: num_hidden_layers is %d, but the checkpoint holds %d tensors", m.layers, len(m.shapes))
		m.layers = 1
	}
	m.vocab = m.dim("vocab_size", 0)
	if m.config.has("rms_norm_eps") {
		m.epsKey = "rms_norm_eps"
	}
	s := stem{prefix: "model.", eps: m.number("rms_norm_eps", eps), tie: m.boolean("tie_word_embeddings", tie)}
	if m.has("embed_tokens.weight") && !m.has("model.embed_tokens.weight") {
		s.prefix = ""
	}
	return s
}

// embed looks the tokens up.
func (m *model) embed(s stem) graph.ID {
	m.Scope(s.prefix+"embed_tokens", -1)
	return m.Embedding(m.Weight(s.prefix+"embed_tokens.weight", m.vocab, m.hidden), m.TokenIDs())
}

// head returns the logits, or, for a bare decoder without a tied head, its last
// hidden state.
func (m *model) head(s stem, x graph.ID) graph.ID {
	m.Scope("lm_head", -1)
	embed := s.prefix + "embed_tokens.weight"
	if !m.has("lm_head.weight") {
		bare := s.prefix == ""
		if bare && !s.tie {
			return x
		}
		if !s.tie {
			m.failf("lm_head.weight is missing, and config.json does not tie it to %s", embed)
		}
		if bare && !m.headed() {
			m.also = append(m.also, x) // a runtime may read either
		}
		return m.Linear(x, m.Weight(embed, m.vocab, m.hidden))
	}
	w := m.Weight("lm_head.weight", m.vocab, m.hidden)
	if s.tie {
		// Runtimes differ in which of the two they load: keep them alike.
		m.Tie(embed, "lm_head.weight")
	}
	return m.Linear(x, w)
}

// rmsNorm normalises and multiplies by a gain.
func (m *model) rmsNorm(x graph.ID, name string, dim int, eps float64) graph.ID {
	return m.Mul(m.RMSNorm(x, eps, m.epsKey), m.Weight(name+".weight", dim))
}

// rmsNorm1p is Gemma's norm: the stored gain is one less than the real one.
func (m *model) rmsNorm1p(x graph.ID, name string, dim int, eps float64) graph.ID {
	if m.opt.views != nil && m.opt.views.gains {
		return m.rmsNorm(x, name, dim, eps)
	}
	return m.Mul(m.RMSNorm(x, eps, m.epsKey), m.AddScalar(m.Weight(name+".weight", dim), 1))
}

// normFunc is one of the two above.
type normFunc func(x graph.ID, name string, dim int, eps float64) graph.ID

// linear applies a stored linear map.
func (m *model) linear(x graph.ID, name string, out int, bias bool) graph.ID {
	in := m.Shape(x)[len(m.Shape(x))-1]
	y := m.Linear(x, m.Weight(name+".weight", out, in))
	if bias {
		y = m.Add(y, m.Weight(name+".bias", out))
	}
	return y
}

// activation reads the name of the MLP's activation.
func (m *model) activation(key, def string) graph.Op {
	switch a := m.text(key, def); a {
	case "silu", "swish":
		return graph.OpSiLU
	case "gelu":
		return graph.OpGELU
	case "gelu_new", "gelu_pytorch_tanh", "gelu_fast":
		return graph.OpGELUTanh
	case "relu":
		return graph.OpReLU
	default:
		m.failf("config.json: %s %q is not supported", key, a)
		return graph.OpSiLU
	}
}

// glu is the gated MLP: down(act(gate(x)) * up(x)).
func (m *model) glu(x graph.ID, name string, dim int, act graph.Op, bias bool) graph.ID {
	gate := m.Apply(act, m.linear(x, name+".gate_proj", dim, bias))
	return m.linear(m.Mul(gate, m.linear(x, name+".up_proj", dim, bias)), name+".down_proj", m.hidden, bias)
}

// attention is self-attention as its variants share it.
type attention struct {
	heads, kv, dim int
	scale          float64
	cap            float64 // soft cap of the scores; 0: none
	window         int     // positions that a token sees, itself included; 0: all before it
	biasQKV, biasO bool
	norm           normFunc // of each query and key head; nil: none
	eps            float64
	rope           rope
	cos, sin       graph.ID
}

// headsOf reads the attention's sizes. kv and dim are the class's defaults for
// absent keys; 0 means derived from the others.
func (m *model) headsOf(kv, dim int) attention {
	a := attention{heads: m.dim("num_attention_heads", 0)}
	if kv == 0 || m.null("num_key_value_heads") {
		kv = a.heads
	}
	a.kv = m.dim("num_key_value_heads", kv)
	if dim == 0 {
		if m.hidden%a.heads != 0 && !m.config.has("head_dim") {
			m.failf("config.json: hidden_size %d is not a multiple of num_attention_heads %d", m.hidden, a.heads)
		}
		dim = max(m.hidden/a.heads, 1)
	}
	a.dim = m.dim("head_dim", dim)
	if w := m.widest(); a.heads*a.dim > w {
		m.failf("config.json: %d attention heads of %d elements, but no tensor of the checkpoint is wider than %d", a.heads, a.dim, w)
		a.heads, a.kv, a.dim = 1, 1, 2
	}
	if a.heads%a.kv != 0 {
		m.failf("config.json: num_attention_heads %d is not a multiple of num_key_value_heads %d", a.heads, a.kv)
		a.kv = a.heads
	}
	a.scale = 1 / math.Sqrt(float64(a.dim))
	return a
}

// null reports whether a key stands in the config with the value null.
func (c *config) null(key string) bool {
	v, ok := c.raw[key]
	return ok && string(v) == "null"
}

// rotary sets the rotary embedding.
func (m *model) rotary(a *attention, p ropeParams) {
	a.rope = m.rope(p, a.dim)
	a.rope.pairs = m.opt.views != nil && m.opt.views.pairs
	a.cos, a.sin = a.rope.tables(m)
}

// attend runs self-attention on x [T,hidden] with separate projections.
func (m *model) attend(x graph.ID, name string, a attention) graph.ID {
	q := m.linear(x, name+".q_proj", a.heads*a.dim, a.biasQKV)
	k := m.linear(x, name+".k_proj", a.kv*a.dim, a.biasQKV)
	v := m.linear(x, name+".v_proj", a.kv*a.dim, a.biasQKV)
	return m.linear(m.mix(q, k, v, name, a), name+".o_proj", m.hidden, a.biasO)
}

// mix computes softmax(q kᵀ) v from projected q, k, v [T,heads·dim].
func (m *model) mix(q, k, v graph.ID, name string, a attention) graph.ID {
	t := m.opt.Tokens
	q, k, v = m.split(q, a.heads, a.dim), m.split(k, a.kv, a.dim), m.split(v, a.kv, a.dim)
	if a.norm != nil {
		q = a.norm(q, name+".q_norm", a.dim, a.eps)
		k = a.norm(k, name+".k_norm", a.dim, a.eps)
	}
	q, k = a.rope.apply(m, q, a.dim, a.cos, a.sin), a.rope.apply(m, k, a.dim, a.cos, a.sin)
	k, v = m.repeat(k, a), m.repeat(v, a)
	s := m.MulScalar(m.MatMul(q, m.Transpose(k, 0, 2, 1)), a.scale)
	if a.cap != 0 {
		s = m.MulScalar(m.Apply(graph.OpTanh, m.MulScalar(s, 1/a.cap)), a.cap)
	}
	p := m.Apply(graph.OpSoftmax, m.Add(s, m.mask(a.window)))
	o := m.Transpose(m.MatMul(p, v), 1, 0, 2)
	return m.Reshape(o, t, a.heads*a.dim)
}

// split turns [T,n·dim] into [n,T,dim].
func (m *model) split(x graph.ID, n, dim int) graph.ID {
	return m.Transpose(m.Reshape(x, m.opt.Tokens, n, dim), 1, 0, 2)
}

// repeat gives every query head its key/value head: head h reads h / n.
func (m *model) repeat(x graph.ID, a attention) graph.ID {
	t, n := m.opt.Tokens, a.heads/a.kv
	if n == 1 {
		return x
	}
	y := m.Expand(m.Reshape(x, a.kv, 1, t, a.dim), a.kv, n, t, a.dim)
	return m.Reshape(y, a.heads, t, a.dim)
}

// mask is added to the scores: 0 where a token may look, the lowest float
// where it may not.
func (m *model) mask(window int) graph.ID {
	t := m.opt.Tokens
	d := make([]float32, t*t)
	for i := range t {
		for j := range t {
			if j > i || (window > 0 && j <= i-window) {
				d[i*t+j] = -math.MaxFloat32
			}
		}
	}
	return m.Const(d, t, t)
}

// window reads sliding_window; 0 when it is null or absent without a default.
func (m *model) window(def int) int {
	if m.null("sliding_window") {
		def = 0
	}
	return m.count("sliding_window", def)
}

// layerTypes reads layer_types, or computes the class's default.
func (m *model) layerTypes(sliding func(i int) bool) []bool {
	return m.layersOfKind("sliding_attention", sliding)
}

// layersOfKind reads which layers layer_types calls by the given kind, the
// others being full attention.
func (m *model) layersOfKind(kind string, def func(i int) bool) []bool {
	return m.layersNamed([]string{kind}, []string{"full_attention"}, def)
}

// layersNamed reads which layers layer_types calls by one of kinds; the others
// must be one of rest. Without layer_types the class's default counts.
func (m *model) layersNamed(kinds, rest []string, def func(i int) bool) []bool {
	var names []string
	out := make([]bool, m.layers)
	given := m.get("layer_types", &names)
	if given && len(names) != m.layers {
		m.failf("config.json: layer_types has %d entries for %d layers", len(names), m.layers)
		return out
	}
	for i := range out {
		if !given {
			out[i] = def(i)
			continue
		}
		out[i] = slices.Contains(kinds, names[i])
		if !out[i] && !slices.Contains(rest, names[i]) {
			m.failf("config.json: layer_types[%d] %q is not supported", i, names[i])
		}
	}
	return out
}

// block is the pre-norm decoder layer that most families share.
func (m *model) block(x graph.ID, s stem, i int, att func(h graph.ID, name string) graph.ID, mlp func(h graph.ID, name string) graph.ID, norm normFunc) graph.ID {
	p := fmt.Sprintf("%slayers.%d", s.prefix, i)
	m.Scope(p+".self_attn", i)
	h := norm(x, p+".input_layernorm", m.hidden, s.eps)
	x = m.Add(x, att(h, p+".self_attn"))
	m.Scope(p+".mlp", i)
	h = norm(x, p+".post_attention_layernorm", m.hidden, s.eps)
	return m.Add(x, mlp(h, p+".mlp"))
}

// finish applies the final norm and the head.
func (m *model) finish(x graph.ID, s stem, norm normFunc) graph.ID {
	m.Scope(s.prefix+"norm", -1)
	return m.head(s, norm(x, s.prefix+"norm", m.hidden, s.eps))
}
