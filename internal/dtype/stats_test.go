package dtype

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// value is the value of an element, decoded apart from the code under test.
func value(d DType, u uint64) float64 {
	switch d {
	case F32:
		return float64(math.Float32frombits(uint32(u)))
	case F64:
		return math.Float64frombits(u)
	}
	return value16(d, uint16(u))
}

func randomRow(rng *rand.Rand, f *format, n int, special bool) []byte {
	buf := make([]byte, n*f.size)
	e := edges(f)
	for i := range n {
		u := rng.Uint64()&(f.absMask<<1|1)&^f.inf() | uint64(f.bias-rng.IntN(12))<<f.mant
		if special && rng.IntN(8) == 0 {
			u = e[rng.IntN(len(e))]
		}
		f.store(buf, i, u)
	}
	return buf
}

// plainStats is Row by the definition.
func plainStats(d DType, buf []byte) Stats {
	f := layout(d)
	s := Stats{Max: math.MinInt, Min: math.MaxInt}
	for i := range f.count(buf) {
		x := math.Abs(value(d, f.load(buf, i)))
		s.N++
		switch {
		case x == 0:
			s.Zero++
		case x != x || math.IsInf(x, 0):
			s.NonFinite++
		default:
			e := math.Ilogb(x)
			s.Max, s.Min = max(s.Max, e), min(s.Min, e)
			s.Subnormal = s.Subnormal || e < 1-f.bias
			s.SumSq += x * x
		}
	}
	return s
}

func TestStatsRow(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			d := rapid.SampledFrom([]DType{F16, BF16, F32, F64}).Draw(t, "type")
			f := layout(d)
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 9))
			buf := randomRow(rng, f, rapid.IntRange(1, 200).Draw(t, "n"), rapid.Bool().Draw(t, "special"))
			want := plainStats(d, buf)
			var s Stats
			s.Row(d, buf)
			if s.N != want.N || s.Zero != want.Zero || s.NonFinite != want.NonFinite || s.Subnormal != want.Subnormal {
				t.Fatalf("%v: %+v, want %+v", d, s, want)
			}
			if s.Finite() && (s.Max != want.Max || s.Min != want.Min) {
				t.Fatalf("%v: exponents %d, %d, want %d, %d", d, s.Max, s.Min, want.Max, want.Min)
			}
			if want.SumSq != s.SumSq && math.Abs(s.SumSq-want.SumSq) > 1e-13*want.SumSq {
				t.Fatalf("%v: sum of squares %g, want %g", d, s.SumSq, want.SumSq)
			}
		})
	})
}

// TestStatsAgree demands the same bits from the assembly and from Go.
func TestStatsAgree(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, d := range []DType{F16, BF16, F32, F64} {
		var s [2]Stats
		rows := make([][]byte, 20)
		for i := range rows {
			rows[i] = randomRow(rng, layout(d), 1+rng.IntN(300), i%3 == 0)
		}
		for j := range s {
			t.Run(d.String(), func(t *testing.T) {
				if j == 1 {
					portable(t)
				}
				for _, r := range rows {
					s[j].Row(d, r)
				}
			})
		}
		if s[0] != s[1] {
			t.Errorf("%v: %+v in assembly, %+v in Go", d, s[0], s[1])
		}
	}
}

func TestStatsMerge(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	var whole, a, b Stats
	var logs []float64
	for i := range 50 {
		row := randomRow(rng, layout(BF16), 64, false)
		if i == 20 {
			clear(row) // a row of zeros has no logarithm
		}
		whole.Row(BF16, row)
		if i < 13 {
			a.Row(BF16, row)
		} else {
			b.Row(BF16, row)
		}
		if p := plainStats(BF16, row); p.SumSq > 0 {
			logs = append(logs, math.Log2(p.SumSq/64)/2)
		}
	}
	a.Merge(b)
	var mean, m2 float64
	for _, l := range logs {
		mean += l / float64(len(logs))
	}
	for _, l := range logs {
		m2 += (l - mean) * (l - mean)
	}
	for _, s := range []Stats{whole, a} {
		if s.Rows != len(logs) || math.Abs(s.LogRowMean-mean) > 1e-12 || math.Abs(s.LogRowM2-m2) > 1e-10 {
			t.Errorf("rows %d, mean %g, m2 %g; want %d, %g, %g", s.Rows, s.LogRowMean, s.LogRowM2, len(logs), mean, m2)
		}
	}
	if a.N != whole.N || a.Max != whole.Max || a.Min != whole.Min || a.Zero != 64 || a.MaxRowSumSq != whole.MaxRowSumSq {
		t.Errorf("merged %+v, whole %+v", a, whole)
	}
	var empty Stats
	empty.Merge(a)
	if empty != a {
		t.Errorf("merging into nothing: %+v, want %+v", empty, a)
	}
}

func TestMinExpAtLeast(t *testing.T) {
	for _, d := range []DType{F16, BF16, F32, F64} {
		f := layout(d)
		rng := rand.New(rand.NewPCG(9, uint64(d)))
		for range 300 {
			buf := randomRow(rng, f, 1+rng.IntN(40), true)
			floor := rng.IntN(3*f.bias) - 3*f.bias/2
			want, found := 0, false
			for i := range f.count(buf) {
				x := math.Abs(value(d, f.load(buf, i)))
				if x == 0 || x != x || math.IsInf(x, 0) {
					continue
				}
				if e := math.Ilogb(x); e >= floor && (!found || e < want) {
					want, found = e, true
				}
			}
			if got, ok := MinExpAtLeast(d, buf, floor); ok != found || got != want {
				t.Fatalf("%v floor %d: %d, %v; want %d, %v", d, floor, got, ok, want, found)
			}
		}
	}
}

func BenchmarkStats(b *testing.B) {
	for _, d := range []DType{BF16, F16, F32} {
		buf := randomRow(rand.New(rand.NewPCG(1, 1)), layout(d), 8192, false)
		run := func(b *testing.B) {
			b.SetBytes(int64(len(buf)))
			var s Stats
			for range b.N {
				s.Row(d, buf)
			}
		}
		b.Run(d.String(), run)
		b.Run(d.String()+"/portable", func(b *testing.B) { portable(b); run(b) })
	}
}
