package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// bothWays runs f with the assembly kernels, where there are any, and with the
// portable ones.
func bothWays(t *testing.T, f func(t *testing.T)) {
	if haveAsm {
		t.Run("assembly", f)
	}
	t.Run("portable", func(t *testing.T) {
		portable(t)
		f(t)
	})
}

// portable switches the assembly off until the test ends.
func portable(t testing.TB) {
	old := haveAsm
	haveAsm = false
	t.Cleanup(func() { haveAsm = old })
}

func random(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// stored encodes x as d and returns the bytes and their exact values.
func stored(d dtype.DType, x []float32) ([]byte, []float32) {
	w := make([]byte, len(x)*d.Bits()/8)
	dtype.FromFloat32(d, w, x)
	v := make([]float32, len(x))
	dtype.ToFloat32(d, v, w)
	return w, v
}

// scaled returns x with element i times 2^e(i).
func scaled(x []float32, e func(i int) int) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = float32(math.Ldexp(float64(v), e(i)))
	}
	return out
}

func same(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %g (%#x), want %g (%#x)", what, i,
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

// near demands |got − want| <= tol·scale[i].
func near(t testing.TB, what string, got []float32, want, scale []float64, tol float64) {
	t.Helper()
	for i := range want {
		if !(math.Abs(float64(got[i])-want[i]) <= tol*scale[i]) {
			t.Fatalf("%s: element %d is %g, want %g", what, i, got[i], want[i])
		}
	}
}

// exact is the product of a (m × k) and bᵀ (b is n × k) in float64, and the same
// of the absolute values.
func exact(a, b []float32, m, k, n int) (sum, size []float64) {
	sum, size = make([]float64, m*n), make([]float64, m*n)
	for i := range m {
		for j := range n {
			for l := range k {
				p := float64(a[i*k+l]) * float64(b[j*k+l])
				sum[i*n+j] += p
				size[i*n+j] += math.Abs(p)
			}
		}
	}
	return sum, size
}

func transposed(x []float32, rows, cols int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range cols {
			out[j*rows+i] = x[i*cols+j]
		}
	}
	return out
}

var floats = []dtype.DType{dtype.BF16, dtype.F16, dtype.F32, dtype.F64}

var shapes = []struct{ tokens, in, rows int }{
	{1, 1, 1}, {1, 8, 4}, {2, 7, 3}, {3, 16, 5}, {4, 33, 6}, {5, 64, 9}, {7, 100, 13}, {8, 256, 16}, {9, 1000, 37}, {6, 0, 3}, {0, 5, 3}, {3, 5, 0},
}

func forShapes(t *testing.T, f func(t *testing.T, d dtype.DType, tokens, in, rows int)) {
	bothWays(t, func(t *testing.T) {
		for _, d := range floats {
			for _, s := range shapes {
				t.Run(fmt.Sprintf("%v/%dx%dx%d", d, s.tokens, s.in, s.rows), func(t *testing.T) {
					f(t, d, s.tokens, s.in, s.rows)
				})
			}
		}
	})
}
