package arch

import "github.com/neuroseal/neuroseal/graph"

// decoder is a pre-norm decoder with rotary attention and a gated MLP: what
// Llama, Mistral, Qwen2 and Qwen3 have in common. window gives the sliding
// window of a layer.
func (m *model) decoder(s stem, a attention, window func(i int) int, mlp func(i int) func(h graph.ID, name string) graph.ID) []graph.ID {
	x := m.embed(s)
	for i := range m.layers {
		a := a
		a.window = window(i)
		x = m.block(x, s, i, func(h graph.ID, name string) graph.ID { return m.attend(h, name, a) }, mlp(i), m.rmsNorm)
	}
	return []graph.ID{m.finish(x, s, m.rmsNorm)}
}

// dense is the same gated MLP in every layer.
func (m *model) dense(dim int, act graph.Op, bias bool) func(int) func(graph.ID, string) graph.ID {
	return func(int) func(graph.ID, string) graph.ID {
		return func(h graph.ID, name string) graph.ID { return m.glu(h, name, dim, act, bias) }
	}
}

func always(w int) func(int) int { return func(int) int { return w } }

// where returns w for the marked layers and no window for the others.
func where(sliding []bool, w int) func(int) int {
	return func(i int) int {
		if sliding[i] {
			return w
		}
		return 0
	}
}

// fullRotary reads the rotary parameters of a family that rotates whole heads.
func (m *model) fullRotary(a *attention, theta float64) {
	p := m.readRope("", theta, 1)
	if p.partial != 1 {
		m.failf("config.json: partial_rotary_factor %g is not read by this family's code; remove it or name the right model_type", p.partial)
		p.partial = 1
	}
	m.rotary(a, p)
}

// llama: Llama 1 to 3.x, with attention and MLP biases where the config has them.
func llama(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(0, 0)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	m.only("rope_interleaved", "false")
	m.count("sliding_window", 0) // some configs carry it; Llama's code does not read it
	m.fullRotary(&a, 10000)
	mlp := m.dense(m.dim("intermediate_size", 0), m.activation("hidden_act", "silu"), m.boolean("mlp_bias", false))
	return m.decoder(s, a, always(0), mlp)
}

// mistral: Mistral 7B and its descendants.
func mistral(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(8, 0)
	m.boolean("attention_bias", false) // not read by Mistral's code
	m.fullRotary(&a, 10000)
	mlp := m.dense(m.dim("intermediate_size", 0), m.activation("hidden_act", "silu"), false)
	return m.decoder(s, a, always(m.window(4096)), mlp)
}

// qwenWindow reads the rules of Qwen2 and Qwen3 for sliding layers.
func (m *model) qwenWindow() func(int) int {
	w := m.window(4096)
	from := m.count("max_window_layers", 28)
	if !m.boolean("use_sliding_window", false) {
		w = 0
	}
	sliding := m.layerTypes(func(i int) bool { return w > 0 && i >= from })
	for _, s := range sliding {
		if s && w == 0 {
			m.failf("config.json: layer_types has sliding layers, but there is no sliding_window in use")
			break
		}
	}
	return where(sliding, w)
}

// qwen2: Qwen 1.5 to 2.5; biases on q, k and v.
func qwen2(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(32, 0)
	a.biasQKV = true
	m.qwenExtras()
	m.fullRotary(&a, 10000)
	mlp := m.dense(m.dim("intermediate_size", 0), m.activation("hidden_act", "silu"), false)
	return m.decoder(s, a, m.qwenWindow(), mlp)
}

// qwenExtras passes the keys of Qwen's vision models where they are switched off.
func (m *model) qwenExtras() {
	m.only("use_mrope", "false")
	m.only("use_qk_norm", "false")
}

// qwen3: norms on each query and key head.
func qwen3(m *model) []graph.ID {
	s := m.open(1e-6, false)
	a := m.headsOf(32, 128)
	a.biasQKV = m.boolean("attention_bias", false)
	a.biasO = a.biasQKV
	a.norm, a.eps = m.rmsNorm, s.eps
	m.fullRotary(&a, 10000)
	mlp := m.dense(m.dim("intermediate_size", 0), m.activation("hidden_act", "silu"), false)
	return m.decoder(s, a, m.qwenWindow(), mlp)
}
