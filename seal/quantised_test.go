package seal_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/seal"
)

// q8 is random blocks of Q8_0 whose scales are powers of two near 1.
func q8(blocks int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 34*blocks)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	for i := range blocks {
		binary.LittleEndian.PutUint16(b[34*i:], uint16(13+r.IntN(4))<<10)
	}
	return b
}

func numbers(b []byte) []float32 {
	out := make([]float32, len(b)/34*32)
	gguf.Q8_0.Dequantise(out, b)
	return out
}

// TestBlockScaler: rows by themselves and columns in blocks, in whatever chunks.
func TestBlockScaler(t *testing.T) {
	const rows, width = 6, 128
	tensor := func(block int) *gauge.Tensor {
		return &gauge.Tensor{Name: "w", Shape: []int{rows, width}, Input: 1, Terms: []gauge.Axis{
			{Axes: []int{0}, Len: rows, Segments: []gauge.Segment{{Start: 0, Count: rows, Group: 0, First: 0, Div: 1, Coef: 1}}},
			{Axes: []int{1}, Len: width, Segments: []gauge.Segment{{Start: 0, Count: width, Group: 1, First: 0, Div: block, Coef: -1}}},
		}}
	}
	e := [][]int16{{1, 2, 3, 0, -1, 4}, {0, 1, -2, 3, 1, 0, 2, -1}}
	data := q8(rows * width / 32)
	before := numbers(data)
	for _, block := range []int{32, 64} {
		for _, chunk := range []int{1, 3, 4, 24} {
			s, err := seal.NewBlockScaler(tensor(block), gguf.Q8_0, e, 1)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Clone(data)
			for i := 0; i < rows*width/32; i += chunk {
				if err := s.Edit(int64(32*i), got[34*i:34*min(i+chunk, rows*width/32)]); err != nil {
					t.Fatal(err)
				}
			}
			for i, x := range numbers(got) {
				k := int(e[0][i/width]) - int(e[1][i%width/block])
				if want := float32(math.Ldexp(float64(before[i]), k)); x != want {
					t.Fatalf("blocks of %d, chunks of %d: element %d is %v, want %v", block, chunk, i, x, want)
				}
			}
			back, err := seal.NewBlockScaler(tensor(block), gguf.Q8_0, e, -1)
			if err != nil || back.Edit(0, got) != nil || !slices.Equal(got, data) {
				t.Errorf("blocks of %d are not restored: %v", block, err)
			}
		}
	}
	if _, err := seal.NewBlockScaler(tensor(16), gguf.Q8_0, e, 1); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("exponents that differ within a block: %v", err)
	}
	s, err := seal.NewBlockScaler(tensor(32), gguf.Q8_0, [][]int16{{0, 0, 0, 0, 0, 40}, {0, 0, 0, 0}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Edit(0, slices.Clone(data)); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("a scale beyond fp16: %v", err)
	}
	if s, err := seal.NewBlockScaler(tensor(32), gguf.Q8_0, [][]int16{make([]int16, 6), make([]int16, 8)}, 1); s != nil || err != nil {
		t.Errorf("nothing moves: %v, %v", s, err)
	}
}

// TestUnitOf: what the table of types says of a tensor.
func TestUnitOf(t *testing.T) {
	if u, ok := seal.UnitOf(checkpoint.Tensor{Format: gguf.Q4_K}); !ok || u.Columns != 256 || u.Rows != 1 || u.Scale != dtype.F16 {
		t.Errorf("%+v, %v", u, ok)
	}
	if _, ok := seal.UnitOf(checkpoint.Tensor{DType: dtype.F16}); ok {
		t.Error("an fp16 tensor has no unit")
	}
}
