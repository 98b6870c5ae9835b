package quant_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/quant"
	"github.com/neuroseal/neuroseal/seal"
)

// TestFactors: for every weight of every fixture and any factors that are
// constant where scales are shared, editing the scales multiplies each number
// of the weight by exactly its factor, and codes do not change.
func TestFactors(t *testing.T) {
	dirs, err := filepath.Glob("testdata/*/dequantised.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range dirs {
		name := filepath.Base(filepath.Dir(d))
		if refused[name] {
			continue
		}
		t.Run(name, func(t *testing.T) {
			ck, s, err := open(t, filepath.Dir(d))
			if err != nil {
				t.Fatal(err)
			}
			rapid.Check(t, func(t *rapid.T) {
				w := s.Weight(rapid.SampledFrom(s.Names()).Draw(t, "weight"))
				factors(t, ck, s, w)
			})
		})
	}
}

// factors draws a factor for every part of every axis and checks one weight.
func factors(t *rapid.T, ck *checkpoint.Checkpoint, s *quant.Set, w *quant.Weight) {
	size := int(w.Size() / 4)
	want := make([]int, size) // exponent of each number
	sol := &gauge.Solution{}
	g := gauge.Tensor{Name: w.Name, Shape: w.Shape}
	var e [][]int16
	narrow := strings.HasSuffix(w.Format, "NVFP4")
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	for a, n := range w.Shape {
		part := parts(w, a)
		count := int(slices.Max(part)) + 1
		lo, hi := -3, 3
		scale, _ := ck.Tensor(w.Scales[0].Tensor)
		switch {
		case w.Format == "MLX NVFP4": // without a scale for all, near E4M3's least
			lo, hi = 0, 1
		case narrow: // E4M3 scales have little room
			lo, hi = -1, 0
		case scale.DType == dtype.F16: // none downwards
			lo = 0
		}
		ex := make([]int16, count)
		for i := range ex {
			ex[i] = int16(lo + random.IntN(hi-lo+1))
		}
		ax := gauge.Axis{Axes: []int{a}, Len: n}
		for i := range n {
			ax.Segments = append(ax.Segments, gauge.Segment{Start: i, Count: 1, Group: a, First: int(part[i]), Div: 1, Coef: 1})
		}
		g.Terms = append(g.Terms, ax)
		sol.Groups = append(sol.Groups, gauge.Group{ID: string(rune('a' + a)), Classes: count})
		e = append(e, ex)
		inner := 1
		for _, d := range w.Shape[a+1:] {
			inner *= d
		}
		for i := range want {
			want[i] += int(ex[part[i/inner%n]])
		}
	}
	sol.Tensors = []gauge.Tensor{g}
	stored, err := s.Stored(sol, func(string) []gauge.Factor { return nil })
	if err != nil {
		t.Fatal(err)
	}
	src := edited{ck, map[string]checkpoint.Editor{}}
	for i := range stored.Tensors {
		p := &stored.Tensors[i]
		x, _ := ck.Tensor(p.Name)
		if x.Format != nil {
			ed, err := seal.NewBlockScaler(p, x.Format, e, 1)
			if err != nil {
				t.Fatal(err)
			}
			if ed != nil {
				src.ed[p.Name] = ed
			}
		} else if ed := seal.NewScaler(p, x.DType, e, 1); ed != nil {
			src.ed[p.Name] = ed
		}
	}
	a, b := make([]byte, w.Size()), make([]byte, w.Size())
	if err := w.Read(ck, a, 0); err != nil {
		t.Fatal(err)
	}
	if err := w.Read(src, b, 0); err != nil {
		if narrow {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	for i, x := range want {
		was := math.Float32frombits(binary.LittleEndian.Uint32(a[4*i:]))
		now := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if math.Ldexp(float64(was), x) != float64(now) {
			t.Fatalf("%s (%s): number %d is %g, %g before, its factor 2^%d", w.Name, w.Format, i, now, was, x)
		}
	}
}

// parts numbers the parts of an axis that a weight's factors must be constant on.
func parts(w *quant.Weight, axis int) []int32 {
	out := make([]int32, w.Shape[axis])
	for i := range out {
		out[i] = int32(i)
	}
	for _, p := range w.Parts {
		if p.Axis != axis {
			continue
		}
		of := p.Of
		if of == nil {
			for i := range out {
				of = append(of, int32(i/p.Block))
			}
		}
		// The coarser of two partitions: every part takes its first element's.
		first := map[int32]int32{}
		for i := range out {
			if _, ok := first[of[i]]; !ok {
				first[of[i]] = out[i]
			}
			out[i] = first[of[i]]
		}
	}
	seen := map[int32]int32{}
	for i := range out {
		if _, ok := seen[out[i]]; !ok {
			seen[out[i]] = int32(len(seen))
		}
		out[i] = seen[out[i]]
	}
	return out
}

// edited reads a checkpoint through editors.
type edited struct {
	ck *checkpoint.Checkpoint
	ed map[string]checkpoint.Editor
}

func (s edited) ReadWeight(name string, p []byte, off int64) error {
	if err := s.ck.ReadWeight(name, p, off); err != nil || s.ed[name] == nil {
		return err
	}
	t, _ := s.ck.Tensor(name)
	if t.Format == nil {
		off = off * 8 / int64(t.DType.Bits())
	}
	return s.ed[name].Edit(off, p)
}
