package train

import (
	"cmp"
	"container/heap"
	"slices"
)

// crowd is the number of buffers of one size from which they are placed as a
// pool: a network that is unrolled over its tokens has tens of thousands, and
// placing takes the square of their number.
const crowd = 1 << 10

// pool is the buffers of one size: so many slots, of which each serves one buffer
// after another.
type pool struct {
	*buf
	members []*buf
	slot    []int // of each member
}

// pools puts crowds of buffers into pools, and returns these and the buffers that
// are left.
func pools(all []*buf) (crowds []*pool, rest []*buf) {
	sizes := map[int][]*buf{}
	for _, b := range all {
		sizes[padded(b.size)] = append(sizes[padded(b.size)], b)
	}
	for _, b := range all {
		switch members := sizes[padded(b.size)]; {
		case len(members) < crowd:
			rest = append(rest, b)
		case members[0] == b:
			crowds = append(crowds, newPool(members))
		}
	}
	return crowds, rest
}

// newPool gives each member the first slot that is free when its life begins:
// there are no more slots than members that live at once.
func newPool(members []*buf) *pool {
	slices.SortStableFunc(members, func(a, b *buf) int { return cmp.Compare(a.first, b.first) })
	p := &pool{buf: &buf{first: members[0].first}, members: members}
	var busy lives
	slots := 0
	for _, b := range members {
		at := slots
		if len(busy) > 0 && busy[0].last < b.first {
			at = heap.Pop(&busy).(life).slot
		} else {
			slots++
		}
		heap.Push(&busy, life{b.last, at})
		p.slot = append(p.slot, at)
		p.last = max(p.last, b.last)
	}
	p.size = slots * padded(members[0].size)
	return p
}

// place sets the members' offsets once the pool has its own.
func (p *pool) place() {
	for i, b := range p.members {
		b.offset = p.offset + p.slot[i]*padded(b.size)
	}
}

// life is when a slot becomes free.
type life struct{ last, slot int }

// lives is a heap of them, the earliest first.
type lives []life

func (l lives) Len() int           { return len(l) }
func (l lives) Less(i, j int) bool { return l[i].last < l[j].last }
func (l lives) Swap(i, j int)      { l[i], l[j] = l[j], l[i] }
func (l *lives) Push(x any)        { *l = append(*l, x.(life)) }
func (l *lives) Pop() any {
	old := *l
	x := old[len(old)-1]
	*l = old[:len(old)-1]
	return x
}
