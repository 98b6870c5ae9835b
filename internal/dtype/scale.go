package dtype

import "fmt"

//go:generate go -C asm run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg dtype

// step is how many bytes the kernels look at together. Where one of the elements
// needs more than an integer addition, those bytes are done one by one.
const step = 64

// maxRow bounds the row exponent of the vector kernels, so that their 16-bit
// saturating sums cannot come back into range.
const maxRow = 8192

// ScaleRow multiplies element i of buf, little-endian elements of type d, by
// 2^(row+col[i]); a nil col stands for zeros. It is exact or fails: if a finite
// result is not representable in d (overflow, or bits lost among the
// subnormals), it returns the index of the first such element, and the content
// of buf is then unspecified. Otherwise it returns -1. Zeros, infinities and NaN
// keep their bits. Any exponent is allowed; beyond ±300 (F64: ±2200) every
// finite non-zero element fails.
//
// It panics if d is not Scalable, if buf holds no whole number of elements, or
// if col is shorter than that number.
func ScaleRow(d DType, buf []byte, row int, col []int16) (bad int) {
	f := layout(d)
	n := f.count(buf)
	if n == 0 {
		return -1
	}
	switch {
	case col == nil:
		return f.scaleRun(buf, row)
	case len(col) < n:
		panic(fmt.Sprintf("dtype: %d column exponents for %d elements", len(col), n))
	case haveAsm && -maxRow <= row && row <= maxRow:
		return f.scaleCols(buf, row, col[:n])
	}
	return f.scaleColsGo(buf, row, col[:n])
}

// scaleRun scales all elements by 2^k.
func (f *format) scaleRun(buf []byte, k int) int {
	if k == 0 {
		return -1
	}
	lo, hi, delta := f.window(k)
	n := len(buf) / f.size
	for i := 0; i < n; {
		i += f.runKernel(buf[i*f.size:], lo, hi, delta)
		for end := min(i+step/f.size, n); i < end; i++ {
			u, ok := f.scale(f.load(buf, i), k)
			if !ok {
				return i
			}
			f.store(buf, i, u)
		}
	}
	return -1
}

// window returns the magnitudes [lo, hi] that are normal and stay so when
// multiplied by 2^k, and what to add to their bit patterns. Without any such
// magnitude the window is empty.
func (f *format) window(k int) (lo, hi, delta uint64) {
	first, last := max(1, 1-k), min(f.expMax-1, f.expMax-1-k)
	if first > last {
		return f.absMask, 0, 0
	}
	return uint64(first) << f.mant, uint64(last)<<f.mant | (1<<f.mant - 1), uint64(int64(k)) << f.mant
}

// runKernel adds delta to leading elements inside the window, passes zeros, and
// returns how many elements it did.
func (f *format) runKernel(buf []byte, lo, hi, delta uint64) int {
	if !haveAsm {
		return f.scaleConstGo(buf, lo, hi, delta)
	}
	n := len(buf) / f.size
	if n == 0 {
		return 0
	}
	switch f.size {
	case 2:
		return scaleConst16(&buf[0], n, f.absMask, lo, hi, delta)
	case 4:
		return scaleConst32(&buf[0], n, f.absMask, lo, hi, delta)
	}
	return scaleConst64(&buf[0], n, f.absMask, lo, hi, delta)
}

// scaleCols is ScaleRow on the vector kernels; len(col) is the element count.
func (f *format) scaleCols(buf []byte, row int, col []int16) int {
	n := len(col)
	for i := 0; i < n; {
		i += f.colsKernel(buf[i*f.size:], col[i:], row)
		for end := min(i+step/f.size, n); i < end; i++ {
			u, ok := f.scale(f.load(buf, i), row+int(col[i]))
			if !ok {
				return i
			}
			f.store(buf, i, u)
		}
	}
	return -1
}

func (f *format) colsKernel(buf []byte, col []int16, row int) int {
	n, r, m, top := len(col), uint64(int64(row)), uint64(f.mant), uint64(f.expMax)
	switch f.size {
	case 2:
		return scaleCols16(&buf[0], &col[0], n, r, f.absMask, m, top)
	case 4:
		return scaleCols32(&buf[0], &col[0], n, r, f.absMask, m, top)
	}
	return scaleCols64(&buf[0], &col[0], n, r, f.absMask, m, top)
}
