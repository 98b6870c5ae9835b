package dtype

import "encoding/binary"

// The portable kernels. They treat the lanes of a uint64 at once (SWAR): with
// the sign bit of every lane cleared, a lane-wise "a >= b" is the top bit of
// (a | top) - b, which cannot borrow from its neighbour.

// scaleConstGo is the contract of runKernel in Go, eight bytes at a time.
func (f *format) scaleConstGo(buf []byte, lo, hi, delta uint64) int {
	if lo > hi {
		return 0
	}
	shift := uint(8*f.size - 1)
	one := f.laneOnes()
	abs, top := one*f.absMask, one<<shift
	low, high := one*lo, one*hi|top
	for i := 0; i+8 <= len(buf); i += 8 {
		u := binary.LittleEndian.Uint64(buf[i:])
		a := u & abs
		ok := ((a | top) - low) & (high - a) & top
		if bad := ^ok & (a + abs) & top; bad != 0 {
			return i / f.size
		}
		// Lanes stay within their bits, so the wrapping product and sum of
		// whole words is the sum lane by lane, also for a negative delta.
		binary.LittleEndian.PutUint64(buf[i:], u+(ok>>shift)*delta)
	}
	return len(buf) / 8 * (8 / f.size)
}

// laneOnes has a one at the foot of every lane.
func (f *format) laneOnes() uint64 {
	switch f.size {
	case 2:
		return 0x0001000100010001
	case 4:
		return 0x0000000100000001
	}
	return 1
}

// scaleColsGo is ScaleRow with column exponents. A seal's exponents are often
// constant on blocks, and runs take the fast way.
func (f *format) scaleColsGo(buf []byte, row int, col []int16) int {
	const worthwhile = 16
	for i := 0; i < len(col); {
		j := i + 1
		for j < len(col) && col[j] == col[i] {
			j++
		}
		if j-i >= worthwhile {
			if bad := f.scaleRun(buf[i*f.size:j*f.size], row+int(col[i])); bad >= 0 {
				return i + bad
			}
			i = j
			continue
		}
		for j < len(col) && (j < i+worthwhile || col[j] != col[j-1]) {
			j++
		}
		if bad := f.scaleEach(buf[i*f.size:j*f.size], row, col[i:j]); bad >= 0 {
			return i + bad
		}
		i = j
	}
	return -1
}

// scaleEach scales element by element: quickly where it is normal and stays so.
func (f *format) scaleEach(buf []byte, row int, col []int16) int {
	mant, last, abs := f.mant, uint(f.expMax-2), f.absMask
	if f.size == 2 {
		for i, c := range col {
			p := buf[2*i : 2*i+2]
			u := binary.LittleEndian.Uint16(p)
			k := row + int(c)
			if e := int(u&0x7fff) >> (mant & 15); uint(e-1) <= last && uint(e+k-1) <= last {
				binary.LittleEndian.PutUint16(p, u+uint16(k<<(mant&15)))
				continue
			}
			w, ok := f.scale(uint64(u), k)
			if !ok {
				return i
			}
			binary.LittleEndian.PutUint16(p, uint16(w))
		}
		return -1
	}
	for i, c := range col {
		u := f.load(buf, i)
		k := row + int(c)
		if e := int(u & abs >> (mant & 63)); uint(e-1) <= last && uint(e+k-1) <= last {
			f.store(buf, i, u+uint64(int64(k))<<(mant&63))
			continue
		}
		w, ok := f.scale(u, k)
		if !ok {
			return i
		}
		f.store(buf, i, w)
	}
	return -1
}
