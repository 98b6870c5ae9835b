package gauge

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// TestRestrict: whatever exponents the classes that are left get, the elements
// of a part move alike, on every axis; and a restriction that holds already
// changes nothing.
func TestRestrict(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 0))
		tensor, groups := randomTensor(r)
		s := &Solution{Groups: groups, Tensors: []Tensor{tensor}}
		var parts []Partition
		for a, n := range tensor.Shape {
			p := Partition{Axis: a, Block: 1 + r.IntN(n)}
			if r.IntN(2) == 0 {
				p.Of = make([]int32, n)
				for i := range p.Of {
					p.Of[i] = int32(r.IntN(3))
				}
			}
			if r.IntN(3) > 0 {
				parts = append(parts, p)
			}
		}
		of := func(*Tensor) []Partition { return parts }
		out := s.Restrict(of)
		e := make([][]int16, len(out.Groups))
		for g := range e {
			e[g] = make([]int16, out.Groups[g].Classes)
			for c := range e[g] {
				e[g][c] = int16(r.IntN(1 << 14))
			}
		}
		for _, ax := range out.Tensors[0].Terms {
			moveAlike(rt, &tensor, ax, parts, ax.Exponents(e))
		}
		again := out.Restrict(of)
		for g := range again.Groups {
			if again.Groups[g].Classes != out.Groups[g].Classes {
				rt.Errorf("group %d: %d classes, %d after the same restriction", g, out.Groups[g].Classes, again.Groups[g].Classes)
			}
		}
	})
}

// randomTensor has terms along one axis and along two, with gaps and overlaps.
func randomTensor(r *rand.Rand) (Tensor, []Group) {
	t := Tensor{Name: "w", Shape: []int{2 + r.IntN(5), 2 + r.IntN(5), 2 + r.IntN(5)}, Input: 2}
	var groups []Group
	for _, axes := range [][]int{{0}, {1}, {0, 1}, {1, 2}, {2}} {
		if r.IntN(3) == 0 {
			continue
		}
		ax := Axis{Axes: axes, Len: 1}
		for _, a := range axes {
			ax.Len *= t.Shape[a]
		}
		for range 1 + r.IntN(3) {
			start := r.IntN(ax.Len)
			n := 1 + r.IntN(ax.Len-start)
			div := 1 + r.IntN(3)
			ax.Segments = append(ax.Segments, Segment{start, n, len(groups), 0, div, 1 + r.IntN(2)})
			groups = append(groups, Group{Classes: (n + div - 1) / div})
		}
		t.Terms = append(t.Terms, ax)
	}
	return t, groups
}

// moveAlike demands equal exponents of elements that differ only within a part.
func moveAlike(t *rapid.T, w *Tensor, ax Axis, parts []Partition, e []int) {
	for _, p := range parts {
		inner, there := 1, false
		for i := len(ax.Axes) - 1; i >= 0 && !there; i-- {
			if there = ax.Axes[i] == p.Axis; !there {
				inner *= w.Shape[ax.Axes[i]]
			}
		}
		if !there {
			continue
		}
		n := w.Shape[p.Axis]
		for x := range e {
			for y := range e {
				i, j := x/inner%n, y/inner%n
				same := p.Of == nil && i/p.Block == j/p.Block || p.Of != nil && p.Of[i] == p.Of[j]
				if same && x/(inner*n) == y/(inner*n) && x%inner == y%inner && e[x] != e[y] {
					t.Fatalf("axes %v: elements %d and %d of a part move by %d and %d", ax.Axes, x, y, e[x], e[y])
				}
			}
		}
	}
}

// TestWithout: the classes of a group that is dropped are gone, others stay.
func TestWithout(t *testing.T) {
	s := &Solution{
		Groups: []Group{{ID: "a", Classes: 2}, {ID: "b", Classes: 3}},
		Tensors: []Tensor{{Name: "w", Shape: []int{5}, Input: -1, Terms: []Axis{{Axes: []int{0}, Len: 5, Segments: []Segment{
			{0, 2, 0, 0, 1, 1}, {2, 3, 1, 0, 1, 1},
		}}}}},
	}
	out := s.Without(func(g int) bool { return g == 0 })
	if out.Groups[0].Classes != 0 || out.Groups[1].Classes != 3 {
		t.Fatalf("%+v", out.Groups)
	}
	if sg := out.Tensors[0].Terms[0].Segments; len(sg) != 1 || sg[0].Group != 1 || sg[0].Start != 2 {
		t.Errorf("%+v", sg)
	}
}
