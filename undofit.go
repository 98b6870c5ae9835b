package neuroseal

import (
	"context"
	"math"
	"math/bits"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// fit steps back where an even network would lose a bit: a class whose
// exponent takes an element out of its type's range moves less, one step at a
// time, until every element fits. All exponents at zero always fit, so this
// ends.
func (u *undoer) fit(ctx context.Context) error {
	tensors := map[string]*gauge.Tensor{}
	for i := range u.sol.Tensors {
		tensors[u.sol.Tensors[i].Name] = &u.sol.Tensors[i]
	}
	want := func(t checkpoint.Tensor) bool { return tensors[t.Name] != nil && t.Scalable() }
	for stepped := true; stepped; {
		stepped = false
		u.p.Stage("checking ranges", u.m.ck.TotalBytes())
		// One worker: the result must not depend on the order of tensors.
		err := u.m.ck.Each(ctx, 1, want, func(t checkpoint.Tensor, start int64, buf []byte) error {
			g := tensors[t.Name]
			u.read.n += int64(len(buf))
			u.p.Add(int64(len(buf)))
			if s := editorOf(g, t, u.e, 1); s == nil || s.Edit(start, append([]byte(nil), buf...)) == nil {
				return nil
			}
			stepped = true
			if t.Format != nil {
				u.stepBlocks(g, t.Format, start, buf)
			} else {
				u.stepBack(g, t.DType, start, buf)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// stepBack lowers exponents until every element of a chunk fits.
func (u *undoer) stepBack(g *gauge.Tensor, d dtype.DType, start int64, buf []byte) {
	size := d.Bits() / 8
	at := termIndex(g, start)
	for ; len(buf) > 0; buf = buf[size:] {
		idx := at()
		top, low, ok := span(element(d, buf))
		if !ok {
			continue
		}
		for {
			e, up, down := u.contributions(g, idx)
			switch {
			case top+e > topExponent(d) && up != nil:
				*up += toZero(*up)
			case low+e < lowExponent(d) && down != nil:
				*down += toZero(*down)
			}
			if (top+e <= topExponent(d) || up == nil) && (low+e >= lowExponent(d) || down == nil) {
				break
			}
		}
	}
}

// stepBlocks is stepBack for blocks, whose elements have one exponent.
func (u *undoer) stepBlocks(g *gauge.Tensor, f checkpoint.Format, start int64, buf []byte) {
	elements, size := f.Block()
	for at := start; len(buf) > 0; at, buf = at+int64(elements), buf[size:] {
		lo, hi := f.Room(buf[:size])
		idx := termIndex(g, at)()
		for {
			e, up, down := u.contributions(g, idx)
			switch {
			case e > hi && up != nil:
				*up += toZero(*up)
			case e < lo && down != nil:
				*down += toZero(*down)
			}
			if (e <= hi || up == nil) && (e >= lo || down == nil) {
				break
			}
		}
	}
}

// contributions returns an element's exponent, and the classes that add and
// take most of it (nil: none does). The residual stream, whose epsilon is back
// at a usual value, is named only where no other class is left.
func (u *undoer) contributions(g *gauge.Tensor, idx []int) (e int, up, down *int16) {
	most, least := 0, 0
	for i, ax := range g.Terms {
		for _, s := range ax.Segments {
			k := idx[i] - s.Start
			if k < 0 || k >= s.Count {
				continue
			}
			class := &u.e[s.Group][s.First+k/s.Div]
			x := s.Coef * int(*class)
			e += x
			if s.Group == u.sol.Residual {
				if x > 0 && up == nil {
					up = class
				}
				if x < 0 && down == nil {
					down = class
				}
				continue
			}
			if x > most {
				most, up = x, class
			}
			if x < least {
				least, down = x, class
			}
		}
	}
	return e, up, down
}

func toZero(e int16) int16 {
	if e < 0 {
		return 1
	}
	return -1
}

// span returns the exponents of a number's highest and lowest set bits.
func span(x float64) (top, low int, ok bool) {
	if x == 0 || x != x || math.IsInf(x, 0) {
		return 0, 0, false
	}
	f, e := math.Frexp(math.Abs(x))
	m := uint64(math.Ldexp(f, 53))
	return e - 1, e - 53 + bits.TrailingZeros64(m), true
}

// topExponent and lowExponent are those of the highest and the lowest bit that
// a type can hold.
func topExponent(d dtype.DType) int {
	switch d {
	case dtype.F16:
		return 15
	case dtype.F64:
		return 1023
	}
	return 127
}

func lowExponent(d dtype.DType) int {
	switch d {
	case dtype.F16:
		return -24
	case dtype.BF16:
		return -133
	case dtype.F64:
		return -1074
	}
	return -149
}

// turns gives every class of the chosen groups a turn, so that no two classes
// of one turn move the same element along the same axis (gate and up both face
// down where an MLP's gate is a ReLU): each class is evened out seeing what
// the others did. It returns the turns and how many there are.
func turns(sol *gauge.Solution, choose func(group int) bool) (turn [][]uint8, n int) {
	for _, g := range sol.Groups {
		turn = append(turn, make([]uint8, g.Classes))
	}
	n = 1
	for again := true; again; {
		again = false
		for i := range sol.Tensors {
			for _, ax := range sol.Tensors[i].Terms {
				taken := make([]uint64, ax.Len) // per element, the turns in use
				for _, s := range ax.Segments {
					if !choose(s.Group) {
						continue
					}
					for k := range s.Count {
						at, c := &taken[s.Start+k], &turn[s.Group][s.First+k/s.Div]
						if *at>>*c&1 != 0 && *c < 63 {
							*c++
							again = true
						}
						*at |= 1 << *c
						n = max(n, int(*c)+1)
					}
				}
			}
		}
	}
	return turn, n
}

// termIndex walks over a tensor's elements from start on and returns, for each
// of its terms, the position that the element has along it.
func termIndex(g *gauge.Tensor, start int64) func() []int {
	rank := len(g.Shape)
	pos := make([]int, rank)
	for a := rank - 1; a >= 0; a-- {
		pos[a] = int(start % int64(g.Shape[a]))
		start /= int64(g.Shape[a])
	}
	out := make([]int, len(g.Terms))
	return func() []int {
		for i, ax := range g.Terms {
			n := 0
			for _, a := range ax.Axes {
				n = n*g.Shape[a] + pos[a]
			}
			out[i] = n
		}
		for a := rank - 1; a >= 0; a-- {
			if pos[a]++; pos[a] < g.Shape[a] {
				break
			}
			pos[a] = 0
		}
		return out
	}
}
