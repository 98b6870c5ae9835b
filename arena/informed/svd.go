package informed

import (
	"context"
	"math"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// canonicalise brings every product of two maps into the form that its singular
// value decomposition gives, both sides with the square roots of the singular
// values. Values and output projection are decomposed head by head (with
// grouped queries, a key/value head with the outputs of all its query heads). A
// channel of up and down is a product of rank one, for which that is: equal
// norms. Queries and keys are mixed by rotations between them, so that only
// their rotary pairs can be evened out. Gains are folded, and the epsilon is
// brought back.
func canonicalise(_ context.Context, m, _ *Model) (*Model, error) {
	m, err := balanced(m.Clone(), func(s side) float64 { return math.Sqrt(s.sum) }, func(k gauge.Kind) bool { return k != gauge.VO })
	if err != nil {
		return nil, err
	}
	g, err := m.gauge()
	if err != nil {
		return nil, err
	}
	layers := attentions(g.net.Graph)
	if len(layers) == 0 {
		return nil, fault.New(fault.Unsupported, "no attention layer was found in this %s network", m.Type)
	}
	for _, a := range layers {
		for _, heads := range a.kvHeads() {
			m.canonicalHead(a, heads)
		}
	}
	return m, nil
}

// canonicalHead decomposes one key/value head. With V and its bias as the
// columns of one matrix, nothing is lost where a singular value is zero.
func (m *Model) canonicalHead(a attention, heads []int) {
	v := newMatrix(m.valueWidth(a), a.dim) // V and bias, transposed
	m.values(a, heads[0], func(row, c int, x *float32) { v.set(row, c, float64(*x)) })
	out := m.byName[a.o.tensor]
	hidden := out.Shape[0]
	o := newMatrix(hidden*len(heads), a.dim) // outputs of the heads, one below the other
	m.outputs(a, heads, func(row, c int, x *float32) { o.set(row, c, float64(*x)) })

	qv, rv := v.qr()
	qo, ro := o.qr()
	u, s, w := ro.times(rv.transposed()).svd() // (Qo u) s (Qv w)ᵀ
	u, w = qo.times(u), qv.times(w)
	m.values(a, heads[0], func(row, c int, x *float32) { *x = spectral(w, s, row, c) })
	m.outputs(a, heads, func(row, c int, x *float32) { *x = spectral(u, s, row, c) })
}

// spectral is an element of a factor times the root of its singular value; 0 in
// the dimensions that a product of small rank does not need.
func spectral(u matrix, s []float64, row, c int) float32 {
	if c >= len(s) {
		return 0
	}
	return float32(u.at(row, c) * math.Sqrt(s[c]))
}

// valueWidth is how many numbers make a channel of the values: a row of the
// weight, and an element of each bias.
func (m *Model) valueWidth(a attention) int {
	n := 0
	for _, p := range a.v {
		n += rowWidth(m.byName[p.tensor])
	}
	return n
}

// rowWidth is the number of elements per element of the first axis.
func rowWidth(t *Tensor) int { return len(t.Data) / max(t.Shape[0], 1) }

// values visits the numbers of a value head, channel by channel.
func (m *Model) values(a attention, head int, visit func(i, c int, x *float32)) {
	start := 0
	for _, p := range a.v {
		t := m.byName[p.tensor]
		n := rowWidth(t)
		for c, row := range p.at[head] {
			for i := range n {
				visit(start+i, c, &t.Data[row*n+i])
			}
		}
		start += n
	}
}

// outputs visits the columns of the output projection that some heads feed.
func (m *Model) outputs(a attention, heads []int, visit func(i, c int, x *float32)) {
	t := m.byName[a.o.tensor]
	hidden, width := t.Shape[0], t.Shape[1]
	for k, h := range heads {
		for c, col := range a.o.at[h] {
			for i := range hidden {
				visit(k*hidden+i, c, &t.Data[i*width+col])
			}
		}
	}
}
