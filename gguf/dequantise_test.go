package gguf_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/dtype"
)

// quantised returns the tensors of types.gguf whose type is quantised, with
// their data.
func quantised(t testing.TB) (types []gguf.Type, data [][]byte, names []string) {
	raw := load(t, "types.gguf")
	for _, x := range parse(t, raw).Tensors {
		if x.Type.Quantised() {
			types, data, names = append(types, x.Type), append(data, raw[x.Offset:][:x.Size]), append(names, x.Name)
		}
	}
	return types, data, names
}

func dequantise(ty gguf.Type, b []byte) []float32 {
	elems, size := ty.Block()
	out := make([]float32, len(b)/size*elems)
	ty.Dequantise(out, b)
	return out
}

func fp32(x []float32) []byte {
	var out []byte
	for _, v := range x {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
	}
	return out
}

// TestDequantise compares every bit with gguf-py.
func TestDequantise(t *testing.T) {
	var want map[string]struct {
		First  []float64
		SHA256 string
	}
	if err := json.Unmarshal(load(t, "numbers.json"), &want); err != nil {
		t.Fatal(err)
	}
	types, data, names := quantised(t)
	if len(types) != 23 || len(want) != 23 {
		t.Fatalf("%d types, %d expected", len(types), len(want))
	}
	for i, ty := range types {
		w := want[names[i]]
		got := dequantise(ty, data[i])
		for k, v := range w.First {
			if got[k] != float32(v) {
				t.Errorf("%v: element %d is %v, want %v", ty, k, got[k], v)
				break
			}
		}
		if sum := sha256.Sum256(fp32(got)); hex.EncodeToString(sum[:]) != w.SHA256 {
			t.Errorf("%v: other bits than gguf-py's", ty)
		}
	}
}

// TestScaleNumbers: numbers of scaled blocks are the numbers scaled, bit for
// bit, or the scaling is refused; what Room allows is not refused, and can be
// taken back.
func TestScaleNumbers(t *testing.T) {
	types, data, _ := quantised(t)
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(types)-1).Draw(t, "type")
		ty, b := types[i], slices.Clone(data[i])
		_, size := ty.Block()
		b = b[:size]
		// Any bytes: scales of every size, subnormal, infinite, NaN.
		for k := range rapid.IntRange(0, 8).Draw(t, "changes") {
			at := rapid.IntRange(0, size-1).Draw(t, "at")
			b[at] = rapid.Byte().Draw(t, "byte")
			_ = k
		}
		e := rapid.IntRange(-40, 40).Draw(t, "e")
		lo, hi := ty.Room(b)
		before := dequantise(ty, b)
		c := slices.Clone(b)
		if bad := ty.Scale(c, e); bad >= 0 {
			if lo <= e && e <= hi {
				t.Fatalf("%v: refused 2^%d in a room of %d to %d", ty, e, lo, hi)
			}
			return
		}
		for k, v := range dequantise(ty, c) {
			want := float32(math.Ldexp(float64(before[k]), e))
			if math.Float32bits(v) != math.Float32bits(want) && !(v != v && want != want) {
				t.Fatalf("%v: element %d is %v, want %v × 2^%d", ty, k, v, before[k], e)
			}
		}
		if bad := ty.Scale(c, -e); bad >= 0 || !slices.Equal(b, c) {
			t.Fatalf("%v: 2^%d cannot be taken back", ty, e)
		}
	})
}

// TestScaleRefuses: scales that would overflow or lose a bit.
func TestScaleRefuses(t *testing.T) {
	block := func(ty gguf.Type, scale ...byte) []byte {
		_, size := ty.Block()
		b := make([]byte, size)
		for i := range b {
			b[i] = 0x11
		}
		copy(b, scale)
		return b
	}
	for _, c := range []struct {
		ty    gguf.Type
		scale []byte
		e     int
		ok    bool
	}{
		{gguf.Q8_0, []byte{0x00, 0x3c}, 15, true},              // 1 · 2^15
		{gguf.Q8_0, []byte{0x00, 0x3c}, 16, false},             // overflows
		{gguf.Q8_0, []byte{0x00, 0x3c}, -24, true},             // the smallest subnormal
		{gguf.Q8_0, []byte{0x00, 0x3c}, -25, false},            // vanishes
		{gguf.Q8_0, []byte{0x01, 0x3c}, -15, false},            // loses a bit
		{gguf.Q8_0, []byte{0x01, 0x00}, 24, true},              // a subnormal grows
		{gguf.Q8_0, []byte{0x00, 0x00}, -99, true},             // zero
		{gguf.Q8_0, []byte{0x00, 0x7c}, 99, true},              // infinity
		{gguf.Q4_K, []byte{0, 0x3c, 0, 0x7b}, 1, false},        // d fits, dmin does not
		{gguf.MXFP4, []byte{250}, 2, true},                     //
		{gguf.MXFP4, []byte{250}, 3, false},                    // the largest code overflows fp32
		{gguf.MXFP4, []byte{3}, -1, true},                      //
		{gguf.MXFP4, []byte{3}, -2, false},                     // subnormal fp32
		{gguf.NVFP4, []byte{0x38, 0x38, 0x38, 0x38}, 8, true},  // 1 · 2^8
		{gguf.NVFP4, []byte{0x38, 0x38, 0x3f, 0x38}, 8, false}, // 0x7f is no number
		{gguf.NVFP4, []byte{0x38, 0x38, 0x38, 0x38}, -9, true},
		{gguf.NVFP4, []byte{0x38, 0x39, 0x38, 0x38}, -7, false},
		{gguf.NVFP4, []byte{0xb8, 0x38, 0x38, 0x38}, 1, false},
	} {
		if got := c.ty.Scale(block(c.ty, c.scale...), c.e) < 0; got != c.ok {
			t.Errorf("%v % x · 2^%d: %v", c.ty, c.scale, c.e, got)
		}
	}
	zero := make([]byte, 17)
	if gguf.MXFP4.Scale(zero, 5) >= 0 || zero[0] != 0 {
		t.Error("a block of zeros cannot be scaled")
	}
}

// TestScaleTable: every quantised type has a scale, no other type has.
func TestScaleTable(t *testing.T) {
	for ty := gguf.Type(0); ty < 64; ty++ {
		if ty.Quantised() != (ty.ScaleType() != dtype.Invalid) {
			t.Errorf("%v: quantised %v, scale %v", ty, ty.Quantised(), ty.ScaleType())
		}
	}
}

// TestDequantiseBytes: the same numbers, as bytes at any place in memory.
func TestDequantiseBytes(t *testing.T) {
	types, data, _ := quantised(t)
	for i, ty := range types {
		want := fp32(dequantise(ty, data[i]))
		for shift := range 5 {
			got := make([]byte, shift+len(want)+1)
			ty.DequantiseBytes(got[shift:], data[i])
			if !slices.Equal(got[shift:shift+len(want)], want) || got[len(got)-1] != 0 {
				t.Errorf("%v at %d: other bytes", ty, shift)
			}
		}
	}
}

// TestReach: no number exceeds what the scales say, whatever the codes are.
func TestReach(t *testing.T) {
	types, data, _ := quantised(t)
	known := 0
	for i, ty := range types {
		if _, ok := ty.Reach(data[i]); ok {
			known++
		}
	}
	if known != 10 {
		t.Errorf("%d types with a reach", known)
	}
	rapid.Check(t, func(t *rapid.T) {
		i := rapid.IntRange(0, len(types)-1).Draw(t, "type")
		ty := types[i]
		_, size := ty.Block()
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0x7f, 0x80, 0xff, 0x3c, 0x12}), size, size).Draw(t, "block")
		most, ok := ty.Reach(b)
		if !ok {
			return
		}
		for k, x := range dequantise(ty, b) {
			if float64(x) > float64(most)*(1+1e-6) || -float64(x) > float64(most)*(1+1e-6) {
				t.Fatalf("%v: element %d is %g, at most %g", ty, k, x, most)
			}
		}
	})
}

func BenchmarkDequantise(b *testing.B) {
	for _, ty := range []gguf.Type{gguf.Q4_K, gguf.Q6_K, gguf.Q8_0} {
		b.Run(ty.String(), func(b *testing.B) {
			elems, size := ty.Block()
			src, dst := make([]byte, 1024*size), make([]byte, 4*1024*elems)
			for i := range src {
				src[i] = byte(i * 7)
			}
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				ty.DequantiseBytes(dst, src)
			}
		})
	}
}
