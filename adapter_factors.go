package neuroseal

import (
	"slices"

	"github.com/neuroseal/neuroseal/adapter"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// terms picks those of a weight's factors that a piece takes, along the piece's
// own axes. Of an update, the left factor takes what it has axes for, and the
// right one the rest.
func (c *conversion) terms(p adapter.Piece, w *gauge.Tensor) (*gauge.Tensor, error) {
	own := &gauge.Tensor{Name: p.Name, Shape: p.Shape}
	for _, term := range w.Terms {
		mine, partners := covers(p.Follows, term.Axes), covers(p.Partner, term.Axes)
		if p.Role == adapter.Added && mine == partners && !c.written(term) {
			return nil, fault.New(fault.Unsupported, "adapter tensor %s is added to what %s gives, and the seal moves that weight as a whole: whether by its inputs or by its outputs is not recorded", p.Name, p.Of).
				WithHint("train without lora_bias, or merge the adapter into the model that it fits")
		}
		if len(term.Axes) == 0 {
			mine, partners = p.Role != adapter.Input, p.Role == adapter.Input
		}
		switch {
		case p.Role == adapter.Input && partners:
		case mine:
			own.Terms = append(own.Terms, laid(term, w.Shape, p))
		case partners:
		case !c.alike(term, p.Role != adapter.Magnitude):
			return nil, refuseApart(p)
		case p.Role != adapter.Input:
			own.Terms = append(own.Terms, constant(term))
		}
	}
	return own, nil
}

// written reports whether a factor of a whole weight is its outputs': it is one,
// or it is the residual stream's, which grows with what is written to it. What
// reads the stream as it is shrinks instead.
func (c *conversion) written(term gauge.Axis) bool {
	for _, s := range term.Segments {
		g := c.man.Groups[s.Group]
		if c.e[s.Group][s.First] == 0 && !(g.Signs && c.neg[s.Group][s.First]) {
			continue
		}
		if g.Kind != string(gauge.Residual) || s.Coef < 0 {
			return false
		}
	}
	return true
}

// weight returns what moves the weight of a piece; nil if nothing does.
func (c *conversion) weight(p adapter.Piece) (*gauge.Tensor, error) {
	if p.Parts == nil {
		return c.moves[p.Of], nil
	}
	if w := c.joined[p.Of]; w != nil {
		return w, nil
	}
	w, err := c.join(p)
	c.joined[p.Of] = w
	return w, err
}

// join puts the factors of experts' matrices together as those of the parameter
// that transformers makes of them: every row of every expert has its own, and so
// has every column, which the matrices of an expert must share.
func (c *conversion) join(p adapter.Piece) (*gauge.Tensor, error) {
	experts, out, in := p.Whole[0], p.Whole[1], p.Whole[2]
	rows := gauge.Axis{Axes: []int{0, 1}, Len: experts * out}
	columns := gauge.Axis{Axes: []int{0, 2}, Len: experts * in}
	var first gauge.Axis // columns of an expert's first matrix
	for _, part := range p.Parts {
		own := gauge.Axis{Axes: []int{1}, Len: in}
		n, at := out, part.Expert*out+part.Row
		var terms []gauge.Axis
		if t := c.moves[part.Name]; t != nil {
			n, terms = t.Shape[0], t.Terms
		}
		for _, term := range terms {
			for _, s := range term.Segments {
				switch {
				case len(term.Axes) == 0: // one for all rows
					rows.Segments = append(rows.Segments, gauge.Segment{Start: at, Count: n, Group: s.Group, First: s.First, Div: n, Coef: s.Coef})
				case len(term.Axes) == 1 && term.Axes[0] == 0:
					s.Start += at
					rows.Segments = append(rows.Segments, s)
				case len(term.Axes) == 1:
					own.Segments = append(own.Segments, s)
				default:
					return nil, refuseApart(p)
				}
			}
		}
		if part.Row == 0 {
			first = own
			for _, s := range own.Segments {
				s.Start += part.Expert * in
				columns.Segments = append(columns.Segments, s)
			}
		} else if !slices.Equal(own.Exponents(c.e), first.Exponents(c.e)) || !slices.Equal(own.Negative(c.neg), first.Negative(c.neg)) {
			return nil, refuseApart(p)
		}
	}
	return &gauge.Tensor{Name: p.Of, Shape: p.Whole, Terms: []gauge.Axis{rows, columns}}, nil
}

// refuseApart says why a piece cannot take factors that differ along axes that
// it does not have.
func refuseApart(p adapter.Piece) error {
	switch p.Role {
	case adapter.Magnitude:
		return fault.New(fault.Unsupported, "adapter tensor %s holds the sizes of whole rows of %s, whose elements the seal scales apart: no power of two takes it over", p.Name, p.Of).
			WithHint("a DoRA can be converted where a seal scales rows only; train a plain LoRA, or merge the adapter into the model that it fits")
	case adapter.Full:
		return fault.New(fault.Unsupported, "adapter tensor %s holds some rows of %s, which the seal scales apart", p.Name, p.Of)
	}
	return fault.New(fault.Unsupported, "the seal's factors of %s are not those of a row times those of a column, so that no update of low rank corresponds to %s", p.Of, p.Name)
}

// covers reports whether all of a term's axes are among those that a piece follows.
func covers(follows, axes []int) bool {
	return !slices.ContainsFunc(axes, func(a int) bool { return !slices.Contains(follows, a) })
}

// alike reports whether a term has one exponent, and if signs count, one sign.
func (c *conversion) alike(term gauge.Axis, signs bool) bool {
	return uniform(term.Exponents(c.e)) && (!signs || uniform(term.Negative(c.neg)))
}

func uniform[T comparable](list []T) bool {
	return !slices.ContainsFunc(list, func(x T) bool { return x != list[0] })
}

// constant is a term whose elements are all alike, as one of the whole tensor.
func constant(term gauge.Axis) gauge.Axis {
	out := gauge.Axis{Len: 1}
	for _, s := range term.Segments {
		if s.Start == 0 {
			s.Count, s.Div = 1, 1
			out.Segments = append(out.Segments, s)
		}
	}
	return out
}

// laid is a weight's term along a piece's axes.
func laid(term gauge.Axis, shape []int, p adapter.Piece) gauge.Axis {
	at := make([]int, len(term.Axes))
	for i, a := range term.Axes {
		at[i] = slices.Index(p.Follows, a)
	}
	if slices.IsSorted(at) {
		return gauge.Axis{Axes: at, Len: term.Len, Segments: term.Segments}
	}
	// The piece has the axes in another order: element by element.
	sorted := slices.Sorted(slices.Values(at))
	step := make([]int, len(at)) // of the term's axes, in the piece's order
	n := 1
	for k := len(sorted) - 1; k >= 0; k-- {
		i := slices.Index(at, sorted[k])
		step[i] = n
		n *= shape[term.Axes[i]]
	}
	out := gauge.Axis{Axes: sorted, Len: term.Len}
	for _, s := range term.Segments {
		for i := range s.Count {
			place, rest := 0, s.Start+i
			for k := len(at) - 1; k >= 0; k-- {
				width := shape[term.Axes[k]]
				place += rest % width * step[k]
				rest /= width
			}
			out.Segments = append(out.Segments, gauge.Segment{Start: place, Count: 1, Group: s.Group, First: s.First + i/s.Div, Div: 1, Coef: s.Coef})
		}
	}
	return out
}

// moved returns the editor of a tensor whose weight may change places, too, in
// itself or with another one.
func (c *conversion) moved(p adapter.Piece, t checkpoint.Tensor) (checkpoint.Editor, error) {
	if c.places == nil {
		return c.scaled(p, t)
	}
	for _, part := range p.Parts {
		if len(c.places.axes[part.Name]) > 0 || c.places.from[part.Name] != "" {
			return nil, fault.New(fault.Unsupported, "the seal permutes the experts that %s is made of, which is not converted", p.Of).
				WithHint("adapters of experts can be converted for a seal without --permute")
		}
	}
	by := c.places.to
	if c.o.ToSealed {
		by = c.places.from
	}
	from, source, err := c.partner(p, t, by[p.Of])
	if err != nil {
		return nil, err
	}
	sealed := from.Of // the weight whose order it is
	if c.o.ToSealed {
		sealed = p.Of
	}
	orders, any := c.orders(p, sealed)
	if !any && source.Name == t.Name {
		return c.scaled(p, t)
	}
	m := &seal.Mover{
		Shape: p.Shape, Size: t.DType.Bits() / 8, Orders: orders,
		Read: func(b []byte, off int64) error { return c.ck.ReadAt(source, b, off) },
	}
	if c.o.ToSealed {
		m.Before, err = c.scaled(from, source)
	} else {
		m.After, err = c.scaled(p, t)
	}
	return m, err
}

// orders are where a piece's elements come from, per axis.
func (c *conversion) orders(p adapter.Piece, sealed string) (orders [][]int32, any bool) {
	orders = make([][]int32, len(p.Shape))
	for _, ax := range c.places.axes[sealed] {
		i := slices.Index(p.Follows, ax.Axis)
		if i < 0 {
			continue
		}
		orders[i], any = ax.Sources(c.places.orders), true
		if !c.o.ToSealed {
			orders[i] = seal.Inverse(orders[i])
		}
	}
	return orders, any
}

// partner finds the piece whose content comes in place of p's: that of the
// weight of that name, which changes places with p's. "": p itself.
func (c *conversion) partner(p adapter.Piece, t checkpoint.Tensor, weight string) (adapter.Piece, checkpoint.Tensor, error) {
	if weight == "" || weight == p.Of {
		return p, t, nil
	}
	from, ok := c.pieces[[2]string{weight, p.Slot}]
	source, _ := c.ck.Tensor(from.Name)
	if !ok || c.conf.Uneven || !slices.Equal(source.Shape, t.Shape) || source.DType != t.DType || !slices.Equal(from.Follows, p.Follows) {
		return p, t, fault.New(fault.Unsupported, "the seal exchanges %s and %s, and the adapter does not treat them alike", p.Of, weight).
			WithHint("an adapter of a permuted seal must have all experts, with one rank and one alpha")
	}
	return from, source, nil
}
