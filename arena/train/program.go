package train

import (
	"cmp"
	"slices"
	"sync"
)

// buf is a tensor that instructions read and write: part of the arena, or, if
// fixed, memory of its own.
type buf struct {
	size        int
	data        []float32
	stored      []byte // instead of data: a frozen weight in bfloat16
	fixed       bool
	exact       bool // integers, statistics: never rounded to bfloat16
	root        *buf // the buffer whose memory this one shares; itself at first
	first, last int  // instructions at which it is first written and last touched
	offset      int
}

func (b *buf) base() *buf {
	for b.root != b {
		b = b.root
	}
	return b
}

// f is the content, once memory is there.
func (b *buf) f() []float32 { return b.base().data[:b.size] }

// instr is a step of the program. run may write the second of each pair in place
// over the first, element by element or row by row.
type instr struct {
	node    int
	back    bool
	run     func()
	reads   []*buf
	writes  []*buf
	inPlace [][2]*buf
}

// program is a compiled network: the forward pass, the loss, the backward pass.
type program struct {
	instrs  []instr
	forward int // instructions up to the loss
	bufs    []*buf
	arena   int // float32 elements
	trouble trouble
}

// trouble is what a run finds wrong with computed values.
type trouble struct {
	mu  sync.Mutex
	err error
}

// report keeps the first error.
func (t *trouble) report(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

// take returns the error and forgets it.
func (t *trouble) take() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.err
	t.err = nil
	return err
}

// share lets instructions work in place where the operand dies there.
func (p *program) share() {
	last := map[*buf]int{}
	for i, in := range p.instrs {
		for _, b := range slices.Concat(in.reads, in.writes) {
			last[b] = i
		}
	}
	written := map[*buf]bool{}
	for i := range p.instrs {
		in := &p.instrs[i]
		for _, pair := range in.inPlace {
			from, to := pair[0], pair[1]
			if from.fixed || to.fixed || from.size != to.size || last[from] != i || written[to] || to.root != to {
				continue
			}
			base := from.base()
			if last[base] > i || base == to {
				continue
			}
			to.root = base
			last[base] = max(last[base], last[to])
		}
		for _, b := range in.writes {
			written[b] = true
		}
	}
}

// plan places every buffer in the arena: the largest first, each at the lowest
// place that is free during its life.
func (p *program) plan() {
	p.share()
	seen := map[*buf]bool{}
	var all []*buf
	for i, in := range p.instrs {
		for _, b := range slices.Concat(in.reads, in.writes) {
			b = b.base()
			if b.fixed {
				continue
			}
			if !seen[b] {
				seen[b] = true
				b.first = i
				all = append(all, b)
			}
			b.last = i
		}
	}
	crowds, single := pools(all)
	for _, c := range crowds {
		single = append(single, c.buf)
	}
	slices.SortStableFunc(single, func(a, b *buf) int { return cmp.Compare(b.size, a.size) })
	var placed []*buf // by offset
	for _, b := range single {
		at := 0
		for _, o := range placed {
			if o.last < b.first || b.last < o.first {
				continue
			}
			if at+padded(b.size) <= o.offset {
				break
			}
			at = max(at, o.offset+padded(o.size))
		}
		b.offset = at
		p.arena = max(p.arena, at+padded(b.size))
		k, _ := slices.BinarySearchFunc(placed, at, func(o *buf, at int) int { return cmp.Compare(o.offset, at) })
		placed = slices.Insert(placed, k, b)
	}
	for _, c := range crowds {
		c.place()
	}
	p.bufs = all
}

// padded rounds a size up to a cache line.
func padded(n int) int { return (n + 15) &^ 15 }

// allocate gives the buffers their memory.
func (p *program) allocate() {
	arena := make([]float32, p.arena)
	for _, b := range p.bufs {
		b.data = arena[b.offset : b.offset+b.size]
	}
}
