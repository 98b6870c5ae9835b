package arch

import (
	"fmt"

	"github.com/neuroseal/neuroseal/graph"
)

// picture is how an image becomes a sequence: patches of one convolution.
type picture struct {
	size, patch, channels int
}

// readPicture reads the image's sizes, square ones only.
func (m *model) readPicture(size, patch int) picture {
	p := picture{m.dim("image_size", size), m.dim("patch_size", patch), m.dim("num_channels", 3)}
	if p.size < p.patch || p.size > 1<<13 {
		m.failf("config.json: images of %d pixels in patches of %d", p.size, p.patch)
		p.size = p.patch
	}
	return p
}

// patches is the number of patches of an image.
func (p picture) patches() int { return (p.size / p.patch) * (p.size / p.patch) }

// cut turns pixel_values [1,channels,size,size] into patches [n,width].
func (m *model) cut(p picture, name string, width int, bias bool) graph.ID {
	x := m.Input("pixel_values", 1, p.channels, p.size, p.size)
	x = m.Conv(x, m.Weight(name+".weight", width, p.channels, p.patch, p.patch), graph.Conv{
		Stride: []int{p.patch, p.patch}, Before: []int{0, 0}, After: []int{0, 0}, Dilation: []int{1, 1}, Groups: 1,
	})
	x = m.Transpose(m.Reshape(x, width, p.patches()), 1, 0)
	if bias {
		x = m.Add(x, m.Weight(name+".bias", width))
	}
	return x
}

// vit: the vision transformer, with a classifier or bare.
func vit(m *model) []graph.ID {
	m.hidden, m.layers = m.dim("hidden_size", 768), m.depth("num_hidden_layers", 12)
	m.dim("encoder_stride", 16) // of a decoder for masked training
	pic := m.readPicture(224, 16)
	act, dim := m.function("hidden_act", "gelu"), m.dim("intermediate_size", 3072)
	eps, key := m.epsilon("layer_norm_eps", 1e-12)
	look := m.looker(m.hidden, m.dim("num_attention_heads", 12), ".attention.query", ".attention.key", ".attention.value", ".output.dense")
	look.biasQ = m.boolean("qkv_bias", true)
	look.biasK, look.biasV = look.biasQ, look.biasQ
	pool, pooled := m.function("pooler_act", "tanh"), m.dim("pooler_output_size", m.hidden)
	if len(*m.errs) > 0 {
		return nil
	}
	p := m.prefix("embeddings.cls_token", "vit.", "")
	x := m.see(pic, p+"embeddings.", []int{1, 1, m.hidden})
	for i := range m.layers {
		name := fmt.Sprintf("%sencoder.layer.%d", p, i)
		m.Scope(name+".attention", i)
		h := m.affineNorm(x, name+".layernorm_before", eps, key)
		x = m.Add(m.look(h, h, name+".attention", look), x)
		m.Scope(name+".output", i)
		h = m.affineNorm(x, name+".layernorm_after", eps, key)
		x = m.Add(m.perceptron(h, name+".intermediate.dense", name+".output.dense", dim, act), x)
	}
	m.Scope(p+"layernorm", -1)
	x = m.affineNorm(x, p+"layernorm", eps, key)
	if m.has("classifier.weight") || p != "" {
		m.Scope("classifier", -1)
		return []graph.ID{m.linear(m.first(x), "classifier", m.labels("classifier"), true)}
	}
	if !m.has("pooler.dense.weight") {
		return []graph.ID{x}
	}
	m.Scope("pooler", -1)
	return []graph.ID{x, pool(m.linear(m.first(x), "pooler.dense", pooled, true))}
}

// see embeds an image: its patches, some of them perhaps masked, behind a class
// token, with learned positions.
func (m *model) see(pic picture, name string, maskShape []int) graph.ID {
	m.Scope(name+"patch_embeddings", -1)
	x := m.cut(pic, name+"patch_embeddings.projection", m.hidden, true)
	n := pic.patches()
	if m.has(name + "mask_token") {
		hidden := m.InputIDs("bool_masked_pos", 2, 1, n)
		token := m.Reshape(m.Weight(name+"mask_token", maskShape...), 1, m.hidden)
		x = m.Where(m.Reshape(hidden, n, 1), token, x)
	}
	x = m.Concat(0, m.Reshape(m.Weight(name+"cls_token", 1, 1, m.hidden), 1, m.hidden), x)
	return m.Add(x, m.Reshape(m.Weight(name+"position_embeddings", 1, n+1, m.hidden), n+1, m.hidden))
}

// dinov2: a vision transformer whose half layers have a gain per channel.
func dinov2(m *model) []graph.ID {
	m.hidden, m.layers = m.dim("hidden_size", 768), m.depth("num_hidden_layers", 12)
	for _, k := range []string{"layerscale_value", "use_mask_token", "apply_layernorm", "reshape_hidden_states", "stage_names", "out_features", "out_indices"} {
		m.used[k] = true // how a first model begins; what a backbone hands on
	}
	pic := m.readPicture(224, 14)
	act, ratio := m.function("hidden_act", "gelu"), m.number("mlp_ratio", 4)
	eps, key := m.epsilon("layer_norm_eps", 1e-6)
	look := m.looker(m.hidden, m.dim("num_attention_heads", 12), ".attention.query", ".attention.key", ".attention.value", ".output.dense")
	look.biasQ = m.boolean("qkv_bias", true)
	look.biasK, look.biasV = look.biasQ, look.biasQ
	swiglu := m.boolean("use_swiglu_ffn", false)
	if !(ratio > 0 && ratio*float64(m.hidden) <= dimLimit) {
		m.failf("config.json: mlp_ratio is %g", ratio)
	}
	if len(*m.errs) > 0 {
		return nil
	}
	dim := int(float64(m.hidden) * ratio)
	mlp := func(h graph.ID, name string) graph.ID { return m.perceptron(h, name+".fc1", name+".fc2", dim, act) }
	if swiglu {
		dim = (int(float64(dim)*2/3) + 7) / 8 * 8
		mlp = func(h graph.ID, name string) graph.ID { return m.swiglu(h, name, dim) }
	}
	p := m.prefix("embeddings.cls_token", "dinov2.", "")
	x := m.see(pic, p+"embeddings.", []int{1, m.hidden})
	for i := range m.layers {
		name := fmt.Sprintf("%sencoder.layer.%d", p, i)
		m.Scope(name+".attention", i)
		h := m.affineNorm(x, name+".norm1", eps, key)
		h = m.look(h, h, name+".attention", look)
		x = m.Add(m.Mul(h, m.Weight(name+".layer_scale1.lambda1", m.hidden)), x)
		m.Scope(name+".mlp", i)
		h = mlp(m.affineNorm(x, name+".norm2", eps, key), name+".mlp")
		x = m.Add(m.Mul(h, m.Weight(name+".layer_scale2.lambda1", m.hidden)), x)
	}
	m.Scope(p+"layernorm", -1)
	x = m.affineNorm(x, p+"layernorm", eps, key)
	if p == "" {
		return []graph.ID{x, m.first(x)}
	}
	m.Scope("classifier", -1)
	n := pic.patches()
	mean := m.Transpose(m.MulScalar(m.Sum(m.Transpose(m.Slice(x, 0, 1, n+1), 1, 0)), 1/float64(n)), 1, 0)
	return []graph.ID{m.linear(m.Concat(1, m.first(x), mean), "classifier", m.labels("classifier"), true)}
}

// swiglu is a gated MLP with one matrix of rows [gate; up], with biases.
func (m *model) swiglu(x graph.ID, name string, dim int) graph.ID {
	y := m.linear(x, name+".weights_in", 2*dim, true)
	h := m.Mul(m.Apply(graph.OpSiLU, m.Slice(y, 1, 0, dim)), m.Slice(y, 1, dim, 2*dim))
	return m.linear(h, name+".weights_out", m.hidden, true)
}
