package gauge

import "slices"

// term is one variable of a linear combination, with a rational coefficient.
// In a run it stands for variable v + step·t at element t; step is 0 or 1.
type term struct {
	v, step  int32
	num, den int64
}

// run is n elements in a row that are all the same combination of constant and
// of consecutive variables: no terms means zero.
type run struct {
	n  int
	ts []term // sorted by v, then step; never changed once stored
}

// vec is an array of linear combinations, as runs. A layer of a network has
// tens of thousands of factors, but only a handful of runs: that is what makes
// the largest networks quick to solve.
type vec []run

func variable(v int32) []term { return []term{{v: v, num: 1, den: 1}} }

// variables is the run v, v+1, …, v+n-1.
func variables(v int32, n int) vec {
	if n == 0 {
		return nil
	}
	t := term{v: v, num: 1, den: 1}
	if n > 1 {
		t.step = 1
	}
	return vec{{n, []term{t}}}
}

func repeat(ts []term, n int) vec {
	if n == 0 {
		return nil
	}
	return vec{{n, ts}}
}

func (v vec) len() int {
	n := 0
	for _, r := range v {
		n += r.n
	}
	return n
}

// at returns the terms of elements t, t+1, … of a run; only is set when there
// is to be just one of them.
func (r run) at(t int, only bool) []term {
	moved := false
	for _, x := range r.ts {
		moved = moved || x.step != 0
	}
	if !moved || t == 0 && !only {
		return r.ts
	}
	out := slices.Clone(r.ts)
	for i := range out {
		out[i].v += out[i].step * int32(t)
		if only {
			out[i].step = 0
		}
	}
	if len(out) == 1 {
		return out
	}
	return normal(out)
}

// push appends a run, joining it to the last one when it goes on from there.
func (v *vec) push(n int, ts []term) {
	if n == 0 {
		return
	}
	if k := len(*v) - 1; k >= 0 {
		if joined, ok := join((*v)[k], n, ts); ok {
			(*v)[k] = joined
			return
		}
	}
	if n == 1 {
		ts = run{1, ts}.at(0, true)
	}
	*v = append(*v, run{n, ts})
}

// join returns the run of a followed by n elements of ts, if it is one.
func join(a run, n int, ts []term) (run, bool) {
	if len(a.ts) != len(ts) {
		return a, false
	}
	steps := true // a single element may be the start of steps of one
	for i, x := range a.ts {
		y := ts[i]
		if x.num != y.num || x.den != y.den {
			return a, false
		}
		step := x.step
		if a.n == 1 {
			step = y.v - x.v
			if step != 0 && step != 1 {
				return a, false
			}
			steps = steps && step == x.step
		} else if y.v != x.v+step*int32(a.n) {
			return a, false
		}
		if n > 1 && y.step != step {
			return a, false
		}
	}
	out := run{a.n + n, a.ts}
	if !steps {
		out.ts = slices.Clone(a.ts)
		for i := range out.ts {
			out.ts[i].step = ts[i].v - a.ts[i].v
		}
	}
	return out, true
}

func (v *vec) append(w vec) {
	for _, r := range w {
		v.push(r.n, r.ts)
	}
}

// slice returns elements [lo,hi).
func (v vec) slice(lo, hi int) vec { return (&reader{v: v}).slice(lo, hi) }

// reader reads stretches of an array. It goes on where it was, so that reading
// a whole array in order takes one pass.
type reader struct {
	v    vec
	i    int // the run at hand
	from int // its first element
}

// slice returns elements [lo,hi).
func (r *reader) slice(lo, hi int) vec {
	var out vec
	r.copy(&out, lo, hi)
	return out
}

// copy appends elements [lo,hi) to an array.
func (r *reader) copy(out *vec, lo, hi int) {
	if lo < r.from {
		r.i, r.from = 0, 0
	}
	for r.i < len(r.v) && r.from+r.v[r.i].n <= lo {
		r.from += r.v[r.i].n
		r.i++
	}
	for i, at := r.i, r.from; i < len(r.v) && at < hi; i++ {
		x := r.v[i]
		from, to := max(lo-at, 0), min(hi-at, x.n)
		if from < to {
			out.push(to-from, x.at(from, to-from == 1))
		}
		at += x.n
	}
}

// times returns num/den · v.
func (v vec) times(num, den int64) vec {
	out := make(vec, len(v))
	for i, r := range v {
		ts := slices.Clone(r.ts)
		for j, t := range ts {
			ts[j] = reduced(t.v, t.step, t.num*num, t.den*den)
		}
		out[i] = run{r.n, ts}
	}
	return out
}

// uniform reports whether all elements are alike.
func (v vec) uniform() bool {
	if len(v) == 0 {
		return true
	}
	for _, x := range v[0].ts {
		if x.step != 0 {
			return false
		}
	}
	return len(v) == 1
}

// zip visits the common pieces of two arrays of the same length.
func zip(a, b vec, visit func(n int, x, y []term)) {
	i, j, s, t := 0, 0, 0, 0
	for i < len(a) && j < len(b) {
		n := min(a[i].n-s, b[j].n-t)
		visit(n, a[i].at(s, n == 1), b[j].at(t, n == 1))
		if s += n; s == a[i].n {
			i, s = i+1, 0
		}
		if t += n; t == b[j].n {
			j, t = j+1, 0
		}
	}
}

func less(a, b term) int {
	if a.v != b.v {
		return int(a.v) - int(b.v)
	}
	return int(a.step) - int(b.step)
}

// normal sorts terms and adds up those of the same variable.
func normal(ts []term) []term {
	slices.SortFunc(ts, less)
	out := ts[:0]
	for _, t := range ts {
		if k := len(out) - 1; k >= 0 && out[k].v == t.v && out[k].step == t.step {
			out[k] = plus(out[k], t)
		} else {
			out = append(out, t)
		}
	}
	return slices.DeleteFunc(out, func(t term) bool { return t.num == 0 })
}

func plus(a, b term) term {
	return reduced(a.v, a.step, a.num*b.den+b.num*a.den, a.den*b.den)
}

func reduced(v, step int32, num, den int64) term {
	if den < 0 {
		num, den = -num, -den
	}
	g := gcd(num, den)
	return term{v, step, num / g, den / g}
}

// sumTerms returns a + c·b.
func sumTerms(a, b []term, c int64) []term {
	if len(b) == 0 {
		return a
	}
	out := make([]term, 0, len(a)+len(b))
	out = append(out, a...)
	for _, t := range b {
		t.num *= c
		out = append(out, t)
	}
	return normal(out)
}

func gcd(a, b int64) int64 {
	if a < 0 {
		a = -a
	}
	for b != 0 {
		a, b = b, a%b
	}
	return max(a, 1)
}
