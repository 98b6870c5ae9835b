package tensor

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/internal/dtype"
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
			if rapid.IntRange(0, 9).Draw(t, "tall") == 0 { // several blocks of rows
				m += 140
			}
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
		for _, s := range [][3]int{{150, 90, 300}, {40, 700, 130}, {7, 3, 520}, {500, 16, 256}, {16, 300, 512}} {
			m, n, k := s[0], s[1], s[2]
			for mode := range 8 {
				if testing.Short() && m*n > 20000 && mode%3 != 0 {
					continue // an emulator takes minutes
				}
				ta, tb, lda := mode&1 != 0, mode&2 != 0, pick(mode&1 != 0, m, k)
				if mode&4 != 0 {
					lda = (lda + crowded - 1) / crowded * crowded
				}
				ldb := pick(tb, k, n)
				a, b := random(rng, lda*max(m, k)), random(rng, n*k)
				want := make([]float32, m*n)
				Gemm(ta, tb, m, n, k, 1, a, lda, b, ldb, 0, want, n)
				for _, w := range []int{2, 3, 5} {
					got := make([]float32, m*n)
					GemmParallel(w, ta, tb, m, n, k, 1, a, lda, b, ldb, 0, got, n)
					same(t, fmt.Sprintf("%v, mode %d, with %d workers", s, mode, w), got, want)
				}
				got := make([]float32, m*n)
				for i := range m {
					at := i * lda
					if ta {
						at = i
					}
					Gemm(ta, tb, 1, n, k, 1, a[at:], lda, b, ldb, 0, got[i*n:], n)
				}
				same(t, "row by row", got, want)
			}
		}
	})
}

// TestGemmBF16: the bits are those of the widened operand.
func TestGemmBF16(t *testing.T) {
	everyKernel(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(8, 1))
		for _, s := range [][3]int{{70, 90, 300}, {5, 64, 270}, {33, 7, 3}, {30, 600, 40}, {64, 50, 128}} {
			m, n, k := s[0], s[1], s[2]
			for _, tb := range []bool{false, true} {
				ldb := pick(tb, k, n) + 3
				raw := make([]byte, 2*ldb*max(n, k))
				for i := range raw {
					raw[i] = byte(rng.IntN(256))
					if i%2 == 1 {
						raw[i] = raw[i]&0x80 | 0x3E
					}
				}
				wide := make([]float32, len(raw)/2)
				dtype.ToFloat32(dtype.BF16, wide, raw)
				a, want := random(rng, m*k), random(rng, m*n)
				got := append([]float32{}, want...)
				Gemm(false, tb, m, n, k, 0.5, a, k, wide, ldb, 1, want, n)
				for _, w := range []int{1, 3} {
					out := append([]float32{}, got...)
					GemmBF16(w, tb, m, n, k, 0.5, a, k, raw, ldb, 1, out, n)
					same(t, fmt.Sprintf("%v, transposed %v, %d workers", s, tb, w), out, want)
				}
			}
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
