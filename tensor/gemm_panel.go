package tensor

import (
	"sync"

	"github.com/neuroseal/neuroseal/internal/dtype"
)

// tileFunc adds alpha·a·b to a tile of c, or sets it if set is not 0. Row i and
// column p of a is i·sa + p·sp elements from a, row p of b p·sb from b.
type tileFunc func(k int, a *float32, sa, sp int, b *float32, sb int, c *float32, ldc int, alpha float32, set int)

// microKernel is a family of tile functions for mr × nr and, at the edges, for
// fewer rows and columns. All add the products of an element in the order of k.
type microKernel struct {
	mr, nr           int
	full, half       tileFunc // for nr and for nr/2 columns; half may be nil
	short            int      // fewer rows; 0: none of the following
	lowFull, lowHalf tileFunc // for that many
	anywhere         bool     // a is read where it lies; otherwise sa must be 1 and sp mr
}

// height is that of the next strip with m rows left: two short ones where they
// leave less empty than a whole and a short one.
func (k *microKernel) height(m int) int {
	if m <= k.short || k.mr < m && m <= 2*k.short {
		return k.short
	}
	return k.mr
}

// width is that of the next strip with n columns left.
func (k *microKernel) width(n int) int {
	if k.half != nil && n <= k.nr/2 {
		return k.nr / 2
	}
	return k.nr
}

// tile is the function for a tile of these sizes.
func (k *microKernel) tile(h, w int) tileFunc {
	switch low, narrow := h != k.mr, w != k.nr; {
	case low && narrow:
		return k.lowHalf
	case low:
		return k.lowFull
	case narrow:
		return k.half
	}
	return k.full
}

// gemmBuffers are what one goroutine packs into.
type gemmBuffers struct {
	a, b []float32
	tile [12 * 32]float32
	wide [8 * gemmKC]float32
}

var gemmPool = sync.Pool{New: func() any {
	return &gemmBuffers{a: make([]float32, gemmMC*gemmKC), b: make([]float32, gemmKC*gemmNC)}
}}

// crowded is a distance of rows at which their elements compete for few places in
// the first level cache.
const crowded = 512

// choose decides what is read where it lies: a if its rows do not crowd the cache
// or if it is read once only; b, whose groups must be contiguous, if there are so
// few rows that packing it costs more than it saves.
func (p *gemm) choose() {
	p.kernel = gemmKernel()
	k := &p.kernel
	p.asStoredA = k.anywhere && (p.n <= k.nr || !p.transA && p.lda%crowded != 0)
	p.asStoredB = p.b16 == nil && !p.transB && p.m <= 2*k.mr
}

// panel adds the products of columns j … j+nc with rows l … l+kc of op(b).
func (p *gemm) panel(j, nc, l, kc int) {
	for s := 0; s < nc; {
		w := p.kernel.width(nc - s)
		if !p.asStoredB || nc-s < w {
			p.packB(p.buf.b[s*kc:], w, j+s, min(w, nc-s), l, kc)
		}
		s += w
	}
	for i := 0; i < p.m; i += gemmMC {
		mc := min(gemmMC, p.m-i)
		p.packA(i, mc, l, kc)
		for s := 0; s < nc; {
			w := p.kernel.width(nc - s)
			b, sb := &p.buf.b[s*kc], w
			if p.asStoredB && nc-s >= w {
				b, sb = &p.b[l*p.ldb+j+s], p.ldb
			}
			for r := 0; r < mc; {
				h := p.kernel.height(mc - r)
				a, sa, sp := p.stripA(i, r, h, mc, l, kc)
				p.tile(kc, a, sa, sp, b, sb, i+r, j+s, h, w, min(h, mc-r), min(w, nc-s))
				r += h
			}
			s += w
		}
	}
}

// packB packs n columns of b, from c on, in groups of w.
func (p *gemm) packB(dst []float32, w, c, n, l, kc int) {
	switch {
	case p.b16 == nil:
		pack(dst, w, !p.transB, p.b, p.ldb, c, n, l, kc)
	case !p.transB:
		x := p.b16[2*(l*p.ldb+c):]
		if n == w && haveAsm && widenGroups(dst[:w*kc], w, x[:2*((kc-1)*p.ldb+w)], p.ldb, kc) {
			return
		}
		for y := range kc {
			d := dst[y*w : y*w+w]
			dtype.ToFloat32(dtype.BF16, d[:n], x[2*y*p.ldb:2*(y*p.ldb+n)])
			clear(d[n:])
		}
	default: // rows become groups' columns, eight at a time
		if n < w {
			clear(dst[:w*kc])
		}
		for i := 0; i < n; i += 8 {
			rows := min(8, n-i)
			for y := range rows {
				at := 2 * ((c+i+y)*p.ldb + l)
				dtype.ToFloat32(dtype.BF16, p.buf.wide[y*gemmKC:y*gemmKC+kc], p.b16[at:at+2*kc])
			}
			packPart(dst, w, i, p.buf.wide[:], gemmKC, rows, kc)
		}
	}
}

// plainA reports whether a strip of h rows, of which left are there, is read where
// it lies.
func (p *gemm) plainA(h, left int) bool { return p.asStoredA && left >= h }

// packA packs what of rows i … i+mc is not read where it lies: in groups of
// a column, or in rows where the tile function can read those.
func (p *gemm) packA(i, mc, l, kc int) {
	for r := 0; r < mc; {
		h := p.kernel.height(mc - r)
		n := min(h, mc-r)
		switch {
		case p.plainA(h, n):
		case p.kernel.anywhere && !p.transA:
			for y := range n {
				copy(p.buf.a[(r+y)*kc:(r+y+1)*kc], p.a[(i+r+y)*p.lda+l:])
			}
		default:
			pack(p.buf.a[r*kc:], h, p.transA, p.a, p.lda, i+r, n, l, kc)
		}
		r += h
	}
}

// stripA says where rows i+r … of a lie, and the distances of its rows and columns.
func (p *gemm) stripA(i, r, h, mc, l, kc int) (at *float32, sa, sp int) {
	switch {
	case !p.plainA(h, mc-r):
		if p.kernel.anywhere && !p.transA {
			return &p.buf.a[r*kc], kc, 1
		}
		return &p.buf.a[r*kc], 1, h
	case p.transA:
		return &p.a[l*p.lda+i+r], 1, p.lda
	}
	return &p.a[(i+r)*p.lda+l], p.lda, 1
}

// tile runs the function for h × w on m × n elements of c, through a buffer where
// the tile is not whole.
func (p *gemm) tile(kc int, a *float32, sa, sp int, b *float32, sb, i, j, h, w, m, n int) {
	f := p.kernel.tile(h, w)
	if m == h && n == w {
		f(kc, a, sa, sp, b, sb, &p.c[i*p.ldc+j], p.ldc, p.alpha, p.set)
		return
	}
	t := p.buf.tile[:h*w]
	if p.set == 0 {
		for y := range m {
			copy(t[y*w:y*w+n], p.c[(i+y)*p.ldc+j:])
		}
	}
	f(kc, a, sa, sp, b, sb, &t[0], w, p.alpha, p.set)
	for y := range m {
		copy(p.c[(i+y)*p.ldc+j:][:n], t[y*w:])
	}
}

// pack writes n rows of the left operand (or columns of the right one), from r
// on, as kc groups of w, with zeros after the n-th. along says that a group is
// contiguous in memory.
func pack(dst []float32, w int, along bool, x []float32, ld, r, n, l, kc int) {
	if along {
		packAlong(dst, w, x, ld, r, n, l, kc)
		return
	}
	if n < w {
		clear(dst[:w*kc])
	}
	for i := 0; i < n; i += 8 {
		packPart(dst, w, i, x[(r+i)*ld+l:], ld, min(8, n-i), kc)
	}
}

// packPart writes up to eight rows as elements i, i+1 … of kc groups of w.
func packPart(dst []float32, w, i int, x []float32, ld, rows, kc int) {
	if rows == 8 && haveAsm && kc >= 8 {
		packRows(dst[i:], w, x, ld, kc)
		return
	}
	for y := range rows {
		for p, v := range x[y*ld:][:kc] {
			dst[p*w+i+y] = v
		}
	}
}

// packAlong copies groups. A copy of known length needs no call.
func packAlong(dst []float32, w int, x []float32, ld, r, n, l, kc int) {
	if n == w && haveAsm && packGroups(dst[:w*kc], w, x[l*ld+r:(l+kc-1)*ld+r+w], ld, kc) {
		return
	}
	for p := range kc {
		d, s := dst[p*w:p*w+w], x[(l+p)*ld+r:]
		if n == 8 && w == 8 {
			*(*[8]float32)(d) = [8]float32(s)
			continue
		}
		copy(d, s[:n])
		clear(d[n:])
	}
}
