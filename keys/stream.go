package keys

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// Stream is the endless sequence of numbers that belongs to one group under one
// key. It depends on nothing else, so groups can be drawn in any order, in
// parallel, on many machines. A Stream itself serves one goroutine.
type Stream struct {
	mac   hash.Hash
	block [sha256.Size]byte
	used  int    // bytes of block already given out
	next  uint64 // index of the block that follows
	index [8]byte

	n     uint32 // the last bound given to Intn,
	limit uint32 // and the first word it rejects (0: none)
}

// Stream returns the stream of a group, from its beginning. The id is taken
// byte for byte (UTF-8, not normalised).
func (k SealKey) Stream(groupID string) *Stream {
	groupKey := k.subkey(labelGroup + "\x00" + groupID)
	return &Stream{mac: hmac.New(sha256.New, groupKey), used: sha256.Size}
}

// refill computes block i of the keystream: HMAC-SHA256(group key, uint64be(i)).
func (s *Stream) refill() {
	binary.BigEndian.PutUint64(s.index[:], s.next)
	s.next++
	s.mac.Reset()
	s.mac.Write(s.index[:])
	s.mac.Sum(s.block[:0])
	s.used = 0
}

// Uint32 returns the next four bytes of the keystream, big-endian.
func (s *Stream) Uint32() uint32 {
	if s.used == len(s.block) {
		s.refill()
	}
	w := binary.BigEndian.Uint32(s.block[s.used:])
	s.used += 4
	return w
}

// Intn returns a number in [0, n), each equally likely: words at or above the
// largest multiple of n that fits into 2³² are skipped. Intn(1) is 0 and
// consumes nothing. It panics unless 1 ≤ n < 2³².
func (s *Stream) Intn(n int) int {
	if n < 1 || uint64(n) >= 1<<32 {
		panic(fmt.Sprintf("keys: Intn(%d): want 1 to 2³²-1", n))
	}
	if n == 1 {
		return 0
	}
	m := uint32(n)
	if m != s.n {
		s.n = m
		s.limit = uint32((1 << 32) / uint64(m) * uint64(m)) // 2³² itself becomes 0
	}
	for {
		if w := s.Uint32(); s.limit == 0 || w < s.limit {
			return int(w % m)
		}
	}
}

// Float64 returns a number in [0, 1) with 53 random bits, made from two words as
// Python's random.random makes it.
func (s *Stream) Float64() float64 {
	a, b := s.Uint32()>>5, s.Uint32()>>6
	return (float64(a)*67108864 + float64(b)) / 9007199254740992
}
