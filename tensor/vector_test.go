package tensor

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ulps is the distance of x from the exact value, in units in the last place.
func ulps(x float32, exact float64) float64 {
	e := math.Max(math.Floor(math.Log2(math.Abs(exact))), -126)
	return math.Abs(float64(x)-exact) / math.Ldexp(1, int(e)-23)
}

func TestFastExp(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		var x []float32
		for v := -104.0; v < 88.72; v += 0.00137 {
			x = append(x, float32(v))
		}
		y := make([]float32, len(x))
		FastExp(y, x)
		worst := 0.0
		for i, v := range x {
			u := ulps(y[i], math.Exp(float64(v)))
			if v > -87 {
				worst = max(worst, u)
			}
			if u > 4 || v > -87 && u > 2 {
				t.Fatalf("exp(%g) = %g: %g ulp", v, y[i], u)
			}
		}
		t.Logf("worst: %.2f ulp", worst)
		inf := float32(math.Inf(1))
		edge := []float32{0, -inf, inf, float32(math.NaN()), 89, -200, 500}
		out := make([]float32, len(edge))
		FastExp(out, edge)
		want := []float32{1, 0, inf, edge[3], inf, 0, inf}
		for i := range out {
			if out[i] != want[i] && (out[i] == out[i] || want[i] == want[i]) {
				t.Errorf("exp(%g) = %g", edge[i], out[i])
			}
		}
	})
}

// TestVectors compares every function with float64, at every length and so with
// every tail, and demands the same bits wherever an element stands.
func TestVectors(t *testing.T) {
	sig := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	slope := func(x float64) float64 { return sig(x) * (1 + x*(1-sig(x))) }
	cases := []struct {
		name string
		run  func(d, x, y []float32)
		want func(d, x, y float64) float64
	}{
		{"exp", func(d, x, _ []float32) { FastExp(d, x) }, func(_, x, _ float64) float64 { return math.Exp(x) }},
		{"silu", func(d, x, _ []float32) { FastSiLU(d, x) }, func(_, x, _ float64) float64 { return x * sig(x) }},
		{"silu'", SiLUBackward, func(_, x, y float64) float64 { return y * slope(x) }},
		{"swiglu", SwiGLU, func(_, x, y float64) float64 { return x * sig(x) * y }},
		{"swiglu' gate", func(d, x, y []float32) { SwiGLUBackward(d, make([]float32, len(d)), x, y, y) },
			func(_, x, y float64) float64 { return y * y * slope(x) }},
		{"swiglu' up", func(d, x, y []float32) { SwiGLUBackward(make([]float32, len(d)), d, x, y, y) },
			func(_, x, y float64) float64 { return y * x * sig(x) }},
		{"add", VecAdd, func(_, x, y float64) float64 { return x + y }},
		{"mul", VecMul, func(_, x, y float64) float64 { return x * y }},
		{"muladd", VecMulAdd, func(d, x, y float64) float64 { return d + x*y }},
		{"scale", func(d, x, _ []float32) { VecScale(d, x, 3) }, func(_, x, _ float64) float64 { return 3 * x }},
		{"axpy", func(d, x, _ []float32) { VecAxpy(d, x, 3) }, func(d, x, _ float64) float64 { return d + 3*x }},
	}
	bothWays(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(5, 1))
		for _, c := range cases {
			for n := range 35 {
				d, x, y := random(rng, n), random(rng, n), random(rng, n)
				got := append([]float32{}, d...)
				c.run(got, x, y)
				for i := range got {
					want := c.want(float64(d[i]), float64(x[i]), float64(y[i]))
					if math.Abs(float64(got[i])-want) > 1e-6*(1+math.Abs(want)) {
						t.Fatalf("%s of %d: element %d is %g, want %g", c.name, n, i, got[i], want)
					}
					one := []float32{d[i]}
					c.run(one, x[i:i+1], y[i:i+1])
					same(t, c.name, one, got[i:i+1])
				}
			}
		}
	})
}

func TestRows(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(6, 1))
		for n := 1; n < 40; n++ {
			x, y := random(rng, n), random(rng, n)
			dot, sum, top := 0.0, 0.0, math.Inf(-1)
			for i := range x {
				dot += float64(x[i]) * float64(y[i])
				top = max(top, float64(x[i]))
			}
			if d := float64(VecDot(x, y)); math.Abs(d-dot) > 1e-5 {
				t.Fatalf("dot %g, want %g", d, dot)
			}
			for _, v := range x {
				sum += math.Exp(float64(v) - top)
			}
			p, g := append([]float32{}, x...), append([]float32{}, x...)
			SoftmaxRow(p)
			loss, plain := CrossEntropyRow(g, n/2, 0.5), LossRow(make([]float32, n), x, n/2)
			if want := math.Log(sum) + top - float64(x[n/2]); math.Abs(loss-want) > 1e-5 || loss != plain {
				t.Fatalf("losses %g and %g, want %g", loss, plain, want)
			}
			for i, v := range x {
				want := math.Exp(float64(v)-top) / sum
				if math.Abs(float64(p[i])-want) > 1e-6 {
					t.Fatalf("softmax %g, want %g", p[i], want)
				}
				if i == n/2 {
					want--
				}
				if math.Abs(float64(g[i])-want/2) > 1e-6 {
					t.Fatalf("gradient %g, want %g", g[i], want/2)
				}
			}
		}
	})
}

func TestAdamW(t *testing.T) {
	bothWays(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(7, 1))
		const lr, wd, b1, b2, eps = 0.01, 0.1, 0.9, 0.999, 1e-8
		c := AdamWConstants{1 - lr*wd, 1 - b1, b2, 1 - b2, float32(math.Sqrt(1 - b2)), eps, -lr / (1 - b1)}
		for n := range 20 {
			w, g, m, v := random(rng, n), random(rng, n), random(rng, n), random(rng, n)
			for i := range v {
				v[i] *= v[i]
			}
			var want []float64
			for i := range w {
				m := b1*float64(m[i]) + (1-b1)*float64(g[i])
				v := b2*float64(v[i]) + (1-b2)*float64(g[i])*float64(g[i])
				want = append(want, float64(w[i])*(1-lr*wd)-lr*(m/(1-b1))/(math.Sqrt(v/(1-b2))+eps))
			}
			AdamW(w, g, m, v, &c)
			for i := range w {
				if math.Abs(float64(w[i])-want[i]) > 1e-5 {
					t.Fatalf("weight %g, want %g", w[i], want[i])
				}
			}
		}
	})
}
