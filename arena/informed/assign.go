package informed

import "math"

// assign returns the permutation p that maximises Σ score[i*n + p[i]]: the
// assignment problem, by shortest augmenting paths with potentials (Jonker and
// Volgenant, 1987), in O(n³).
func assign(n int, score []float32) []int {
	if p, ok := greedy(n, score); ok {
		return p
	}
	// Rows and columns are counted from 1; 0 stands for "none".
	u, v := make([]float64, n+1), make([]float64, n+1)
	rowOf, way := make([]int, n+1), make([]int, n+1)
	best := make([]float64, n+1)
	used := make([]bool, n+1)
	for i := 1; i <= n; i++ {
		rowOf[0] = i
		for j := range best {
			best[j], used[j] = math.Inf(1), false
		}
		at := 0
		for rowOf[at] != 0 {
			used[at] = true
			row, step, next := rowOf[at], math.Inf(1), 0
			line := score[(row-1)*n:]
			for j := 1; j <= n; j++ {
				if used[j] {
					continue
				}
				if c := -float64(line[j-1]) - u[row] - v[j]; c < best[j] {
					best[j], way[j] = c, at
				}
				if best[j] < step {
					step, next = best[j], j
				}
			}
			for j := range used {
				if used[j] {
					u[rowOf[j]] += step
					v[j] -= step
				} else {
					best[j] -= step
				}
			}
			at = next
		}
		for at != 0 {
			rowOf[at] = rowOf[way[at]]
			at = way[at]
		}
	}
	p := make([]int, n)
	for j := 1; j <= n; j++ {
		p[rowOf[j]-1] = j - 1
	}
	return p
}

// greedy gives every row its best column: the optimum, if no two rows agree on
// one, as it is wherever the scores tell channels apart.
func greedy(n int, score []float32) ([]int, bool) {
	p, taken := make([]int, n), make([]bool, n)
	for i := range p {
		top := 0
		for j, s := range score[i*n : (i+1)*n] {
			if s > score[i*n+top] {
				top = j
			}
		}
		if taken[top] {
			return nil, false
		}
		p[i], taken[top] = top, true
	}
	return p, true
}
