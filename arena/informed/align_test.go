package informed

import (
	"context"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	neuroseal "github.com/neuroseal/neuroseal"
	"github.com/neuroseal/neuroseal/gauge"
)

// noisy returns a copy whose matrices and gains differ by a share of their own
// size, as those of a small fine-tune do.
func noisy(m *Model, share float64, seed uint64) *Model {
	c := m.Clone()
	r := rand.New(rand.NewPCG(seed, 1))
	for _, t := range c.Tensors() {
		sum := 0.0
		for _, v := range t.Data {
			sum += float64(v) * float64(v)
		}
		size := share * math.Sqrt(sum/float64(len(t.Data)))
		for i := range t.Data {
			t.Data[i] += float32(r.NormFloat64() * size)
		}
	}
	return c
}

// alignedCopy aligns a sealed copy of the base and demands the base to the bit.
func alignedCopy(t *testing.T, victim, base *Model) {
	t.Helper()
	out, a, err := Align(context.Background(), victim, base)
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, base, out)
	if !a.PowersOfTwo || len(a.Permuted) > 0 || epsilonOf(out) != epsilonOf(base) {
		t.Fatalf("%+v", a)
	}
}

// TestAlignFindsFactors: on a sealed copy of the base every factor is found
// exactly, so that the result is the base to the bit; on a sealed fine-tune the
// same factors are found, and the result is the fine-tune to the bit.
func TestAlignFindsFactors(t *testing.T) {
	for i, name := range families {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(fixtures, name)
			base := load(t, dir)
			tuned := noisy(base, 0.02, uint64(i))
			folder := filepath.Join(t.TempDir(), "tuned")
			if err := tuned.Save(context.Background(), folder); err != nil {
				t.Fatal(err)
			}
			for j, p := range profiles {
				if testing.Short() && (i+j)%3 != 0 {
					continue
				}
				o := neuroseal.LockOptions{Profile: p}
				alignedCopy(t, locked(t, dir, o), base)
				out, a, err := Align(context.Background(), locked(t, folder, o), base)
				if err != nil {
					t.Fatal(err)
				}
				if !a.PowersOfTwo || len(a.Permuted) > 0 {
					t.Errorf("%s: %v, permuted %v", p, a.PowersOfTwo, a.Permuted)
				}
				sameTensors(t, tuned, out)
			}
		})
	}
}

// TestAlignSigns: negative factors, as a seal with sign flips would draw them.
func TestAlignSigns(t *testing.T) {
	for _, name := range families {
		t.Run(name, func(t *testing.T) {
			base := load(t, filepath.Join(fixtures, name))
			g, err := base.Clone().gauge()
			if err != nil {
				t.Fatal(err)
			}
			f, r := g.still(), rand.New(rand.NewPCG(2, 2))
			for i, x := range g.sol.Groups {
				for c := range f[i] {
					f[i][c] = math.Ldexp(1, r.IntN(21)-10)
					if x.Kind != gauge.Residual && r.IntN(2) == 0 {
						f[i][c] *= -1
					}
				}
			}
			if err := g.apply(f); err != nil {
				t.Fatal(err)
			}
			if d := difference(t, base, g.Model); d != 0 {
				t.Fatalf("signs change the function by %g", d)
			}
			out, a, err := Align(context.Background(), g.Model, base)
			if err != nil {
				t.Fatal(err)
			}
			sameTensors(t, base, out)
			for i := range f {
				if !slices.Equal(f[i], a.Factors[i]) {
					t.Errorf("group %s: %v, found %v", g.sol.Groups[i].ID, f[i], a.Factors[i])
				}
			}
		})
	}
}

// shuffled permutes every axis whose order the network does not see.
func shuffled(t *testing.T, m *Model, seed uint64) (out *Model, moved int) {
	t.Helper()
	out = m.Clone()
	g, err := out.gauge()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(seed, 3))
	for _, a := range axes(g.net.Graph) {
		out.permute(a, r.Perm(a.n))
		moved++
	}
	return out, moved
}

// TestAxes: which orders a network leaves open, and that they are open.
func TestAxes(t *testing.T) {
	for name, want := range map[string]struct{ experts, heads, channels int }{
		"llama": {0, 6, 2}, "llama-mqa": {0, 2, 2}, "qwen2": {0, 6, 2}, "qwen3": {0, 6, 2}, "gemma": {0, 6, 2},
		"phi3": {0, 6, 2}, "mixtral": {2, 6, 8}, "qwen3_moe": {2, 6, 8}, "qwen3_moe-dense": {1, 6, 5},
	} {
		m := load(t, filepath.Join(fixtures, name))
		g, err := m.gauge()
		if err != nil {
			t.Fatal(err)
		}
		got := want
		got.experts, got.heads, got.channels = 0, 0, 0
		for _, a := range axes(g.net.Graph) {
			switch {
			case len(a.whole) > 0:
				got.experts++
			case strings.Contains(a.name, "o_proj"):
				got.heads++
			default:
				got.channels++
			}
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
		s, _ := shuffled(t, m, 1)
		if d := difference(t, m, s); !(d <= tolerance) {
			t.Errorf("%s: reordered, the function changes by %g", name, d)
		}
	}
}

// TestAlignOrders: channels, heads and experts of a fine-tune are permuted, then
// it is sealed; all comes back.
func TestAlignOrders(t *testing.T) {
	for i, name := range families {
		t.Run(name, func(t *testing.T) {
			base := load(t, filepath.Join(fixtures, name))
			tuned := noisy(base, 0.02, 5)
			s, moved := shuffled(t, tuned, uint64(i))
			folder := filepath.Join(t.TempDir(), "shuffled")
			if err := s.Save(context.Background(), folder); err != nil {
				t.Fatal(err)
			}
			out, a, err := Align(context.Background(), locked(t, folder, neuroseal.LockOptions{Profile: profiles[i%3]}), base)
			if err != nil {
				t.Fatal(err)
			}
			if moved == 0 || !a.PowersOfTwo || len(a.Permuted) == 0 {
				t.Errorf("%d axes shuffled, found %v", moved, a.Permuted)
			}
			sameTensors(t, tuned, out)
		})
	}
}

// TestAttention: the rows that a graph's heads come from, against the layout
// that the families are known for.
func TestAttention(t *testing.T) {
	m := load(t, filepath.Join(fixtures, "qwen2"))
	g, err := m.gauge()
	if err != nil {
		t.Fatal(err)
	}
	all := attentions(g.net.Graph)
	if len(all) != 2 || all[0].heads != 4 || all[0].dim != 4 {
		t.Fatalf("%+v", all)
	}
	a := all[0]
	if !slices.Equal(a.v[0].at[3], []int{4, 5, 6, 7}) || !slices.Equal(a.q[0].at[3], []int{12, 13, 14, 15}) ||
		!slices.Equal(a.o.at[2], []int{8, 9, 10, 11}) || len(a.v) != 2 || len(a.q) != 2 || len(a.k) != 2 {
		t.Errorf("%+v", a)
	}
	if h := a.kvHeads(); len(h) != 2 || !slices.Equal(h[1], []int{2, 3}) {
		t.Error(h)
	}
	m = load(t, filepath.Join(fixtures, "phi3"))
	if g, err = m.gauge(); err != nil {
		t.Fatal(err)
	}
	a = attentions(g.net.Graph)[0]
	q, kv := a.heads*a.dim, a.dim*len(a.kvHeads())
	if !strings.Contains(a.v[0].tensor, "qkv_proj") || a.v[0].at[0][0] != q+kv || a.k[0].at[0][1] != q+1 || a.q[0].at[1][0] != a.dim {
		t.Errorf("%+v", a)
	}
}
