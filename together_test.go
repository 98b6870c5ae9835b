package neuroseal

import (
	"context"
	"encoding/binary"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// alike demands that two measurements say the same to range analysis. Sums are
// added up in pieces of their own.
func alike(t failer, got, want *measured) {
	if !maps.Equal(got.normal16, want.normal16) || !maps.Equal(got.room, want.room) || len(got.stats) != len(want.stats) {
		t.Fatalf("measured %v, %v of %d tensors; want %v, %v of %d", got.normal16, got.room, len(got.stats), want.normal16, want.room, len(want.stats))
	}
	near := func(a, b float64) bool { return a == b || math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b), 1) }
	for name, w := range want.stats {
		g := got.stats[name]
		if g == nil {
			t.Fatalf("%s is not measured", name)
		}
		a, b := *g, *w
		sums := near(a.SumSq, b.SumSq) && near(a.LogRowMean, b.LogRowMean) && near(a.LogRowM2, b.LogRowM2)
		a.SumSq, a.LogRowMean, a.LogRowM2 = b.SumSq, b.LogRowMean, b.LogRowM2
		if a != b || !sums {
			t.Fatalf("%s: measured %+v, want %+v", name, *g, *w)
		}
	}
}

// TestTogether: in one reading, of any format and family, weights and
// activations measure what they do in two.
func TestTogether(t *testing.T) {
	var sources []string
	for _, pattern := range []string{"arch/testdata/*/model.safetensors", "quant/testdata/*/model.safetensors", "arch/testdata/gguf/*.gguf"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		sources = append(sources, found...)
	}
	for i, src := range sources {
		if testing.Short() && i%4 != 0 {
			continue
		}
		if filepath.Ext(src) != gguf.Extension {
			src = filepath.Dir(src)
		}
		t.Run(src, func(t *testing.T) {
			t.Parallel()
			m, err := openModel(src, arch.Options{Tokens: observeTokens, AllowUnsealed: true})
			if err != nil {
				t.Skip(err) // a fixture of what is refused
			}
			defer m.ck.Close()
			sol, err := m.solve()
			if err != nil {
				t.Fatal(err)
			}
			want, err := m.scan(t.Context(), silent{})
			if err != nil {
				t.Fatal(err)
			}
			observed, err := m.observe(t.Context(), sol, silent{})
			if err != nil {
				t.Fatal(err)
			}
			one := &together{model: m, last: m.lastMoved(sol)}
			got, err := one.scan(t.Context(), silent{})
			if err != nil {
				t.Fatal(err)
			}
			alike(t, got, want)
			if again, _ := one.observe(t.Context(), sol, silent{}); !slices.Equal(again, observed) {
				t.Errorf("activations %v, want %v", again, observed)
			}
			if m.tap != nil {
				t.Error("the tap stays open")
			}
		})
	}
}

// TestTogetherReadsOnce: what the network multiplies by is not read again.
func TestTogetherReadsOnce(t *testing.T) {
	w := llamaGGUF(gguf.Q4_K, blockSource(t)[gguf.Q4_K], 1)
	src := filepath.Join(t.TempDir(), "model.gguf")
	w.write(t, src, 0, len(w.tensors), 0)
	m := opened(t, src)
	defer m.ck.Close()
	sol, err := m.solve()
	if err != nil {
		t.Fatal(err)
	}
	counted := &stages{}
	if _, err := (&together{model: m, last: m.lastMoved(sol)}).scan(t.Context(), counted); err != nil {
		t.Fatal(err)
	}
	var rest int64 // a row of the embedding is read, and nothing of the head
	for _, name := range []string{"token_embd.weight", "output.weight"} {
		x, _ := m.ck.Tensor(name)
		rest += x.Size
	}
	if got := counted.total["reading weights"]; got != rest {
		t.Errorf("%d bytes are read by themselves, want %d", got, rest)
	}
}

// stages notes how long the stages of some work are.
type stages struct{ total map[string]int64 }

func (s *stages) Stage(name string, total int64) {
	if s.total == nil {
		s.total = map[string]int64{}
	}
	s.total[name] = total
}

func (*stages) Add(int64) {}

// TestTap: pieces in any order, twice, overlapping or with gaps: a tensor counts
// as measured if and only if pieces that do not overlap make it up, and then with
// the figures of the whole.
func TestTap(t *testing.T) {
	const width, rows = 32, 12
	x := checkpoint.Tensor{Name: "x", DType: dtype.F32, Shape: []int{rows, width}, Size: 4 * rows * width}
	r := rand.New(rand.NewPCG(3, 4))
	var data []byte
	for range rows * width {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(r.NormFloat64())))
	}
	want := newGatherer()
	want.add("x", figuresOf(x, 0, data, nil))
	rapid.Check(t, func(t *rapid.T) {
		g := newGatherer()
		tap := &tap{g: g, of: map[string]*passing{}}
		type cut struct{ from, to int }
		var cuts []cut
		for at := 0; at < rows; { // a partition, perhaps with holes
			n := rapid.IntRange(1, rows-at).Draw(t, "rows")
			if rapid.IntRange(0, 9).Draw(t, "hole") > 0 {
				cuts = append(cuts, cut{at, at + n})
			}
			at += n
		}
		whole, seen := true, make([]int, rows)
		for _, c := range cuts {
			for i := c.from; i < c.to; i++ {
				seen[i]++
			}
		}
		whole = !slices.ContainsFunc(seen, func(n int) bool { return n != 1 })
		repeats := rapid.SliceOfN(rapid.IntRange(0, max(len(cuts)-1, 0)), 0, 3).Draw(t, "repeats")
		for _, i := range repeats {
			if len(cuts) > 0 {
				cuts = append(cuts, cuts[i])
			}
		}
		cuts = rapid.Permutation(cuts).Draw(t, "order")
		for _, c := range cuts {
			tap.take(x, int64(4*width*c.from), data[4*width*c.from:4*width*c.to], nil)
		}
		// Parts of rows are nobody's figures.
		tap.take(x, 4, data[4:8], nil)
		if got := tap.complete(x); got != whole {
			t.Fatalf("complete: %v, want %v", got, whole)
		}
		if !whole {
			if len(g.stats) > 0 {
				t.Fatal("figures of a part stay")
			}
			return
		}
		alike(t, g.measured, want.measured)
	})
	overlapping := &tap{g: newGatherer(), of: map[string]*passing{}}
	for _, c := range [][2]int{{4, 8}, {0, 6}, {6, 12}} {
		overlapping.take(x, int64(4*width*c[0]), data[4*width*c[0]:4*width*c[1]], nil)
	}
	if overlapping.complete(x) {
		t.Error("rows count twice")
	}
	// Only so many pieces wait.
	long := checkpoint.Tensor{Name: "x", DType: dtype.F32, Shape: []int{4 * mostWaiting, 1}, Size: 16 * mostWaiting}
	for _, n := range []int{mostWaiting, mostWaiting + 1} {
		late := &tap{g: newGatherer(), of: map[string]*passing{}}
		for i := n; i >= 0; i-- {
			late.take(long, int64(4*i), []byte{1, 2, 3, 4}, nil)
		}
		late.take(long, int64(4*n+4), make([]byte, 16*mostWaiting-4*n-4), nil)
		if got := late.complete(long); got != (n == mostWaiting) {
			t.Errorf("%d pieces wait: complete %v", n, got)
		}
	}
}

// TestSampledRows: which rows of a large tensor stand for all does not depend on
// how it is cut.
func TestSampledRows(t *testing.T) {
	const width, rows = 1024, 4096 // above sampledFrom
	x := checkpoint.Tensor{Name: "x", Shape: []int{rows, width}, Format: gguf.Q8_0, Size: rows * width / 32 * 34}
	if x.Size <= sampledFrom {
		t.Fatal("too small")
	}
	r := rand.New(rand.NewPCG(5, 6))
	data := make([]byte, x.Size)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	row := width / 32 * 34
	for i := 0; i < len(data); i += 34 {
		data[i+1] = 0x18 | data[i+1]&0x83 // neither infinite nor zero
	}
	want := newGatherer()
	want.add("x", figuresOf(x, 0, data, nil))
	if n := want.stats["x"].N; n != rows/sampled*width {
		t.Fatalf("%d numbers count", n)
	}
	for _, known := range []bool{false, true} {
		got := newGatherer()
		for at := 0; at < rows; {
			n := min(1+r.IntN(900), rows-at)
			part := data[at*row : (at+n)*row]
			var numbers []byte
			if known {
				numbers = make([]byte, 4*width*n)
				dequantise(x.Format, numbers, part)
			}
			got.add("x", figuresOf(x, int64(at*width), part, numbers))
			at += n
		}
		alike(t, got.measured, want.measured)
	}
}

// TestTogetherStops: an interrupted reading is one, and says so.
func TestTogetherStops(t *testing.T) {
	m := opened(t, filepath.Join("arch/testdata", "llama"))
	defer m.ck.Close()
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := (&together{model: m}).scan(ctx, silent{}); fault.KindOf(err) != fault.Interrupted {
		t.Errorf("%v", err)
	}
}
