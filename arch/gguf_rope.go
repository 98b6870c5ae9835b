package arch

// rope translates the rotary embedding: rope_theta and, where it is scaled,
// rope_scaling.
func (g *ggufModel) rope(conf map[string]any) {
	theta := g.number("rope.freq_base", 10000)
	conf["rope_theta"] = theta
	factor := g.number("rope.scale_linear", 0)
	factor = g.number("rope.scaling.factor", factor)
	original := g.count("rope.scaling.original_context_length", 0)
	attn := g.number("rope.scaling.attn_factor", 0)
	kind := "linear" // llama.cpp's default, without effect unless there is a factor
	if factor == 0 {
		kind = "none"
	}
	switch kind = g.text("rope.scaling.type", kind); kind {
	case "none", "longrope":
	case "linear":
		if factor != 0 && factor != 1 {
			conf["rope_scaling"] = map[string]any{"rope_type": "linear", "factor": factor}
		}
	case "yarn":
		conf["rope_scaling"] = g.yarn(factor, original)
	default:
		g.failf("rope.scaling.type %q is not supported", kind)
	}
	g.ropeFactors(conf, original, attn)
}

func (g *ggufModel) yarn(factor float64, original int) map[string]any {
	y := map[string]any{"rope_type": "yarn", "factor": factor}
	if original > 0 {
		y["original_max_position_embeddings"] = original
	}
	for key, to := range map[string]string{"yarn_beta_fast": "beta_fast", "yarn_beta_slow": "beta_slow"} {
		if g.has("rope.scaling." + key) {
			y[to] = g.number("rope.scaling."+key, 0)
		}
	}
	if f := g.number("rope.scaling.yarn_attn_factor", 0); f != 0 {
		y["attention_factor"] = f
	}
	g.ignore("rope.scaling.yarn_ext_factor")
	return y
}

// ropeFactors takes factors of the frequencies from tensors: rope_freqs of
// Llama 3.1, rope_factors_short and _long of Phi-3.
func (g *ggufModel) ropeFactors(conf map[string]any, original int, attn float64) {
	short, long := g.floats("rope_factors_short.weight"), g.floats("rope_factors_long.weight")
	if f := g.floats("rope_freqs.weight"); f != nil {
		short, long = f, f
	}
	if short == nil && long == nil {
		if attn != 0 && attn != 1 {
			g.failf("rope.scaling.attn_factor %v without factors", attn)
		}
		return
	}
	if conf["rope_scaling"] != nil {
		g.failf("a rotary embedding that is scaled twice")
		return
	}
	if attn == 0 {
		attn = 1
	}
	s := map[string]any{"rope_type": "longrope", "short_factor": short, "long_factor": long, "attention_factor": attn}
	if original > 0 {
		conf["original_max_position_embeddings"] = original
	}
	conf["rope_scaling"] = s
}

// partial translates how many of a head's elements turn.
func (g *ggufModel) partial(conf map[string]any) {
	if n := g.count("rope.dimension_count", g.dim); n != g.dim && g.dim > 0 {
		// Half an element more: the product is rounded down.
		conf["partial_rotary_factor"] = (float64(n) + 0.5) / float64(g.dim)
	}
}

// fullRope demands that whole heads turn.
func (g *ggufModel) fullRope() {
	if n := g.count("rope.dimension_count", g.dim); n != g.dim {
		g.failf("%d rotary elements of heads of %d are not supported for %s", n, g.dim, g.arch)
	}
}
