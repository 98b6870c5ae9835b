package arch

import "github.com/neuroseal/neuroseal/graph"

// siglip: CLIP's relative without a causal mask and without a class token;
// a learned query pools the image.
func siglip(m *model) []graph.ID {
	m.boolean("tie_word_embeddings", false)
	var text textTower
	var image imageTower
	m.within(m.section("text_config"), func() { text = m.readSiglipText("text_model.") })
	m.within(m.section("vision_config"), func() { image = m.readSiglipImage("vision_model.") })
	m.layers, m.vocab = text.layers+image.layers, text.vocab
	if len(*m.errs) > 0 {
		return nil
	}
	m.atMost(text.rows)
	_, t := m.siglipText(text)
	hidden, i := m.siglipImage(image)
	if i == hidden {
		m.failf("config.json: vision_config.vision_use_head is false, but SigLIP's scores need it")
		return nil
	}
	m.Scope("projections", -1)
	t, i = m.unit(t), m.unit(i)
	scale := m.Apply(graph.OpExp, m.Weight("logit_scale", 1))
	return []graph.ID{m.Add(m.Mul(m.MatMul(i, m.Transpose(t, 1, 0)), scale), m.Weight("logit_bias", 1)), t, i}
}

func (m *model) readSiglipText(prefix string) textTower {
	t := textTower{tower: m.readTower(prefix, "gelu_pytorch_tanh", 768, 3072, 12, 12, 1e-6)}
	t.vocab, t.rows = m.dim("vocab_size", 32000), m.dim("max_position_embeddings", 64)
	t.out = m.dim("projection_size", t.width)
	return t
}

func (m *model) readSiglipImage(prefix string) imageTower {
	t := imageTower{tower: m.readTower(prefix, "gelu_pytorch_tanh", 768, 3072, 12, 12, 1e-6)}
	t.pic = m.readPicture(224, 16)
	if m.boolean("vision_use_head", true) {
		t.out = t.width
	}
	return t
}

// siglipText returns the last hidden state and the projected last token.
func (m *model) siglipText(t textTower) (hidden, pooled graph.ID) {
	x := t.encode(m, t.embed(m, m.TokenIDs()))
	m.Scope(t.prefix+"final_layer_norm", -1)
	x = t.norm(m, x, t.prefix+"final_layer_norm")
	n := m.opt.Tokens
	return x, m.linear(m.Slice(x, 0, n-1, n), t.prefix+"head", t.out, true)
}

// siglipImage returns the last hidden state and, where the model has a head,
// what its query sees of it.
func (m *model) siglipImage(t imageTower) (hidden, pooled graph.ID) {
	name := t.prefix + "embeddings."
	m.Scope(name+"patch_embedding", -1)
	x := m.cut(t.pic, name+"patch_embedding", t.width, true)
	x = t.encode(m, m.Add(x, m.Weight(name+"position_embedding.weight", t.pic.patches(), t.width)))
	m.Scope(t.prefix+"post_layernorm", -1)
	x = t.norm(m, x, t.prefix+"post_layernorm")
	if t.out == 0 {
		return x, x
	}
	name = t.prefix + "head"
	m.Scope(name, -1)
	h := m.fusedLook(m.Reshape(m.Weight(name+".probe", 1, 1, t.width), 1, t.width), x, name+".attention", t.look)
	return x, m.Add(h, m.perceptron(t.norm(m, h, name+".layernorm"), name+".mlp.fc1", name+".mlp.fc2", t.dim, t.act))
}

// fusedLook is PyTorch's MultiheadAttention: rows [q; k; v] in one matrix.
func (m *model) fusedLook(x, y graph.ID, name string, l look) graph.ID {
	n := l.heads * l.dim
	w, b := m.Weight(name+".in_proj_weight", 3*n, n), m.Weight(name+".in_proj_bias", 3*n)
	part := func(x graph.ID, i int) graph.ID {
		return m.Add(m.Linear(x, m.Slice(w, 0, i*n, (i+1)*n)), m.Slice(b, 0, i*n, (i+1)*n))
	}
	return m.linear(m.gaze(part(x, 0), part(y, 1), part(y, 2), l), name+".out_proj", n, true)
}

// siglipText and siglipVision: either encoder alone.
func siglipText(m *model) []graph.ID {
	t := m.readSiglipText(m.prefix("embeddings.token_embedding.weight", "text_model.", ""))
	m.layers, m.vocab = t.layers, t.vocab
	if len(*m.errs) > 0 {
		return nil
	}
	m.atMost(t.rows)
	x, pooled := m.siglipText(t)
	return []graph.ID{x, pooled}
}

func siglipVision(m *model) []graph.ID {
	t := m.readSiglipImage(m.prefix("embeddings.patch_embedding.weight", "vision_model.", ""))
	m.layers = t.layers
	if len(*m.errs) > 0 {
		return nil
	}
	x, pooled := m.siglipImage(t)
	if pooled == x {
		return []graph.ID{x}
	}
	return []graph.ID{x, pooled}
}
