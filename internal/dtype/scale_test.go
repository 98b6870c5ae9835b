package dtype

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/x448/float16"
	"pgregory.net/rapid"
)

// value16 is the value of a 16-bit pattern, by way of an independent decoder.
func value16(d DType, u uint16) float64 {
	if d == F16 {
		return float64(float16.Frombits(u).Float32())
	}
	return float64(math.Float32frombits(uint32(u) << 16))
}

// encode16 returns the pattern of the finite value v, if it has one.
func encode16(d DType, v float64) (uint16, bool) {
	g := float32(v)
	if float64(g) != v || math.IsInf(v, 0) {
		return 0, false
	}
	if d == BF16 {
		u := math.Float32bits(g)
		return uint16(u >> 16), u&0xffff == 0
	}
	h := float16.Fromfloat32(g)
	return h.Bits(), !h.IsInf(0) && float64(h.Float32()) == v
}

// oracle16 scales a 16-bit pattern in float64, which holds every such product.
func oracle16(d DType, u uint16, v, factor float64) (uint16, bool) {
	if v == 0 || math.IsInf(v, 0) || v != v {
		return u, true
	}
	return encode16(d, v*factor)
}

// TestScaleRow16Exhaustive takes every pattern through every exponent, with one
// exponent for the row and with exponents per column: all patterns that have an
// exact result at once, and every other one alone among zeros.
func TestScaleRow16Exhaustive(t *testing.T) {
	const reach = 300
	stride := 1
	if testing.Short() {
		stride = 7
	}
	for _, d := range []DType{BF16, F16} {
		values := make([]float64, 65536)
		for u := range values {
			values[u] = value16(d, uint16(u))
		}
		x := exhaustive{d: d, f: layout(d), values: values}
		for k := -reach; k <= reach; k += stride {
			x.prepare(k)
			bothWays(t, func(t *testing.T) { x.check(t, k) })
		}
	}
}

type exhaustive struct {
	d             DType
	f             *format
	values        []float64
	in, want, got []byte
	refused       []uint16
	col           []int16
}

// rowOfCols is the row exponent where the columns carry the rest.
const rowOfCols = 5

// prepare sorts the patterns into those that have an exact result, and the rest.
func (x *exhaustive) prepare(k int) {
	x.in, x.want, x.refused = x.in[:0], x.want[:0], x.refused[:0]
	factor := math.Ldexp(1, k)
	for v := range 65536 {
		u := uint16(v)
		w, ok := oracle16(x.d, u, x.values[v], factor)
		if !ok {
			x.refused = append(x.refused, u)
			continue
		}
		x.in = append(x.in, byte(u), byte(u>>8))
		x.want = append(x.want, byte(w), byte(w>>8))
	}
	x.col = make([]int16, 65536)
	for i := range x.col {
		x.col[i] = int16(k - rowOfCols)
	}
}

func (x *exhaustive) check(t *testing.T, k int) {
	x.alone(t, k)
	x.together(t, k)
}

func (x *exhaustive) alone(t *testing.T, k int) {
	var buf [64]byte
	for _, u := range x.refused {
		row, col := k, []int16(nil)
		if u&32 != 0 {
			row, col = rowOfCols, x.col
		}
		at := int(u % 4) // the driver is scalar up to here: keep most cases short
		if u%16 == 1 {
			at = int(u / 16 % 32)
		}
		x.f.store(buf[:], at, uint64(u))
		if bad := ScaleRow(x.d, buf[:], row, col); bad != at {
			t.Fatalf("%v %#04x × 2^%d: index %d, want %d", x.d, u, k, bad, at)
		}
		x.f.store(buf[:], at, 0)
	}
}

func (x *exhaustive) together(t *testing.T, k int) {
	for _, c := range [][]int16{nil, x.col} {
		row := k
		if c != nil {
			row = rowOfCols
		}
		x.got = append(x.got[:0], x.in...)
		if bad := ScaleRow(x.d, x.got, row, c); bad != -1 {
			t.Fatalf("%v k=%d: %#04x refused", x.d, k, x.f.load(x.in, bad))
		}
		if !bytes.Equal(x.got, x.want) {
			t.Fatalf("%v k=%d, columns %v: wrong bytes", x.d, k, c != nil)
		}
		if bad := ScaleRow(x.d, x.got, -row, negated(c)); bad != -1 || !bytes.Equal(x.got, x.in) {
			t.Fatalf("%v k=%d, columns %v: not undone", x.d, k, c != nil)
		}
	}
}

func negated(col []int16) []int16 {
	if col == nil {
		return nil
	}
	out := make([]int16, len(col))
	for i, c := range col {
		out[i] = -c
	}
	return out
}

// oracle scales one element of F32 or F64 with math.Ldexp, and takes back what
// does not return.
func oracle(d DType, u uint64, k int) (uint64, bool) {
	if d == F32 {
		x := math.Float32frombits(uint32(u))
		if x == 0 || x != x || math.IsInf(float64(x), 0) {
			return u, true
		}
		y := math.Ldexp(float64(x), k) // in float64 exact: |k| is 300 at most
		z := float32(y)
		return uint64(math.Float32bits(z)), float64(z) == y && !math.IsInf(float64(z), 0)
	}
	x := math.Float64frombits(u)
	if x == 0 || x != x || math.IsInf(x, 0) {
		return u, true
	}
	y := math.Ldexp(x, k)
	return math.Float64bits(y), y != 0 && !math.IsInf(y, 0) && math.Ldexp(y, -k) == x
}

// edges are patterns at the borders of the format, of either sign.
func edges(f *format) []uint64 {
	one := uint64(1) << f.mant
	var out []uint64
	for _, abs := range []uint64{0, 1, 2, 3, one / 2, one - 2, one - 1, one, one + 1, 2*one - 1, 2 * one,
		uint64(f.bias) << f.mant, f.inf() - one, f.inf() - 1, f.inf(), f.inf() + 1, f.inf() | one/2, f.absMask} {
		out = append(out, abs, abs|(f.absMask+1))
	}
	return out
}

// TestScaleRowRandom draws rows with normal, subnormal, edge and special values
// for every type, and exponents that mostly suit them, and compares with the
// oracle; the result must not depend on the kernel.
func TestScaleRowRandom(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			d := rapid.SampledFrom([]DType{F16, BF16, F32, F64}).Draw(t, "type")
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			checkRow(t, d, rng, rapid.IntRange(0, 300).Draw(t, "n"), rapid.IntRange(0, 3).Draw(t, "kind"))
		})
	})
}

func checkRow(t *rapid.T, d DType, rng *rand.Rand, n, kind int) {
	f := layout(d)
	e := edges(f)
	reach := min(f.expMax+int(f.mant)+20, 2200)
	if d != F64 {
		reach = min(reach, 300)
	}
	row := rng.IntN(2*reach+1) - reach
	var col []int16
	spread := 1
	switch kind {
	case 1, 2:
		spread = []int{0, 9, reach}[kind]
		col = make([]int16, n)
		row /= 2
		if kind == 1 {
			row = rng.IntN(21) - 10
		}
	case 3:
		row = rng.IntN(7) - 3
	}
	in := make([]byte, n*f.size)
	want := make([]byte, len(in))
	wantBad := -1
	for i := range n {
		u := rng.Uint64() & (f.absMask<<1 | 1)
		if rng.IntN(20) == 0 {
			u = e[rng.IntN(len(e))]
		} else if rng.IntN(4) > 0 { // an ordinary weight
			u = u&^f.inf() | uint64(f.bias-rng.IntN(12))<<f.mant
		}
		if col != nil {
			if i%17 != 0 && rng.IntN(3) > 0 && i > 0 {
				col[i] = col[i-1]
			} else {
				col[i] = int16((rng.IntN(2*spread+1) - spread) / 2)
			}
		}
		k := row
		if col != nil {
			k += int(col[i])
		}
		w, ok := scaleOracle(d, u, k)
		if !ok && wantBad < 0 {
			if rng.IntN(3) > 0 { // most rows should go through
				u, w = 0, 0
			} else {
				wantBad = i
			}
		}
		f.store(in, i, u)
		f.store(want, i, w)
	}
	got := bytes.Clone(in)
	if bad := ScaleRow(d, got, row, col); bad != wantBad {
		t.Fatalf("%v row %d: bad %d, want %d", d, row, bad, wantBad)
	}
	if wantBad >= 0 {
		return
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%v row %d: wrong bytes", d, row)
	}
	if bad := ScaleRow(d, got, -row, negated(col)); bad != -1 || !bytes.Equal(got, in) {
		t.Fatalf("%v row %d: not undone", d, row)
	}
}

func scaleOracle(d DType, u uint64, k int) (uint64, bool) {
	if d == F16 || d == BF16 {
		w, ok := oracle16(d, uint16(u), value16(d, uint16(u)), math.Ldexp(1, k))
		return uint64(w), ok
	}
	return oracle(d, u, k)
}

// TestScaleRowEdges takes the borders of F32 and F64 through every exponent.
func TestScaleRowEdges(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for d, reach := range map[DType]int{F32: 300, F64: 2200} {
			f := layout(d)
			buf := make([]byte, 64)
			for _, u := range edges(f) {
				for k := -reach; k <= reach; k++ {
					want, ok := oracle(d, u, k)
					clear(buf)
					f.store(buf, 3, u)
					bad := ScaleRow(d, buf, k, nil)
					if (bad == -1) != ok || bad != -1 && bad != 3 {
						t.Fatalf("%v %#x × 2^%d: bad %d, exact %v", d, u, k, bad, ok)
					}
					if ok && f.load(buf, 3) != want {
						t.Fatalf("%v %#x × 2^%d: %#x, want %#x", d, u, k, f.load(buf, 3), want)
					}
				}
			}
		}
	})
}

// TestScaleRowFarOut checks that sums of exponents do not wrap into range.
func TestScaleRowFarOut(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		for _, d := range []DType{F16, BF16, F32, F64} {
			f := layout(d)
			one := uint64(f.bias) << f.mant
			for _, c := range []struct{ row, col int }{
				{32767, 32767}, {-32768, -32768}, {8192, 32767}, {-8192, -32768}, {65536, 0},
				{math.MaxInt32, 0}, {math.MinInt32, 0}, {65536, -32768}, {1 << 40, 1},
			} {
				buf, col := make([]byte, 128), make([]int16, 128/f.size)
				f.store(buf, 1, one)
				col[1] = int16(c.col)
				if bad := ScaleRow(d, buf, c.row, col); bad != 1 {
					t.Errorf("%v 1 × 2^(%d+%d): bad %d", d, c.row, c.col, bad)
				}
			}
			buf, col := make([]byte, 128), make([]int16, 128/f.size)
			f.store(buf, 1, one)
			col[1] = -32767
			if bad := ScaleRow(d, buf, 32768, col); bad != -1 || f.load(buf, 1) != one+1<<f.mant {
				t.Errorf("%v: 2^(32768-32767) went wrong", d)
			}
		}
	})
}

func TestScaleRowMisuse(t *testing.T) {
	for name, f := range map[string]func(){
		"integer type":  func() { ScaleRow(I32, make([]byte, 4), 1, nil) },
		"half element":  func() { ScaleRow(BF16, make([]byte, 3), 1, nil) },
		"short columns": func() { ScaleRow(BF16, make([]byte, 8), 1, make([]int16, 3)) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkScaleRow(b *testing.B) {
	for _, d := range []DType{BF16, F16, F32, F64} {
		f := layout(d)
		buf := make([]byte, 1<<20)
		for i := range f.count(buf) {
			f.store(buf, i, uint64(f.bias-i%7)<<f.mant|uint64(i)&(1<<f.mant-1))
		}
		col := make([]int16, f.count(buf))
		for i := range col {
			col[i] = int16(i % 5)
		}
		for name, c := range map[string][]int16{"row": nil, "columns": col} {
			back := negated(c)
			run := func(b *testing.B) {
				b.SetBytes(int64(len(buf)))
				for i := range b.N {
					if i%2 == 0 {
						ScaleRow(d, buf, 3, c)
					} else {
						ScaleRow(d, buf, -3, back)
					}
				}
				if b.N%2 == 1 {
					ScaleRow(d, buf, -3, back)
				}
			}
			b.Run(fmt.Sprintf("%v/%s", d, name), run)
			b.Run(fmt.Sprintf("%v/%s/portable", d, name), func(b *testing.B) {
				portable(b)
				run(b)
			})
		}
	}
}
