package arch

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// selective is Mamba's selective state space layer.
type selective struct {
	inner, state, rank, kernel int
	convBias, bias             bool
	// norms is applied to the time step, B and C; nil: none.
	norms func(name string, dt, b, c graph.ID) (graph.ID, graph.ID, graph.ID)
}

// mix runs the layer on x [T,hidden]. The recurrence is unrolled over the
// tokens; the state before the first is zero.
func (s selective) mix(m *model, x graph.ID, name string) graph.ID {
	t, width := m.opt.Tokens, m.Shape(x)[1]
	xz := m.linear(x, name+".in_proj", 2*s.inner, s.bias)
	h, z := m.Slice(xz, 1, 0, s.inner), m.Slice(xz, 1, s.inner, 2*s.inner)
	h = m.Apply(graph.OpSiLU, m.causalConv(h, name+".conv1d", s.kernel, s.convBias))
	p := m.linear(h, name+".x_proj", s.rank+2*s.state, false)
	dt := m.Slice(p, 1, 0, s.rank)
	b, c := m.Slice(p, 1, s.rank, s.rank+s.state), m.Slice(p, 1, s.rank+s.state, s.rank+2*s.state)
	if s.norms != nil {
		dt, b, c = s.norms(name, dt, b, c)
	}
	dt = m.Reshape(m.Apply(graph.OpSoftplus, m.linear(dt, name+".dt_proj", s.inner, true)), t, s.inner, 1)
	a := m.Apply(graph.OpNeg, m.Apply(graph.OpExp, m.Weight(name+".A_log", s.inner, s.state)))
	decay := m.Apply(graph.OpExp, m.Mul(dt, a))
	in := m.Mul(m.Mul(dt, m.Reshape(b, t, 1, s.state)), m.Reshape(h, t, s.inner, 1))
	y := m.Reshape(m.MatMul(m.recur(decay, in), m.Reshape(c, t, s.state, 1)), t, s.inner)
	y = m.Add(y, m.Mul(h, m.Weight(name+".D", s.inner)))
	return m.linear(m.Mul(y, m.Apply(graph.OpSiLU, z)), name+".out_proj", width, s.bias)
}

// recur returns the states s[t] = decay[t]·s[t-1] + in[t] of all tokens.
func (m *model) recur(decay, in graph.ID) graph.ID {
	states := []graph.ID{m.Slice(in, 0, 0, 1)}
	for i := 1; i < m.opt.Tokens; i++ {
		last := m.Mul(m.Slice(decay, 0, i, i+1), states[i-1])
		states = append(states, m.Add(last, m.Slice(in, 0, i, i+1)))
	}
	return m.Concat(0, states...)
}

// causalConv convolves every channel of x [T,C] with its own kernel over the
// tokens up to the current one.
func (m *model) causalConv(x graph.ID, name string, kernel int, bias bool) graph.ID {
	t, n := m.Shape(x)[0], m.Shape(x)[1]
	if w := m.widest(); kernel > w {
		m.failf("config.json: a convolution over %d tokens, but no tensor of the checkpoint is wider than %d", kernel, w)
		kernel = 1
	}
	y := m.Conv(m.Reshape(m.Transpose(x, 1, 0), 1, n, t), m.Weight(name+".weight", n, 1, kernel), graph.Conv{
		Stride: []int{1}, Before: []int{kernel - 1}, After: []int{0}, Dilation: []int{1}, Groups: n,
	})
	y = m.Transpose(m.Reshape(y, n, t), 1, 0)
	if bias {
		y = m.Add(y, m.Weight(name+".bias", n))
	}
	return y
}

// timeStepKeys are read when a model is first made, and by kernels for speed.
func (m *model) timeStepKeys() {
	for _, k := range []string{"time_step_scale", "time_step_min", "time_step_max", "time_step_init_scheme", "time_step_floor",
		"rescale_prenorm_residual", "use_mambapy", "use_associative_scan", "residual_in_fp32",
		// The authors' own names of sizes, and what their kernels fuse.
		"d_inner", "d_model", "n_layer", "ssm_cfg", "rms_norm", "fused_add_norm", "pad_vocab_size_multiple"} {
		m.used[k] = true
	}
}

// rank reads the width of the time step's projection: a number or "auto".
func (m *model) rank(key string) int {
	m.used[key] = true
	if raw := string(m.raw[key]); raw == "" || raw == `"auto"` {
		return (m.hidden + 15) / 16
	}
	return m.dim(key, 1)
}

// backbone reads what Mamba 1 and 2 share, embeds the tokens, runs the layers
// and applies the head.
func (m *model) backbone(tie bool, layer func(x graph.ID, name string) graph.ID) []graph.ID {
	tie = m.boolean("tie_word_embeddings", tie)
	m.only("hidden_act", `"silu"`)
	m.timeStepKeys()
	bare := m.has("embeddings.weight") && !m.has("backbone.embeddings.weight")
	p := "backbone."
	if bare {
		p = ""
	}
	embed := p + "embeddings.weight"
	if old := p + "embedding.weight"; m.has(old) { // the authors' own name
		embed = old
	}
	eps := m.number("layer_norm_epsilon", 1e-5)
	m.Scope(p+"embeddings", -1)
	x := m.Embedding(m.Weight(embed, m.vocab, m.hidden), m.TokenIDs())
	for i := range m.layers {
		name := fmt.Sprintf("%slayers.%d", p, i)
		m.Scope(name+".mixer", i)
		x = m.Add(x, layer(m.rmsNorm(x, name+".norm", m.hidden, eps), name+".mixer"))
	}
	m.Scope(p+"norm_f", -1)
	x = m.rmsNorm(x, p+"norm_f", m.hidden, eps)
	if bare {
		return []graph.ID{x}
	}
	return []graph.ID{m.logits(x, "lm_head", embed, m.vocab, tie)}
}

// mambaSizes reads the sizes of Mamba 1 and 2.
func (m *model) mambaSizes() {
	m.hidden, m.layers, m.vocab = m.dim("hidden_size", 768), m.depth("num_hidden_layers", 32), m.dim("vocab_size", 50280)
	m.count("intermediate_size", 0) // computed anew from expand
	if m.config.has("layer_norm_epsilon") {
		m.epsKey = "layer_norm_epsilon"
	}
}

// mamba: Mamba 1, and Falcon-Mamba, which normalises time step, B and C.
func mamba(m *model) []graph.ID {
	m.atLeast(2)
	m.mambaSizes()
	s := selective{
		inner: m.dim("expand", 2) * m.hidden, state: m.dim("state_size", 16), rank: m.rank("time_step_rank"),
		kernel: m.dim("conv_kernel", 4), convBias: m.boolean("use_conv_bias", true), bias: m.boolean("use_bias", false),
	}
	if m.text("model_type", "") == "falcon_mamba" {
		eps := m.number("mixer_rms_eps", 1e-6)
		key := ""
		if m.config.has("mixer_rms_eps") {
			key = "mixer_rms_eps"
		}
		s.norms = func(_ string, dt, b, c graph.ID) (graph.ID, graph.ID, graph.ID) {
			return m.RMSNorm(dt, eps, key), m.RMSNorm(b, eps, key), m.RMSNorm(c, eps, key)
		}
	}
	if !m.fits(s.inner, s.state, s.rank) {
		return nil
	}
	return m.backbone(true, func(x graph.ID, name string) graph.ID { return s.mix(m, x, name) })
}

// fits refuses sizes that exceed every tensor, before anything is allocated.
func (m *model) fits(sizes ...int) bool {
	w := m.widest()
	for _, n := range sizes {
		if n > w {
			m.failf("config.json asks for %d elements, but no tensor of the checkpoint is wider than %d", n, w)
			return false
		}
	}
	return true
}

// mamba2: Mamba 2, whose state decays by one number per head.
func mamba2(m *model) []graph.ID {
	m.atLeast(2)
	m.mambaSizes()
	s := dual{
		heads: m.dim("num_heads", 128), dim: m.dim("head_dim", 64), groups: m.dim("n_groups", 8), state: m.dim("state_size", 128),
		kernel: m.dim("conv_kernel", 4), convBias: m.boolean("use_conv_bias", true), bias: m.boolean("use_bias", false),
		eps: m.number("layer_norm_epsilon", 1e-5), epsKey: m.epsKey,
	}
	s.low, s.high = m.interval("time_step_limit", 0, math.Inf(1))
	m.dim("chunk_size", 256)                    // how the sum is cut into pieces
	m.rank("time_step_rank")                    // not read
	m.only("norm_before_gate", "false", "true") // not read
	inner := m.dim("expand", 2) * m.hidden
	if !s.check(m, inner) {
		return nil
	}
	return m.backbone(false, func(x graph.ID, name string) graph.ID { return s.mix(m, x, name) })
}

// dual is Mamba 2's layer in its dual form: as long as the sequence is, scores
// of tokens with tokens, like attention, weighed by the decay between them.
type dual struct {
	heads, dim, groups, state, kernel int
	convBias, bias                    bool
	low, high                         float64 // bounds of the time step
	eps                               float64 // of the gated norm
	epsKey                            string
}

func (s dual) mix(m *model, x graph.ID, name string) graph.ID {
	width, inner, bc := m.Shape(x)[1], s.heads*s.dim, s.groups*s.state
	p := m.linear(x, name+".in_proj", 2*inner+2*bc+s.heads, s.bias)
	gate, dt := m.Slice(p, 1, 0, inner), m.Slice(p, 1, 2*inner+2*bc, 2*inner+2*bc+s.heads)
	h := m.Slice(p, 1, inner, 2*inner+2*bc)
	h = m.Apply(graph.OpSiLU, m.causalConv(h, name+".conv1d", s.kernel, s.convBias))
	dt = m.Apply(graph.OpSoftplus, m.Add(dt, m.Weight(name+".dt_bias", s.heads)))
	dt = m.Clamp(dt, s.low, s.high)
	y := s.scan(m, m.Slice(h, 1, 0, inner), m.Slice(h, 1, inner, inner+bc), m.Slice(h, 1, inner+bc, inner+2*bc), dt, name)
	y = m.groupNorm(m.Mul(y, m.Apply(graph.OpSiLU, gate)), s.groups, s.eps, s.epsKey)
	y = m.Mul(y, m.Weight(name+".norm.weight", inner))
	return m.linear(y, name+".out_proj", width, s.bias)
}

// scan computes the output of all heads, [T,heads·dim], before the gate.
func (s dual) scan(m *model, x, b, c, dt graph.ID, name string) graph.ID {
	t := m.opt.Tokens
	a := m.Apply(graph.OpNeg, m.Apply(graph.OpExp, m.Weight(name+".A_log", s.heads)))
	decay := m.CumSum(m.Transpose(m.Mul(dt, a), 1, 0)) // [heads,T]
	// Between a token and an earlier one the sum never rises: the bound changes
	// nothing there, and keeps the exponential finite on the other side.
	decay = m.Sub(m.Reshape(decay, s.heads, t, 1), m.Reshape(decay, s.heads, 1, t))
	decay = m.Mul(m.Apply(graph.OpExp, m.Clamp(decay, math.Inf(-1), 0)), m.triangle())
	scores := m.MatMul(m.heads(c, s.groups, s.heads), m.Transpose(m.heads(b, s.groups, s.heads), 0, 2, 1))
	x = m.heads(x, s.heads, s.heads)
	y := m.MatMul(m.Mul(scores, decay), m.Mul(x, m.Reshape(m.Transpose(dt, 1, 0), s.heads, t, 1)))
	y = m.Add(y, m.Mul(x, m.Reshape(m.Weight(name+".D", s.heads), s.heads, 1, 1)))
	return m.Reshape(m.Transpose(y, 1, 0, 2), t, s.heads*s.dim)
}

// triangle is 1 where a token may look, else 0.
func (m *model) triangle() graph.ID {
	t := m.opt.Tokens
	d := make([]float32, t*t)
	for i := range t {
		for j := range i + 1 {
			d[i*t+j] = 1
		}
	}
	return m.Const(d, t, t)
}

// groupNorm normalises x [T,n] by the root mean square of each of its groups.
func (m *model) groupNorm(x graph.ID, groups int, eps float64, epsKey string) graph.ID {
	t, n := m.Shape(x)[0], m.Shape(x)[1]
	return m.Reshape(m.RMSNorm(m.Reshape(x, t, groups, n/groups), eps, epsKey), t, n)
}

// interval reads two bounds, of which Python writes infinite ones in its own ways.
func (m *model) interval(key string, low, high float64) (float64, float64) {
	var raw []json.RawMessage
	if !m.get(key, &raw) {
		return low, high
	}
	bounds := [2]float64{math.NaN(), math.NaN()}
	for i := range min(len(raw), 2) {
		if json.Unmarshal(raw[i], &bounds[i]) == nil {
			continue
		}
		// transformers 5 writes an object, version 4 a bare word.
		var word struct {
			Float string `json:"__float__"`
		}
		if _ = json.Unmarshal(raw[i], &word); word.Float == "Infinity" || string(raw[i]) == infinite {
			bounds[i] = math.Inf(1)
		}
	}
	if len(raw) != 2 || !(bounds[0] <= bounds[1]) {
		m.failf("config.json: %s%s is %s, not two bounds", m.path, key, abbreviate(m.raw[key]))
		return low, high
	}
	return bounds[0], bounds[1]
}

// jamba: Mamba layers with norms, among them layers of attention without
// positions; some layers' MLPs are sparse experts.
func jamba(m *model) []graph.ID {
	m.atLeast(2)
	s := m.open(1e-6, false)
	for _, k := range []string{"use_mamba_kernels", "num_logits_to_keep", "max_position_embeddings"} {
		m.used[k] = true
	}
	m.timeStepKeys()
	m.count("sliding_window", 0) // not read
	mixer := selective{
		inner: m.dim("mamba_expand", 2) * m.hidden, state: m.dim("mamba_d_state", 16), rank: m.rank("mamba_dt_rank"),
		kernel: m.dim("mamba_d_conv", 4), convBias: m.boolean("mamba_conv_bias", true), bias: m.boolean("mamba_proj_bias", false),
	}
	mixer.norms = func(name string, dt, b, c graph.ID) (graph.ID, graph.ID, graph.ID) {
		return m.rmsNorm(dt, name+".dt_layernorm", mixer.rank, s.eps), m.rmsNorm(b, name+".b_layernorm", mixer.state, s.eps),
			m.rmsNorm(c, name+".c_layernorm", mixer.state, s.eps)
	}
	a := m.headsOf(8, 0)
	look := m.looker(m.hidden, a.heads, ".q_proj", ".k_proj", ".v_proj", ".o_proj").masked(m.causal(m.opt.Tokens))
	look.kv, look.biasQ, look.biasK, look.biasV, look.biasO = a.kv, false, false, false, false
	attends := m.every("attn_layer_period", 8, "attn_layer_offset", 4)
	sparse := m.every("expert_layer_period", 2, "expert_layer_offset", 1)
	n := m.dim("num_experts", m.dim("num_local_experts", 16))
	k := m.dim("num_experts_per_tok", 2)
	if k > n && n > 1 {
		m.failf("config.json: num_experts_per_tok %d exceeds the %d experts", k, n)
	}
	e := experts{router: router{n: n, k: min(k, n), weight: ".router", score: graph.OpSoftmax}, dim: m.dim("intermediate_size", 14336),
		act: m.activation("hidden_act", "silu"), prefix: "experts.", names: gateUpDown}
	if !m.fits(mixer.inner, mixer.state, mixer.rank) || len(*m.errs) > 0 {
		return nil
	}
	x := m.embed(s)
	for i := range m.layers {
		p := fmt.Sprintf("%slayers.%d", s.prefix, i)
		h := m.rmsNorm(x, p+".input_layernorm", m.hidden, s.eps)
		if attends(i) {
			m.Scope(p+".self_attn", i)
			x = m.Add(x, m.look(h, h, p+".self_attn", look))
		} else {
			m.Scope(p+".mamba", i)
			x = m.Add(x, mixer.mix(m, h, p+".mamba"))
		}
		m.Scope(p+".feed_forward", i)
		h = m.rmsNorm(x, p+".pre_ff_layernorm", m.hidden, s.eps)
		if sparse(i) && n > 1 {
			x = m.Add(x, m.sparse(h, p+".feed_forward", e))
		} else {
			x = m.Add(x, m.glu(h, p+".feed_forward", e.dim, e.act, false))
		}
	}
	m.Scope(s.prefix+"final_layernorm", -1)
	return []graph.ID{m.head(s, m.rmsNorm(x, s.prefix+"final_layernorm", m.hidden, s.eps))}
}

// every reads which layers are of a kind: those that are offset modulo period.
func (m *model) every(period string, p int, offset string, o int) func(int) bool {
	p, o = m.dim(period, p), m.count(offset, o)
	return func(i int) bool { return i%p == o }
}
