package gauge

import (
	"math/big"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// dense is the oracle: Gaussian elimination over big rationals.
func dense(rows [][]int64, n int) (rank int) {
	m := make([][]*big.Rat, len(rows))
	for i, r := range rows {
		m[i] = make([]*big.Rat, n)
		for j, x := range r {
			m[i][j] = big.NewRat(x, 1)
		}
	}
	for c := 0; c < n && rank < len(m); c++ {
		p := slices.IndexFunc(m[rank:], func(r []*big.Rat) bool { return r[c].Sign() != 0 })
		if p < 0 {
			continue
		}
		m[rank], m[rank+p] = m[rank+p], m[rank]
		for i := range m {
			if i == rank || m[i][c].Sign() == 0 {
				continue
			}
			f := new(big.Rat).Quo(m[i][c], m[rank][c])
			for j := range n {
				m[i][j] = new(big.Rat).Sub(m[i][j], new(big.Rat).Mul(f, m[rank][j]))
			}
		}
		rank++
	}
	return rank
}

// terms builds Σ cᵢ·vᵢ.
func terms(coef []int64) []term {
	var ts []term
	for v, c := range coef {
		if c != 0 {
			ts = append(ts, term{v: int32(v), num: c, den: 1})
		}
	}
	return ts
}

// value evaluates one element of a run with numbers for the free variables.
func (s *system) value(r run, t int, free map[int32]*big.Rat) *big.Rat {
	sum := new(big.Rat)
	for _, x := range s.resolve(1, r.at(t, true))[0].ts {
		c := new(big.Rat).SetFrac64(x.num, x.den)
		sum.Add(sum, c.Mul(c, free[x.v]))
	}
	return sum
}

// draw is a random system: equations between runs of several elements, and the
// same element by element, for the oracle.
func draw(rt *rapid.T) (n int, runs []run, rows [][]int64) {
	n = rapid.IntRange(1, 9).Draw(rt, "variables")
	coef := rapid.SampledFrom([]int64{1, -1, 1, -1, 2, -2, 3})
	for range rapid.IntRange(0, 6).Draw(rt, "equations") {
		r := run{n: rapid.IntRange(1, min(n, 4)).Draw(rt, "length")}
		for range rapid.IntRange(1, 3).Draw(rt, "terms") {
			t := term{num: coef.Draw(rt, "coefficient"), den: 1}
			if r.n > 1 && rapid.Bool().Draw(rt, "steps") {
				t.step = 1
			}
			t.v = int32(rapid.IntRange(0, n-1-int(t.step)*(r.n-1)).Draw(rt, "variable"))
			r.ts = append(r.ts, t)
		}
		r.ts = normal(r.ts)
		runs = append(runs, r)
		for e := range r.n {
			row := make([]int64, n)
			for _, t := range r.at(e, true) {
				row[t.v] += t.num
			}
			rows = append(rows, row)
		}
	}
	return n, runs, rows
}

// tidyAll joins pieces as after an equation that left very many.
func (s *system) tidyAll() {
	s.coarse = s.coarse[:0]
	for i := range s.blocks {
		s.coarse = append(s.coarse, i)
	}
	s.tidy()
}

// TestSystem: after any sequence of equations, as many variables are free as
// the nullspace has dimensions, and every choice of them solves all equations.
func TestSystem(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n, runs, rows := draw(rt)
		s := &system{}
		for made := 0; made < n; { // several blocks, as the leaves of a graph
			k := rapid.IntRange(1, n-made).Draw(rt, "block")
			s.fresh(k, origin{leaf: -1})
			made += k
		}
		for i, r := range runs {
			if rapid.Bool().Draw(rt, "tidy") {
				s.tidyAll()
			}
			s.why = int32(i)
			if i%2 == 0 {
				s.zero(vec{r})
				continue
			}
			k := len(r.ts) / 2 // the same equation as an equality of two arrays
			s.equal(vec{{r.n, r.ts[:k]}}, negative(vec{{r.n, r.ts[k:]}}))
		}
		free := map[int32]*big.Rat{}
		for v := range int32(n) {
			if s.free(v, 1) {
				free[v] = big.NewRat(rapid.Int64Range(-9, 9).Draw(rt, "value"), 1)
			}
		}
		if want := n - dense(rows, n); len(free) != want {
			rt.Fatalf("%d free variables, the nullspace has %d dimensions", len(free), want)
		}
		x := make([]*big.Rat, n)
		for v := range x {
			x[v] = s.value(run{1, variable(int32(v))}, 0, free)
			if p := s.piece(int32(v)); p.bound && (p.why(int32(v)) < 0 || int(p.why(int32(v))) >= len(runs)) {
				rt.Fatalf("variable %d is bound by equation %d of %d", v, p.why(int32(v)), len(runs))
			}
		}
		for _, r := range rows {
			sum := new(big.Rat)
			for v, c := range r {
				sum.Add(sum, new(big.Rat).Mul(big.NewRat(c, 1), x[v]))
			}
			if sum.Sign() != 0 {
				rt.Fatalf("equation %v is off by %v", r, sum)
			}
		}
	})
}

// TestSystemArithmetic: sums, differences and negations of arrays are what
// they say, for free and for bound variables, whole and in slices.
func TestSystemArithmetic(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n, runs, _ := draw(rt)
		s := &system{}
		s.fresh(n, origin{leaf: -1})
		free := map[int32]*big.Rat{}
		for v := range int32(n) {
			free[v] = big.NewRat(int64(v*v+1), 1)
		}
		var a, b vec
		for i, r := range runs {
			if i%2 == 0 {
				a.push(r.n, r.ts)
			} else {
				b.push(r.n, r.ts)
			}
		}
		k := min(a.len(), b.len())
		a, b = a.slice(0, k), b.slice(0, k)
		sum, diff, neg := s.sum(a, b, 1), s.sum(a, b, -1), negative(a)
		for i := range k {
			at := func(v vec) *big.Rat { return s.value(v.slice(i, i+1)[0], 0, free) }
			x, y := at(a), at(b)
			for _, c := range []struct {
				name string
				got  *big.Rat
				want *big.Rat
			}{
				{"sum", at(sum), new(big.Rat).Add(x, y)},
				{"diff", at(diff), new(big.Rat).Sub(x, y)},
				{"neg", at(neg), new(big.Rat).Neg(x)},
			} {
				if c.got.Cmp(c.want) != 0 {
					rt.Fatalf("element %d: %s of %v and %v is %v, want %v", i, c.name, x, y, c.got, c.want)
				}
			}
		}
	})
}

// TestVec: pushing elements one by one gives the array that they came from,
// and slices hold the elements that they should.
func TestVec(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		_, runs, _ := draw(rt)
		var whole vec
		for _, r := range runs {
			whole.push(r.n, r.ts)
		}
		var single vec
		for i := range whole.len() {
			single.append(whole.slice(i, i+1))
		}
		if single.len() != whole.len() {
			rt.Fatalf("%d elements, want %d", single.len(), whole.len())
		}
		for i := range whole.len() {
			if a, b := whole.slice(i, i+1)[0].ts, single.slice(i, i+1)[0].ts; !slices.Equal(a, b) {
				rt.Fatalf("element %d is %v, want %v", i, b, a)
			}
		}
	})
}

// TestCoefficientLimit: past the limit the solver gives freedom up instead of
// computing with numbers that might overflow.
func TestCoefficientLimit(t *testing.T) {
	s := &system{}
	s.fresh(2, origin{leaf: -1})
	s.zero(vec{{1, terms([]int64{coefLimit + 1, 3})}})
	if s.free(0, 1) || s.free(1, 1) || len(s.piece(0).ts)+len(s.piece(1).ts) != 0 {
		t.Error("both variables must be pinned")
	}
}
