package arch

import (
	"bytes"
	"math"
	"slices"

	"github.com/neuroseal/neuroseal/graph"
)

// mixtures are the builders of mixtures of experts and recent hybrids.
var mixtures = map[string]family{
	"qwen2_moe":        {qwen2moe},
	"olmoe":            {olmoe},
	"deepseek_v2":      {deepseekV2},
	"deepseek_v3":      {deepseekV3},
	"gpt_oss":          {gptOSS},
	"glm4_moe":         {glm4moe},
	"dots1":            {dots1},
	"llama4_text":      {llama4Text},
	"qwen3_next":       {qwen3next},
	"granitemoe":       {graniteMoe},
	"granitemoeshared": {graniteMoe},
	"granitemoehybrid": {graniteHybrid},
	"falcon_h1":        {falconH1},
	"lfm2":             {lfm2},
	"lfm2_moe":         {lfm2Moe},
	"phimoe":           {phimoe},
	"minimax":          {minimax},
	"dbrx":             {dbrx},
	"ernie4_5_moe":     {ernieMoe},
	"hunyuan_v1_moe":   {hunyuanMoe},
	"qwen3_5_text":     {qwen35},
	"qwen3_5_moe_text": {qwen35moe},
}

// qwen2moe: Qwen 1.5 and 2 mixtures; a shared expert behind a gate of its own.
func qwen2moe(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(16, 0)
	a.biasQKV = m.boolean("qkv_bias", true)
	m.qwenExtras()
	m.fullRotary(&a, 10000)
	e := m.qwenExperts("moe_intermediate_size", [3]int{60, 4, 1408}, false)
	shared := m.dim("shared_expert_intermediate_size", 5632)
	dense := m.dense(m.dim("intermediate_size", 5632), e.act, false)
	sparse := m.sparseLayers()
	return m.decoder(s, a, m.qwen2moeWindow(), func(i int) func(graph.ID, string) graph.ID {
		if !sparse(i) {
			return dense(i)
		}
		return func(h graph.ID, name string) graph.ID { return m.withShared(h, name, e, shared) }
	})
}

// withShared adds to the experts one that every token goes to, weighed by a
// gate of its own.
func (m *model) withShared(h graph.ID, name string, e experts, shared int) graph.ID {
	gate := m.Apply(graph.OpSigmoid, m.linear(h, name+".shared_expert_gate", 1, false))
	return m.Add(m.sparse(h, name, e), m.Mul(gate, m.glu(h, name+".shared_expert", shared, e.act, false)))
}

// qwen2moeWindow: by default every other layer below max_window_layers slides.
func (m *model) qwen2moeWindow() func(int) int {
	w, upTo := m.window(4096), m.count("max_window_layers", 28)
	if !m.boolean("use_sliding_window", false) {
		w = 0
	}
	sliding := m.layerTypes(func(i int) bool { return w > 0 && i%2 == 0 && i < upTo })
	m.slides(sliding, w)
	return where(sliding, w)
}

// slides refuses sliding layers without a window.
func (m *model) slides(sliding []bool, w int) {
	for _, s := range sliding {
		if s && w == 0 {
			m.failf("config.json: layer_types has sliding layers, but there is no sliding_window in use")
			return
		}
	}
}

// olmoe: norms over all query and key heads at once, values may be clipped.
func olmoe(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(0, 0)
	m.attentionBias(&a, false)
	m.fullRotary(&a, 10000)
	clip := m.number("clip_qkv", 0)
	e := m.qwenExperts("intermediate_size", [3]int{64, 8, 2048}, false)
	return m.stack(s, func(x graph.ID, i int) graph.ID {
		return m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attendWide(h, name, a, s.eps, clip) },
			func(h graph.ID, name string) graph.ID { return m.sparse(h, name, e) }, m.rmsNorm)
	})
}

// attendWide normalises queries and keys over all their heads, before they
// are split; clip bounds queries, keys and values, 0 does not.
func (m *model) attendWide(x graph.ID, name string, a attention, eps, clip float64) graph.ID {
	project := func(to string, heads int) graph.ID {
		y := m.linear(x, name+"."+to+"_proj", heads*a.dim, a.biasQKV)
		if to != "v" {
			y = m.rmsNorm(y, name+"."+to+"_norm", heads*a.dim, eps)
		}
		if clip != 0 {
			y = m.Clamp(y, -clip, clip)
		}
		return y
	}
	return m.linear(m.mix(project("q", a.heads), project("k", a.kv), project("v", a.kv), name, a), name+".o_proj", m.hidden, a.biasO)
}

// glm4moe: GLM-4.5 and 4.6; half of each head turns.
func glm4moe(m *model) []graph.ID {
	s := m.open(1e-5, false)
	a := m.headsOf(8, 0)
	a.biasQKV = m.boolean("attention_bias", false)
	m.rotary(&a, m.readRope("", 10000, 0.5))
	if m.boolean("use_qk_norm", false) {
		a.norm, a.eps = m.rmsNorm, s.eps
	}
	e := m.routedExperts([3]int{128, 8, 1408})
	m.corrected(&e.router, true, 1, 1)
	mlp := m.mixedLayers(e, m.dim("intermediate_size", 0), m.dim("n_shared_experts", 1), 1)
	return m.drafting(s, func(x graph.ID, i int) graph.ID {
		return m.block(x, s, i, func(h graph.ID, name string) graph.ID { return m.attend(h, name, a) }, mlp(i), m.rmsNorm)
	})
}

// dots1: Qwen3's attention, DeepSeek V3's experts.
func dots1(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(0, 0)
	m.attentionBias(&a, false)
	a.norm, a.eps = m.rmsNorm, s.eps
	m.fullRotary(&a, 10000)
	w, from := m.window(4096), m.count("max_window_layers", 62)
	sliding := m.layerTypes(func(i int) bool { return w > 0 && i >= from })
	m.slides(sliding, w)
	e := m.routedExperts([3]int{0, 0, 1408})
	m.corrected(&e.router, false, 1, 1)
	mlp := m.mixedLayers(e, m.dim("intermediate_size", 0), m.dim("n_shared_experts", 0), 0)
	return m.decoder(s, a, where(sliding, w), mlp)
}

// ernieMoe: ERNIE 4.5's mixtures.
func ernieMoe(m *model) []graph.ID {
	s := m.open(1e-5, true)
	a := m.headsOf(4, 0)
	bias := m.boolean("use_bias", false)
	a.biasQKV, a.biasO = bias, bias
	m.neighbours(&a, m.wholeHeads(500000))
	e := m.ernieExperts()
	shared := m.count("moe_num_shared_experts", 2)
	dim := m.dim("intermediate_size", 12288)
	first, every := m.count("moe_layer_start_index", 1), m.dim("moe_layer_interval", 1)
	last := m.layers - 1
	m.get("moe_layer_end_index", &last)
	if last == -1 {
		last = m.layers - 1
	}
	x := m.embed(s)
	for i := range m.layers {
		x = m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attend(h, name, a) },
			func(h graph.ID, name string) graph.ID {
				if (i+1)%every != 0 || i < first || i > last {
					return m.glu(h, name, dim, e.act, bias)
				}
				y := m.sparse(h, name, e)
				if shared > 0 {
					y = m.Add(y, m.glu(h, name+".shared_experts", e.dim*shared, e.act, bias))
				}
				return y
			}, m.rmsNorm)
	}
	m.Scope(s.prefix+"norm", -1)
	x = m.rmsNorm(x, s.prefix+"norm", m.hidden, s.eps)
	return []graph.ID{m.biasedHead(s, x, bias)}
}

func (m *model) ernieExperts() experts {
	m.alias("moe_num_experts", "num_experts")
	m.alias("moe_k", "num_experts_per_tok")
	n := m.dim("moe_num_experts", 64)
	return experts{
		router: router{
			n: n, k: m.topK("moe_k", 6, n), weight: ".gate", score: graph.OpSoftmax,
			correction: ".moe_statics.e_score_correction_bias", flat: []int{1, n},
			normalise: true, floor: m.number("moe_norm_min", 1e-12),
		},
		dim: m.dim("moe_intermediate_size", 1536), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: gateUpDown,
	}
}

// hunyuanMoe: HunYuan's mixtures; norms of each head after it turned, a shared
// MLP as wide as an expert.
func hunyuanMoe(m *model) []graph.ID {
	s := m.open(1e-5, false)
	m.ignore("eod_token_id")
	a := m.hunyuanHeads(s)
	m.alias("num_experts", "num_local_experts")
	m.alias("moe_topk", "num_experts_per_tok")
	n := m.alike("num_experts", 1)
	e := experts{
		router: router{n: n, k: m.alike("moe_topk", 1), weight: ".gate.wg", score: graph.OpSoftmax, normalise: true},
		dim:    m.dim("intermediate_size", 11008), act: m.activation("hidden_act", "silu"),
		prefix: "experts.", names: gateUpDown,
	}
	if e.router.k > n {
		m.failf("config.json: moe_topk %d exceeds the %d experts", e.router.k, n)
		e.router.k = n
	}
	return m.stack(s, func(x graph.ID, i int) graph.ID {
		return m.block(x, s, i,
			func(h graph.ID, name string) graph.ID { return m.attendHeads(h, name, a) },
			func(h graph.ID, name string) graph.ID {
				return m.Add(m.sparse(h, name, e), m.glu(h, name+".shared_mlp", e.dim, e.act, false))
			}, m.rmsNorm)
	})
}

// alike reads a size that may be a list of the same size for every layer.
func (m *model) alike(key string, def int) int {
	raw := bytes.TrimSpace(m.raw[key])
	if len(raw) == 0 || raw[0] != '[' {
		return m.dim(key, def)
	}
	var list []int
	if !m.get(key, &list) || len(list) == 0 || len(slices.Compact(list)) != 1 || list[0] < 1 || list[0] > dimLimit {
		m.failf("config.json: %s is %s; supported: one size for all layers", key, abbreviate(raw))
		return 1
	}
	return list[0]
}

// hunyuanHeads reads HunYuan's attention.
func (m *model) hunyuanHeads(s stem) headwise {
	a := headwise{attention: m.headsOf(0, 0), out: "o_proj"}
	m.attentionBias(&a.attention, false)
	p := m.wholeHeads(10000)
	if p.c != nil {
		if alpha := p.c.number("alpha", 0); p.typ == "dynamic" && alpha != 0 {
			p.typ = "default"
			p.theta *= math.Pow(alpha, float64(a.dim)/math.Max(float64(a.dim-2), 1))
			p.c.ignore("factor beta_fast beta_slow mscale mscale_all_dim") // not read with alpha
		}
	}
	m.rotary(&a.attention, p)
	names := map[byte]string{'q': "query_layernorm", 'k': "key_layernorm"}
	a.each = then(m.turned(a.attention), func(x graph.ID, name string) graph.ID {
		n := len(name) - 1
		return m.rmsNorm(x, name[:n]+names[name[n]], a.dim, s.eps)
	})
	return a
}
