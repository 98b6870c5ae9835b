package tensor

import (
	"sync"
	"sync/atomic"
)

//go:generate go -C asm run ./gemm -out ../gemm_kernels_amd64.s -stubs ../gemm_kernels_amd64.go -pkg tensor

// The blocks of a product: kc of the inner dimension, mc rows of a, nc columns of
// b, so that what is packed stays in the second level cache.
const (
	gemmKC = 256
	gemmMC = 144
	gemmNC = 512
)

// Gemm sets c, m × n, to alpha·op(a)·op(b) + beta·c, where op(a) is m × k and
// op(b) k × n: the operand itself, or its transpose if transA or transB. Rows are
// lda, ldb and ldc elements apart, as stored. With beta 0, c is not read. It runs
// on the caller's goroutine.
//
// Every element is a sum in the order of k, in blocks whose size depends on
// nothing: the bits do not depend on m, n, nor on how a product is cut into parts
// along them. It panics if a slice is too short.
func Gemm(transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	p := gemm{transA: transA, transB: transB, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, b: b, ldb: ldb, beta: beta, c: c, ldc: ldc}
	p.check()
	p.run()
}

// GemmParallel is Gemm on at most workers goroutines. The bits are the same for
// every number of them.
func GemmParallel(workers int, transA, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []float32, ldb int, beta float32, c []float32, ldc int) {
	p := gemm{transA: transA, transB: transB, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, b: b, ldb: ldb, beta: beta, c: c, ldc: ldc}
	p.check()
	p.parallel(workers)
}

// GemmBF16 is GemmParallel with a as it is and b in bfloat16, little-endian. The
// bits are those of b's elements widened to float32, which is exact.
func GemmBF16(workers int, transB bool, m, n, k int, alpha float32, a []float32, lda int, b []byte, ldb int, beta float32, c []float32, ldc int) {
	p := gemm{transB: transB, m: m, n: n, k: k, alpha: alpha, a: a, lda: lda, b16: b, ldb: ldb, beta: beta, c: c, ldc: ldc}
	p.check()
	p.parallel(workers)
}

// gemm is one call.
type gemm struct {
	transA, transB bool
	m, n, k        int
	alpha, beta    float32
	a, b, c        []float32
	b16            []byte // b, if it is in bfloat16
	lda, ldb, ldc  int

	kernel    microKernel
	buf       *gemmBuffers
	asStoredA bool // whole strips of a are not packed
	asStoredB bool
	set       int // of a panel: 1 if c is to be set
}

// check panics if a slice is too short.
func (p *gemm) check() {
	if p.m <= 0 || p.n <= 0 {
		return
	}
	need("c", len(p.c), (p.m-1)*p.ldc+p.n)
	if p.k <= 0 {
		return
	}
	need("a", len(p.a), extent(p.transA, p.m, p.k, p.lda))
	if p.b16 != nil {
		need("b, in bytes,", len(p.b16), 2*extent(p.transB, p.k, p.n, p.ldb))
	} else {
		need("b", len(p.b), extent(p.transB, p.k, p.n, p.ldb))
	}
}

// run computes c.
func (p *gemm) run() {
	if p.m <= 0 || p.n <= 0 {
		return
	}
	if p.k <= 0 || p.beta != 0 && p.beta != 1 {
		scaleRows(p.beta, p.c, p.ldc, p.m, p.n)
	}
	p.choose()
	p.buf = gemmPool.Get().(*gemmBuffers)
	defer gemmPool.Put(p.buf)
	for j := 0; j < p.n; j += gemmNC {
		for l := 0; l < p.k; l += gemmKC {
			p.set = 0
			if l == 0 && p.beta == 0 {
				p.set = 1
			}
			p.panel(j, min(gemmNC, p.n-j), l, min(gemmKC, p.k-l))
		}
	}
}

// parallel computes c on at most workers goroutines.
func (p *gemm) parallel(workers int) {
	const grain = 1 << 18 // products below which a goroutine costs more than it saves
	parts := min(workers, p.m*p.n*p.k/grain)
	if parts <= 1 {
		p.run()
		return
	}
	kernel := gemmKernel()
	rows := p.byRows(&kernel, parts)
	unit, total := kernel.nr, p.n
	if rows {
		unit, total = kernel.mr, p.m
	} else {
		parts = min(4*parts, p.m*p.n*p.k/grain) // so that a processor that is slow does fewer
	}
	units := (total + unit - 1) / unit
	parts = min(parts, units)
	var next atomic.Int32
	work := func() {
		for i := int(next.Add(1)) - 1; i < parts; i = int(next.Add(1)) - 1 {
			q := p.part(rows, units*i/parts*unit, min(total, units*(i+1)/parts*unit))
			q.run()
		}
	}
	var wg sync.WaitGroup
	for range min(workers, parts) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// part is the product for some rows or columns of c.
func (p *gemm) part(rows bool, lo, hi int) gemm {
	q := *p
	if rows {
		q.m, q.c = hi-lo, p.c[lo*p.ldc:]
		if p.transA {
			q.a = p.a[lo:]
		} else {
			q.a = p.a[lo*p.lda:]
		}
		return q
	}
	q.n, q.c = hi-lo, p.c[lo:]
	if p.transB {
		lo *= p.ldb
	}
	if p.b16 != nil {
		q.b16 = p.b16[2*lo:]
	} else {
		q.b = p.b[lo:]
	}
	return q
}

// byRows reports whether goroutines share the rows of c: each then packs all of
// b, otherwise all of a, unless that is read where it lies.
func (p *gemm) byRows(k *microKernel, parts int) bool {
	if p.n < 2*parts*k.nr {
		return p.m >= p.n
	}
	return p.m >= p.n && (p.transA || !k.anywhere)
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
