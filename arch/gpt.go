package arch

import (
	"fmt"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// The GPT-2 lineage: learned positions, LayerNorm, a plain MLP. Its published
// checkpoints hold causal masks, which runtimes compute anew.

// oldMasks are the endings of the names of those masks.
var oldMasks = []string{".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"}

// gptKeys passes keys of the lineage that are not read: context length before
// n_positions, the heads of other tasks.
const gptKeys = `n_ctx summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout
	classifier_dropout embed_dropout resid_dropout`

// gptOpen reads what the lineage shares.
func (m *model) gptOpen(tie bool, embed string) stem {
	m.gptNames()
	m.ignore(gptKeys)
	m.computed = oldMasks
	return m.openWith("layer_norm_epsilon", 1e-5, tie, "transformer.", embed)
}

// learned adds learned positions to the embedded tokens.
func (m *model) learned(s stem) graph.ID {
	m.atMost(m.dim("max_position_embeddings", 0))
	x := m.lookup(s.prefix+"wte", m.hidden)
	return m.Add(x, m.learnedRows(s.prefix+"wpe", 0))
}

// gptStack is the stack of layers with its two norms, and the head.
func (m *model) gptStack(s stem, x graph.ID, bias bool, attend, mlp func(h graph.ID, name string, i int) graph.ID) []graph.ID {
	for i := range m.layers {
		p := fmt.Sprintf("%sh.%d", s.prefix, i)
		m.Scope(p+".attn", i)
		x = m.Add(x, attend(m.layerNorm(x, p+".ln_1", m.hidden, s.eps), p+".attn", i))
		m.Scope(p+".mlp", i)
		x = m.Add(x, mlp(m.layerNorm(x, p+".ln_2", m.hidden, s.eps), p+".mlp", i))
	}
	m.Scope(s.prefix+"ln_f", -1)
	return m.readout(s, m.layerNorm(x, s.prefix+"ln_f", m.hidden, s.eps), head{embed: "wte", bias: bias})
}

// conv1D is GPT-2's linear map, stored [in,out].
func (m *model) conv1D(x graph.ID, name string, out int) graph.ID {
	in := m.width(x)
	return m.Add(m.LinearT(x, m.Weight(name+".weight", in, out)), m.Weight(name+".bias", out))
}

// gpt2: one projection of rows [q; k; v].
func gpt2(m *model) []graph.ID {
	s := m.gptOpen(true, "wte")
	a := m.headsOf(0, 0)
	if !m.boolean("scale_attn_weights", true) {
		a.scale = 1
	}
	byLayer := m.boolean("scale_attn_by_inverse_layer_idx", false)
	m.ignore("reorder_and_upcast_attn") // a matter of precision
	dim, act := m.innerDim("n_inner"), m.activate("activation_function", "gelu_new")
	attend := func(h graph.ID, name string, i int) graph.ID {
		a := a
		if byLayer {
			a.scale /= float64(i + 1)
		}
		y, n := m.conv1D(h, name+".c_attn", 3*m.hidden), m.hidden
		q, k, v := m.Slice(y, 1, 0, n), m.Slice(y, 1, n, 2*n), m.Slice(y, 1, 2*n, 3*n)
		o := m.scores(m.split(q, a.heads, a.dim), m.split(k, a.heads, a.dim), m.split(v, a.heads, a.dim), a)
		return m.conv1D(o, name+".c_proj", m.hidden)
	}
	mlp := func(h graph.ID, name string, _ int) graph.ID {
		return m.conv1D(act(m.conv1D(h, name+".c_fc", dim)), name+".c_proj", m.hidden)
	}
	return m.gptStack(s, m.learned(s), false, attend, mlp)
}

// bigcode: StarCoder 1 and SantaCoder; one key/value head, or all.
func bigcode(m *model) []graph.ID {
	s := m.gptOpen(true, "wte")
	a := m.headsOf(0, 0)
	m.ignore("num_key_value_heads") // computed from multi_query
	a.kv = a.heads
	if m.boolean("multi_query", true) {
		a.kv = 1
	}
	if !m.boolean("scale_attn_weights", true) {
		a.scale = 1
	}
	// Matters of precision, and of a runtime that is no more.
	m.ignore("attention_softmax_in_fp32 scale_attention_softmax_in_fp32 inference_runner validate_runner_input pre_allocate_kv_cache max_batch_size")
	dim, act := m.innerDim("n_inner"), m.activate("activation_function", "gelu_pytorch_tanh")
	attend := func(h graph.ID, name string, _ int) graph.ID {
		q, k, v := m.grouped(m.linear(h, name+".c_attn", (a.heads+2*a.kv)*a.dim, true), a)
		return m.linear(m.scores(q, k, v, a), name+".c_proj", m.hidden, true)
	}
	mlp := func(h graph.ID, name string, _ int) graph.ID {
		return m.mlp(h, name+".c_fc", name+".c_proj", dim, act, true)
	}
	return m.gptStack(s, m.learned(s), false, attend, mlp)
}

// gptNeo: unscaled scores, some layers with a window.
func gptNeo(m *model) []graph.ID {
	m.alias("num_hidden_layers", "num_layers")
	m.alias("num_attention_heads", "num_heads")
	s := m.gptOpen(true, "wte")
	a := headwise{attention: m.headsOf(0, 0), out: "out_proj"}
	a.scale, a.biasO = 1, true
	window := where(m.neoLocal(), m.dim("window_size", 256))
	dim, act := m.innerDim("intermediate_size"), m.activate("activation_function", "gelu_new")
	attend := func(h graph.ID, name string, i int) graph.ID {
		a := a
		a.window = window(i)
		return m.attendHeads(h, name+".attention", a)
	}
	mlp := func(h graph.ID, name string, _ int) graph.ID {
		return m.mlp(h, name+".c_fc", name+".c_proj", dim, act, true)
	}
	return m.gptStack(s, m.learned(s), false, attend, mlp)
}

// neoLocal expands attention_types, a list of [pattern, repetitions], and
// returns which layers are local.
func (m *model) neoLocal() []bool {
	var types [][2]any
	names := []string{}
	if !m.get("attention_types", &types) {
		types = [][2]any{{[]any{"global", "local"}, 12.0}}
	}
	for _, t := range types {
		pattern, ok := t[0].([]any)
		times, isNumber := t[1].(float64)
		if !ok || !isNumber || times > float64(m.layers) {
			m.failf("config.json: attention_types is not a list of patterns for %d layers", m.layers)
			return make([]bool, m.layers)
		}
		for range int(times) {
			for _, name := range pattern {
				names = append(names, fmt.Sprint(name))
			}
		}
	}
	var stored []string
	if m.get("attention_layers", &stored) && !slices.Equal(stored, names) {
		m.failf("config.json: attention_layers is not what attention_types says")
	}
	local := make([]bool, m.layers)
	if len(names) != m.layers {
		m.failf("config.json: attention_types has %d entries for %d layers", len(names), m.layers)
		return local
	}
	for i, name := range names {
		local[i] = name == "local"
		if !local[i] && name != "global" {
			m.failf("config.json: attention_types[%d] %q is not supported", i, name)
		}
	}
	return local
}

// gptJ: attention and MLP side by side after one norm, neighbours rotate
// together, a bias on the head.
func gptJ(m *model) []graph.ID {
	s := m.gptOpen(false, "wte")
	m.only("rotary", "true")
	m.ignore("scale_attn_weights") // not read by GPT-J's code
	a := headwise{attention: m.headsOf(0, 0), out: "out_proj"}
	// Half a dimension more: the quotient may round down.
	p := ropeParams{typ: "default", theta: 10000, partial: (float64(m.dim("rotary_dim", 64)) + 0.5) / float64(a.dim)}
	if m.null("rotary_dim") {
		m.failf("config.json: rotary_dim null is not supported")
	}
	m.atMost(m.dim("max_position_embeddings", 2048)) // a table in the code
	m.neighbours(&a.attention, p)
	a.each = m.turned(a.attention)
	dim, act := m.innerDim("n_inner"), m.activate("activation_function", "gelu_new")
	x := m.lookup(s.prefix+"wte", m.hidden)
	for i := range m.layers {
		p := fmt.Sprintf("%sh.%d", s.prefix, i)
		m.Scope(p+".attn", i)
		h := m.layerNorm(x, p+".ln_1", m.hidden, s.eps)
		y := m.attendHeads(h, p+".attn", a)
		m.Scope(p+".mlp", i)
		x = m.Add(m.Add(y, m.mlp(h, p+".mlp.fc_in", p+".mlp.fc_out", dim, act, true)), x)
	}
	m.Scope(s.prefix+"ln_f", -1)
	return m.readout(s, m.layerNorm(x, s.prefix+"ln_f", m.hidden, s.eps), head{embed: "wte", bias: true})
}
