package gauge

import "slices"

// origin says which part of which weight a block of variables stands for.
type origin struct {
	leaf int32 // index into solver.leaves; -1 for an epsilon
	part int32 // index of the leaf's scale term
}

// mark is a property that variables got on their way through the network.
type mark struct {
	v    int32
	n    int
	flag uint8
}

// system is a growing set of linear equations over rational numbers, kept
// solved: every variable is free or a combination of free ones.
type system struct {
	blocks []block
	next   int32
	marks  []mark
	last   int   // the block that was found last
	final  bool  // every bound piece refers to free variables
	coarse []int // blocks that have gathered many pieces
	why    int32 // recorded as reason for variables that the next equations bind
}

// fresh adds n free variables.
func (s *system) fresh(n int, o origin) vec {
	v := s.next
	if n > 0 {
		s.blocks = append(s.blocks, block{start: v, n: n, origin: o, pieces: []piece{{start: v, n: n}}})
		s.next += int32(n)
	}
	return variables(v, n)
}

// span is a stretch of variables.
type span interface{ extent() (start int32, n int) }

func (b block) extent() (int32, int)   { return b.start, b.n }
func (p piece) extent() (int32, int)   { return p.start, p.n }
func (f stretch) extent() (int32, int) { return f.v, f.n }

// locate returns the index of the stretch of variables that holds v; the
// stretches are in order and without gaps where v is.
func locate[T span](list []T, v int32) int {
	lo, hi := 0, len(list)-1
	for lo < hi {
		mid := int(uint(lo+hi+1) >> 1)
		if start, _ := list[mid].extent(); start <= v {
			lo = mid
		} else {
			hi = mid - 1
		}
	}
	return lo
}

// find returns the block and the index of the piece that hold a variable.
func (s *system) find(v int32) (*block, int) {
	b := &s.blocks[s.last]
	if v < b.start || v >= b.start+int32(b.n) {
		s.last = locate(s.blocks, v)
		b = &s.blocks[s.last]
	}
	// Arrays are mostly gone through in order.
	for j := b.last; j < min(b.last+3, len(b.pieces)); j++ {
		if p := &b.pieces[j]; p.start <= v && v < p.start+int32(p.n) {
			b.last = j
			return b, j
		}
	}
	b.last = locate(b.pieces, v)
	return b, b.last
}

// free reports whether variables v … v+n-1 are all free.
func (s *system) free(v int32, n int) bool {
	for n > 0 {
		b, j := s.find(v)
		p := b.pieces[j]
		if p.bound {
			return false
		}
		k := int(p.start-v) + p.n
		v, n = v+int32(k), n-k
	}
	return true
}

// piece returns the piece that holds v, with its combination brought down to
// free variables.
func (s *system) piece(v int32) piece {
	for {
		b, j := s.find(v)
		p := b.pieces[j]
		if !p.bound || s.final || s.settled(p) {
			return p
		}
		r := s.resolve(p.n, p.ts)
		b, j = s.find(v) // resolving may have moved it
		p = b.pieces[j]
		var parts []piece
		at := p.start
		for _, x := range r {
			part := piece{at, x.n, true, x.ts, [2]int32{p.why(at), p.why(at + 1)}}
			if len(x.ts) == 0 && len(p.ts) == 1 {
				// Equal to a variable that was pinned later: for its reason.
				v := p.ts[0].v + p.ts[0].step*(at-p.start)
				c, k := s.find(v)
				part.reasons[0] = c.pieces[k].why(v)
				part.reasons[1] = part.reasons[0]
			}
			parts = append(parts, part)
			at += int32(x.n)
		}
		b.pieces = slices.Replace(b.pieces, j, j+1, parts...)
	}
}

// isZero reports whether an array is pinned as a whole.
func (s *system) isZero(v vec) bool {
	for _, r := range v {
		if n := 1; len(r.ts) == 1 {
			if r.ts[0].step != 0 {
				n = r.n
			}
			if !s.pinned(r.ts[0].v, n) {
				return false
			}
		} else if x := s.resolve(r.n, r.ts); len(x) > 1 || len(x[0].ts) > 0 {
			return false
		}
	}
	return true
}

// pinned reports whether variables v … v+n-1 are all zero.
func (s *system) pinned(v int32, n int) bool {
	for n > 0 {
		p := s.piece(v)
		if !p.bound || len(p.ts) > 0 {
			return false
		}
		k := int(p.start-v) + p.n
		v, n = v+int32(k), n-k
	}
	return true
}

// settled reports whether a bound piece refers to free variables only.
func (s *system) settled(p piece) bool {
	for _, t := range p.ts {
		n := 1
		if t.step != 0 {
			n = p.n
		}
		if !s.free(t.v, n) {
			return false
		}
	}
	return true
}

// resolve rewrites n elements of a combination over free variables.
func (s *system) resolve(n int, ts []term) vec {
	var out vec
	for r := (run{n, ts}); r.n > 0; {
		n, acc := r.n, []term(nil)
		bound := false
		for _, t := range r.ts {
			p := s.piece(t.v)
			if t.step != 0 {
				n = min(n, int(p.start-t.v)+p.n)
			}
			bound = bound || p.bound
		}
		if !bound {
			acc = r.ts
		} else {
			for _, t := range r.ts {
				acc = s.substitute(acc, t)
			}
			acc = normal(acc)
		}
		if n == 1 {
			acc = run{1, acc}.at(0, true)
		}
		if bound && !s.final && !s.settled(piece{n: n, ts: acc}) {
			out.append(s.resolve(n, acc))
		} else {
			out.push(n, acc)
		}
		r = run{r.n - n, r.at(n, false)}
	}
	return out
}

// substitute appends what one term stands for.
func (s *system) substitute(acc []term, t term) []term {
	p := s.piece(t.v)
	if !p.bound {
		return append(acc, t)
	}
	off := t.v - p.start
	for _, q := range p.ts {
		acc = append(acc, reduced(q.v+q.step*off, q.step*t.step, q.num*t.num, q.den*t.den))
	}
	return acc
}

// resolved rewrites a whole array.
func (s *system) resolved(v vec) vec {
	var out vec
	for _, r := range v {
		out.append(s.resolve(r.n, r.ts))
	}
	return out
}

// sum returns a + c·b, element by element.
func (s *system) sum(a, b vec, c int64) vec {
	var out vec
	zip(a, b, func(n int, x, y []term) { out.append(s.resolve(n, sumTerms(x, y, c))) })
	return out
}

func negative(v vec) vec {
	out := make(vec, len(v))
	for i, r := range v {
		out[i] = run{r.n, sumTerms(nil, r.ts, -1)}
	}
	return out
}

// equal adds the equations a = b.
func (s *system) equal(a, b vec) {
	zip(a, b, func(n int, x, y []term) { s.zeroRun(n, sumTerms(x, y, -1)) })
}

// zero adds the equations v = 0.
func (s *system) zero(v vec) {
	for _, r := range v {
		s.zeroRun(r.n, r.ts)
	}
}

func (s *system) zeroRun(n int, ts []term) {
	if n == 1 && s.settled(piece{n: 1, ts: ts}) {
		s.solve(run{1, ts})
		return
	}
	r := s.resolve(n, ts)
	if len(r) == 1 {
		s.solve(r[0])
		return
	}
	for _, x := range r {
		s.zeroRun(x.n, x.ts) // what came before may have bound its variables
	}
}

// coefLimit bounds the coefficients that the solver keeps: beyond it (no real
// network comes near) the variables are pinned, which is always sound.
const coefLimit = 1 << 10

// solve binds variables so that a resolved run is zero.
func (s *system) solve(r run) {
	if len(r.ts) == 0 {
		return
	}
	if entangled(r) {
		for t := range r.n {
			s.zeroRun(1, r.at(t, true))
		}
		return
	}
	for _, t := range r.ts {
		if t.num > coefLimit || t.num < -coefLimit || t.den > coefLimit {
			for _, t := range r.ts {
				n := 1
				if t.step != 0 {
					n = r.n
				}
				s.zeroRun(n, []term{{v: t.v, step: t.step, num: 1, den: 1}})
			}
			return
		}
	}
	p := s.pivot(r)
	c := r.ts[p]
	rest := make([]term, 0, len(r.ts)-1)
	for i, t := range r.ts {
		if i != p {
			rest = append(rest, reduced(t.v, t.step, -t.num*c.den, t.den*c.num))
		}
	}
	n := 1
	if c.step != 0 {
		n = r.n
	}
	s.bind(c.v, n, rest)
}

// pivot picks the variable that is expressed by the rest: no epsilon, which
// must stay free or zero, since a config can follow no other group; then one
// that steps, if any does, with a unit coefficient if there is one, and the
// youngest of those.
func (s *system) pivot(r run) int {
	best, rank := 0, -1
	for i, t := range r.ts {
		k := 0
		if b, _ := s.find(t.v); b.origin.leaf >= 0 {
			k += 4
		}
		if r.n > 1 && t.step != 0 {
			k += 2
		}
		if t.den == 1 && (t.num == 1 || t.num == -1) {
			k++
		}
		if k >= rank { // terms are sorted by age
			best, rank = i, k
		}
	}
	return best
}

// entangled reports whether an element of a run shares a variable with another
// element, so that the run cannot be solved as a whole.
func entangled(r run) bool {
	if r.n == 1 {
		return false
	}
	for i, a := range r.ts {
		if a.step == 0 {
			continue
		}
		for j, b := range r.ts {
			width := int32(1)
			if b.step != 0 {
				width = int32(r.n)
			}
			if i != j && b.v < a.v+int32(r.n) && a.v < b.v+width {
				return true
			}
		}
	}
	// Constants alone repeat one equation, which is fine.
	return false
}

// bind sets free variables v … v+n-1 to a run.
func (s *system) bind(v int32, n int, ts []term) {
	r := run{n, ts}
	for done := 0; done < n; {
		b, j := s.find(v + int32(done))
		if len(b.pieces) > coarseLimit && !b.coarse {
			b.coarse = true
			s.coarse = append(s.coarse, s.last)
		}
		p := b.pieces[j]
		from := int(v) + done - int(p.start)
		k := min(n-done, p.n-from)
		bound := piece{p.start + int32(from), k, true, r.at(done, k == 1), [2]int32{s.why, s.why}}
		if from > 0 || j == 0 || !s.extend(b, j, bound) {
			b.bind(j, bound)
		}
		done += k
	}
}

// mark sets a flag on every variable of v.
func (s *system) mark(v vec, flag uint8) {
	for _, r := range v {
		for _, t := range r.ts {
			n := 1
			if t.step != 0 {
				n = r.n
			}
			s.marks = append(s.marks, mark{t.v, n, flag})
		}
	}
}
