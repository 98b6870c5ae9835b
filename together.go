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
	left := map[string]bool{}
	for _, t := range o.ck.Tensors() {
		left[t.Name] = measurable(t) && !o.tap.complete(t)
	}
	return g.measured, o.gather(ctx, g, func(t checkpoint.Tensor) bool { return left[t.Name] }, p)
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
	next    int64           // byte from which on nothing has been added; -1: given up
	waiting map[int64]piece // by where they begin: those further on
}

// piece is a run of bytes, measured.
type piece struct {
	n int64
	f figures
}

// mostWaiting bounds the pieces that wait for one before them. Experts come in the
// order in which they are chosen; a tensor of many is read again.
const mostWaiting = 64

// take measures a piece of a stored tensor from byte off on, if it is made of
// whole rows and has not been seen. numbers is what blocks stand for.
func (t *tap) take(x checkpoint.Tensor, off int64, buf, numbers []byte) {
	if t == nil || !measurable(x) || !wholeRows(x, off, int64(len(buf))) || !t.fresh(x.Name, off) {
		return
	}
	f := figuresOf(x, elementAt(x, off), buf, numbers)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.of[x.Name]
	at := piece{int64(len(buf)), f}
	switch {
	case !p.wants(off):
		return
	case off > p.next && len(p.waiting) == mostWaiting:
		p.next, p.waiting = -1, nil
		return
	case off > p.next:
		if p.waiting == nil {
			p.waiting = map[int64]piece{}
		}
		p.waiting[off] = at
		return
	}
	for ok := true; ok; at, ok = p.waiting[p.next] { // in order, so that sums come out the same in every run
		delete(p.waiting, p.next)
		p.next += at.n
		t.g.add(x.Name, at.f)
	}
}

// wants reports whether no piece was seen that begins there, or passed there.
func (p *passing) wants(off int64) bool {
	_, waits := p.waiting[off]
	return p.next >= 0 && off >= p.next && !waits
}

func (t *tap) fresh(name string, off int64) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of[name] == nil {
		t.of[name] = &passing{}
	}
	return t.of[name].wants(off)
}

// complete reports whether every byte of a tensor was measured, once; if not, it
// drops what is known of it.
func (t *tap) complete(x checkpoint.Tensor) bool {
	if p := t.of[x.Name]; p == nil || p.next != x.Size || len(p.waiting) > 0 {
		t.g.forget(x.Name)
		return false
	}
	return true
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
