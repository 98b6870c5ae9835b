package specimen

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/neuroseal/neuroseal/arena/train"
	"github.com/neuroseal/neuroseal/internal/demo/text"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// Bytes is the vocabulary of the specimens: a token is a byte of ASCII.
const Bytes = 128

// Text names a text that package internal/demo/text writes.
type Text struct {
	Domain string
	Seed   uint64
	Bytes  int
}

// Split writes the text and returns the part that is trained on, the first nine
// tenths, and the part that is held out.
func (t Text) Split() (seen, unseen []byte, err error) {
	if !slices.Contains(text.Domains(), t.Domain) {
		return nil, nil, fault.New(fault.Usage, "unknown domain %q", t.Domain).WithHint("known: %v", text.Domains())
	}
	if t.Bytes < 0 || t.Bytes > 1<<30 {
		return nil, nil, fault.New(fault.Usage, "a text of %d bytes", t.Bytes).WithHint("up to %d bytes", 1<<30)
	}
	all := text.Generate(t.Domain, t.Seed, t.Bytes)
	at := len(all) * 9 / 10
	return all[:at], all[at:], nil
}

// command writes the same text.
func (t Text) command() string {
	return fmt.Sprintf("go run ./internal/demo/gentext -domain %s -seed %d -bytes %d", t.Domain, t.Seed, t.Bytes)
}

// Unigram is the held-out loss, in nats per byte, of the model that knows only
// how frequent each byte is in the seen part (add-one smoothed over the
// vocabulary).
func Unigram(seen, unseen []byte) float64 {
	var counts [Bytes]float64
	for _, b := range seen {
		counts[b%Bytes]++
	}
	total, sum := float64(len(seen)+Bytes), 0.0
	for _, b := range unseen {
		sum -= math.Log((counts[b%Bytes] + 1) / total)
	}
	return sum / float64(len(unseen))
}

// batches draws windows of a text. Half of them start with a document, so that
// the model meets whole ones; the others start anywhere.
type batches struct {
	text      []byte
	documents []int // where windows may start with a document
	window, n int
	random    *rand.PCG
}

func newBatches(t []byte, window, n int, seed uint64) (*batches, error) {
	if window < 1 || n < 1 || len(t) <= window {
		return nil, fault.New(fault.Usage, "%d windows of %d bytes cannot be drawn from a text of %d bytes", n, window, len(t))
	}
	b := &batches{text: t, window: window, n: n, random: rand.NewPCG(seed, 0x5eed)}
	for i := 2; i+window < len(t); i++ {
		if t[i-1] == '\n' && t[i-2] == '\n' {
			b.documents = append(b.documents, i)
		}
	}
	return b, nil
}

// below takes only Uint64 of the generator, whose output its definition fixes.
func (b *batches) below(n int) int {
	hi, _ := bits.Mul64(b.random.Uint64(), uint64(n))
	return int(hi)
}

// next returns a batch.
func (b *batches) next() train.Batch {
	var out train.Batch
	for i := range b.n {
		at := 0
		if i < b.n/2 && len(b.documents) > 0 {
			at = b.documents[b.below(len(b.documents))]
		} else {
			at = b.below(len(b.text) - b.window)
		}
		appendWindow(&out, b.text[at:at+b.window+1])
	}
	return out
}

// appendWindow adds a sequence of which every byte predicts the next.
func appendWindow(b *train.Batch, w []byte) {
	for i := range len(w) - 1 {
		b.Tokens = append(b.Tokens, int32(w[i]))
		b.Targets = append(b.Targets, int32(w[i+1]))
	}
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
