package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// rope is a rotary position embedding: per-frequency angles and a factor on
// cosine and sine.
type rope struct {
	dim    int // rotary dimensions of a head
	freq   []float64
	factor float64
	pairs  bool // neighbours (2i, 2i+1) turn together, not (i, i+dim/2)
}

// ropeParams are the parameters in transformers 5's rope_parameters or
// transformers 4's rope_theta and rope_scaling.
type ropeParams struct {
	typ          string
	theta        float64
	partial      float64
	c            *config // the object with the variant's own keys; nil for default
	original     int     // context that the model was trained with; 0 when not given
	maxPositions int
}

// readRope reads the rotary parameters of the whole config or, with layerType,
// of one kind of layer (transformers 5 nests them by layer type). What stands
// inside the object wins over the same key at the top.
func (m *model) readRope(layerType string, defTheta, defPartial float64) ropeParams {
	p := ropeParams{typ: "default", theta: m.number("rope_theta", defTheta)}
	p.partial = m.number("partial_rotary_factor", defPartial)
	p.maxPositions = m.dim("max_position_embeddings", 2048)
	top := m.count("original_max_position_embeddings", 0)
	c := m.sub("rope_parameters")
	if old := m.sub("rope_scaling"); old != nil && len(old.raw) > 0 {
		c = old
	}
	if c != nil && layerType != "" && nested(c) {
		outer := c
		c = outer.sub(layerType)
		for k := range outer.raw {
			if k != "full_attention" && k != "sliding_attention" {
				m.failf("config.json: unknown key %s%s", outer.path, k)
			}
		}
	}
	p.original = top
	if c == nil {
		return p
	}
	p.c = c
	p.theta = c.number("rope_theta", p.theta)
	p.partial = c.number("partial_rotary_factor", p.partial)
	p.typ = c.text("type", "default")
	p.typ = c.text("rope_type", p.typ)
	if inner := c.count("original_max_position_embeddings", 0); top == 0 {
		p.original = inner
	}
	return p
}

// nested reports whether every value of an object is itself an object.
func nested(c *config) bool {
	for _, v := range c.raw {
		if len(v) == 0 || (v[0] != '{' && string(v) != "null") {
			return false
		}
	}
	return len(c.raw) > 0
}

// rope computes the frequencies for a head of headDim, as transformers'
// modeling_rope_utils does for a sequence no longer than the original context.
func (m *model) rope(p ropeParams, headDim int) rope {
	dim := int(float64(headDim) * p.partial)
	if dim < 2 || dim%2 != 0 || dim > headDim {
		m.failf("config.json: %d rotary dimensions for heads of %d", dim, headDim)
		dim = 2
	}
	r := rope{dim: dim, freq: make([]float64, dim/2), factor: 1}
	for i := range r.freq {
		r.freq[i] = math.Pow(p.theta, -2*float64(i)/float64(dim))
	}
	if p.c == nil {
		return r
	}
	c := p.c
	switch p.typ {
	case "default", "":
	case "linear":
		r.scale(1 / c.number("factor", 1))
	case "dynamic":
		m.dynamic(&r, p)
	case "llama3":
		m.llama3(&r, p)
	case "yarn":
		m.yarn(&r, p)
	case "longrope", "su":
		m.longrope(&r, p)
	default:
		m.failf("config.json: rope type %q is not supported", p.typ)
	}
	for _, k := range c.unknown() {
		m.failf("config.json: unknown key %s", k)
	}
	return r
}

func (r *rope) scale(f float64) {
	for i := range r.freq {
		r.freq[i] *= f
	}
}

// llama3: long wavelengths are slowed by factor, short ones kept, with a ramp
// between (Llama 3.1).
func (m *model) llama3(r *rope, p ropeParams) {
	factor, low, high := p.c.number("factor", 8), p.c.number("low_freq_factor", 1), p.c.number("high_freq_factor", 4)
	original := float64(p.original)
	if original == 0 {
		original = float64(p.maxPositions)
	}
	for i, f := range r.freq {
		wave := 2 * math.Pi / f
		switch {
		case wave > original/low:
			r.freq[i] = f / factor
		case wave >= original/high:
			s := (original/wave - low) / (high - low)
			r.freq[i] = (1-s)*f/factor + s*f
		}
	}
}

// dynamic: the base grows with the sequence past the trained context (NTK).
func (m *model) dynamic(r *rope, p ropeParams) {
	factor := p.c.number("factor", 1)
	trained := float64(p.maxPositions)
	length := math.Max(float64(m.opt.Tokens), trained)
	base := p.theta * math.Pow(factor*length/trained-(factor-1), float64(r.dim)/math.Max(float64(r.dim-2), 1))
	for i := range r.freq {
		r.freq[i] = math.Pow(base, -2*float64(i)/float64(r.dim))
	}
}

// yarn: arXiv 2309.00071, as transformers computes it.
func (m *model) yarn(r *rope, p ropeParams) {
	c := p.c
	original := float64(p.original)
	if original == 0 {
		original = float64(p.maxPositions)
	}
	factor := c.number("factor", float64(p.maxPositions)/original)
	mscale := func(s, k float64) float64 {
		if s <= 1 {
			return 1
		}
		return 0.1*k*math.Log(s) + 1
	}
	ms, all := c.number("mscale", 0), c.number("mscale_all_dim", 0)
	r.factor = mscale(factor, 1)
	if ms != 0 && all != 0 {
		r.factor = mscale(factor, ms) / mscale(factor, all)
	}
	r.factor = c.number("attention_factor", r.factor)
	fast, slow := orDefault(c.number("beta_fast", 32), 32), orDefault(c.number("beta_slow", 1), 1)
	at := func(rot float64) float64 {
		return float64(r.dim) * math.Log(original/(rot*2*math.Pi)) / (2 * math.Log(p.theta))
	}
	low, high := at(fast), at(slow)
	if c.boolean("truncate", true) {
		low, high = math.Floor(low), math.Ceil(high)
	}
	low, high = math.Max(low, 0), math.Min(high, float64(r.dim-1))
	if low == high {
		high += 0.001
	}
	for i, f := range r.freq {
		ramp := math.Min(math.Max((float64(i)-low)/(high-low), 0), 1)
		r.freq[i] = f/factor*ramp + f*(1-ramp)
	}
}

func orDefault(v, def float64) float64 {
	if v == 0 {
		return def
	}
	return v
}

// longrope: per-frequency factors, the short ones within the original context,
// the long ones past it (Phi-3).
func (m *model) longrope(r *rope, p ropeParams) {
	c := p.c
	var short, long []float64
	c.get("short_factor", &short)
	c.get("long_factor", &long)
	if len(short) != len(r.freq) || len(long) != len(r.freq) {
		m.failf("config.json: longrope factors have %d and %d entries; the heads need %d", len(short), len(long), len(r.freq))
		return
	}
	original := float64(p.original)
	if original == 0 {
		original = float64(p.maxPositions)
	}
	if float64(m.opt.Tokens) > original {
		short = long
	}
	for i := range r.freq {
		r.freq[i] /= short[i]
	}
	factor := c.number("factor", float64(p.maxPositions)/original)
	if factor > 1 {
		r.factor = math.Sqrt(1 + math.Log(factor)/math.Log(original))
	}
	r.factor = c.number("attention_factor", r.factor)
	// Old Phi configs carry these; transformers does not read them.
	c.number("long_mscale", 0)
	c.number("short_mscale", 0)
}

// apply rotates q [heads,T,hd] pair by pair; the dimensions past dim pass.
func (r rope) apply(m *model, q graph.ID, hd int, cos, sin graph.ID) graph.ID {
	x := q
	if r.dim < hd {
		x = m.Slice(q, 2, 0, r.dim)
	}
	y := m.Add(m.Mul(x, cos), m.Mul(r.turned(m, x), sin))
	if r.dim < hd {
		y = m.Concat(2, y, m.Slice(q, 2, r.dim, hd))
	}
	return y
}

// turned is x with every pair (a, b) replaced by (-b, a).
func (r rope) turned(m *model, x graph.ID) graph.ID {
	if !r.pairs {
		return m.Concat(2, m.Apply(graph.OpNeg, m.Slice(x, 2, r.dim/2, r.dim)), m.Slice(x, 2, 0, r.dim/2))
	}
	s := m.Shape(x)
	y := m.Reshape(x, s[0], s[1], r.dim/2, 2)
	y = m.Concat(3, m.Apply(graph.OpNeg, m.Slice(y, 3, 1, 2)), m.Slice(y, 3, 0, 1))
	return m.Reshape(y, s...)
}

// tables returns cosine and sine of positions 0 … tokens-1, [T,dim].
func (r rope) tables(m *model) (cos, sin graph.ID) {
	t := m.opt.Tokens
	c, s := make([]float32, t*r.dim), make([]float32, t*r.dim)
	for p := range t {
		for i, f := range r.freq {
			a := float64(float32(p) * float32(f))
			at := []int{i, i + r.dim/2}
			if r.pairs {
				at = []int{2 * i, 2*i + 1}
			}
			for _, j := range at {
				c[p*r.dim+j] = float32(math.Cos(a) * r.factor)
				s[p*r.dim+j] = float32(math.Sin(a) * r.factor)
			}
		}
	}
	return m.Const(c, t, r.dim), m.Const(s, t, r.dim)
}
