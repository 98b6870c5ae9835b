package arch

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/graph"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// GGUF is the forward pass of a model in GGUF, and what its metadata say in the
// Hub's words.
type GGUF struct {
	*Model
	// Config is the metadata as a config.json.
	Config []byte
	// Epsilon maps the config key of the norms' epsilon to its metadata key.
	Epsilon map[string]string
}

// dialect is how llama.cpp stores a family: metadata and names of tensors.
type dialect struct {
	// config translates the metadata, and adds the views that are no renaming.
	config func(g *ggufModel) map[string]any
	// whole and layer rename tensors, without their ending; layer's new names
	// stand below prefix, which takes the layer's number.
	whole, layer map[string]string
	prefix       string
	epsilon      string // the config's key
	layerNorm    bool   // LayerNorm's epsilon, not RMSNorm's
	gains        bool   // norms are stored as 1+w, which the Hub stores as w
}

// ggufModel is the state of one translation.
type ggufModel struct {
	ggufKeys
	m     *gguf.Model
	views *views
	d     dialect
	// weights says where the Hub's weights stand, for those who do not build.
	weights map[string]GGUFWeight

	layers, hidden, heads, kv, dim int
}

// GGUFTypes returns the values of general.architecture that have a builder, sorted.
func GGUFTypes() []string {
	var out []string
	for name := range dialects {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// BuildGGUF returns the forward pass of a model in GGUF, over its own tensors.
// An architecture, a key or a tensor that is not known gives fault.Unsupported.
//
// Source: convert_hf_to_gguf.py and the model loader of llama.cpp.
func BuildGGUF(file *gguf.Model, opt Options) (*GGUF, error) {
	name := file.Header().Text("general.architecture")
	d, ok := dialects[name]
	if !ok {
		return nil, fault.New(fault.Unsupported, "general.architecture %q is not supported", name).
			WithHint("supported: %s", strings.Join(GGUFTypes(), ", "))
	}
	if kind := file.Header().Text("general.type"); kind != "" && kind != "model" {
		return nil, fault.New(fault.Unsupported, "general.type is %q: only models can be sealed", kind)
	}
	for _, f := range file.Files() {
		for _, t := range f.Tensors {
			if slices.Contains(t.Dims, 0) {
				return nil, fault.New(fault.Unsupported, "tensor %q of dimensions %v holds nothing", t.Name, t.Dims)
			}
		}
	}
	g := newGGUF(file, name, d)
	conf := g.translate()
	if len(g.errs) > 0 {
		return nil, fault.New(fault.Unsupported, "%s", strings.Join(g.errs, "; "))
	}
	if u := g.unknown(); len(u) > 0 && !opt.AllowUnsealed {
		return nil, fault.New(fault.Unsupported, "unknown metadata key %s: it might change what the model computes", strings.Join(u, ", ")).
			WithHint("if you know that it does not, repeat with --allow-unsealed")
	}
	return g.build(conf, opt)
}

func (g *ggufModel) build(conf map[string]any, opt Options) (*GGUF, error) {
	raw, err := json.Marshal(conf)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "translating metadata")
	}
	opt.views = g.views
	m, err := Build(raw, g.views.shapes(), opt)
	if err != nil {
		return nil, fault.Wrap(fault.Unsupported, err, "as a config.json of model_type %v", conf["model_type"])
	}
	if u := g.unknown(); len(u) > 0 {
		m.Warn = append(m.Warn, "metadata keys taken on trust: "+strings.Join(u, ", "))
	}
	m.Type = g.arch
	// llama.cpp has one epsilon for all norms of a kind; where the Hub's code has
	// a constant, moving the key would move that norm too.
	op := graph.OpRMSNorm
	if g.d.layerNorm {
		op = graph.OpLayerNorm
	}
	for i := range m.Graph.Nodes {
		n := &m.Graph.Nodes[i]
		if n.Op == op {
			n.Scalar, n.EpsKey = conf[g.d.epsilon].(float64), g.d.epsilon
		}
	}
	return &GGUF{Model: m, Config: raw, Epsilon: map[string]string{g.d.epsilon: g.arch + "." + g.epsilonKey()}}, nil
}

func (g *ggufModel) epsilonKey() string {
	if g.d.layerNorm {
		return "attention.layer_norm_epsilon"
	}
	return "attention.layer_norm_rms_epsilon"
}

// translate reads what all families share, then the family's own.
func (g *ggufModel) translate() map[string]any {
	g.ignore("rope.scaling.finetuned", "tensor_data_layout", "pooling_type")
	g.layers, g.hidden = g.size("block_count"), g.size("embedding_length")
	g.heads = g.count("attention.head_count", 0)
	g.kv = g.count("attention.head_count_kv", g.heads)
	if g.heads > 0 {
		g.dim = g.count("attention.key_length", g.hidden/g.heads)
		if v := g.count("attention.value_length", g.hidden/g.heads); v != g.dim && g.arch != "deepseek2" {
			g.failf("keys of %d and values of %d elements are not supported", g.dim, v)
		}
	}
	if len(g.errs) > 0 || g.layers > len(g.views.stored) {
		g.failf("%d layers, but the file holds %d tensors", g.layers, len(g.views.stored))
		return nil
	}
	embed := g.views.stored["token_embd.weight"]
	if len(embed) != 2 {
		g.failf("token_embd.weight is missing, or no matrix")
		return nil
	}
	g.rename()
	_, head := g.views.stored["output.weight"]
	conf := map[string]any{
		"hidden_size": g.hidden, "num_hidden_layers": g.layers, "vocab_size": embed[0], "tie_word_embeddings": !head,
		"max_position_embeddings": g.count("context_length", 2048),
	}
	g.count("vocab_size", embed[0])
	if !g.has(g.epsilonKey()) {
		g.failf("metadata key %s.%s is missing", g.arch, g.epsilonKey())
	}
	conf[g.d.epsilon] = g.number(g.epsilonKey(), 1e-5)
	if bos, ok := g.f.Number("tokenizer.ggml.bos_token_id"); ok {
		conf["bos_token_id"] = int(bos)
	}
	for key, v := range g.d.config(g) {
		if conf[key] = v; v == nil {
			delete(conf, key)
		}
	}
	return conf
}

// rename adds a view for every tensor that only has another name.
func (g *ggufModel) rename() {
	for stored, shape := range g.views.stored {
		base, end := stored, ""
		for _, e := range []string{".weight", ".bias"} {
			if b, ok := strings.CutSuffix(stored, e); ok {
				base, end = b, e
			}
		}
		if to, ok := g.d.whole[base]; ok {
			g.same(to+end, stored, shape)
		}
		if i, rest, ok := ofLayer(base); ok {
			if to, ok := g.d.layer[rest]; ok {
				g.same(fmt.Sprintf(g.d.prefix, i)+to+end, stored, shape)
			}
		}
	}
}

// ofLayer splits "blk.3.attn_q".
func ofLayer(base string) (i int, rest string, ok bool) {
	s, ok := strings.CutPrefix(base, "blk.")
	if !ok {
		return 0, "", false
	}
	n, rest, ok := strings.Cut(s, ".")
	i, err := strconv.Atoi(n)
	return i, rest, ok && err == nil && i >= 0 && strconv.Itoa(i) == n
}

// each calls f for every layer that stores a tensor, with the tensor's name and
// the path of the layer on the Hub.
func (g *ggufModel) each(tensor string, f func(stored, layer string, shape []int)) {
	for i := range g.layers {
		stored := fmt.Sprintf("blk.%d.%s", i, tensor)
		if shape, ok := g.views.stored[stored]; ok {
			f(stored, fmt.Sprintf(g.d.prefix, i), shape)
		}
	}
}

// stores reports whether some layer stores a tensor.
func (g *ggufModel) stores(tensor string) (yes bool) {
	g.each(tensor, func(string, string, []int) { yes = true })
	return yes
}

// ranked demands that a tensor of layers has so many axes.
func (g *ggufModel) ranked(tensor string, rank int) bool {
	ok := true
	g.each(tensor, func(stored, _ string, shape []int) {
		if len(shape) != rank {
			g.failf("tensor %s of shape %v, expected %d axes", stored, shape, rank)
			ok = false
		}
	})
	return ok
}
