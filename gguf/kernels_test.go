package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// kernels are the types that have assembly.
var kernels = []Type{Q4_0, Q8_0, Q4_K, Q5_K, Q6_K}

// sameNumbers demands that the assembly and the portable code write the same bits
// for whole blocks. Of numbers that are none, it asks no more than that.
func sameNumbers(t testing.TB, ty Type, blocks []byte) {
	t.Helper()
	elems, size := ty.Block()
	n := len(blocks) / size * elems
	const mark = 0x5a
	got, want := slices.Repeat([]byte{mark}, 4*n+64), make([]byte, 4*n)
	haveAsm = true
	ty.DequantiseBytes(got[:4*n], blocks)
	haveAsm = false
	ty.DequantiseBytes(want, blocks)
	haveAsm = true
	for i := range n {
		a, b := binary.LittleEndian.Uint32(got[4*i:]), binary.LittleEndian.Uint32(want[4*i:])
		x, y := math.Float32frombits(a), math.Float32frombits(b)
		if a != b && (x == x || y == y) {
			t.Fatalf("%v: element %d is %g, want %g: block %x", ty, i, x, y, blocks[i/elems*size:][:size])
		}
	}
	if slices.ContainsFunc(got[4*n:], func(b byte) bool { return b != mark }) {
		t.Fatalf("%v: %d blocks write beyond their numbers", ty, n/elems)
	}
}

// withAsm skips what compares the assembly where there is none.
func withAsm(t testing.TB) {
	if !haveAsm {
		t.Skip("this processor runs the portable code")
	}
}

// TestKernels: the assembly computes the bits that the portable code computes,
// for any number of blocks with any content.
func TestKernels(t *testing.T) {
	withAsm(t)
	random := rand.New(rand.NewPCG(1, 2))
	for _, ty := range kernels {
		t.Run(fmt.Sprint(ty), func(t *testing.T) {
			_, size := ty.Block()
			for i := range 800 {
				b := make([]byte, (1+i%7)*size)
				for i := range b {
					b[i] = byte(random.Uint32())
				}
				sameNumbers(t, ty, b)
			}
		})
	}
}

// TestKernelScales: every fp16 for a block's scales, with codes and scales of
// runs that take all their values.
func TestKernelScales(t *testing.T) {
	withAsm(t)
	for _, ty := range kernels {
		t.Run(fmt.Sprint(ty), func(t *testing.T) {
			_, size := ty.Block()
			const run = 256
			b := make([]byte, run*size)
			for i := range b {
				b[i] = byte(i * 167)
			}
			for first := 0; first < 1<<16; first += run {
				for i := range run {
					for k, at := range scalings[ty].places {
						binary.LittleEndian.PutUint16(b[i*size+at:], uint16(first+i)^uint16(k*0x5555))
					}
				}
				sameNumbers(t, ty, b)
			}
		})
	}
}

// FuzzKernels compares them on any bytes.
func FuzzKernels(f *testing.F) {
	f.Add(uint8(2), make([]byte, 144))
	f.Add(uint8(4), slices.Repeat([]byte{0xff}, 420))
	f.Add(uint8(1), slices.Repeat([]byte{0x80}, 102))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		withAsm(t)
		ty := kernels[int(kind)%len(kernels)]
		_, size := ty.Block()
		if n := len(b) / size; n > 0 && n <= 64 {
			sameNumbers(t, ty, b[:n*size])
		}
	})
}

// TestUnaligned: numbers are written to any address.
func TestUnaligned(t *testing.T) {
	for _, ty := range kernels {
		elems, size := ty.Block()
		b := slices.Repeat([]byte{0x36}, 2*size)
		want, room := make([]byte, 8*elems), make([]byte, 8*elems+3)
		ty.DequantiseBytes(want, b)
		for off := range 4 {
			got := room[off:][:8*elems]
			clear(got)
			ty.DequantiseBytes(got, b)
			if !slices.Equal(got, want) {
				t.Fatalf("%v: other numbers at offset %d", ty, off)
			}
		}
	}
}
