package neuroseal

import (
	"context"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/graph"
)

// together runs the network and measures the weights in one reading of them: what
// the network reads is measured as it passes, the rest afterwards.
type together struct {
	*model
	last     graph.ID // value up to which the network is run
	observed []float64
}

func (o *together) scan(ctx context.Context, p Progress) (*measured, error) {
	g := newGatherer()
	o.tap = &tap{g: g, of: map[string]*passing{}}
	defer func() { o.tap = nil }()
	var err error
	if o.observed, err = o.activations(ctx, o.last, p); err != nil {
		return nil, err
	}
	complete := o.tap.complete()
	rest := func(t checkpoint.Tensor) bool { return measurable(t) && !complete[t.Name] }
	return g.measured, o.gather(ctx, g, rest, p)
}

// observe returns what scan has seen.
func (o *together) observe(context.Context, *gauge.Solution, Progress) ([]float64, error) {
	return o.observed, nil
}

// tap measures weights as somebody else reads them. A nil tap does nothing.
type tap struct {
	g  *gatherer
	mu sync.Mutex
	of map[string]*passing // by tensor
}

// passing is how far a tensor has been measured.
type passing struct {
	size    int64
	next    int64           // byte from which on nothing has been added
	waiting map[int64]piece // by where they begin: those further on
}

// piece is a run of bytes, measured.
type piece struct {
	n int64
	f figures
}

// take measures a piece of a stored tensor from byte off on, if it is made of
// whole rows and has not been seen. numbers is what blocks stand for.
func (t *tap) take(x checkpoint.Tensor, off int64, buf, numbers []byte) {
	if t == nil || !measurable(x) || !wholeRows(x, off, int64(len(buf))) {
		return
	}
	if !t.fresh(x, off) {
		return
	}
	f := figuresOf(x, elementAt(x, off), buf, numbers)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.of[x.Name]
	if _, twice := p.waiting[off]; twice || off < p.next {
		return
	}
	p.waiting[off] = piece{int64(len(buf)), f}
	for { // in order, so that sums come out the same in every run
		at, ok := p.waiting[p.next]
		if !ok {
			return
		}
		delete(p.waiting, p.next)
		p.next += at.n
		t.g.add(x.Name, at.f)
	}
}

// fresh reports whether no piece was seen that begins there, or passed there.
func (t *tap) fresh(x checkpoint.Tensor, off int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.of[x.Name]
	if p == nil {
		p = &passing{size: x.Size, waiting: map[int64]piece{}}
		t.of[x.Name] = p
	}
	_, waits := p.waiting[off]
	return off >= p.next && !waits
}

// complete returns the tensors of which every byte was measured, once, and drops
// what is known of the others.
func (t *tap) complete() map[string]bool {
	complete := map[string]bool{}
	for name, p := range t.of {
		if p.next == p.size && len(p.waiting) == 0 {
			complete[name] = true
		} else {
			t.g.forget(name)
		}
	}
	return complete
}

// wholeRows reports whether n bytes from off on are whole rows of a tensor, as
// Each would cut them.
func wholeRows(t checkpoint.Tensor, off, n int64) bool {
	row := t.Size
	if k := len(t.Shape); k > 1 {
		row = offsetOf(t, int64(t.Shape[k-1]))
	}
	return row > 0 && n > 0 && off%row == 0 && n%row == 0
}
