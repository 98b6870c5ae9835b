package dtype

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/x448/float16"
)

func all16() []byte {
	buf := make([]byte, 2*65536)
	for v := range 65536 {
		binary.LittleEndian.PutUint16(buf[2*v:], uint16(v))
	}
	return buf
}

func TestToFloat32Exhaustive(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for _, d := range []DType{BF16, F16} {
			got := make([]float32, 65536)
			ToFloat32(d, got, all16())
			for v, x := range got {
				want := value16(d, uint16(v))
				if want != want {
					if x == x {
						t.Fatalf("%v %#04x: %g, want NaN", d, v, x)
					}
					continue
				}
				if float64(x) != want || math.Signbit(float64(x)) != math.Signbit(want) {
					t.Fatalf("%v %#04x: %g, want %g", d, v, x, want)
				}
			}
		}
	})
}

// neighbours gives, for every finite 16-bit value, float32 values at it, at the
// midpoints to its neighbours, and one unit beside these.
func neighbours(d DType) []float32 {
	var out []float32
	for v := range 65535 {
		a, b := value16(d, uint16(v)), value16(d, uint16(v+1))
		if a != a || b != b || math.IsInf(a, 0) {
			continue
		}
		if math.IsInf(b, 0) { // as if the exponents went on
			b = 2*a - value16(d, uint16(v-1))
		}
		mid := float32((a + b) / 2)
		out = append(out, float32(a), mid, math.Nextafter32(mid, math.MaxFloat32), math.Nextafter32(mid, -math.MaxFloat32))
	}
	return out
}

// roundOracle rounds x to d in float64 arithmetic, from the definition.
func roundOracle(d DType, x float32) float64 {
	f := layout(d)
	v := math.Abs(float64(x))
	e := math.Ilogb(v)
	ulp := math.Ldexp(1, max(e, 1-f.bias)-int(f.mant))
	r := math.RoundToEven(v/ulp) * ulp
	if r >= math.Ldexp(1, f.bias+1) {
		r = math.Inf(1)
	}
	return math.Copysign(r, float64(x))
}

func TestFromFloat32(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for _, d := range []DType{BF16, F16} {
			src := neighbours(d)
			rng := rand.New(rand.NewPCG(1, 2))
			for range 1 << 18 {
				src = append(src, math.Float32frombits(rng.Uint32()))
			}
			src = append(src, 0, float32(math.Copysign(0, -1)), math.MaxFloat32, 65504, 65519.996, 65520, math.SmallestNonzeroFloat32)
			dst := make([]byte, 2*len(src))
			FromFloat32(d, dst, src)
			for i, x := range src {
				u := binary.LittleEndian.Uint16(dst[2*i:])
				got := value16(d, u)
				if x != x {
					if got == got {
						t.Fatalf("%v NaN %#x became %#04x", d, math.Float32bits(x), u)
					}
					continue
				}
				want := float64(x)
				if x != 0 && !math.IsInf(want, 0) {
					want = roundOracle(d, x)
				}
				if got != want || math.Signbit(got) != math.Signbit(want) {
					t.Fatalf("%v %g (%#x): %g, want %g", d, x, math.Float32bits(x), got, want)
				}
				if d == F16 && u != float16.Fromfloat32(x).Bits() {
					t.Fatalf("F16 %g: %#04x differs from x448", x, u)
				}
			}
		}
	})
}

// TestConversionsAgree compares the assembly with Go bit for bit, NaN included,
// and the in-place rounding with the round trip.
func TestConversionsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	src := make([]float32, 1<<14+5)
	for i := range src {
		src[i] = math.Float32frombits(rng.Uint32() | uint32(i&1)*0x7f800000)
	}
	for _, d := range []DType{BF16, F16, F32, F64} {
		var bytes [2][]byte
		var floats, rounded [2][]float32
		for j := range 2 {
			t.Run(fmt.Sprint(d, j), func(t *testing.T) {
				if j == 1 {
					portable(t)
				}
				bytes[j] = make([]byte, len(src)*layout(d).size)
				FromFloat32(d, bytes[j], src)
				floats[j] = make([]float32, len(src))
				ToFloat32(d, floats[j], bytes[j])
				rounded[j] = append([]float32(nil), src...)
				switch d {
				case BF16:
					RoundBF16(rounded[j])
				case F16:
					RoundF16(rounded[j])
				}
			})
		}
		if string(bytes[0]) != string(bytes[1]) {
			t.Errorf("%v: FromFloat32 differs between assembly and Go", d)
		}
		for i, x := range src {
			if x != x && (d == F32 || d == F64) {
				continue // Go's own conversions, and no rounding here
			}
			a := math.Float32bits(floats[0][i])
			if a != math.Float32bits(floats[1][i]) || math.Float32bits(rounded[0][i]) != math.Float32bits(rounded[1][i]) ||
				a != math.Float32bits(rounded[0][i]) {
				t.Fatalf("%v: element %d differs", d, i)
			}
		}
	}
}

func TestToFloat32RoundsF64(t *testing.T) {
	for x, want := range map[float64]float32{1 + 1.0/(1<<24): 1, 1 + 3.0/(1<<24): 1 + 1.0/(1<<22), 1e300: float32(math.Inf(1)), -0.1: -0.1} {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], math.Float64bits(x))
		got := make([]float32, 1)
		ToFloat32(F64, got, b[:])
		if got[0] != want {
			t.Errorf("%g: %g, want %g", x, got[0], want)
		}
	}
}

func BenchmarkToFloat32(b *testing.B) {
	src, dst := make([]byte, 1<<16), make([]float32, 1<<15)
	for _, d := range []DType{BF16, F16} {
		run := func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for range b.N {
				ToFloat32(d, dst, src)
			}
		}
		b.Run(d.String(), run)
		b.Run(d.String()+"/portable", func(b *testing.B) { portable(b); run(b) })
	}
}

func BenchmarkMulRow(b *testing.B) {
	buf := make([]byte, 1<<16)
	for _, d := range []DType{BF16, F16, F32} {
		b.Run(d.String(), func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			for range b.N {
				MulRow(d, buf, 1.5)
			}
		})
	}
}
