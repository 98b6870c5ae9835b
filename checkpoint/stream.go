package checkpoint

import "github.com/neuroseal/neuroseal/internal/fault"

// Stream cuts a shard's bytes, as they come from elsewhere, into the chunks that
// Each reads: the same runs of whole rows, in the order of the data.
type Stream struct {
	c     *Checkpoint
	left  []Tensor // those that are not complete
	chunk func(t Tensor, start int64, buf []byte) error
	off   int64  // in the file
	done  int64  // bytes of left[0]
	rest  []byte // the beginning of its next chunk
}

// Stream returns a writer for the content of a shard, from its first byte to its
// last. want and chunk are as Each has them; an error of chunk comes back from
// Write with the tensor named.
func (c *Checkpoint) Stream(shard int, want func(Tensor) bool, chunk func(t Tensor, start int64, buf []byte) error) *Stream {
	s := &Stream{c: c, chunk: chunk}
	for _, t := range c.tensors {
		if t.Shard == shard && t.Size > 0 && (want == nil || want(t)) {
			s.left = append(s.left, t)
		}
	}
	return s
}

// Write takes the next bytes of the file.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && len(s.left) > 0 {
		t := s.left[0]
		if gap := t.Offset + s.done + int64(len(s.rest)) - s.off; gap > 0 {
			gap = min(gap, int64(len(p)))
			p, s.off = p[gap:], s.off+gap
			continue
		}
		used, err := s.take(t, p)
		if err != nil {
			return 0, fault.Wrap(fault.KindOf(err), inTensor(t, err), "%s", s.c.shards[t.Shard].Path)
		}
		p, s.off = p[used:], s.off+int64(used)
	}
	s.off += int64(len(p))
	return n, nil
}

// take uses bytes of t for its next chunk, and returns how many.
func (s *Stream) take(t Tensor, p []byte) (used int, err error) {
	unit, elements := t.unit()
	size := int(chunkLen(s.done, t.Size, t.rowUnit(), unit))
	buf := p[:min(len(p), size-len(s.rest))]
	used = len(buf)
	if len(s.rest) > 0 || used < size {
		s.rest = append(s.rest, buf...)
		buf = s.rest
	}
	if len(buf) < size {
		return used, nil
	}
	err = s.chunk(t, s.done/unit*elements, buf)
	s.rest = s.rest[:0]
	if s.done += int64(size); s.done == t.Size {
		s.left, s.done = s.left[1:], 0
	}
	return used, err
}

// Complete reports whether every chunk has been given.
func (s *Stream) Complete() bool { return len(s.left) == 0 }
