package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// everyKernel runs f with each kernel that this machine has.
func everyKernel(t *testing.T, f func(t *testing.T)) {
	bothWays(t, f)
	wideOff(t, f)
}

func TestGemm(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m, n, k := rapid.IntRange(1, 70).Draw(t, "m"), rapid.IntRange(1, 70).Draw(t, "n"), rapid.IntRange(0, 600).Draw(t, "k")
			ta, tb := rapid.Bool().Draw(t, "ta"), rapid.Bool().Draw(t, "tb")
			pad := rapid.IntRange(0, 3).Draw(t, "pad")
			beta := rapid.SampledFrom([]float32{0, 1, -0.5}).Draw(t, "beta")
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			lda, ldb, ldc := pad+pick(ta, m, k), pad+pick(tb, k, n), pad+n
			a, b, c := random(rng, lda*max(m, k)), random(rng, ldb*max(n, k)), random(rng, ldc*m)
			if beta == 0 {
				c[0] = float32(math.NaN())
			}
			got := append([]float32{}, c...)
			Gemm(ta, tb, m, n, k, 0.7, a, lda, b, ldb, beta, got, ldc)
			for i := range m {
				for j := range ldc {
					want, size := float64(c[i*ldc+j]), 0.0
					if j < n {
						want = 0
						if beta != 0 {
							want = float64(beta) * float64(c[i*ldc+j])
						}
						for p := range k {
							v := float64(at(ta, a, lda, i, p)) * float64(at(tb, b, ldb, p, j))
							want += 0.7 * v
							size += math.Abs(v)
						}
					} else if i == m-1 {
						continue
					}
					if d := math.Abs(float64(got[i*ldc+j]) - want); !(d <= 1e-5*(size+1)) && want == want {
						t.Fatalf("c[%d,%d] = %g, want %g", i, j, got[i*ldc+j], want)
					}
				}
			}
		})
	})
}

func pick(trans bool, rows, cols int) int {
	if trans {
		return rows
	}
	return cols
}

func at(trans bool, x []float32, ld, i, j int) float32 {
	if trans {
		i, j = j, i
	}
	return x[i*ld+j]
}

// TestGemmParts: bits depend neither on the number of goroutines nor on the
// other rows and columns.
func TestGemmParts(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(3, 1))
		for _, s := range [][3]int{{150, 90, 300}, {40, 700, 130}, {7, 3, 520}} {
			m, n, k := s[0], s[1], s[2]
			a, b := random(rng, m*k), random(rng, n*k)
			want := make([]float32, m*n)
			Gemm(false, true, m, n, k, 1, a, k, b, k, 0, want, n)
			for _, w := range []int{2, 3, 5} {
				got := make([]float32, m*n)
				GemmParallel(w, false, true, m, n, k, 1, a, k, b, k, 0, got, n)
				same(t, fmt.Sprintf("%v with %d workers", s, w), got, want)
			}
			got := make([]float32, m*n)
			for i := range m {
				Gemm(false, true, 1, n, k, 1, a[i*k:], k, b, k, 0, got[i*n:], n)
			}
			same(t, "row by row", got, want)
		}
	})
}

func TestGemmPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a short operand was taken")
		}
	}()
	Gemm(false, false, 4, 4, 4, 1, make([]float32, 15), 4, make([]float32, 16), 4, 0, make([]float32, 16), 4)
}

func BenchmarkGemm(b *testing.B) {
	eachKernel(b, func(b *testing.B) {
		for _, s := range [][3]int{{512, 2048, 2048}, {512, 256, 256}, {512, 688, 256}, {512, 16, 256}, {512, 256, 16}, {256, 256, 512}, {128, 128, 32}} {
			for _, mode := range []string{"nt", "nn", "tn"} {
				m, n, k := s[0], s[1], s[2]
				rng := rand.New(rand.NewPCG(1, 1))
				x, y, z := random(rng, m*k), random(rng, n*k), make([]float32, m*n)
				ta, tb := mode == "tn", mode == "nt"
				b.Run(fmt.Sprintf("%dx%dx%d/%s", m, n, k, mode), func(b *testing.B) {
					for b.Loop() {
						Gemm(ta, tb, m, n, k, 1, x, pick(ta, m, k), y, pick(tb, k, n), 0, z, n)
					}
					b.ReportMetric(2*float64(m*n*k)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
				})
			}
		}
	})
}
