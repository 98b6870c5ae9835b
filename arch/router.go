package arch

import (
	"math"

	"github.com/neuroseal/neuroseal/graph"
)

// router gives every token weights over n experts, zero but for the chosen.
type router struct {
	n, k   int
	weight string   // path of its linear map below the block, without ".weight"
	bias   bool     // the linear map has one
	score  graph.Op // OpSoftmax over all experts, or OpSigmoid of each
	late   bool     // the softmax sees the chosen experts only
	mixed  bool     // Phi's choice of two, with its jitter
	jitter float64

	correction string // path of a vector that is added to the scores for the choice alone
	flat       []int  // its shape, when not [n]

	groups, keep int // the choice is limited to the best keep of so many groups; at most one group: not limited
	best         int // how many of a group's scores are added up to rank it

	normalise   bool    // divide the chosen experts' weights by their sum,
	tiny, floor float64 // to which tiny is added, or which is at least floor
	scale       float64 // factor of the weights; 0 counts as 1
}

// route returns the weights [T,n]. With Options.AllEx every expert keeps its
// own, so that a comparison of two checkpoints misses none.
func (m *model) route(x graph.ID, name string, r router) graph.ID {
	m.routed = true
	k, keep := r.k, r.keep
	if m.opt.AllEx {
		k, keep = r.n, r.groups
	}
	p := m.linear(x, name+r.weight, r.n, r.bias)
	switch {
	case r.mixed && !m.opt.AllEx:
		return m.twice(p, r.n, r.jitter)
	case r.late, r.mixed:
		if k < r.n {
			p = m.Where(m.TopKMask(p, k), p, m.lowest())
		}
		p = m.Apply(graph.OpSoftmax, p)
	default:
		p = m.Apply(r.score, p)
		p = m.chosen(p, m.choice(p, name, r, keep), k, r)
	}
	if r.normalise {
		p = m.Div(p, r.total(m, p))
	}
	if r.scale != 0 && r.scale != 1 {
		p = m.MulScalar(p, r.scale)
	}
	return p
}

// choice returns what the experts are ranked by.
func (m *model) choice(p graph.ID, name string, r router, keep int) graph.ID {
	c := p
	if r.correction != "" {
		shape := r.flat
		if shape == nil {
			shape = []int{r.n}
		}
		c = m.Add(c, m.Weight(name+r.correction, shape...))
	}
	if r.groups <= 1 || keep == r.groups {
		return c
	}
	t, per := m.opt.Tokens, r.n/r.groups
	top, _ := m.TopK(m.Reshape(c, t, r.groups, per), r.best)
	ok := m.TopKMask(m.Reshape(m.Sum(top), t, r.groups), keep)
	ok = m.Reshape(m.Expand(m.Reshape(ok, t, r.groups, 1), t, r.groups, per), t, r.n)
	return m.Where(ok, c, m.lowest())
}

// chosen is p with zeros for all but the k experts of the highest rank.
func (m *model) chosen(p, rank graph.ID, k int, r router) graph.ID {
	if k == r.n && r.correction == "" {
		return p
	}
	return m.Mul(p, m.TopKMask(rank, k))
}

// total is what the weights are divided by.
func (r router) total(m *model, p graph.ID) graph.ID {
	s := m.Sum(p)
	if r.tiny != 0 {
		s = m.AddScalar(s, r.tiny)
	}
	if r.floor != 0 {
		s = m.Clamp(s, r.floor, math.Inf(1))
	}
	return s
}

// lowest is the float that stands for minus infinity.
func (m *model) lowest() graph.ID { return m.Const([]float32{-math.MaxFloat32}, 1) }

// expertCount reads the number of experts, which transformers 4 and 5 spell
// differently for the same family.
func (m *model) expertCount(def int) int {
	n := m.dim("num_local_experts", m.dim("num_experts", def))
	if m.config.has("num_experts") && m.dim("num_experts", def) != n {
		m.failf("config.json: num_experts and num_local_experts differ")
	}
	return n
}

// topK reads how many experts a token is sent to.
func (m *model) topK(key string, def, n int) int {
	k := m.dim(key, def)
	if k > n {
		m.failf("config.json: %s %d exceeds the %d experts", key, k, n)
		return n
	}
	return k
}

// groupLimits reads the groups that limit a router's choice; best is how many
// scores rank a group.
func (m *model) groupLimits(r *router, groups, keep, best int) {
	r.groups, r.keep, r.best = m.dim("n_group", groups), m.dim("topk_group", keep), best
	if r.groups == 1 {
		return
	}
	per := r.n / r.groups
	if r.n%r.groups != 0 || r.keep > r.groups || per < best || r.k > r.keep*per {
		m.failf("config.json: %d experts in n_group %d groups, of which topk_group %d are eligible for the best %d", r.n, r.groups, r.keep, r.k)
		r.groups = 1
	}
}
