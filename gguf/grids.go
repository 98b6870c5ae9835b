package gguf

import (
	_ "embed"
	"sync"
)

// packedGrids holds the code books of the IQ types; interop/gguf_grids.py says
// how they are packed and writes the file.
//
//go:embed grids.bin
var packedGrids []byte

// book is a code book: entries of width values each, one after the other.
type book struct {
	width  int
	values []float32
}

// entry returns the values of one entry.
func (b *book) entry(i int) []float32 { return b.values[i*b.width : (i+1)*b.width] }

// books are the code books of the IQ types.
type books struct {
	iq2xxs, iq2xs, iq2s, iq3xxs, iq3s, iq1 book
}

// grids unpacks the code books when they are first used.
var grids = sync.OnceValue(func() *books {
	two := []float32{0x08, 0x19, 0x2b}
	at := 0
	next := func(size, width, bits int, values []float32) book {
		b := book{width: width}
		for _, x := range packedGrids[at : at+size] {
			for s := 0; s < 8; s += bits {
				b.values = append(b.values, values[x>>s&(1<<bits-1)])
			}
		}
		at += size
		return b
	}
	return &books{
		iq2xxs: next(512, 8, 2, two),
		iq2xs:  next(1024, 8, 2, two),
		iq2s:   next(2048, 8, 2, two),
		iq3xxs: next(512, 4, 4, []float32{0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3e}),
		iq3s:   next(1024, 4, 4, []float32{0x01, 0x03, 0x05, 0x07, 0x09, 0x0b, 0x0d, 0x0f}),
		iq1:    next(4096, 8, 2, []float32{-1, 0, 1}),
	}
})

// nibbles are the values of IQ4_NL's and IQ4_XS's codes.
var nibbles = [16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}

// fourBits are twice the values of e2m1, the codes of MXFP4 and NVFP4.
var fourBits = [16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// evenSigns completes seven sign bits by an eighth, so that their number is even.
func evenSigns(x uint32) byte {
	b := byte(x & 127)
	p := b ^ b>>4
	p ^= p >> 2
	p ^= p >> 1
	return b | p<<7
}
