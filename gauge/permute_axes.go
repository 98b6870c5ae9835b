package gauge

// An axis of a value is a sequence of stretches, each a product of sub-axes,
// outermost first. A sub-axis is an atom: whatever holds it must be permuted
// alike. Atoms are found by need: a reshape or a partner that divides an axis
// further refines its atom into a product, a slice into a sequence.

type atomID int32

// product is one stretch of an axis; none: a single element.
type product []atomID

// sequence is an axis: stretches that follow each other.
type sequence []product

type atom struct {
	size   int
	parent atomID   // what it was united with; -1: it stands for itself
	parts  sequence // one stretch: it is that product; several: it is their sequence
	pinned bool     // of a leaf: its elements have to stay
}

type atoms []atom

// fresh makes an axis of n elements.
func (a *atoms) fresh(n int, pinned bool) product {
	if n == 1 {
		return nil
	}
	*a = append(*a, atom{size: n, parent: -1, pinned: pinned})
	return product{atomID(len(*a) - 1)}
}

func (a atoms) root(x atomID) atomID {
	for a[x].parent >= 0 {
		if p := a[a[x].parent].parent; p >= 0 {
			a[x].parent = p
		}
		x = a[x].parent
	}
	return x
}

func (a atoms) size(p product) int {
	n := 1
	for _, x := range p {
		n *= a[x].size
	}
	return n
}

// pin keeps the elements of atoms where they are.
func (a atoms) pin(p product) {
	for _, x := range p {
		r := &a[a.root(x)]
		r.pinned = true
		for _, q := range r.parts {
			a.pin(q)
		}
	}
}

func (a atoms) pinAxis(s sequence) {
	for _, p := range s {
		a.pin(p)
	}
}

// flat brings a product down to atoms that are no products themselves.
func (a atoms) flat(p product) product {
	var out product
	for _, x := range p {
		r := a.root(x)
		if len(a[r].parts) == 1 {
			out = append(out, a.flat(a[r].parts[0])...)
		} else {
			out = append(out, r)
		}
	}
	return out
}

// norm brings an axis down to leaves, but for sequences within products.
func (a atoms) norm(s sequence) sequence {
	var out sequence
	for _, p := range s {
		p = a.flat(p)
		if len(p) == 1 && len(a[p[0]].parts) > 1 {
			out = append(out, a.norm(a[p[0]].parts)...)
		} else {
			out = append(out, p)
		}
	}
	return out
}

// split refines a leaf into outer × rest; a sequence cannot be.
func (a *atoms) split(x atomID, outer int) bool {
	at := (*a)[x]
	if len(at.parts) > 0 {
		return false
	}
	p := append(a.fresh(outer, at.pinned), a.fresh(at.size/outer, at.pinned)...)
	(*a)[x].parts = sequence{p}
	return true
}

// unite makes two atoms of one size the same.
func (a atoms) unite(x, y atomID) {
	x, y = a.root(x), a.root(y)
	if x == y {
		return
	}
	if len(a[x].parts) > 0 {
		x, y = y, x
	}
	if len(a[x].parts) > 0 { // two sequences, within products
		a.pin(product{x, y})
	}
	if a[x].pinned {
		a.pin(product{y})
	}
	a[x].parent = y
}

// alignProducts makes two stretches of one size the same; what has no common
// refinement is pinned.
func (a *atoms) alignProducts(p, q product) {
	for {
		p, q = a.flat(p), a.flat(q)
		k := 0
		for k < len(p) && k < len(q) && p[k] == q[k] {
			k++
		}
		if k >= len(p) || k >= len(q) {
			return
		}
		x, y := p[k], q[k]
		if (*a)[x].size < (*a)[y].size {
			x, y = y, x
		}
		big, small := (*a)[x].size, (*a)[y].size
		switch {
		case big == small:
			a.unite(x, y)
		case big%small != 0 || !a.split(x, small):
			a.pin(p[k:])
			a.pin(q[k:])
			return
		}
	}
}

// align makes two axes of one length the same.
func (a *atoms) align(s, t sequence) {
	for done := 0; ; {
		s, t = a.norm(s), a.norm(t)
		i, j := a.find(s, done), a.find(t, done)
		if i == len(s) || j == len(t) {
			return
		}
		switch n, m := a.size(s[i]), a.size(t[j]); {
		case n == m:
			a.alignProducts(s[i], t[j])
			done += n
		case n > m:
			s = a.cut(s, done+m)
		default:
			t = a.cut(t, done+n)
		}
	}
}

// find returns the stretch that begins with element at.
func (a atoms) find(s sequence, at int) int {
	for i, p := range s {
		if at <= 0 {
			return i
		}
		at -= a.size(p)
	}
	return len(s)
}

// cut returns an axis with a border before element at. A product has no borders
// inside and is pinned.
func (a *atoms) cut(s sequence, at int) sequence {
	s = a.norm(s)
	for i, p := range s {
		n := a.size(p)
		if at >= n {
			at -= n
			continue
		}
		if at == 0 {
			return s
		}
		whole := (*a)[p[0]]
		if len(p) == 1 && len(whole.parts) == 0 {
			parts := sequence{a.fresh(at, whole.pinned), a.fresh(n-at, whole.pinned)}
			(*a)[p[0]].parts = parts
			return a.norm(s)
		}
		a.pin(p)
		out := append(sequence{}, s[:i]...)
		return append(append(out, a.fresh(at, true), a.fresh(n-at, true)), s[i+1:]...)
	}
	return s
}

// slice returns elements [lo,hi) of an axis.
func (a *atoms) slice(s sequence, lo, hi int) sequence {
	s = a.cut(a.cut(s, lo), hi)
	var out sequence
	at := 0
	for _, p := range s {
		if at >= lo && at < hi {
			out = append(out, p)
		}
		at += a.size(p)
	}
	return out
}

// single returns an axis as one stretch; a sequence of several becomes one that
// stays.
func (a *atoms) single(s sequence, n int) product {
	s = a.norm(s)
	if len(s) == 1 {
		return s[0]
	}
	a.pinAxis(s)
	return a.fresh(n, true)
}

// reshape takes axes of lengths from to lengths to.
func (a *atoms) reshape(s []sequence, from, to []int) []sequence {
	var out []sequence
	for i, j := 0, 0; i < len(from) || j < len(to); {
		i0, j0, x, y := i, j, 1, 1
		for x != y || i == i0 && j == j0 {
			if x <= y && i < len(from) {
				x *= from[i]
				i++
			} else {
				y *= to[j]
				j++
			}
		}
		out = append(out, a.regroup(s[i0:i], from[i0:i], to[j0:j])...)
	}
	return out
}

// regroup reshapes axes with the same number of elements in all.
func (a *atoms) regroup(s []sequence, from, to []int) []sequence {
	out := make([]sequence, len(to))
	long := func(dims []int) (at, n int) {
		at = -1
		for i, d := range dims {
			if d > 1 {
				at, n = i, n+1
			}
		}
		return at, n
	}
	i, n := long(from)
	j, m := long(to)
	if n == 0 {
		return out
	}
	if n == 1 && m == 1 {
		out[j] = s[i]
		return out
	}
	var all product
	for k, d := range from {
		if d > 1 {
			all = append(all, a.single(s[k], d)...)
		}
	}
	rest := all
	for k, d := range to {
		if d == 1 {
			continue
		}
		p, r, ok := a.take(rest, d)
		if !ok {
			a.pin(all)
			for k, d := range to {
				out[k] = sequence{a.fresh(d, true)}
			}
			return out
		}
		out[k], rest = sequence{p}, r
	}
	return out
}

// take splits n elements off the front of a product.
func (a *atoms) take(p product, n int) (front, rest product, ok bool) {
	p = a.flat(p)
	for i := 0; i < len(p) && n > 1; {
		d := (*a)[p[i]].size
		switch {
		case n%d == 0:
			front, n = append(front, p[i]), n/d
			i++
			rest = p[i:]
		case d%n == 0 && a.split(p[i], n):
			p = append(a.flat(p[i:i+1]), p[i+1:]...)
			i = 0
		default:
			return nil, nil, false
		}
	}
	return front, rest, n == 1
}
