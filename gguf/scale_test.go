package gguf

import (
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// halfTypes are the types whose scales are fp16 at fixed places.
func halfTypes() (out []Type) {
	for i, s := range scalings {
		if s.kind == dtype.F16 && s.places != nil {
			out = append(out, Type(i))
		}
	}
	return out
}

// TestRuns: what holds for a run of blocks is what holds for each block by
// itself, decided scale by scale.
func TestRuns(t *testing.T) {
	types := halfTypes()
	if len(types) != 20 {
		t.Fatalf("%d types with fp16 scales", len(types))
	}
	rapid.Check(t, func(t *rapid.T) {
		ty := rapid.SampledFrom(types).Draw(t, "type")
		_, size := ty.Block()
		buf := make([]byte, size*rapid.IntRange(1, 5).Draw(t, "blocks"))
		scales := rapid.Custom(func(t *rapid.T) uint16 {
			return rapid.Uint16Range(0, 1023).Draw(t, "mantissa") | uint16(rapid.SampledFrom([]int{0, 1, 2, 14, 15, 16, 29, 30, 31}).Draw(t, "exponent"))<<10 | rapid.SampledFrom([]uint16{0, 0x8000}).Draw(t, "sign")
		})
		places := ty.scaling().places
		lo, hi := -math.MaxInt32, math.MaxInt32
		for at := 0; at < len(buf); at += size {
			for _, p := range places {
				h := scales.Draw(t, "scale")
				binary.LittleEndian.PutUint16(buf[at+p:], h)
				a, b := roomHalf(h)
				lo, hi = max(lo, a), min(hi, b)
			}
		}
		if a, b := ty.Room(buf); a != min(lo, 0) || b != max(hi, 0) {
			t.Fatalf("%v: room for %d to %d, want %d to %d", ty, a, b, lo, hi)
		}
		e := rapid.IntRange(-20, 20).Filter(func(e int) bool { return e != 0 }).Draw(t, "e")
		want, bad := slices.Clone(buf), -1
		for at := 0; at < len(buf) && bad < 0; at += size {
			for _, p := range places {
				h, ok := scaleHalf(half(want, at+p), e)
				if !ok {
					bad = at / size
					break
				}
				binary.LittleEndian.PutUint16(want[at+p:], h)
			}
		}
		if got := ty.Scale(buf, e); got != bad {
			t.Fatalf("%v × 2^%d: block %d is refused, want %d", ty, e, got, bad)
		}
		if bad < 0 && !slices.Equal(buf, want) {
			t.Fatalf("%v × 2^%d: other bytes", ty, e)
		}
	})
}

// TestScaleHalf compares every fp16 with arithmetic on real numbers.
func TestScaleHalf(t *testing.T) {
	for e := -12; e <= 12; e++ {
		for h := range 1 << 16 {
			x := halfValue(uint16(h))
			got, ok := scaleHalf(uint16(h), e)
			switch y := float32(math.Ldexp(float64(x), e)); {
			case h&0x7c00 == 0x7c00 || h&0x7fff == 0:
				ok = ok && int(got) == h
			case ok:
				ok = halfValue(got) == y
			default: // beyond the range, or bits below it
				man := uint(h&1023 | 1024)
				if h&0x7c00 == 0 {
					man = uint(h & 1023)
				}
				lowest := max(h>>10&31, 1) + bits.TrailingZeros(man) + e // of the last bit, 1 that of the smallest number
				ok = lowest < 1 || math.Abs(float64(y)) > 65504
			}
			if !ok {
				t.Fatalf("%#04x × 2^%d", h, e)
			}
		}
	}
}
