package sha256x2

import (
	"sync"
	"time"
)

const (
	// turnSize is how many bytes of a stream are hashed at a time, so that one
	// stream does not keep another waiting for long.
	turnSize = 256 << 10
	// patience is how long a stream waits for another one: about as long as two
	// turns take.
	patience = 200 * time.Microsecond
)

// Pairs lets streams that are hashed in goroutines of their own meet: where two
// have data at the same time, one goroutine hashes both. The zero value is ready.
type Pairs struct {
	mu      sync.Mutex
	streams int
	waiting *turn // nil: nobody
}

// turn is data that waits for a partner's.
type turn struct {
	s    *Stream
	p    []byte
	done chan struct{} // closed when it is hashed
}

// Stream is a hash.Hash that looks for partners. Its methods may not be called at
// the same time; Close frees its place.
type Stream struct {
	*Hash
	pairs *Pairs
	alone bool // it waited in vain the last time
}

// Open returns the SHA-256 of nothing. The caller closes it.
func (p *Pairs) Open() *Stream {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams++
	return &Stream{Hash: New(), pairs: p}
}

// Close tells the others not to wait for s any more. The sum stays.
func (s *Stream) Close() {
	s.pairs.mu.Lock()
	defer s.pairs.mu.Unlock()
	s.pairs.streams--
}

// Write adds p to the input. It never fails.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		q := p[:min(turnSize, len(p))]
		s.turn(q)
		p = p[len(q):]
	}
	return n, nil
}

// turn hashes p with what another stream has, if there is one soon.
func (s *Stream) turn(p []byte) {
	m := s.pairs
	m.mu.Lock()
	if w := m.waiting; w != nil {
		m.waiting = nil
		m.mu.Unlock()
		// Memory that stands for a file may fault: whoever waits must not wait on.
		defer close(w.done)
		s.alone = false
		Write2(s.Hash, p, w.s.Hash, w.p)
		return
	}
	if s.std != nil || m.streams < 2 || s.alone {
		m.mu.Unlock()
		s.alone = false // every other time is enough where the others are slow
		s.Hash.Write(p)
		return
	}
	w := &turn{s, p, make(chan struct{})}
	m.waiting = w
	m.mu.Unlock()
	late := time.NewTimer(patience)
	defer late.Stop()
	select {
	case <-w.done:
		return
	case <-late.C:
	}
	m.mu.Lock()
	found := m.waiting != w
	if !found {
		m.waiting = nil
	}
	m.mu.Unlock()
	if found {
		<-w.done
		return
	}
	s.alone = true
	s.Hash.Write(p)
}
