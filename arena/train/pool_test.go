package train

import (
	"testing"

	"pgregory.net/rapid"
)

// TestPool: no two buffers that live at once share memory, and a pool has no more
// slots than such buffers.
func TestPool(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "members")
		members := make([]*buf, n)
		for i := range members {
			first := rapid.IntRange(0, 50).Draw(t, "first")
			members[i] = &buf{size: 17 + i%10, first: first, last: first + rapid.IntRange(0, 20).Draw(t, "life")}
		}
		p := newPool(members)
		p.place()
		most := 0
		for _, a := range members {
			at := 0
			for _, b := range members {
				if a.first < b.first || a.first > b.last {
					continue
				}
				at++
				if a != b && a.offset == b.offset {
					t.Fatalf("lives %d-%d and %d-%d share offset %d", a.first, a.last, b.first, b.last, a.offset)
				}
			}
			most = max(most, at)
		}
		if p.size != 32*most {
			t.Fatalf("%d elements for %d at once", p.size, most)
		}
	})
}
