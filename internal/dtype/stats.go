package dtype

import (
	"math"
	"unsafe"
)

// Stats gathers what range analysis needs to know of a tensor's elements. The
// zero value is empty. The same calls in the same order give the same bits.
type Stats struct {
	// Max and Min are the exponents e, |x| in [2^e, 2^(e+1)), of the largest and
	// the smallest finite non-zero element, by value also for subnormals. They
	// mean something only where Finite is true.
	Max, Min  int
	Subnormal bool // some element is subnormal in its own type

	SumSq       float64 // sum of squares of the finite elements
	MaxRowSumSq float64 // the largest such sum over one row

	Rows       int     // rows with a finite non-zero element
	LogRowMean float64 // mean over these rows of log2 of the root mean square
	LogRowM2   float64 // their sum of squared deviations (Welford)

	N, Zero, NonFinite int64 // elements: all, zeros of either sign, Inf and NaN
}

// Finite reports whether a finite non-zero element was seen.
func (s *Stats) Finite() bool { return s.N > s.Zero+s.NonFinite }

// StdLogRow returns the standard deviation, over the rows, of log2 of the root
// mean square.
func (s *Stats) StdLogRow() float64 {
	if s.Rows == 0 {
		return 0
	}
	return math.Sqrt(s.LogRowM2 / float64(s.Rows))
}

// Row adds one row, or a part of a row that is to count as one. Infinities and
// NaN are counted and else left out.
func (s *Stats) Row(d DType, buf []byte) {
	f := layout(d)
	n := f.count(buf)
	if n == 0 {
		return
	}
	a := newAcc()
	a.add(d, f, buf)
	largest, smallest := a.extremes(f.size)
	var nonFinite int64
	if largest >= f.inf() { // rare: leave them out
		var clean []byte
		clean, nonFinite = f.finite(buf)
		a = newAcc()
		a.add(d, f, clean)
		largest, smallest = a.extremes(f.size)
	}
	row := Stats{N: int64(n), Zero: a.zeros, NonFinite: nonFinite}
	if row.Finite() {
		row.Max, row.Min = f.exponent(largest), f.exponent(smallest+1)
		row.Subnormal = smallest+1 < 1<<f.mant
		row.SumSq = a.total()
		row.MaxRowSumSq = row.SumSq
		row.Rows = 1
		row.LogRowMean = math.Log2(row.SumSq/float64(row.N-nonFinite)) / 2
		if math.IsInf(row.LogRowMean, 0) { // F64 whose squares leave float64
			row.LogRowMean = float64(row.Max)
		}
	}
	s.Merge(row)
}

// Merge adds the elements that o has seen.
func (s *Stats) Merge(o Stats) {
	if o.Finite() {
		if !s.Finite() {
			s.Max, s.Min = o.Max, o.Min
		}
		s.Max, s.Min = max(s.Max, o.Max), min(s.Min, o.Min)
	}
	s.Subnormal = s.Subnormal || o.Subnormal
	s.SumSq += o.SumSq
	s.MaxRowSumSq = max(s.MaxRowSumSq, o.MaxRowSumSq)
	s.N, s.Zero, s.NonFinite = s.N+o.N, s.Zero+o.Zero, s.NonFinite+o.NonFinite
	if o.Rows == 0 {
		return
	}
	a, b := float64(s.Rows), float64(o.Rows)
	diff := o.LogRowMean - s.LogRowMean
	s.LogRowMean += diff * b / (a + b)
	s.LogRowM2 += o.LogRowM2 + diff*diff*a*b/(a+b)
	s.Rows += o.Rows
}

// MinExpAtLeast returns the smallest exponent e >= floor of a finite non-zero
// element, |x| in [2^e, 2^(e+1)), and false if there is none.
func MinExpAtLeast(d DType, buf []byte, floor int) (e int, ok bool) {
	f := layout(d)
	from := f.atLeast(floor)
	best := f.inf()
	for i := range f.count(buf) {
		if abs := f.load(buf, i) & f.absMask; abs >= from {
			best = min(best, abs)
		}
	}
	if best == f.inf() {
		return 0, false
	}
	return f.exponent(best), true
}

// atLeast returns the smallest non-zero magnitude that is 2^e or more.
func (f *format) atLeast(e int) uint64 {
	switch field := e + f.bias; {
	case field >= f.expMax:
		return f.inf()
	case field >= 1:
		return uint64(field) << f.mant
	default:
		return uint64(1) << max(0, field-1+int(f.mant))
	}
}

// finite returns the finite elements of buf and the number of the others.
func (f *format) finite(buf []byte) (clean []byte, others int64) {
	clean = make([]byte, 0, len(buf))
	for i := 0; i < len(buf); i += f.size {
		if f.load(buf[i:], 0)&f.absMask < f.inf() {
			clean = append(clean, buf[i:i+f.size]...)
		} else {
			others++
		}
	}
	return clean, others
}

// accLanes is the number of partial sums. Element i goes to sum i mod accLanes,
// in the assembly as in Go, so that both round alike.
const accLanes = 16

// statAcc is what the kernels fill; asm/stats.go knows the offsets.
type statAcc struct {
	max, min [8]uint32 // lanes of 16 or 32 bits; min holds magnitude less one
	sum      [accLanes]float64
	zeros    int64
	max64    uint64 // extremes seen in Go
	min64    uint64
}

func newAcc() *statAcc {
	a := &statAcc{min64: math.MaxUint64}
	for i := range a.min {
		a.min[i] = math.MaxUint32
	}
	return a
}

func (a *statAcc) add(d DType, f *format, buf []byte) {
	n := len(buf) / f.size
	if n == 0 {
		return
	}
	i := 0
	if haveAsm && d != F64 {
		i = n &^ (accLanes - 1)
		p := (*byte)(unsafe.Pointer(a))
		switch d {
		case BF16:
			statsBF16(&buf[0], i, p)
		case F16:
			statsF16(&buf[0], i, p)
		case F32:
			statsF32(&buf[0], i, p)
		}
	}
	for ; i < n; i++ {
		abs := f.load(buf, i) & f.absMask
		a.max64 = max(a.max64, abs)
		a.min64 = min(a.min64, abs-1) // zero wraps round and comes last
		if abs == 0 {
			a.zeros++
		}
		x := magnitude(d, abs)
		a.sum[i%accLanes] += float64(x * x) // the conversion forbids fusing
	}
}

// magnitude is the value of a pattern without sign.
func magnitude(d DType, abs uint64) float64 {
	switch d {
	case BF16:
		return float64(math.Float32frombits(uint32(abs) << 16))
	case F16:
		return float64(fromF16(uint16(abs)))
	case F32:
		return float64(math.Float32frombits(uint32(abs)))
	}
	return math.Float64frombits(abs)
}

// extremes returns the largest magnitude and the smallest non-zero one less one.
func (a *statAcc) extremes(size int) (largest, smallest uint64) {
	largest, smallest = a.max64, a.min64
	if size == 8 { // never in the lanes
		return largest, smallest
	}
	for i := range a.max {
		hi, lo := uint64(a.max[i]), uint64(a.min[i])
		if size == 2 {
			hi, lo = max(hi>>16, hi&0xffff), min(lo>>16, lo&0xffff)
		}
		largest = max(largest, hi)
		if lo < 1<<(8*size-1) { // else zeros only, or nothing
			smallest = min(smallest, lo)
		}
	}
	return largest, smallest
}

// total adds the partial sums pairwise.
func (a *statAcc) total() float64 {
	s := a.sum
	for w := accLanes / 2; w > 0; w /= 2 {
		for i := range w {
			s[i] += s[i+w]
		}
	}
	return s[0]
}
