// Package sha256x2 computes SHA-256 (FIPS 180-4) of two streams at once.
//
// A processor with instructions for SHA-256 spends most of a block waiting for
// the round before. Where two streams take turns, round by round, it works on one
// while it waits for the other: two streams cost little more than one.
package sha256x2

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

//go:generate go -C asm run . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg sha256x2

const (
	// Size is the length of a sum in bytes.
	Size = sha256.Size
	// BlockSize is the length of a block in bytes.
	BlockSize = sha256.BlockSize
	// maxBlocks is how many blocks a kernel gets at a time: the scheduler cannot
	// interrupt it.
	maxBlocks = 1024
)

// Hash is a running SHA-256. It is a hash.Hash; the zero value is not ready, New
// makes one.
type Hash struct {
	std   hash.Hash // where there are no kernels; the rest is not used then
	state [8]uint32
	rest  [BlockSize]byte // of the input, a block that is not complete
	n     uint64          // bytes of input
}

// New returns the SHA-256 of nothing.
func New() *Hash {
	h := new(Hash)
	if !haveAsm {
		h.std = sha256.New()
	}
	h.Reset()
	return h
}

// Reset makes h the SHA-256 of nothing.
func (h *Hash) Reset() {
	if h.std != nil {
		h.std.Reset()
		return
	}
	h.state = [8]uint32{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}
	h.n = 0
}

// Size returns Size.
func (h *Hash) Size() int { return Size }

// BlockSize returns BlockSize.
func (h *Hash) BlockSize() int { return BlockSize }

// Write adds p to the input. It never fails.
func (h *Hash) Write(p []byte) (int, error) {
	if h.std != nil {
		return h.std.Write(p)
	}
	n := len(p)
	h.tail(h.fill(p))
	return n, nil
}

// Write2 adds p to the input of a and q to that of b, as a.Write(p) and
// b.Write(q) do, in less time. a and b must be two hashes; p and q may be of any
// lengths, and the same memory.
func Write2(a *Hash, p []byte, b *Hash, q []byte) {
	if a == b {
		panic("sha256x2: Write2 of one hash")
	}
	if a.std != nil || b.std != nil {
		a.Write(p)
		b.Write(q)
		return
	}
	p, q = a.fill(p), b.fill(q)
	for len(p) >= BlockSize && len(q) >= BlockSize {
		n := min(len(p)/BlockSize, len(q)/BlockSize, maxBlocks)
		blocks2(&a.state, &p[0], &b.state, &q[0], n)
		a.n, b.n = a.n+uint64(n*BlockSize), b.n+uint64(n*BlockSize)
		p, q = p[n*BlockSize:], q[n*BlockSize:]
	}
	a.tail(p)
	b.tail(q)
}

// fill completes the block that has begun, and returns what is left of p: nothing
// unless the block is complete.
func (h *Hash) fill(p []byte) []byte {
	begun := int(h.n % BlockSize)
	if begun == 0 {
		return p
	}
	n := copy(h.rest[begun:], p)
	h.n += uint64(n)
	if begun+n == BlockSize {
		blocks1(&h.state, &h.rest[0], 1)
	}
	return p[n:]
}

// tail adds p after fill.
func (h *Hash) tail(p []byte) {
	h.n += uint64(len(p))
	for len(p) >= BlockSize {
		n := min(len(p)/BlockSize, maxBlocks)
		blocks1(&h.state, &p[0], n)
		p = p[n*BlockSize:]
	}
	if len(p) > 0 { // else rest may hold the block that fill left
		copy(h.rest[:], p)
	}
}

// Sum appends the sum of the input so far to b.
func (h *Hash) Sum(b []byte) []byte {
	if h.std != nil {
		return h.std.Sum(b)
	}
	sum := h.sum()
	return append(b, sum[:]...)
}

// sum pads a copy of the input.
func (h *Hash) sum() (out [Size]byte) {
	var end [2 * BlockSize]byte
	n := copy(end[:], h.rest[:h.n%BlockSize])
	end[n] = 0x80
	size := BlockSize
	if n+1+8 > BlockSize {
		size = 2 * BlockSize
	}
	binary.BigEndian.PutUint64(end[size-8:], h.n*8)
	state := h.state
	blocks1(&state, &end[0], size/BlockSize)
	for i, v := range state {
		binary.BigEndian.PutUint32(out[4*i:], v)
	}
	return out
}
