// Package arch writes the forward passes of model families as computation
// graphs, from config.json and the names and shapes of the checkpoint's
// tensors, as a reader of the modeling code would. A builder holds no list of
// pairs: what may be scaled is derived from its graph by package gauge.
//
// Source of the forward passes: the modeling files of Hugging Face
// transformers 5.x; checked against it, logits by logits, by the interop suite.
package arch

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Options are the choices of a caller that runs or analyses a graph.
type Options struct {
	Tokens        int  // length of the token sequence; at least 1. A family may need more or bear less: Graph.Tokens says
	AllEx         bool // route every token to every expert, so that each one counts
	AllowUnsealed bool // let tensors and config keys pass that nobody knows

	views *views // for a checkpoint whose tensors are called or laid out otherwise
}

// Model is a checkpoint's forward pass.
type Model struct {
	Type    string
	Layers  int
	Vocab   int
	Sparse  bool // a router chooses experts
	Graph   *graph.Graph
	Buffers []string // tensors that the runtime computes anew and does not read
	Unknown []string // tensors that no operation reads; only with AllowUnsealed
	Warn    []string
}

// family writes one family's graph.
type family struct {
	build func(*model) []graph.ID
}

var families = merged(decoders, mixtures, others, map[string]family{
	"llama":       {llama},
	"mistral":     {mistral},
	"qwen2":       {qwen2},
	"qwen3":       {qwen3},
	"gemma":       {gemma},
	"gemma2":      {gemma2},
	"gemma3_text": {gemma3},
	"phi3":        {phi3},
	"mixtral":     {mixtral},
	"qwen3_moe":   {qwen3moe},
})

func merged(ms ...map[string]family) map[string]family {
	out := map[string]family{}
	for _, m := range ms {
		maps.Copy(out, m)
	}
	return out
}

// Types returns the model types with a builder, sorted.
func Types() []string {
	var out []string
	for k := range families {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

// model is the state of one build.
type model struct {
	*graph.Builder
	*config
	opt      Options
	shapes   map[string][]int
	layers   int
	vocab    int
	hidden   int
	epsKey   string // "rms_norm_eps" where the config has it; a default in code cannot move
	needed   int    // tensors that the experts built so far read
	routed   bool
	also     []graph.ID // outputs besides those that the builder returns
	reads    bool       // the network has text tokens
	computed []string   // endings of tensors that this family's runtime computes anew
	warn     []string
}

// Build returns the forward pass of a checkpoint with the given config.json
// and tensor shapes. An unknown model type, a config key that might change the
// function and is not known, and any disagreement between graph and checkpoint
// is an error of kind Unsupported that lists all of them.
func Build(configJSON []byte, shapes map[string][]int, opt Options) (*Model, error) {
	if len(configJSON) == 0 {
		return nil, fault.New(fault.Unsupported, "no config.json: the architecture is unknown").
			WithHint("give the checkpoint's folder, with its config.json")
	}
	c, err := parseConfig(configJSON)
	if err != nil {
		return nil, err
	}
	typ := c.text("model_type", "")
	c.generic()
	if !translators[typ] {
		c.only("is_encoder_decoder", "false")
	}
	f, ok := families[typ]
	if !ok {
		return nil, fault.New(fault.Unsupported, "config.json: model_type %q is not supported", typ).
			WithHint("export its graph: neuroseal graph script > export.py && python export.py FOLDER model.pt2; then repeat with --graph model.pt2. Built in: %s", strings.Join(Types(), ", "))
	}
	if len(*c.errs) > 0 {
		return nil, fault.New(fault.Unsupported, "%s", strings.Join(*c.errs, "; "))
	}
	m := &model{config: c, opt: opt, shapes: shapes}
	m.begin()
	out := append(f.build(m), m.also...)
	if len(*c.errs) > 0 {
		return nil, fault.New(fault.Unsupported, "%s", strings.Join(*c.errs, "; "))
	}
	if u := c.unknown(); len(u) > 0 {
		if !opt.AllowUnsealed {
			return nil, fault.New(fault.Unsupported, "config.json: unknown key %s for model_type %q: it might change what the model computes", strings.Join(u, ", "), typ).
				WithHint("if you know that it does not, repeat with --allow-unsealed")
		}
		m.warn = append(m.warn, "config keys taken on trust: "+strings.Join(u, ", "))
	}
	g, err := m.Finish(out...)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "config.json does not describe a %s network", typ)
	}
	if !m.reads {
		g.Tokens = 0
	}
	res := &Model{Type: typ, Layers: m.layers, Vocab: m.vocab, Sparse: m.routed, Graph: g, Warn: m.warn}
	return res, m.compare(g, res)
}

// compare demands that graph and checkpoint hold the same tensors.
func (m *model) compare(g *graph.Graph, res *Model) error {
	var missing, shape, extra []string
	shapes := m.shapes
	if m.opt.views != nil {
		shapes = m.opt.views.stored
	}
	for name, id := range g.Weights() {
		s, ok := shapes[name]
		switch {
		case !ok:
			missing = append(missing, name)
		case !slices.Equal(s, g.Shape(id)):
			shape = append(shape, fmt.Sprintf("%s %v, expected %v", name, s, g.Shape(id)))
		}
	}
	for name := range shapes {
		if _, ok := g.Weights()[name]; ok {
			continue
		}
		if buffer(name) || m.computes(name) || m.opt.views.keeps(name) {
			res.Buffers = append(res.Buffers, name)
		} else {
			extra = append(extra, name)
		}
	}
	sort.Strings(res.Buffers)
	sort.Strings(extra)
	if m.opt.AllowUnsealed {
		res.Unknown, extra = extra, nil
	}
	var parts []string
	for _, l := range []struct {
		what string
		list []string
	}{{"missing", missing}, {"with another shape", shape}, {"not read by the network", extra}} {
		if n := len(l.list); n > 0 {
			sort.Strings(l.list)
			parts = append(parts, fmt.Sprintf("%d tensors %s: %s", n, l.what, fault.List(l.list)))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	e := fault.New(fault.Unsupported, "the checkpoint does not match model_type %q: %s", res.Type, strings.Join(parts, "; "))
	if len(missing)+len(shape) == 0 {
		e = e.WithHint("--allow-unsealed leaves unread tensors as they are")
	}
	return e
}

// TokenIDs is the leaf of the text's tokens.
func (m *model) TokenIDs(shape ...int) graph.ID {
	m.reads = true
	return m.Builder.TokenIDs(shape...)
}

// atMost bounds the number of tokens by the length of a position table, and
// atLeast by what a recurrence needs for all of its weights to take part. They
// are called before anything is built.
func (m *model) atMost(positions int) { m.retoken(min(m.opt.Tokens, positions)) }

func (m *model) atLeast(tokens int) { m.retoken(max(m.opt.Tokens, tokens)) }

func (m *model) retoken(n int) {
	if n != m.opt.Tokens {
		m.opt.Tokens = n
		m.begin()
	}
}

// begin starts the graph.
func (m *model) begin() {
	m.Builder = graph.NewBuilder(m.opt.Tokens)
	if m.opt.views != nil {
		m.Resolve(m.opt.views.resolver(m.Builder))
	}
}

// buffer reports whether a tensor is one that old checkpoints store and every
// runtime computes anew.
func buffer(name string) bool {
	return strings.HasSuffix(name, ".rotary_emb.inv_freq") || name == "embeddings.position_ids" ||
		strings.HasSuffix(name, ".embeddings.position_ids") ||
		name == "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight" // of T5, read by no version
}

// widest returns the length of the longest axis of any tensor that has
// elements: what a config may ask to allocate before shapes are compared.
func (m *model) widest() int {
	w := 0
	for _, s := range m.shapes {
		if !slices.Contains(s, 0) {
			w = max(w, slices.Max(append([]int{1}, s...)))
		}
	}
	return w
}

// has reports whether the checkpoint holds a tensor.
func (m *model) has(name string) bool {
	_, ok := m.shapes[name]
	return ok
}
