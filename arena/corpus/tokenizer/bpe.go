package tokenizer

import (
	"container/heap"
	"fmt"
	"sync"
	"unicode/utf8"
)

// bpe merges the symbols of a word, pair by pair, in the order of training.
type bpe struct {
	vocab        map[string]int32
	merges       map[pair]merge
	bytes        *[256]int32 // ids of <0x00> … <0xFF>, -1 where missing; nil: no byte fallback
	unknown      int32       // -1: none
	fuseUnknown  bool
	ignoreMerges bool

	mu    sync.Mutex
	cache map[string][]int32
}

type (
	pair  struct{ left, right int32 }
	merge struct{ rank, id int32 }
)

// What is remembered of words seen before: enough for a language's frequent
// words, and bounded.
const (
	cacheWords  = 1 << 16
	cacheLength = 64
)

func byteToken(b int) string { return fmt.Sprintf("<0x%02X>", b) }

// encode appends the ids of one word.
func (m *bpe) encode(ids []int32, word string) []int32 {
	if m.ignoreMerges {
		if id, ok := m.vocab[word]; ok {
			return append(ids, id)
		}
	}
	if len(word) > cacheLength {
		return append(ids, m.merge(m.symbols(word))...)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.cache[word]
	if !ok {
		known = m.merge(m.symbols(word))
		if m.cache == nil || len(m.cache) >= cacheWords {
			m.cache = make(map[string][]int32)
		}
		m.cache[word] = known
	}
	return append(ids, known...)
}

// symbols are the ids that a word starts with: a character's own, its bytes', or
// the unknown token's. Like the original, a pending unknown token waits until
// the next known character, past characters that are written as bytes.
func (m *bpe) symbols(word string) []int32 {
	out := make([]int32, 0, len(word))
	pending := false
	for i := 0; i < len(word); {
		_, n := utf8.DecodeRuneInString(word[i:])
		c := word[i : i+n]
		i += n
		if id, ok := m.vocab[c]; ok {
			if pending {
				out, pending = append(out, m.unknown), false
			}
			out = append(out, id)
			continue
		}
		if fallback, ok := m.fallback(out, c); ok {
			out = fallback
			continue
		}
		if m.unknown >= 0 {
			if pending && !m.fuseUnknown {
				out = append(out, m.unknown)
			}
			pending = true
		}
	}
	if pending {
		out = append(out, m.unknown)
	}
	return out
}

// fallback appends the ids of a character's bytes, if all of them have one.
func (m *bpe) fallback(out []int32, c string) ([]int32, bool) {
	if m.bytes == nil {
		return out, false
	}
	for i := range len(c) {
		if m.bytes[c[i]] < 0 {
			return out, false
		}
	}
	for i := range len(c) {
		out = append(out, m.bytes[c[i]])
	}
	return out, true
}

// A symbol is a link of the chain that merge shortens.
type symbol struct {
	id         int32
	prev, next int32 // -1: none
	gone       bool
}

// A candidate is a merge of the symbol at position at with the one behind it.
type candidate struct{ at, rank, id int32 }

// merge applies the merges: always the one learned first, of equal ones the
// leftmost, in n log n for a word of n symbols.
func (m *bpe) merge(ids []int32) []int32 {
	if len(ids) < 2 {
		return ids
	}
	chain := make([]symbol, len(ids))
	for i, id := range ids {
		chain[i] = symbol{id: id, prev: int32(i - 1), next: int32(i + 1)}
	}
	chain[len(ids)-1].next = -1
	q := make(queue, 0, len(ids))
	for i := range len(ids) - 1 {
		if to, ok := m.merges[pair{ids[i], ids[i+1]}]; ok {
			q = append(q, candidate{int32(i), to.rank, to.id})
		}
	}
	heap.Init(&q)
	for len(q) > 0 {
		c := heap.Pop(&q).(candidate)
		left := &chain[c.at]
		if left.gone || left.next < 0 {
			continue
		}
		right := &chain[left.next]
		// The chain may have changed since the candidate was noted.
		if to, ok := m.merges[pair{left.id, right.id}]; !ok || to.id != c.id {
			continue
		}
		left.id, left.next, right.gone = c.id, right.next, true
		if left.next >= 0 {
			chain[left.next].prev = c.at
			m.propose(&q, chain, c.at)
		}
		if left.prev >= 0 {
			m.propose(&q, chain, left.prev)
		}
	}
	out := ids[:0]
	for i := int32(0); i >= 0; i = chain[i].next {
		out = append(out, chain[i].id)
	}
	return out
}

func (m *bpe) propose(q *queue, chain []symbol, at int32) {
	if to, ok := m.merges[pair{chain[at].id, chain[chain[at].next].id}]; ok {
		heap.Push(q, candidate{at, to.rank, to.id})
	}
}

type queue []candidate

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].at < q[j].at
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(candidate)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
