package train

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestEigen: the vectors are orthonormal, and put together with the values they
// are the matrix.
func TestEigen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, rank := rapid.IntRange(1, 24).Draw(t, "n"), rapid.IntRange(0, 24).Draw(t, "rank")
		x := make([]float32, n*rank)
		normal(x, rapid.Uint64().Draw(t, "seed"), "x", math.Exp2(float64(rapid.IntRange(-60, 60).Draw(t, "power"))))
		a, size := make([]float64, n*n), 0.0
		for i := range n {
			for j := range n {
				for k := range rank {
					a[i*n+j] += float64(x[i*rank+k]) * float64(x[j*rank+k])
				}
				size = max(size, math.Abs(a[i*n+j]))
			}
		}
		v, d, e := append([]float64(nil), a...), make([]float64, n), make([]float64, n)
		if !eigen(v, d, e, n) {
			t.Fatal("no convergence")
		}
		for i := range n {
			for j := range n {
				dot, sum := 0.0, 0.0
				for k := range n {
					dot += v[i*n+k] * v[j*n+k]
					sum += d[k] * v[k*n+i] * v[k*n+j]
				}
				want := 0.0
				if i == j {
					want = 1
				}
				if math.Abs(dot-want) > 1e-12 || math.Abs(sum-a[i*n+j]) > 1e-12*float64(n)*size {
					t.Fatalf("(%d, %d): product of vectors %v, of all %v, want %v", i, j, dot, sum, a[i*n+j])
				}
			}
		}
	})
}

func TestEigenOfNoNumbers(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1)} {
		v := []float64{1, x, x, 1}
		if eigen(v, make([]float64, 2), make([]float64, 2), 2) {
			t.Errorf("%v has eigenvalues", x)
		}
	}
	root := make([]float32, 4)
	inverseRoot(root, []float32{1, 0, 0, float32(math.NaN())}, make([]float64, 4), make([]float64, 2), make([]float64, 2), make([]float32, 4), 2, 1, 1e-12, -0.25)
	if root[0] == root[0] {
		t.Errorf("the root of what is no number is %v", root)
	}
}

// TestInverseRoot: the fourth power of the inverse fourth root is the inverse.
func TestInverseRoot(t *testing.T) {
	const n = 3
	l := []float32{4, 1, 0, 1, 3, 1, 0, 1, 2}
	root := make([]float32, n*n)
	inverseRoot(root, l, make([]float64, n*n), make([]float64, n), make([]float64, n), make([]float32, n*n), n, 0.5, 0, -0.25)
	times := func(x, y []float64) []float64 {
		z := make([]float64, n*n)
		for i := range n {
			for j := range n {
				for k := range n {
					z[i*n+j] += x[i*n+k] * y[k*n+j]
				}
			}
		}
		return z
	}
	r, a := make([]float64, n*n), make([]float64, n*n)
	for i := range r {
		r[i], a[i] = float64(root[i]), float64(l[i])/0.5
	}
	two := times(r, r)
	for i, v := range times(times(two, two), a) {
		want := 0.0
		if i%(n+1) == 0 {
			want = 1
		}
		if math.Abs(v-want) > 1e-5 {
			t.Errorf("element %d of the product is %v, want %v", i, v, want)
		}
	}
}
