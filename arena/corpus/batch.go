package corpus

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// golden is 2⁶⁴ divided by the golden ratio, the step of SplitMix64.
const golden = 0x9E3779B97F4A7C15

// mix is SplitMix64's output for the state x.
func mix(x uint64) uint64 {
	x += golden
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
	x = (x ^ (x >> 27)) * 0x94D049BB133111EB
	return x ^ (x >> 31)
}

// Fits refuses windows that do not fit: both texts must be longer than window.
func (c *Corpus) Fits(window int) error {
	if window < 1 {
		return fault.New(fault.Usage, "windows of %d tokens", window)
	}
	if n := min(len(c.Train), len(c.Heldout)); n <= window {
		return fault.New(fault.Usage, "%s: %d tokens to train on and %d held out are too few for windows of %d",
			c.Name, len(c.Train), len(c.Heldout), window).
			WithHint("name a longer text, or choose shorter windows")
	}
	return nil
}

// Batch returns a step's batch: batch windows of window tokens of Train, one
// after the other, and for each token the one that follows it.
//
// Row r of step s begins at a place that depends on the corpus, the seed, s and
// r alone. In unsigned arithmetic modulo 2⁶⁴:
//
//	key   = the first 8 bytes of the digest, little-endian
//	x     = key + seed·0x9E3779B97F4A7C15 + s·batch + r
//	x     = x + 0x9E3779B97F4A7C15
//	x     = (x xor x>>30) · 0xBF58476D1CE4E5B9
//	x     = (x xor x>>27) · 0x94D049BB133111EB
//	x     = x xor x>>31
//	start = x · (len(Train) − window) >> 64     (the product has 128 bits)
//
// so any engine can train on the same batches in the same order. It panics where
// Fits returns an error, or batch or step is negative.
func (c *Corpus) Batch(seed uint64, step, batch, window int) (tokens, targets []int32) {
	c.mustFit(window)
	if batch < 0 || step < 0 {
		panic(fmt.Sprintf("corpus: step %d of %d windows", step, batch))
	}
	at := c.key() + seed*golden + uint64(step)*uint64(batch)
	starts := make([]int, batch)
	for r := range starts {
		hi, _ := bits.Mul64(mix(at+uint64(r)), uint64(len(c.Train)-window))
		starts[r] = int(hi)
	}
	return windows(c.Train, starts, window)
}

// Eval returns n windows of Heldout, evenly spaced: window i begins at
// i·(len(Heldout) − window)/n, rounded down. They overlap where n is large. It
// panics where Fits returns an error.
func (c *Corpus) Eval(n, window int) (tokens, targets []int32) {
	c.mustFit(window)
	starts := make([]int, max(n, 0))
	for i := range starts {
		hi, lo := bits.Mul64(uint64(i), uint64(len(c.Heldout)-window))
		q, _ := bits.Div64(hi, lo, uint64(n))
		starts[i] = int(q)
	}
	return windows(c.Heldout, starts, window)
}

func (c *Corpus) mustFit(window int) {
	if err := c.Fits(window); err != nil {
		panic("corpus: " + err.Error())
	}
}

func windows(text []int32, starts []int, window int) (tokens, targets []int32) {
	tokens, targets = make([]int32, 0, len(starts)*window), make([]int32, 0, len(starts)*window)
	for _, s := range starts {
		tokens = append(tokens, text[s:s+window]...)
		targets = append(targets, text[s+1:s+window+1]...)
	}
	return tokens, targets
}

func (c *Corpus) key() uint64 {
	b, err := hex.DecodeString(c.Digest)
	if err != nil || len(b) < 8 {
		panic("corpus: a corpus that was not opened")
	}
	return binary.LittleEndian.Uint64(b)
}

// Unigram is the loss on Heldout, in nats per token, of the model that knows
// nothing but how often each token is in Train: (count + 1) / (tokens + vocab).
// Tokens of vocab and above make it infinite. It is what an attacker gets
// without a network.
func (c *Corpus) Unigram(vocab int) float64 {
	counts := map[int32]int{}
	for _, t := range c.Train {
		counts[t]++
	}
	held := map[int32]int{}
	for _, t := range c.Heldout {
		held[t]++
	}
	total := math.Log(float64(len(c.Train) + vocab))
	var sum float64
	for t := range int32(vocab) { // in order: the sum is the same each time
		if n := held[t]; n > 0 {
			sum += float64(n) * (total - math.Log(float64(counts[t]+1)))
			delete(held, t)
		}
	}
	if len(held) > 0 {
		return math.Inf(1)
	}
	return sum / float64(len(c.Heldout))
}
