package informed

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

func drawMatrix(rt *rapid.T) matrix {
	m := newMatrix(rapid.IntRange(1, 12).Draw(rt, "rows"), rapid.IntRange(1, 12).Draw(rt, "cols"))
	r := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
	rank := rapid.IntRange(1, 12).Draw(rt, "rank")
	for j := range m.cols {
		for i := range m.rows {
			if j < rank {
				m.set(i, j, r.NormFloat64())
			} else {
				m.set(i, j, m.at(i, j-rank))
			}
		}
	}
	return m
}

func orthonormal(m matrix, skip func(int) bool) float64 {
	worst := 0.0
	for i := range m.cols {
		for j := range m.cols {
			want := 0.0
			if i == j {
				want = 1
			}
			if !skip(i) && !skip(j) {
				worst = math.Max(worst, math.Abs(dot(m.col(i), m.col(j))-want))
			}
		}
	}
	return worst
}

func distance(a, b matrix) float64 {
	worst := 0.0
	for i := range a.x {
		worst = math.Max(worst, math.Abs(a.x[i]-b.x[i]))
	}
	return worst
}

// TestDecompositions: of matrices of any shape and rank.
func TestDecompositions(t *testing.T) {
	none := func(int) bool { return false }
	rapid.Check(t, func(rt *rapid.T) {
		m := drawMatrix(rt)
		q, r := m.qr()
		if d := distance(q.times(r), m); d > 1e-12 || orthonormal(q, none) > 1e-12 {
			rt.Fatalf("qr of %d×%d: off by %g, q by %g", m.rows, m.cols, d, orthonormal(q, none))
		}
		u, s, w := m.svd()
		us := matrix{u.rows, u.cols, append([]float64(nil), u.x...)}
		for j := range s {
			for i := range us.col(j) {
				us.col(j)[i] *= s[j]
			}
			if j > 0 && s[j] > s[j-1]*(1+1e-12) {
				rt.Fatalf("singular values %v", s)
			}
		}
		zero := func(j int) bool { return s[j] <= 1e-12*s[0] }
		if d := distance(us.times(w.transposed()), m); d > 1e-11 || orthonormal(u, zero) > 1e-10 || orthonormal(w, zero) > 1e-10 {
			rt.Fatalf("svd of %d×%d: off by %g, u by %g, w by %g", m.rows, m.cols, d, orthonormal(u, zero), orthonormal(w, zero))
		}
	})
}

// TestAssign against every permutation; scores are coarse, so that rows disagree
// about columns.
func TestAssign(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 6).Draw(rt, "n")
		score := make([]float32, n*n)
		for i := range score {
			score[i] = float32(rapid.IntRange(-3, 3).Draw(rt, "score"))
		}
		value := func(p []int) (sum float32) {
			for i, j := range p {
				sum += score[i*n+j]
			}
			return sum
		}
		best := float32(math.Inf(-1))
		p := make([]int, n)
		for i := range p {
			p[i] = i
		}
		var visit func(k int)
		visit = func(k int) {
			if k == n {
				best = max(best, value(p))
				return
			}
			for i := k; i < n; i++ {
				p[k], p[i] = p[i], p[k]
				visit(k + 1)
				p[k], p[i] = p[i], p[k]
			}
		}
		visit(0)
		got := assign(n, score)
		used := map[int]bool{}
		for _, j := range got {
			used[j] = true
		}
		if len(used) != n || value(got) != best {
			rt.Fatalf("%v of %v: %g, best %g", got, score, value(got), best)
		}
	})
}
