package arch

import (
	"fmt"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// bamba: Mamba 2 layers, among them layers of rotary attention, with a gated
// MLP in each.
func bamba(m *model) []graph.ID {
	m.atLeast(2)
	s := m.open(1e-5, false)
	m.number("z_loss_coefficient", 0)
	m.count("num_logits_to_keep", 1)
	a := m.headsOf(8, 0)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	m.rotary(&a, m.readRope("", 10000, 0.5))
	d := dual{
		heads: m.dim("mamba_n_heads", 128), groups: m.dim("mamba_n_groups", 1), state: m.dim("mamba_d_state", 256),
		kernel: m.dim("mamba_d_conv", 4), convBias: m.boolean("mamba_conv_bias", true), bias: m.boolean("mamba_proj_bias", false),
		eps: s.eps, epsKey: m.epsKey,
	}
	d.low, d.high = m.interval("time_step_limit", 0, math.Inf(1))
	m.dim("mamba_chunk_size", 256) // how the sum is cut into pieces
	inner := m.dim("mamba_expand", 2) * m.hidden
	if d.dim = inner / d.heads; string(m.raw["mamba_d_head"]) == `"auto"` {
		m.used["mamba_d_head"] = true
	} else {
		d.dim = m.dim("mamba_d_head", d.dim)
	}
	var attends []int
	m.get("attn_layer_indices", &attends)
	m.used["layers_block_type"] = true // the same again
	act, dim, bias := m.activation("hidden_act", "silu"), m.dim("intermediate_size", 14336), m.boolean("mlp_bias", false)
	if !d.check(m, inner) {
		return nil
	}
	x := m.embed(s)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		h := m.rmsNorm(x, p+".input_layernorm", m.hidden, s.eps)
		if slices.Contains(attends, i) {
			m.Scope(p+".self_attn", i)
			x = m.Add(x, m.attend(h, p+".self_attn", a))
		} else {
			m.Scope(p+".mamba", i)
			x = m.Add(x, d.mix(m, h, p+".mamba"))
		}
		m.Scope(p+".feed_forward", i)
		h = m.rmsNorm(x, p+".pre_ff_layernorm", m.hidden, s.eps)
		x = m.Add(x, m.glu(h, p+".feed_forward", dim, act, bias))
	}
	m.Scope(s.prefix+"final_layernorm", -1)
	return []graph.ID{m.head(s, m.rmsNorm(x, s.prefix+"final_layernorm", m.hidden, s.eps))}
}

// check refuses sizes that do not fit together or the checkpoint.
func (s dual) check(m *model, inner int) bool {
	switch {
	case inner != s.heads*s.dim:
		m.failf("config.json: %d heads of %d elements do not make the %d of Mamba's layers", s.heads, s.dim, inner)
	case s.heads%s.groups != 0:
		m.failf("config.json: %d heads are not a multiple of %d groups", s.heads, s.groups)
	}
	return m.fits(inner, s.groups*s.state) && len(*m.errs) == 0
}

// nemotronH: layers of one kind each: Mamba 2, attention without positions, an
// MLP with squared ReLU, or experts of such MLPs.
func nemotronH(m *model) []graph.ID {
	m.atLeast(2)
	for _, k := range []string{"mamba_ssm_cache_dtype", "use_mamba_kernels", "num_logits_to_keep", "hidden_dropout", "mamba_proj_bias",
		"moe_shared_expert_overlap", "n_shared_experts", "max_position_embeddings", "expand", "chunk_size", "rope_theta", "attention_bias",
		"mtp_layers_block_type", "mtp_hybrid_override_pattern", "sliding_window", "partial_rotary_factor", "rope_parameters", "rope_scaling"} {
		m.used[k] = true // not read by the code, or not in a forward pass
	}
	m.timeStepKeys()
	m.used["time_step_limit"] = true // the code takes its lower bound from time_step_min
	m.only("moe_latent_size", "null")
	m.only("num_nextn_predict_layers", "0")
	m.only("mlp_hidden_act", `"relu2"`)
	m.only("mamba_hidden_act", `"silu"`)
	kinds := m.layerKinds()
	m.count("num_hidden_layers", len(kinds))
	m.hidden, m.layers, m.vocab = m.dim("hidden_size", 4096), len(kinds), m.dim("vocab_size", 131072)
	eps, key := m.epsilon("layer_norm_epsilon", 1e-5)
	m.epsKey = key
	d := dual{
		heads: m.dim("mamba_num_heads", 128), dim: m.dim("mamba_head_dim", 64), groups: m.dim("n_groups", 8), state: m.dim("ssm_state_size", 128),
		kernel: m.dim("conv_kernel", 4), convBias: m.boolean("use_conv_bias", true), bias: m.boolean("use_bias", false),
		eps: eps, epsKey: key, low: m.number("time_step_min", 0.001), high: math.Inf(1),
	}
	l := look{heads: m.dim("num_attention_heads", 32), dim: m.dim("head_dim", 128), q: ".q_proj", k: ".k_proj", v: ".v_proj", o: ".o_proj"}
	l.kv, l.scale = m.dim("num_key_value_heads", l.heads), 1/math.Sqrt(float64(l.dim))
	l = l.masked(m.causal(m.opt.Tokens))
	e := m.squareExperts()
	tie := m.boolean("tie_word_embeddings", false)
	if l.heads%l.kv != 0 {
		m.failf("config.json: num_attention_heads %d is not a multiple of num_key_value_heads %d", l.heads, l.kv)
	}
	if !d.check(m, d.heads*d.dim) || !m.fits(l.heads*l.dim) {
		return nil
	}
	p := m.prefix("embeddings.weight", "backbone.", "")
	m.Scope(p+"embeddings", -1)
	x := m.Embedding(m.Weight(p+"embeddings.weight", m.vocab, m.hidden), m.TokenIDs())
	for i, kind := range kinds {
		name := fmt.Sprintf("%slayers.%d", p, i)
		m.Scope(name+".mixer", i)
		h := m.rmsNorm(x, name+".norm", m.hidden, eps)
		switch name += ".mixer"; kind {
		case "linear_attention":
			h = d.mix(m, h, name)
		case "full_attention":
			h = m.look(h, h, name, l)
		case "mlp":
			h = m.square(h, name, e.dim, e.bias)
		default:
			h = e.run(m, h, name)
		}
		x = m.Add(x, h)
	}
	m.Scope(p+"norm_f", -1)
	if x = m.rmsNorm(x, p+"norm_f", m.hidden, eps); p == "" {
		return []graph.ID{x}
	}
	return []graph.ID{m.logits(x, "lm_head", p+"embeddings.weight", m.vocab, tie)}
}

// layerKinds reads what the layers are, in either spelling.
func (m *model) layerKinds() []string {
	names := map[string]string{"M": "linear_attention", "E": "moe", "*": "full_attention", "-": "mlp", "mamba": "linear_attention", "attention": "full_attention"}
	var kinds []string
	pattern := m.text("hybrid_override_pattern", "")
	if !m.get("layers_block_type", &kinds) && !m.get("layer_types", &kinds) {
		for _, c := range pattern {
			kinds = append(kinds, string(c))
		}
	}
	if len(kinds) == 0 || len(kinds) > len(m.shapes) {
		m.failf("config.json: layers_block_type names %d layers; the checkpoint holds %d tensors", len(kinds), len(m.shapes))
		return nil
	}
	for i, k := range kinds {
		if n, ok := names[k]; ok {
			kinds[i] = n
		} else if !slices.Contains([]string{"linear_attention", "moe", "full_attention", "mlp"}, k) {
			m.failf("config.json: layers_block_type[%d] %q is not supported", i, k)
		}
	}
	return kinds
}

// square is an MLP with a squared ReLU.
func (m *model) square(x graph.ID, name string, dim int, bias bool) graph.ID {
	h := m.Apply(graph.OpReLU, m.linear(x, name+".up_proj", dim, bias))
	return m.linear(m.Mul(h, h), name+".down_proj", m.hidden, bias)
}

// squareExperts is a sparse mixture of such MLPs, and one that sees all tokens.
type squareExperts struct {
	router              router
	dim, width, sharing int // of a dense MLP, an expert, the shared expert
	bias                bool
}

func (m *model) squareExperts() squareExperts {
	n := m.dim("n_routed_experts", m.dim("num_local_experts", 8))
	e := squareExperts{
		dim: m.dim("intermediate_size", 21504), width: m.dim("moe_intermediate_size", 7688),
		sharing: m.dim("moe_shared_expert_intermediate_size", 7688), bias: m.boolean("mlp_bias", false),
		router: router{
			n: n, k: m.topK("num_experts_per_tok", 2, n), weight: ".gate", score: graph.OpSigmoid, correction: ".gate.e_score_correction_bias",
			normalise: m.boolean("norm_topk_prob", true), tiny: 1e-20, scale: m.number("routed_scaling_factor", 1),
		},
	}
	m.groupLimits(&e.router, 1, 1, 2)
	return e
}

func (e squareExperts) run(m *model, x graph.ID, name string) graph.ID {
	if m.needed += 2 * e.router.n; m.needed > len(m.shapes) {
		m.failf("config.json: its experts need %d tensors and more, but the checkpoint holds %d", m.needed, len(m.shapes))
		return x
	}
	p := m.route(x, name, e.router)
	y := m.square(x, name+".shared_experts", e.sharing, e.bias)
	for i := range e.router.n {
		h := m.square(x, fmt.Sprintf("%s.experts.%d", name, i), e.width, false)
		y = m.Add(y, m.Mul(h, m.Slice(p, 1, i, i+1)))
	}
	return y
}
