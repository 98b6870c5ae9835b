package gauge

import (
	"encoding/binary"
	"slices"
)

// A form is a linear combination of variables (log2 factors): 0 is zero,
// 2(v+1) is +v, 2(v+1)+1 is -v, and a negative number indexes system.gen.
// Nearly every form of a real network is of the first three kinds, so a class
// costs four bytes.
type form int32

func plus(v int32) form { return form(2 * (v + 1)) }

// single returns the variable and sign of a one-variable form.
func (f form) single() (v int32, sign int64) {
	if f&1 == 0 {
		return int32(f)/2 - 1, 1
	}
	return int32(f)/2 - 1, -1
}

// term is one variable with a rational coefficient.
type term struct {
	v        int32
	num, den int64
}

// origin says which part of which weight a variable stands for.
type origin struct {
	leaf  int32 // index into solver.leaves; -1 for an epsilon
	part  int32 // index of the leaf's scale term
	index int32
}

// system is a growing set of linear equations over rational numbers, kept
// solved: every variable is free or a combination of older ones.
type system struct {
	subst  []form // for each variable; itself when free
	origin []origin
	flags  []uint8
	reason []int32 // the node that pinned a variable to zero

	gen   [][]term
	genID map[string]form
	why   int32 // recorded as reason for variables that the next equations pin
}

func newSystem() *system {
	return &system{genID: map[string]form{}}
}

// fresh adds n free variables and returns the first.
func (s *system) fresh(n int, o origin, flag uint8) int32 {
	v := int32(len(s.subst))
	for i := range n {
		o.index = int32(i)
		s.subst = append(s.subst, plus(v+int32(i)))
		s.origin = append(s.origin, o)
		s.flags = append(s.flags, flag)
		s.reason = append(s.reason, -1)
	}
	return v
}

// terms returns the form's terms, sorted by variable, appended to buf.
func (s *system) terms(f form, buf []term) []term {
	switch {
	case f == 0:
		return buf
	case f > 0:
		v, sign := f.single()
		return append(buf, term{v, sign, 1})
	}
	return append(buf, s.gen[-f-1]...)
}

// intern returns the form of sorted, reduced, non-zero terms.
func (s *system) intern(ts []term) form {
	if len(ts) == 0 {
		return 0
	}
	if len(ts) == 1 && ts[0].den == 1 && (ts[0].num == 1 || ts[0].num == -1) {
		f := plus(ts[0].v)
		if ts[0].num < 0 {
			f++
		}
		return f
	}
	key := make([]byte, 0, 20*len(ts))
	for _, t := range ts {
		key = binary.LittleEndian.AppendUint32(key, uint32(t.v))
		key = binary.LittleEndian.AppendUint64(key, uint64(t.num))
		key = binary.LittleEndian.AppendUint64(key, uint64(t.den))
	}
	if f, ok := s.genID[string(key)]; ok {
		return f
	}
	s.gen = append(s.gen, slices.Clone(ts))
	f := form(-len(s.gen))
	s.genID[string(key)] = f
	return f
}

// resolve rewrites f over free variables only.
func (s *system) resolve(f form) form {
	switch {
	case f == 0:
		return 0
	case f > 0:
		v, sign := f.single()
		r := s.root(v)
		if sign < 0 {
			r = s.neg(r)
		}
		return r
	}
	ts := s.gen[-f-1]
	free := true
	for _, t := range ts {
		if s.subst[t.v] != plus(t.v) {
			free = false
			break
		}
	}
	if free {
		return f
	}
	r := form(0)
	for _, t := range slices.Clone(ts) {
		r = s.combine(r, 1, 1, s.root(t.v), t.num, t.den)
	}
	return r
}

// root resolves one variable and shortens its chain of substitutions.
func (s *system) root(v int32) form {
	f := s.subst[v]
	if f == plus(v) || f == 0 {
		return f
	}
	r := s.resolve(f)
	if r != f {
		s.subst[v] = r
		if r == 0 && s.reason[v] < 0 && f > 0 {
			w, _ := f.single()
			s.reason[v] = s.reason[w]
		}
	}
	return r
}

// neg returns -f.
func (s *system) neg(f form) form {
	switch {
	case f == 0:
		return 0
	case f > 0:
		return f ^ 1
	}
	ts := slices.Clone(s.gen[-f-1])
	for i := range ts {
		ts[i].num = -ts[i].num
	}
	return s.intern(ts)
}

// sum returns the resolved a + b.
func (s *system) sum(a, b form) form {
	a, b = s.resolve(a), s.resolve(b)
	if a == 0 {
		return b
	}
	if b == 0 {
		return a
	}
	if a > 0 && b > 0 && a == b^1 {
		return 0
	}
	return s.combine(a, 1, 1, b, 1, 1)
}

// diff returns the resolved a - b.
func (s *system) diff(a, b form) form { return s.sum(a, s.neg(s.resolve(b))) }

// combine returns (an/ad)*a + (bn/bd)*b of resolved forms.
func (s *system) combine(a form, an, ad int64, b form, bn, bd int64) form {
	var bufA, bufB, bufR [8]term
	ta, tb := s.terms(a, bufA[:0]), s.terms(b, bufB[:0])
	out := bufR[:0]
	for len(ta) > 0 || len(tb) > 0 {
		switch {
		case len(tb) == 0 || len(ta) > 0 && ta[0].v < tb[0].v:
			out = appendTerm(out, ta[0].v, ta[0].num*an, ta[0].den*ad)
			ta = ta[1:]
		case len(ta) == 0 || tb[0].v < ta[0].v:
			out = appendTerm(out, tb[0].v, tb[0].num*bn, tb[0].den*bd)
			tb = tb[1:]
		default:
			x, y := ta[0], tb[0]
			dx, dy := x.den*ad, y.den*bd
			out = appendTerm(out, x.v, x.num*an*dy+y.num*bn*dx, dx*dy)
			ta, tb = ta[1:], tb[1:]
		}
	}
	return s.intern(out)
}

func appendTerm(ts []term, v int32, num, den int64) []term {
	if num == 0 {
		return ts
	}
	g := gcd(num, den)
	return append(ts, term{v, num / g, den / g})
}

func gcd(a, b int64) int64 {
	if a < 0 {
		a = -a
	}
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// coefLimit bounds the coefficients that the solver keeps: beyond it (no real
// network comes near) the variables are pinned, which is always sound.
const coefLimit = 1 << 20

// zero adds the equation f = 0.
func (s *system) zero(f form) {
	f = s.resolve(f)
	if f == 0 {
		return
	}
	if f > 0 {
		v, _ := f.single()
		s.pin(v)
		return
	}
	ts := s.gen[-f-1]
	if len(ts) == 1 {
		s.pin(ts[0].v)
		return
	}
	// The youngest variable with a unit coefficient is expressed by the rest;
	// so older weights, and the epsilon first of all, stay the free ones.
	p := -1
	for i, t := range ts {
		if t.num > coefLimit || t.num < -coefLimit || t.den > coefLimit {
			for _, t := range slices.Clone(ts) {
				s.pin(t.v)
			}
			return
		}
		if t.den == 1 && (t.num == 1 || t.num == -1) {
			p = i
		}
	}
	if p < 0 {
		p = len(ts) - 1
	}
	c := ts[p]
	rest := make([]term, 0, len(ts)-1)
	for i, t := range ts {
		if i == p {
			continue
		}
		num, den := -t.num*c.den, t.den*c.num
		if den < 0 {
			num, den = -num, -den
		}
		rest = appendTerm(rest, t.v, num, den)
	}
	s.subst[c.v] = s.intern(rest)
}

func (s *system) pin(v int32) {
	if s.subst[v] == plus(v) {
		s.subst[v] = 0
		s.reason[v] = s.why
		return
	}
	s.zero(s.subst[v])
}

// equal adds the equation a = b.
func (s *system) equal(a, b form) {
	if a != b {
		s.zero(s.diff(a, b))
	}
}

// mark sets a flag on every variable of f.
func (s *system) mark(f form, flag uint8) {
	if f > 0 {
		v, _ := f.single()
		s.flags[v] |= flag
		return
	}
	if f < 0 {
		for _, t := range s.gen[-f-1] {
			s.flags[t.v] |= flag
		}
	}
}
