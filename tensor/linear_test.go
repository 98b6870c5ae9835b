package tensor

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"pgregory.net/rapid"
)

func linear(x []float32, tokens, in int, d dtype.DType, w []byte, rows int) []float32 {
	dst := make([]float32, tokens*rows)
	LinearRows(dst, rows, 0, x, tokens, in, d, w, rows)
	return dst
}

func linearT(x []float32, tokens, in int, d dtype.DType, w []byte, out int) []float32 {
	dst := make([]float32, tokens*out)
	LinearTRows(dst, tokens, out, x, in, 0, d, w, in)
	return dst
}

func TestLinear(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	forShapes(t, func(t *testing.T, d dtype.DType, tokens, in, rows int) {
		x := random(rng, tokens*in)
		w, v := stored(d, random(rng, rows*in))
		want, size := exact(x, v, tokens, in, rows)
		near(t, "LinearRows", linear(x, tokens, in, d, w, rows), want, size, 1e-6)
		wt, _ := stored(d, transposed(v, rows, in))
		near(t, "LinearTRows", linearT(x, tokens, in, d, wt, rows), want, size, 4e-6)
	})
}

// TestLinearSplit demands the same bits however rows, tokens or streamed parts
// are split.
func TestLinearSplit(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	forShapes(t, func(t *testing.T, d dtype.DType, tokens, in, rows int) {
		size := d.Bits() / 8
		x := random(rng, tokens*in)
		w, v := stored(d, random(rng, rows*in))
		whole := linear(x, tokens, in, d, w, rows)
		wt, _ := stored(d, transposed(v, rows, in))
		wholeT := linearT(x, tokens, in, d, wt, rows)

		byRow := make([]float32, len(whole))
		for r := range rows {
			LinearRows(byRow, rows, r, x, tokens, in, d, w[r*in*size:], 1)
		}
		same(t, "one row at a time", byRow, whole)

		shared := make([]float32, len(whole))
		Parallel(rows, 2, func(lo, hi int) {
			LinearRows(shared, rows, lo, x, tokens, in, d, w[lo*in*size:hi*in*size], hi-lo)
		})
		same(t, "in parallel", shared, whole)

		for tok := range tokens {
			xt := x[tok*in : (tok+1)*in]
			same(t, "one token", linear(xt, 1, in, d, w, rows), whole[tok*rows:(tok+1)*rows])
			same(t, "one token, transposed", linearT(xt, 1, in, d, wt, rows), wholeT[tok*rows:(tok+1)*rows])
		}

		parts := make([]float32, len(whole))
		for k := 0; k < in; {
			n := min(1+k%3, in-k)
			LinearTRows(parts, tokens, rows, x, in, k, d, wt[k*rows*size:], n)
			k += n
		}
		same(t, "streamed", parts, wholeT)
	})
}

// TestLinearLeavesTheRest checks the leading dimension and that nothing outside
// the columns is written.
func TestLinearLeavesTheRest(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 3))
		x := random(rng, 3*10)
		w, _ := stored(dtype.BF16, random(rng, 5*10))
		dst := make([]float32, 3*9)
		for i := range dst {
			dst[i] = 42
		}
		LinearRows(dst, 9, 2, x, 3, 10, dtype.BF16, w, 5)
		plain := linear(x, 3, 10, dtype.BF16, w, 5)
		for i, v := range dst {
			c := i%9 - 2
			switch {
			case (c < 0 || c >= 5) && v != 42:
				t.Fatalf("element %d was written", i)
			case c >= 0 && c < 5 && v != plain[i/9*5+c]:
				t.Fatalf("element %d is %g", i, v)
			}
		}
	})
}

// TestLinearCommutesWithPowersOfTwo is the property that the seal rests on: with
// x[k]·2^c[k], w[r,k]·2^(row[r]−c[k]) the result is times 2^row[r], bit for bit.
func TestLinearCommutesWithPowersOfTwo(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			d := rapid.SampledFrom(floats).Draw(t, "type")
			tokens := rapid.IntRange(1, 9).Draw(t, "tokens")
			in := rapid.IntRange(1, 80).Draw(t, "in")
			rows := rapid.IntRange(1, 40).Draw(t, "rows")
			checkCommutes(t, rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4)), d, tokens, in, rows)
		})
	})
}

func checkCommutes(t *rapid.T, rng *rand.Rand, d dtype.DType, tokens, in, rows int) {
	reach := 20
	w := random(rng, rows*in)
	if d == dtype.F16 { // no room but around 1
		reach = 2
		for i := range w {
			w[i] += 3
		}
	}
	draw := func(n int) []int16 {
		e := make([]int16, n)
		for i := range e {
			e[i] = int16(rng.IntN(2*reach+1) - reach)
		}
		return e
	}
	col, row := draw(in), draw(rows)
	x := random(rng, tokens*in)
	sx := scaled(x, func(i int) int { return int(col[i%in]) })
	raw, _ := stored(d, w)
	size := d.Bits() / 8

	sealed, back := bytes.Clone(raw), make([]int16, in)
	for k, c := range col {
		back[k] = -c
	}
	for r := range rows {
		if bad := dtype.ScaleRow(d, sealed[r*in*size:(r+1)*in*size], int(row[r]), back); bad >= 0 {
			t.Skip("lost a bit")
		}
	}
	got := scaled(linear(sx, tokens, in, d, sealed, rows), func(i int) int { return -int(row[i%rows]) })
	for i, v := range linear(x, tokens, in, d, raw, rows) {
		if got[i] != v {
			t.Fatalf("LinearRows %v: element %d is %g, want %g", d, i, got[i], v)
		}
	}

	// The same matrix taken as [in=rows, out=in]: rows meet x, columns stay.
	y := random(rng, tokens*rows)
	sy := scaled(y, func(i int) int { return -int(row[i%rows]) })
	gotT := scaled(linearT(sy, tokens, rows, d, sealed, in), func(i int) int { return int(col[i%in]) })
	for i, v := range linearT(y, tokens, rows, d, raw, in) {
		if gotT[i] != v {
			t.Fatalf("LinearTRows %v: element %d is %g, want %g", d, i, gotT[i], v)
		}
	}
}

func TestLinearMisuse(t *testing.T) {
	for name, f := range map[string]func(){
		"short dst":     func() { LinearRows(make([]float32, 3), 2, 0, make([]float32, 4), 2, 2, dtype.F32, make([]byte, 16), 2) },
		"short x":       func() { LinearRows(make([]float32, 4), 2, 0, make([]float32, 3), 2, 2, dtype.F32, make([]byte, 16), 2) },
		"short weights": func() { LinearRows(make([]float32, 4), 2, 0, make([]float32, 4), 2, 2, dtype.F32, make([]byte, 15), 2) },
		"row too far": func() {
			LinearTRows(make([]float32, 4), 2, 2, make([]float32, 4), 2, 1, dtype.F32, make([]byte, 16), 2)
		},
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

// plainLinear is the yardstick: what one writes without thinking of the machine.
func plainLinear(dst, x []float32, tokens, in int, w []float32, rows int) {
	for t := range tokens {
		for r := range rows {
			var s float32
			for k, v := range w[r*in : (r+1)*in] {
				s += x[t*in+k] * v
			}
			dst[t*rows+r] = s
		}
	}
}

// perCore reports billions of multiply-adds per second.
func perCore(b *testing.B, macs int) {
	b.ReportMetric(float64(macs)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GMAC/s")
}

func BenchmarkLinearRows(b *testing.B) {
	const in, rows = 2048, 2048
	rng := rand.New(rand.NewPCG(5, 5))
	w := random(rng, rows*in)
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		raw, v := stored(d, w)
		for _, tokens := range []int{1, 4, 8, 64} {
			x, dst := random(rng, tokens*in), make([]float32, tokens*rows)
			b.Run(fmt.Sprintf("%v/%d", d, tokens), func(b *testing.B) {
				for range b.N {
					LinearRows(dst, rows, 0, x, tokens, in, d, raw, rows)
				}
				perCore(b, tokens*in*rows)
			})
			if tokens != 4 {
				continue
			}
			b.Run(fmt.Sprintf("%v/%d/portable", d, tokens), func(b *testing.B) {
				portable(b)
				for range b.N {
					LinearRows(dst, rows, 0, x, tokens, in, d, raw, rows)
				}
				perCore(b, tokens*in*rows)
			})
			b.Run(fmt.Sprintf("%v/%d/plain", d, tokens), func(b *testing.B) {
				for range b.N {
					plainLinear(dst, x, tokens, in, v, rows)
				}
				perCore(b, tokens*in*rows)
			})
		}
	}
}

func BenchmarkLinearTRows(b *testing.B) {
	const in, out, tokens = 1024, 2048, 8
	rng := rand.New(rand.NewPCG(6, 6))
	x, dst := random(rng, tokens*in), make([]float32, tokens*out)
	for _, d := range []dtype.DType{dtype.BF16, dtype.F16, dtype.F32} {
		raw, _ := stored(d, random(rng, in*out))
		b.Run(d.String(), func(b *testing.B) {
			for range b.N {
				LinearTRows(dst, tokens, out, x, in, 0, d, raw, in)
			}
			perCore(b, tokens*in*out)
		})
	}
}
