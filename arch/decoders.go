package arch

import (
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
)

// decoders are the builders of dense decoders.
var decoders = map[string]family{
	"apertus":          {apertus},
	"arcee":            {arcee},
	"bloom":            {bloom},
	"cohere":           {cohere},
	"cohere2":          {cohere2},
	"ernie4_5":         {ernie},
	"exaone4":          {exaone},
	"falcon":           {falcon},
	"glm":              {glm},
	"glm4":             {glm4},
	"gpt2":             {gpt2},
	"gpt_bigcode":      {bigcode},
	"gpt_neo":          {gptNeo},
	"gpt_neox":         {gptNeoX},
	"gptj":             {gptJ},
	"granite":          {granite},
	"helium":           {helium},
	"hunyuan_v1_dense": {hunyuan},
	"minicpm":          {minicpm},
	"ministral":        {ministral},
	"ministral3":       {ministral3},
	"nemotron":         {nemotron},
	"olmo":             {olmo},
	"olmo2":            {olmo2},
	"olmo3":            {olmo3},
	"opt":              {opt},
	"phi":              {phi},
	"seed_oss":         {seedOSS},
	"smollm3":          {smollm3},
	"stablelm":         {stableLM},
	"starcoder2":       {starcoder2},
}

// alias lets a key stand under another name too, as transformers' attribute_map
// does; two names with two values are refused.
func (c *config) alias(key, other string) {
	v, ok := c.raw[other]
	if !ok {
		return
	}
	c.used[other] = true
	if w, ok := c.raw[key]; ok && string(w) != string(v) {
		c.failf("config.json: %s%s and %s differ", c.path, key, other)
		return
	}
	c.raw[key] = v
}

// gptNames passes the short names of the GPT-2 lineage.
func (c *config) gptNames() {
	for _, a := range [][2]string{
		{"hidden_size", "n_embd"}, {"num_hidden_layers", "n_layer"},
		{"num_attention_heads", "n_head"}, {"max_position_embeddings", "n_positions"},
	} {
		c.alias(a[0], a[1])
	}
}

// ignore passes keys that the family's configs carry and its code does not read.
func (c *config) ignore(keys string) {
	for _, k := range strings.Fields(keys) {
		c.used[k] = true
	}
}

// openWith is open for a family that names its epsilon otherwise, or, with
// epsKey "", fixes it in the code; embed is the embedding's name after prefix.
func (m *model) openWith(epsKey string, eps float64, tie bool, prefix, embed string) stem {
	s := m.open(eps, tie)
	m.epsKey, s.eps, s.prefix = "", eps, prefix
	if epsKey != "" {
		s.eps = m.number(epsKey, eps)
		if m.config.has(epsKey) {
			m.epsKey = epsKey
		}
	}
	if m.has(embed+".weight") && !m.has(prefix+embed+".weight") {
		s.prefix = ""
	}
	return s
}

// lookup reads rows of an embedding by the tokens.
func (m *model) lookup(name string, dim int) graph.ID {
	m.Scope(name, -1)
	return m.Embedding(m.Weight(name+".weight", m.vocab, dim), m.TokenIDs())
}

// learnedRows reads the rows of learned positions, the first offset of which are
// never read. The number of tokens has been bounded by atMost.
func (m *model) learnedRows(name string, offset int) graph.ID {
	n := m.dim("max_position_embeddings", 0)
	ids := make([]int, m.opt.Tokens)
	for i := range ids {
		ids[i] = i + offset
	}
	m.Scope(name, -1)
	return m.Embedding(m.Weight(name+".weight", n+offset, m.hidden), m.ConstInts(ids, len(ids)))
}

// bare reports whether the checkpoint's names are those of a decoder without a
// head.
func (s stem) bare() bool { return s.prefix == "" || s.prefix == "decoder." }

// head says where the logits come from.
type head struct {
	name  string                  // "lm_head" unless given
	embed string                  // the embedding that it may be tied to
	bias  bool                    // of the head
	after func(graph.ID) graph.ID // on the logits; nil: nothing
}

// readout applies the head. A checkpoint of the bare decoder gives its last
// hidden state; if a runtime may still read its embedding as the head, both.
func (m *model) readout(s stem, x graph.ID, h head) []graph.ID {
	if h.name == "" {
		h.name = "lm_head"
	}
	m.Scope(h.name, -1)
	embed, name := s.prefix+h.embed+".weight", h.name+".weight"
	var w graph.ID
	switch width := m.width(x); {
	case m.has(name):
		w = m.Weight(name, m.vocab, width)
		if s.tie {
			// Runtimes differ in which of the two they load: keep them alike.
			m.Tie(embed, name)
		}
	case s.tie:
		w = m.Weight(embed, m.vocab, width)
	case s.bare():
		return []graph.ID{x}
	default:
		m.failf("%s is missing, and config.json does not tie it to %s", name, embed)
		return []graph.ID{x}
	}
	y := m.Linear(x, w)
	if h.bias && (!s.bare() || m.has(h.name+".bias")) {
		y = m.Add(y, m.Weight(h.name+".bias", m.vocab))
	}
	if h.after != nil {
		y = h.after(y)
	}
	if s.bare() && !m.headed() {
		return []graph.ID{y, x}
	}
	return []graph.ID{y}
}

// headed reports whether config.json names a class with a language model's head.
func (m *model) headed() bool {
	var names []string
	m.get("architectures", &names)
	for _, n := range names {
		if strings.Contains(n, "LMHead") || strings.Contains(n, "CausalLM") {
			return true
		}
	}
	return false
}

// halfFunc is one half of a layer, attention or MLP, on normalised values; name
// is its module path.
type halfFunc func(h graph.ID, name string) graph.ID

// preNorm is a stack of pre-norm layers, the final norm and the head, under the
// names of Llama.
func (m *model) preNorm(x graph.ID, s stem, att func(i int) halfFunc, mlp halfFunc, norm normFunc) []graph.ID {
	for i := range m.layers {
		x = m.block(x, s, i, att(i), mlp, norm)
	}
	return m.closing(x, s, norm, nil)
}

// same is one half for every layer.
func same(f halfFunc) func(int) halfFunc { return func(int) halfFunc { return f } }

// closing applies the final norm and the head, under the names of Llama; after
// as in head.
func (m *model) closing(x graph.ID, s stem, norm normFunc, after func(graph.ID) graph.ID) []graph.ID {
	m.Scope(s.prefix+"norm", -1)
	return m.readout(s, norm(x, s.prefix+"norm", m.hidden, s.eps), head{embed: "embed_tokens", after: after})
}

// self is attention as one half of a layer.
func (m *model) self(a headwise) halfFunc {
	return func(h graph.ID, name string) graph.ID { return m.attendHeads(h, name, a) }
}

// gated is the gated MLP as one half of a layer.
func (m *model) gated(dim int, act graph.Op, bias bool) halfFunc {
	return func(h graph.ID, name string) graph.ID { return m.glu(h, name, dim, act, bias) }
}

// plain is the plain MLP as one half of a layer.
func (m *model) plain(in, out string, dim int, act function, bias bool) halfFunc {
	return func(h graph.ID, name string) graph.ID { return m.mlp(h, name+in, name+out, dim, act, bias) }
}

// layerNorm normalises, multiplies by a gain and adds a bias.
func (m *model) layerNorm(x graph.ID, name string, dim int, eps float64) graph.ID {
	return m.Add(m.plainNorm(x, name, dim, eps), m.Weight(name+".bias", dim))
}

// plainNorm is layerNorm without a bias.
func (m *model) plainNorm(x graph.ID, name string, dim int, eps float64) graph.ID {
	return m.Mul(m.LayerNorm(x, eps, m.epsKey), m.Weight(name+".weight", dim))
}

// layerNorm1p is layerNorm with a stored gain one less than the real one.
func (m *model) layerNorm1p(x graph.ID, name string, dim int, eps float64) graph.ID {
	y := m.Mul(m.LayerNorm(x, eps, m.epsKey), m.AddScalar(m.Weight(name+".weight", dim), 1))
	return m.Add(y, m.Weight(name+".bias", dim))
}

// activate is function, and the squared ReLU.
func (m *model) activate(key, def string) function {
	if m.text(key, def) != "relu2" {
		return m.function(key, def)
	}
	return func(x graph.ID) graph.ID {
		y := m.Apply(graph.OpReLU, x)
		return m.Mul(y, y)
	}
}

// mlp is the plain MLP: out(act(in(x))).
func (m *model) mlp(x graph.ID, in, out string, dim int, act function, bias bool) graph.ID {
	return m.linear(act(m.linear(x, in, dim, bias)), out, m.hidden, bias)
}

// innerDim reads the width of an MLP that is four times the hidden size unless
// the config says otherwise.
func (m *model) innerDim(key string) int {
	if !m.config.has(key) {
		m.used[key] = true
		return 4 * m.hidden
	}
	return m.dim(key, 0)
}

// times multiplies by a constant; by 1 it is x.
func (m *model) times(x graph.ID, f float64) graph.ID {
	if f == 1 {
		return x
	}
	return m.MulScalar(x, f)
}

// computes reports whether a tensor is one that the family's runtime computes
// anew.
func (m *model) computes(name string) bool {
	return slices.ContainsFunc(m.computed, func(ending string) bool { return strings.HasSuffix(name, ending) })
}

// width is the length of the last axis.
func (m *model) width(x graph.ID) int {
	s := m.Shape(x)
	return s[len(s)-1]
}
