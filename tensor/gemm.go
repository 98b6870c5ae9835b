package tensor

import (
	"sync"
)

//go:generate go -C asm run ./gemm -out ../gemm_kernels_amd64.s -stubs ../gemm_kernels_amd64.go -pkg tensor

// The blocks of a product: kc of the inner dimension, so that a strip of b stays
// in the first level cache, mc rows of a in the second, nc columns of b too.
const (
	gemmKC = 256
	gemmMC = 144
	gemmNC = 512
)

// microKernel adds alpha·a·b to an mr × nr tile of c, from packed operands.
type microKernel struct {
	mr, nr int
	f      func(k int, a, b, c *float32, ldc int, alpha float32)
	half   func(k int, a, b, c *float32, ldc int, alpha float32) // for nr/2 columns; may be nil
}

// gemmBuffers are what one goroutine packs into. Packing may write up to
// a register beyond a strip.
type gemmBuffers struct {
	a, b []float32
	tile [12 * 32]float32
}

var gemmPool = sync.Pool{New: func() any {
	return &gemmBuffers{a: make([]float32, gemmMC*gemmKC+8), b: make([]float32, gemmKC*gemmNC+8)}
}}

// Gemm sets c, m × n, to alpha·op(a)·op(b) + beta·c, where op(a) is m × k and
// op(b) k × n: the operand itself, or its transpose if transA or transB. Rows are
// lda, ldb and ldc elements apart, as stored. With beta 0, c is not read. It runs
// on the caller's goroutine.
//
// Every element is a sum in the order of k, in blocks whose size depends on
// nothing: the bits do not depend on m, n, nor on how a product is cut into parts
// along them. It panics if a slice is too short.
func Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	if m <= 0 || n <= 0 {
		return
	}
	need("c", len(c), (m-1)*ldc+n)
	scaleRows(beta, c, ldc, m, n)
	if k <= 0 {
		return
	}
	need("a", len(a), extent(transA, m, k, lda))
	need("b", len(b), extent(transB, k, n, ldb))
	p := gemm{kernel: gemmKernel(), transA: transA, transB: transB, alpha: alpha, a: a, lda: lda, b: b, ldb: ldb, c: c, ldc: ldc}
	p.buf = gemmPool.Get().(*gemmBuffers)
	defer gemmPool.Put(p.buf)
	for j := 0; j < n; j += gemmNC {
		for l := 0; l < k; l += gemmKC {
			p.panel(m, j, min(gemmNC, n-j), l, min(gemmKC, k-l))
		}
	}
}

// GemmParallel is Gemm on at most workers goroutines. The bits are the same for
// every number of them.
func GemmParallel(workers int, transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	const grain = 1 << 18 // products below which a goroutine costs more than it saves
	parts := min(workers, m*n*k/grain)
	if parts <= 1 {
		Gemm(transA, transB, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc)
		return
	}
	step := func(i, total, unit int) int { return min(total, (total+unit-1)/unit*i/parts*unit) }
	kernel := gemmKernel()
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() {
			if m >= n {
				lo, hi := step(i, m, kernel.mr), step(i+1, m, kernel.mr)
				at := lo * lda
				if transA {
					at = lo
				}
				if lo < hi {
					Gemm(transA, transB, hi-lo, n, k, alpha, a[at:], lda, b, ldb, beta, c[lo*ldc:], ldc)
				}
				return
			}
			lo, hi := step(i, n, kernel.nr), step(i+1, n, kernel.nr)
			at := lo
			if transB {
				at = lo * ldb
			}
			if lo < hi {
				Gemm(transA, transB, m, hi-lo, k, alpha, a, lda, b[at:], ldb, beta, c[lo:], ldc)
			}
		})
	}
	wg.Wait()
}

// extent is the number of elements from the first to the last of a matrix of
// rows × cols, or of its stored transpose.
func extent(trans bool, rows, cols, ld int) int {
	if trans {
		rows, cols = cols, rows
	}
	return (rows-1)*ld + cols
}

func scaleRows(beta float32, c []float32, ldc, m, n int) {
	for i := range m {
		row := c[i*ldc : i*ldc+n]
		switch beta {
		case 1:
			return
		case 0:
			clear(row)
		default:
			for j := range row {
				row[j] *= beta
			}
		}
	}
}

// gemm is one call.
type gemm struct {
	kernel         microKernel
	transA, transB bool
	alpha          float32
	a, b, c        []float32
	lda, ldb, ldc  int
	buf            *gemmBuffers
}

// panel adds the products of columns j … j+nc with rows l … l+kc of op(b).
func (p *gemm) panel(m, j, nc, l, kc int) {
	mr, nr := p.kernel.mr, p.kernel.nr
	for s := 0; s < nc; s += nr {
		w := p.width(nc - s)
		pack(p.buf.b[s*kc:], w, !p.transB, p.b, p.ldb, j+s, min(w, nc-s), l, kc)
	}
	rows := gemmMC / mr * mr
	for i := 0; i < m; i += rows {
		mc := min(rows, m-i)
		for s := 0; s < mc; s += mr {
			pack(p.buf.a[s*kc:], mr, p.transA, p.a, p.lda, i+s, min(mr, mc-s), l, kc)
		}
		for s := 0; s < nc; s += nr {
			for r := 0; r < mc; r += mr {
				p.tile(kc, r, s, i+r, j+s, min(mr, mc-r), min(nr, nc-s))
			}
		}
	}
}

// width is that of a strip with n columns left.
func (p *gemm) width(n int) int {
	if p.kernel.half != nil && n <= p.kernel.nr/2 {
		return p.kernel.nr / 2
	}
	return p.kernel.nr
}

// tile runs the kernel on one tile, through a buffer where it is not whole.
func (p *gemm) tile(kc, r, s, i, j, m, n int) {
	f, w := p.kernel.f, p.width(n)
	if w != p.kernel.nr {
		f = p.kernel.half
	}
	a, b := &p.buf.a[r*kc], &p.buf.b[s*kc]
	if m == p.kernel.mr && n == w {
		f(kc, a, b, &p.c[i*p.ldc+j], p.ldc, p.alpha)
		return
	}
	t := p.buf.tile[:p.kernel.mr*w]
	for y := range m {
		copy(t[y*w:y*w+n], p.c[(i+y)*p.ldc+j:])
	}
	f(kc, a, b, &t[0], w, p.alpha)
	for y := range m {
		copy(p.c[(i+y)*p.ldc+j:][:n], t[y*w:])
	}
}

// pack writes n rows of the left operand (or columns of the right one), from r
// on, as kc groups of w, with zeros after the n-th. along says that a group is
// contiguous in memory.
func pack(dst []float32, w int, along bool, x []float32, ld, r, n, l, kc int) {
	if along {
		if n == 8 && w == 8 { // a copy of known length needs no call
			for p := range kc {
				*(*[8]float32)(dst[8*p:]) = [8]float32(x[(l+p)*ld+r:])
			}
			return
		}
		for p := range kc {
			d := dst[p*w : p*w+w]
			copy(d, x[(l+p)*ld+r:][:n])
			if n < w {
				clear(d[n:])
			}
		}
		return
	}
	if n < w {
		clear(dst[:w*kc])
	}
	i := 0
	if haveAsm && kc >= 8 {
		for ; n-i >= 8 || n-i == 6 && w == 6; i += min(8, w) {
			packRows(dst, w, x, ld, r, i, min(8, w), l, kc)
		}
	}
	for ; i < n; i++ {
		src := x[(r+i)*ld+l:][:kc]
		for p, v := range src {
			dst[p*w+i] = v
		}
	}
}
