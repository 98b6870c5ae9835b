package gauge

import "slices"

// piece is a stretch of consecutive variables that are all free, or all bound:
// equal to a run of combinations of others.
type piece struct {
	start   int32
	n       int
	bound   bool
	ts      []term   // of a bound piece
	reasons [2]int32 // the nodes whose equations bound its variables, in turn
}

// why returns the node whose equations bound a variable of the piece.
func (p *piece) why(v int32) int32 { return p.reasons[(v-p.start)&1] }

// block is a stretch of variables that were made together.
type block struct {
	start  int32
	n      int
	origin origin
	pieces []piece
	last   int  // the piece that was found last
	coarse bool // listed in system.coarse
}

// coarseLimit is the number of pieces past which a block is looked over.
const coarseLimit = 1 << 10

// bind binds a stretch of free piece j.
func (b *block) bind(j int, bound piece) {
	p := b.pieces[j]
	from := int(bound.start - p.start)
	parts := make([]piece, 0, 3)
	if from > 0 {
		parts = append(parts, piece{start: p.start, n: from})
	}
	parts = append(parts, bound)
	if rest := p.n - from - bound.n; rest > 0 {
		parts = append(parts, piece{start: bound.start + int32(bound.n), n: rest})
	}
	b.pieces = slices.Replace(b.pieces, j, j+1, parts...)
}

// extend binds the first variables of free piece j by joining them to the piece
// before, if that goes on so: what is bound one element at a time, in the order
// of the variables, is one piece. All of it must refer to variables that stay
// free; otherwise pieces could refer to parts of each other, or of themselves.
func (s *system) extend(b *block, j int, bound piece) bool {
	before, p := b.pieces[j-1], b.pieces[j]
	// Taking a piece out of the middle of many is left to tidy, which is one pass.
	if before.reasons != bound.reasons || bound.n == p.n && len(b.pieces)-j > coarseLimit {
		return false
	}
	q, ok := before.joined(bound)
	if !ok || q.refersToItself() || !s.settled(before) {
		return false
	}
	b.pieces[j-1] = q
	if bound.n == p.n {
		b.pieces = slices.Delete(b.pieces, j, j+1)
	} else {
		b.pieces[j].start, b.pieces[j].n = p.start+int32(bound.n), p.n-bound.n
	}
	return true
}

func (p piece) refersToItself() bool {
	for _, t := range p.ts {
		width := int32(1)
		if t.step != 0 {
			width = int32(p.n)
		}
		if t.v < p.start+int32(p.n) && p.start < t.v+width {
			return true
		}
	}
	return false
}

// joined returns the piece that two bound pieces, one after the other, make
// together, if they do. Their reasons may take turns: gate and up, interleaved
// in one tensor, are pinned by two operations.
func (p piece) joined(q piece) (piece, bool) {
	if !p.bound || !q.bound {
		return p, false
	}
	r, ok := join(run{p.n, p.ts}, q.n, q.ts)
	if !ok {
		return p, false
	}
	if p.n == 1 {
		p.reasons[1] = q.reasons[0]
	}
	if p.why(q.start) != q.reasons[0] || q.n > 1 && p.why(q.start+1) != q.reasons[1] {
		return p, false
	}
	p.n, p.ts = r.n, r.ts
	return p, true
}

// tidy joins pinned pieces in blocks that have gathered many: a tensor that is
// taken apart element by element is pinned in as many steps.
func (s *system) tidy() {
	for _, i := range s.coarse {
		b := &s.blocks[i]
		out := b.pieces[:1]
		for _, p := range b.pieces[1:] {
			if q, ok := out[len(out)-1].joined(p); ok && len(p.ts) == 0 {
				out[len(out)-1] = q
			} else {
				out = append(out, p)
			}
		}
		if len(out) < len(b.pieces)/2 {
			out = slices.Clone(out)
		}
		b.pieces, b.last, b.coarse = out, 0, false
	}
	s.coarse = s.coarse[:0]
}
