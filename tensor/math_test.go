package tensor

import (
	"math"
	"math/big"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

func TestMatMul(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 7))
		for _, s := range shapes {
			m, k, n := s.tokens, s.in, s.rows
			a, b := random(rng, m*k), random(rng, n*k)
			want, size := exact(a, b, m, k, n)
			got := random(rng, m*n)
			MatMul(got, a, b, m, k, n, true)
			near(t, "a·bᵀ", got, want, size, 1e-6)
			MatMul(got, a, transposed(b, n, k), m, k, n, false)
			near(t, "a·b", got, want, size, 4e-6)
		}
	})
}

func TestParallelCoversOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, grain := rapid.IntRange(0, 1000).Draw(t, "n"), rapid.IntRange(0, 200).Draw(t, "grain")
		hits := make([]atomic.Int32, n)
		Parallel(n, grain, func(lo, hi int) {
			if hi-lo < min(grain, n) {
				panic("part smaller than the grain")
			}
			for i := lo; i < hi; i++ {
				hits[i].Add(1)
			}
		})
		for i := range hits {
			if hits[i].Load() != 1 {
				t.Fatalf("index %d visited %d times", i, hits[i].Load())
			}
		}
	})
}

// TestRMSNormCommutes is the residual gauge: x·2ʲ with eps·4ʲ, bit for bit.
func TestRMSNormCommutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, n := rapid.IntRange(1, 4).Draw(t, "rows"), rapid.IntRange(1, 300).Draw(t, "n")
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 7))
		j := rapid.IntRange(-40, 40).Draw(t, "j")
		eps := rapid.SampledFrom([]float64{0, 1e-5, 1e-6, 1e-12, 0.3}).Draw(t, "eps")
		small := rapid.IntRange(-30, 0).Draw(t, "size")
		x := scaled(random(rng, rows*n), func(i int) int { return small - i%5 })
		if rapid.Bool().Draw(t, "bf16") {
			dtype.RoundBF16(x)
		}
		weight := random(rng, n)
		a, b := make([]float32, rows*n), scaled(x, func(int) int { return j })
		RMSNorm(a, x, rows, n, eps, weight)
		RMSNorm(b, b, rows, n, math.Ldexp(eps, 2*j), weight)
		for i := range a {
			if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
				t.Fatalf("element %d: %g and %g", i, a[i], b[i])
			}
		}
	})
}

func TestNorms(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 7))
	const rows, n, eps = 3, 37, 1e-5
	x, w, bias := random(rng, rows*n), random(rng, n), random(rng, n)
	rms, layer := make([]float32, rows*n), make([]float32, rows*n)
	RMSNorm(rms, x, rows, n, eps, w)
	LayerNorm(layer, x, rows, n, eps, w, bias)
	for r := range rows {
		var mean, sq, vari float64
		for _, v := range x[r*n : (r+1)*n] {
			mean += float64(v) / n
			sq += float64(v) * float64(v) / n
		}
		for _, v := range x[r*n : (r+1)*n] {
			vari += (float64(v) - mean) * (float64(v) - mean) / n
		}
		for i := range n {
			v := float64(x[r*n+i])
			wantR := v / math.Sqrt(sq+eps) * float64(w[i])
			wantL := (v-mean)/math.Sqrt(vari+eps)*float64(w[i]) + float64(bias[i])
			if math.Abs(float64(rms[r*n+i])-wantR) > 1e-6 || math.Abs(float64(layer[r*n+i])-wantL) > 1e-6 {
				t.Fatalf("row %d element %d: %g, %g; want %g, %g", r, i, rms[r*n+i], layer[r*n+i], wantR, wantL)
			}
		}
	}
	plain, ones := make([]float32, n), make([]float32, n)
	for i := range ones {
		ones[i] = 1
	}
	RMSNorm(plain, x, 1, n, eps, nil)
	RMSNorm(rms, x, 1, n, eps, ones)
	same(t, "nil weight", plain, rms[:n])
	LayerNorm(plain, x, 1, n, eps, nil, nil)
	LayerNorm(rms, x, 1, n, eps, ones, make([]float32, n))
	same(t, "nil weight and bias", plain, rms[:n])
}

func TestSoftmax(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 7))
	const rows, n = 4, 33
	x := scaled(random(rng, rows*n), func(i int) int { return i / n * 3 })
	x[5] = float32(math.Inf(-1))
	got := append([]float32(nil), x...)
	again := append([]float32(nil), x...)
	Softmax(got, rows, n)
	Softmax(again, rows, n)
	same(t, "twice", again, got)
	for r := range rows {
		var sum, total, top float64 = 0, 0, math.Inf(-1)
		for _, v := range x[r*n : (r+1)*n] {
			top = max(top, float64(v))
		}
		for _, v := range x[r*n : (r+1)*n] {
			sum += math.Exp(float64(v) - top)
		}
		for i, v := range x[r*n : (r+1)*n] {
			want := math.Exp(float64(v)-top) / sum
			if g := float64(got[r*n+i]); math.Abs(g-want) > 3e-7*want+1e-38 {
				t.Fatalf("row %d element %d: %g, want %g", r, i, g, want)
			}
			total += float64(got[r*n+i])
		}
		if math.Abs(total-1) > 1e-6 {
			t.Errorf("row %d sums to %g", r, total)
		}
	}
	if got[5] != 0 {
		t.Errorf("a masked element got %g", got[5])
	}
}

// expBig is e^x by its series, with 200 bits: an oracle that is not math.Exp.
func expBig(x float64) *big.Float {
	halvings := 0
	for math.Abs(x) > 0.5 {
		x /= 2
		halvings++
	}
	f := func(v float64) *big.Float { return new(big.Float).SetPrec(200).SetFloat64(v) }
	sum, term := f(1), f(1)
	for i := 1; i < 60; i++ {
		term.Mul(term, f(x)).Quo(term, f(float64(i)))
		sum.Add(sum, term)
	}
	for range halvings {
		sum.Mul(sum, sum)
	}
	return sum
}

func TestActivations(t *testing.T) {
	one := big.NewFloat(1).SetPrec(200)
	sigmoid := func(x float64) *big.Float {
		d := new(big.Float).SetPrec(200).Add(one, expBig(-x))
		return d.Quo(one, d)
	}
	times := func(x float64, y *big.Float) float64 {
		v, _ := new(big.Float).SetPrec(200).Mul(big.NewFloat(x), y).Float64()
		return v
	}
	cubic := func(x float64) float64 { return 2 * math.Sqrt(2/math.Pi) * (x + 0.044715*x*x*x) }
	for name, c := range map[string]struct {
		f    func(dst, x []float32)
		want func(x float64) float64
	}{
		"Exp":      {Exp, func(x float64) float64 { return times(1, expBig(x)) }},
		"Sigmoid":  {Sigmoid, func(x float64) float64 { return times(1, sigmoid(x)) }},
		"SiLU":     {SiLU, func(x float64) float64 { return times(x, sigmoid(x)) }},
		"GELUTanh": {GELUTanh, func(x float64) float64 { return times(x, sigmoid(cubic(x))) }},
		"Tanh": {Tanh, func(x float64) float64 {
			s := sigmoid(2 * x)
			return times(1, s.Sub(s.Mul(s, big.NewFloat(2)), one))
		}},
		"GELU": {GELU, func(x float64) float64 { return x * phi(x) }},
	} {
		for x := float32(-12); x <= 12; x += 0.0703 {
			got := []float32{0}
			c.f(got, []float32{x})
			want := c.want(float64(x))
			if math.Abs(float64(got[0])-want) > 1e-6*math.Abs(want)+1e-45 {
				t.Errorf("%s(%g) = %g, want %g", name, x, got[0], want)
			}
		}
	}
}

// phi integrates the normal density from x−12 to x by Simpson's rule.
func phi(x float64) float64 {
	if x > 0 { // what lies further left than 12 is no longer nothing beside x
		return 1 - phi(-x)
	}
	const steps = 1 << 12
	lo := x - 12
	h := (x - lo) / steps
	density := func(v float64) float64 { return math.Exp(-v*v/2) / math.Sqrt(2*math.Pi) }
	sum := density(lo) + density(x)
	for i := 1; i < steps; i++ {
		sum += density(lo+float64(i)*h) * float64(2+2*(i%2))
	}
	return sum * h / 3
}

func TestActivationLimits(t *testing.T) {
	inf := float32(math.Inf(1))
	for name, c := range map[string]struct {
		f       func(dst, x []float32)
		x, want float32
	}{
		"exp overflow":  {f: Exp, x: 100, want: inf},
		"exp underflow": {f: Exp, x: -200, want: 0},
		"sigmoid":       {f: Sigmoid, x: -1000, want: 0},
		"silu up":       {f: SiLU, x: 1000, want: 1000},
		"silu down":     {f: SiLU, x: -1000, want: 0},
		"gelu up":       {f: GELU, x: 1000, want: 1000},
		"gelutanh down": {f: GELUTanh, x: -1000, want: 0},
		"tanh":          {f: Tanh, x: -1000, want: -1},
	} {
		got := []float32{0}
		c.f(got, []float32{c.x})
		if got[0] != c.want {
			t.Errorf("%s: %g, want %g", name, got[0], c.want)
		}
	}
}

func BenchmarkMatMul(b *testing.B) {
	const m, k, n = 64, 128, 64
	rng := rand.New(rand.NewPCG(1, 1))
	x, y, dst := random(rng, m*k), random(rng, k*n), make([]float32, m*n)
	for _, trans := range []bool{false, true} {
		b.Run(map[bool]string{false: "ab", true: "abT"}[trans], func(b *testing.B) {
			for range b.N {
				MatMul(dst, x, y, m, k, n, trans)
			}
			perCore(b, m*k*n)
		})
	}
}

func BenchmarkElementwise(b *testing.B) {
	x := random(rand.New(rand.NewPCG(1, 1)), 4096)
	dst := make([]float32, len(x))
	for name, f := range map[string]func(){
		"RMSNorm": func() { RMSNorm(dst, x, 1, len(x), 1e-5, x) },
		"Softmax": func() { copy(dst, x); Softmax(dst, 1, len(x)) },
		"SiLU":    func() { SiLU(dst, x) },
		"GELU":    func() { GELU(dst, x) },
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(4 * len(x)))
			for range b.N {
				f()
			}
		})
	}
}
