package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"sort"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const (
	// chunkSize is the size of a buffer in bytes: large enough that system
	// calls and switches between goroutines do not count, small enough that a
	// buffer stays in a processor's cache from stage to stage.
	chunkSize = 512 << 10
	// poolSize is the number of buffers of a run, for all files together.
	poolSize = 16
)

// pool hands out buffers of chunkSize bytes. A file's pipeline needs no second
// buffer to let go of the first, so any number of files can share a pool.
type pool chan []byte

func newPool() pool {
	p := make(pool, poolSize)
	for range poolSize {
		p <- nil // allocated when first used
	}
	return p
}

func (p pool) get(ctx context.Context) ([]byte, error) {
	select {
	case b := <-p:
		if b == nil {
			b = make([]byte, chunkSize)
		}
		return b[:chunkSize], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pool) put(b []byte) { p <- b }

// span is one tensor's place in its file.
type span struct {
	t              Tensor
	editor         Editor // nil: copied
	unit, elements int64  // smallest bytes that hold whole elements; their number
}

func (s *span) end() int64 { return s.t.Offset + s.t.Size }

// block is a piece of a file on its way.
type block struct {
	off int64
	buf []byte
}

// pipe moves one file through stages that run at once: read and hash; edit; hash
// again; write.
type pipe struct {
	in       io.ReaderAt
	size     int64
	spans    []span    // in order, without empty tensors
	out      io.Writer // nil: hash only
	pool     pool
	progress func(int64)
	head     io.Reader // what the output has in place of the first skip bytes; nil: those
	skip     int64

	hash          hash.Hash // of the output so far; nil: that of the input
	known         string    // SHA-256 of the input; "": to be computed
	sumIn, sumOut string
}

func (p *pipe) run(ctx context.Context) error {
	if p.head != nil {
		p.hash = sha256.New()
		if _, err := io.Copy(io.MultiWriter(p.hash, p.out), p.head); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	read := make(chan block, 2)
	g.Go(func() error {
		defer close(read)
		return p.read(ctx, read)
	})
	edited := make(chan block, 1)
	g.Go(func() error {
		defer close(edited)
		return p.edit(ctx, read, edited)
	})
	hashed := make(chan block, 1)
	g.Go(func() error {
		defer close(hashed)
		return p.rehash(ctx, edited, hashed)
	})
	g.Go(func() error { return p.write(ctx, hashed) })
	if err := g.Wait(); err != nil {
		return err
	}
	if p.sumOut == "" {
		p.sumOut = p.sumIn
	}
	return p.checkEnd()
}

func (p *pipe) read(ctx context.Context, next chan<- block) error {
	h := sha256.New()
	for off := int64(0); off < p.size; {
		buf, err := p.pool.get(ctx)
		if err != nil {
			return err
		}
		b := block{off, buf[:p.cut(off)-off]}
		if err := readFull(p.in, b.buf, off); err != nil {
			return p.at(off, err)
		}
		if p.known == "" {
			h.Write(b.buf)
		}
		if p.progress != nil {
			p.progress(int64(len(b.buf)))
		}
		off += int64(len(b.buf))
		if err := send(ctx, next, b); err != nil {
			return err
		}
	}
	if p.sumIn = p.known; p.known == "" {
		p.sumIn = sum(h)
	}
	return nil
}

// cut returns where a block that begins at off ends: a chunk further, but not
// within an element.
func (p *pipe) cut(off int64) int64 {
	end := min(off+chunkSize, p.size)
	if s := p.spanAt(end); s != nil && s.t.Offset < end {
		end -= (end - s.t.Offset) % s.unit
	}
	return end
}

// spanAt returns the span that holds byte off, nil if none does.
func (p *pipe) spanAt(off int64) *span {
	i := sort.Search(len(p.spans), func(i int) bool { return p.spans[i].end() > off })
	if i == len(p.spans) || p.spans[i].t.Offset > off {
		return nil
	}
	return &p.spans[i]
}

// at adds to err the tensor that holds byte off.
func (p *pipe) at(off int64, err error) error {
	if s := p.spanAt(off); s != nil {
		return inTensor(s.t, err)
	}
	return err
}

func inTensor(t Tensor, err error) error {
	return fault.Wrap(fault.KindOf(err), err, "tensor %q", t.Name)
}

// edit applies the editors.
func (p *pipe) edit(ctx context.Context, in <-chan block, next chan<- block) error {
	for b := range in {
		if err := p.editBlock(b); err != nil {
			return err
		}
		b.buf = b.buf[:copy(b.buf, b.buf[min(max(p.skip-b.off, 0), int64(len(b.buf))):])]
		if err := send(ctx, next, b); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// rehash hashes the output. Where there are no editors, it equals the input and
// is not hashed again.
func (p *pipe) rehash(ctx context.Context, in <-chan block, next chan<- block) error {
	h := p.hash
	if h == nil && slices.ContainsFunc(p.spans, func(s span) bool { return s.editor != nil }) {
		h = sha256.New()
	}
	for b := range in {
		if h != nil {
			h.Write(b.buf)
		}
		if err := send(ctx, next, b); err != nil {
			return err
		}
	}
	if h != nil {
		p.sumOut = sum(h)
	}
	return ctx.Err()
}

// editBlock edits the part of each tensor that lies in b.
func (p *pipe) editBlock(b block) error {
	end := b.off + int64(len(b.buf))
	i := sort.Search(len(p.spans), func(i int) bool { return p.spans[i].end() > b.off })
	for ; i < len(p.spans) && p.spans[i].t.Offset < end; i++ {
		s := &p.spans[i]
		if s.editor == nil {
			continue
		}
		from, to := max(s.t.Offset, b.off), min(s.end(), end)
		start := (from - s.t.Offset) / s.unit * s.elements
		if err := s.editor.Edit(start, b.buf[from-b.off:to-b.off]); err != nil {
			return inTensor(s.t, err)
		}
	}
	return nil
}

func (p *pipe) write(ctx context.Context, in <-chan block) error {
	for b := range in {
		if p.out != nil {
			if _, err := p.out.Write(b.buf); err != nil {
				return p.at(b.off, err)
			}
		}
		p.pool.put(b.buf)
	}
	return ctx.Err()
}

// checkEnd refuses an input that has grown.
func (p *pipe) checkEnd() error {
	var one [1]byte
	if n, _ := p.in.ReadAt(one[:], p.size); n > 0 {
		return fault.New(fault.Mismatch, "file is longer than the %d bytes it had when it was opened", p.size).
			WithHint("something changes the checkpoint; let it finish, then start again")
	}
	return nil
}

func send(ctx context.Context, c chan<- block, b block) error {
	select {
	case c <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
