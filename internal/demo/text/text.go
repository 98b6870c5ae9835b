// Package text writes the training text of the demo model: as much of it as
// wanted, the same bytes for the same seed, and no sentence of anybody else's.
//
// A domain is a kind of text. "tales" teaches the demo model; the others have
// other words and other byte statistics, so that learning one of them after
// "tales" is visible in the loss.
package text

import (
	"fmt"
	"hash/fnv"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
)

// domains maps a name to the writer of one document, which ends in a newline.
var domains = map[string]func(*source) string{
	"code":  program,
	"logs":  logLines,
	"tales": tale,
}

// Domains returns the names that Generate accepts, sorted.
func Domains() []string { return slices.Sorted(maps.Keys(domains)) }

// Generate returns n bytes of the domain's text: documents with an empty line
// between them, printable ASCII and newlines only. The bytes depend on domain
// and seed alone, and a shorter text is a prefix of a longer one, so the last
// document is usually cut. It panics when the domain is not one of Domains or
// n is negative.
func Generate(domain string, seed uint64, n int) []byte {
	write, ok := domains[domain]
	if !ok {
		panic(fmt.Sprintf("text: unknown domain %q (have %s)", domain, strings.Join(Domains(), ", ")))
	}
	if n < 0 {
		panic(fmt.Sprintf("text: cannot write %d bytes", n))
	}
	s := newSource(domain, seed)
	out := make([]byte, 0, n)
	for len(out) < n {
		doc := write(s) + "\n"
		out = append(out, doc[:min(len(doc), n-len(out))]...)
	}
	return out
}

// newSource starts the domain's own stream, so that adding a domain, or
// changing one, leaves the text of the others as it is.
func newSource(domain string, seed uint64) *source {
	h := fnv.New64a()
	h.Write([]byte(domain))
	return &source{pcg: rand.NewPCG(seed, h.Sum64())}
}
