package seal

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// TestMover: whatever the shape, the orders and the chunks, every element comes
// from where the orders say, and the inverse brings it back.
func TestMover(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 3))
		shape := rapid.SliceOfN(rapid.IntRange(1, 7), 1, 3).Draw(rt, "shape")
		n, size := 1, 2
		m := &Mover{Shape: shape, Size: size, Orders: make([][]int32, len(shape))}
		back := &Mover{Shape: shape, Size: size, Orders: make([][]int32, len(shape))}
		for a, d := range shape {
			n *= d
			if r.IntN(2) == 0 {
				for _, x := range r.Perm(d) {
					m.Orders[a] = append(m.Orders[a], int32(x))
				}
				back.Orders[a] = Inverse(m.Orders[a])
			}
		}
		src := make([]byte, n*size)
		for i := range src {
			src[i] = byte(r.Uint32())
		}
		from := func(b []byte) func(p []byte, off int64) error {
			return func(p []byte, off int64) error { copy(p, b[off:]); return nil }
		}
		move := func(m *Mover) []byte {
			out := make([]byte, len(src))
			for at := 0; at < n; {
				k := 1 + r.IntN(n-at)
				if err := m.Edit(int64(at), out[at*size:(at+k)*size]); err != nil {
					rt.Fatal(err)
				}
				at += k
			}
			return out
		}
		m.Read = from(src)
		moved := move(m)
		for i := range n {
			at, rest, step := 0, i, 1
			for a := len(shape) - 1; a >= 0; a-- {
				k := rest % shape[a]
				rest /= shape[a]
				if m.Orders[a] != nil {
					k = int(m.Orders[a][k])
				}
				at += k * step
				step *= shape[a]
			}
			if !bytes.Equal(moved[i*size:(i+1)*size], src[at*size:(at+1)*size]) {
				rt.Fatalf("element %d is not that of place %d", i, at)
			}
		}
		back.Read = from(moved)
		if !bytes.Equal(move(back), src) {
			rt.Fatal("not brought back")
		}
	})
}

// TestValidatePermutations refuses what no writer produces.
func TestValidatePermutations(t *testing.T) {
	good := func() *gauge.Permutations {
		return &gauge.Permutations{
			List:      []gauge.Permutation{{ID: "a", Count: 3}, {ID: "b", Count: 2}},
			Tensors:   []gauge.PermutedTensor{{Name: "w", Shape: []int{12, 5}, Axes: []gauge.PermutedAxis{{Axis: 0, Stretches: []gauge.Stretch{{{Perm: 0, Count: 3}, {Perm: 1, Count: 2}, {Perm: -1, Count: 2}}}}}}},
			Exchanges: []gauge.Exchange{{Places: gauge.Stretch{{Perm: 1, Count: 2}}, Tensors: []string{"x", "y"}}},
		}
	}
	if err := ValidatePermutations(good()); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(p *gauge.Permutations){
		"count":      func(p *gauge.Permutations) { p.List[0].Count = 4 },
		"huge":       func(p *gauge.Permutations) { p.List[0].Count = 1 << 40 },
		"same id":    func(p *gauge.Permutations) { p.List[1].ID = "a" },
		"axis":       func(p *gauge.Permutations) { p.Tensors[0].Axes[0].Axis = 2 },
		"length":     func(p *gauge.Permutations) { p.Tensors[0].Shape = []int{13, 5} },
		"no such":    func(p *gauge.Permutations) { p.Tensors[0].Axes[0].Stretches[0][0].Perm = 2 },
		"negative":   func(p *gauge.Permutations) { p.Tensors[0].Axes[0].Stretches[0][2].Count = -2 },
		"few":        func(p *gauge.Permutations) { p.Exchanges[0].Tensors = []string{"x"} },
		"same twice": func(p *gauge.Permutations) { p.Exchanges[0].Tensors = []string{"x", "x"} },
		"tensor twice": func(p *gauge.Permutations) {
			p.Tensors = slices.Concat(p.Tensors, p.Tensors)
		},
	} {
		p := good()
		spoil(p)
		if ValidatePermutations(p) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestFlipperIsItsInverse: twice is nothing, in any chunks.
func TestFlipperIsItsInverse(t *testing.T) {
	tensor := gauge.Tensor{Name: "w", Shape: []int{4, 3}, Terms: []gauge.Axis{
		{Axes: []int{0}, Len: 4, Segments: []gauge.Segment{{Start: 0, Count: 4, Group: 0, Div: 1, Coef: 1}}},
		{Axes: []int{1}, Len: 3, Segments: []gauge.Segment{{Start: 0, Count: 3, Group: 1, Div: 1, Coef: -1}}},
	}}
	neg := [][]bool{{true, false, true, false}, {false, true, true}}
	f := NewFlipper(&tensor, dtype.F16, neg)
	buf := make([]byte, 24)
	for i := range buf {
		buf[i] = byte(i)
	}
	was := slices.Clone(buf)
	if err := f.Edit(0, buf); err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		want := was[2*i+1]
		if neg[0][i/3] != neg[1][i%3] {
			want ^= 0x80
		}
		if buf[2*i] != was[2*i] || buf[2*i+1] != want {
			t.Errorf("element %d: % x became % x", i, was[2*i:2*i+2], buf[2*i:2*i+2])
		}
	}
	for at, n := range map[int]int{0: 5, 5: 1, 6: 6} {
		if err := f.Edit(int64(at), buf[2*at:2*(at+n)]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(buf, was) {
		t.Error("not its own inverse")
	}
}
