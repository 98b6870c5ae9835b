package arch

import (
	"fmt"
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// tower is CLIP's or SigLIP's encoder of texts or of images.
type tower struct {
	width, layers, dim int
	look               look
	act                function
	eps                float64
	epsKey             string
	prefix             string
}

// readTower reads what the encoders share. The epsilon of a nested
// configuration is not moved: a seal edits keys at the top.
func (m *model) readTower(prefix, act string, width, dim, layers, heads int, eps float64) tower {
	m.boolean("tie_word_embeddings", true) // there is no head to tie
	t := tower{width: m.dim("hidden_size", width), layers: m.depth("num_hidden_layers", layers),
		dim: m.dim("intermediate_size", dim), act: m.function("hidden_act", act), prefix: prefix}
	if t.eps, t.epsKey = m.epsilon("layer_norm_eps", eps); m.path != "" {
		t.epsKey = ""
	}
	t.look = m.looker(t.width, m.dim("num_attention_heads", heads), ".q_proj", ".k_proj", ".v_proj", ".out_proj")
	return t
}

// encode runs the layers.
func (t tower) encode(m *model, x graph.ID, terms ...graph.ID) graph.ID {
	look := t.look.masked(terms...)
	for i := range t.layers {
		name := fmt.Sprintf("%sencoder.layers.%d", t.prefix, i)
		m.Scope(name+".self_attn", i)
		h := t.norm(m, x, name+".layer_norm1")
		x = m.Add(x, m.look(h, h, name+".self_attn", look))
		m.Scope(name+".mlp", i)
		h = t.norm(m, x, name+".layer_norm2")
		x = m.Add(x, m.perceptron(h, name+".mlp.fc1", name+".mlp.fc2", t.dim, t.act))
	}
	return x
}

func (t tower) norm(m *model, x graph.ID, name string) graph.ID {
	return m.affineNorm(x, name, t.eps, t.epsKey)
}

// within reads from a nested configuration.
func (m *model) within(c *config, read func()) {
	outer := m.config
	m.config = c
	read()
	m.config = outer
}

// textTower is CLIP's or SigLIP's text encoder.
type textTower struct {
	tower
	vocab, rows, eos int
	out              int // width of the projection
}

func (m *model) readText(prefix, act string, layers int, eps float64) textTower {
	t := textTower{tower: m.readTower(prefix, act, 512, 2048, layers, 8, eps)}
	t.vocab, t.rows, t.eos = m.dim("vocab_size", 49408), m.dim("max_position_embeddings", 77), m.count("eos_token_id", 49407)
	t.out = m.dim("projection_dim", 512)
	return t
}

// embed looks the tokens up and adds their positions.
func (t textTower) embed(m *model, ids graph.ID) graph.ID {
	name := t.prefix + "embeddings."
	m.Scope(name+"token_embedding", -1)
	x := m.Embedding(m.Weight(name+"token_embedding.weight", t.vocab, t.width), ids)
	return m.Add(x, m.positions(name+"position_embedding.weight", t.rows, t.width, 0, m.opt.Tokens))
}

// run returns the last hidden state and that of the token that ends the text.
func (t textTower) run(m *model) (hidden, pooled graph.ID) {
	ids := m.TokenIDs()
	x := t.encode(m, t.embed(m, ids), m.causal(m.opt.Tokens))
	m.Scope(t.prefix+"final_layer_norm", -1)
	x = t.norm(m, x, t.prefix+"final_layer_norm")
	end := ids
	if t.eos != 2 {
		end = m.Compare(graph.OpEqual, ids, m.ConstInts([]int{t.eos}, 1))
	} // else the largest id: old configs name the wrong one
	return x, m.Index(x, m.ArgMax(end), 0)
}

// imageTower is CLIP's or SigLIP's image encoder.
type imageTower struct {
	tower
	pic picture
	out int
}

// seeCLIP embeds an image as CLIP does.
func (t imageTower) embed(m *model) graph.ID {
	name := t.prefix + "embeddings."
	m.Scope(name+"patch_embedding", -1)
	x := m.cut(t.pic, name+"patch_embedding", t.width, false)
	x = m.Concat(0, m.Reshape(m.Weight(name+"class_embedding", t.width), 1, t.width), x)
	return m.Add(x, m.Weight(name+"position_embedding.weight", t.pic.patches()+1, t.width))
}

// run returns the last hidden state and the normalised class token.
func (t imageTower) run(m *model) (hidden, pooled graph.ID) {
	x := t.norm(m, t.embed(m), t.prefix+"pre_layrnorm")
	x = t.encode(m, x)
	m.Scope(t.prefix+"post_layernorm", -1)
	return x, t.norm(m, m.first(x), t.prefix+"post_layernorm")
}

func (m *model) readImage(prefix string) imageTower {
	t := imageTower{tower: m.readTower(prefix, "quick_gelu", 768, 3072, 12, 12, 1e-5)}
	t.pic = m.readPicture(224, 32)
	t.out = m.dim("projection_dim", 512)
	return t
}

// clip: both encoders, their projections and the scores of image and text.
func clip(m *model) []graph.ID {
	m.only("text_config_dict", "null") // an old way to override text_config
	m.only("vision_config_dict", "null")
	m.number("logit_scale_init_value", 2.6592)
	m.boolean("tie_word_embeddings", false)
	out := m.dim("projection_dim", 512)
	var text textTower
	var image imageTower
	m.within(m.section("text_config"), func() { text = m.readText("text_model.", "quick_gelu", 12, 1e-5) })
	m.within(m.section("vision_config"), func() { image = m.readImage("vision_model.") })
	m.layers, m.vocab = text.layers+image.layers, text.vocab
	if len(*m.errs) > 0 {
		return nil
	}
	m.atMost(text.rows)
	_, t := text.run(m)
	_, i := image.run(m)
	m.Scope("projections", -1)
	t = m.unit(m.linear(t, "text_projection", out, false))
	i = m.unit(m.linear(i, "visual_projection", out, false))
	scale := m.Apply(graph.OpExp, m.Weight("logit_scale"))
	return []graph.ID{m.Mul(m.MatMul(i, m.Transpose(t, 1, 0)), scale), t, i}
}

// unit divides x [1,n] by its length.
func (m *model) unit(x graph.ID) graph.ID {
	return m.MulScalar(m.RMSNorm(x, 0, ""), 1/math.Sqrt(float64(m.Shape(x)[1])))
}

// clipText: CLIP's text encoder alone, perhaps with its projection.
func clipText(m *model) []graph.ID {
	t := m.readText(m.prefix("embeddings.token_embedding.weight", "text_model.", ""), "quick_gelu", 12, 1e-5)
	m.layers, m.vocab = t.layers, t.vocab
	if len(*m.errs) > 0 {
		return nil
	}
	m.atMost(t.rows)
	x, pooled := t.run(m)
	if m.has("text_projection.weight") {
		m.Scope("text_projection", -1)
		return []graph.ID{m.linear(pooled, "text_projection", t.out, false), x}
	}
	return []graph.ID{x, pooled}
}

// clipVision: CLIP's image encoder alone, perhaps with its projection.
func clipVision(m *model) []graph.ID {
	t := m.readImage(m.prefix("embeddings.patch_embedding.weight", "vision_model.", ""))
	m.layers = t.layers
	if len(*m.errs) > 0 {
		return nil
	}
	x, pooled := t.run(m)
	if m.has("visual_projection.weight") {
		m.Scope("visual_projection", -1)
		return []graph.ID{m.linear(pooled, "visual_projection", t.out, false), x}
	}
	return []graph.ID{x, pooled}
}
