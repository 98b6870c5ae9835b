// Package mt19937 reproduces the random numbers of Python's random.Random, bit
// for bit, to undo what the original Python tool sealed. It is no source of
// secrets: its output can be predicted.
//
// The generator is that of M. Matsumoto and T. Nishimura, "Mersenne Twister: a
// 623-dimensionally equidistributed uniform pseudo-random number generator"
// (1998, reference code of 2002); seeding and floats are as in CPython's
// Modules/_randommodule.c.
package mt19937

import (
	"crypto/sha256"
)

const (
	size   = 624 // words of state
	middle = 397
)

// Rand is a generator in the state that random.seed(seed) leaves.
type Rand struct {
	state [size]uint32
	next  int // index of the word to give out; size: twist first
}

// New returns the generator of random.Random(seed) for a non-negative integer.
func New(seed uint64) *Rand {
	key := []uint32{uint32(seed)}
	if high := uint32(seed >> 32); high != 0 {
		key = append(key, high)
	}
	r := &Rand{next: size}
	r.initByArray(key)
	return r
}

// initGenrand is the reference code's init_genrand.
func (r *Rand) initGenrand(s uint32) {
	r.state[0] = s
	for i := 1; i < size; i++ {
		prev := r.state[i-1]
		r.state[i] = 1812433253*(prev^prev>>30) + uint32(i)
	}
}

// initByArray is the reference code's init_by_array.
func (r *Rand) initByArray(key []uint32) {
	r.initGenrand(19650218)
	i, j := 1, 0
	step := func() {
		if i++; i == size {
			r.state[0] = r.state[size-1]
			i = 1
		}
	}
	for range max(size, len(key)) {
		prev := r.state[i-1]
		r.state[i] = (r.state[i] ^ (prev^prev>>30)*1664525) + key[j] + uint32(j)
		step()
		j = (j + 1) % len(key)
	}
	for range size - 1 {
		prev := r.state[i-1]
		r.state[i] = (r.state[i] ^ (prev^prev>>30)*1566083941) - uint32(i)
		step()
	}
	r.state[0] = 1 << 31 // so that the state is never all zero
}

// twist computes the next 624 words.
func (r *Rand) twist() {
	for k := range size {
		y := r.state[k]&0x80000000 | r.state[(k+1)%size]&0x7fffffff
		v := r.state[(k+middle)%size] ^ y>>1
		if y&1 == 1 {
			v ^= 0x9908b0df
		}
		r.state[k] = v
	}
	r.next = 0
}

// Uint32 returns the next word, as random.getrandbits(32).
func (r *Rand) Uint32() uint32 {
	if r.next == size {
		r.twist()
	}
	y := r.state[r.next]
	r.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Random returns a number in [0, 1) with 53 random bits, as random.random().
func (r *Rand) Random() float64 {
	a, b := r.Uint32()>>5, r.Uint32()>>6
	return float64(float64(a)*67108864+float64(b)) * (1.0 / 9007199254740992)
}

// Uniform returns a number between a and b, as random.uniform(a, b). The
// conversion forbids a fused multiply-add, which would round otherwise than
// Python does.
func (r *Rand) Uniform(a, b float64) float64 {
	return a + float64((b-a)*r.Random())
}

// LegacySeed returns the seed that the original tool makes from a password:
// SHA-256 as a big-endian integer, modulo 10⁸.
func LegacySeed(password string) uint64 {
	seed := uint64(0)
	for _, b := range sha256.Sum256([]byte(password)) {
		seed = (seed<<8 | uint64(b)) % 100_000_000
	}
	return seed
}

// LegacyScales returns the factors, one per layer in order, with which the
// original tool's dynamic method multiplies: uniform in [0.1·scale, scale].
func LegacyScales(password string, scale float64, layers int) []float64 {
	r := New(LegacySeed(password))
	low := float64(scale * 0.1)
	scales := make([]float64, layers)
	for i := range scales {
		scales[i] = r.Uniform(low, scale)
	}
	return scales
}
