package checkpoint

import (
	"context"
	"encoding/hex"
	"io"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/sha256x2"
)

const (
	// chunkSize is the size of a buffer in bytes: large enough that system
	// calls and switches between goroutines do not count, small enough that a
	// file's buffers stay in a processor's second cache from stage to stage.
	chunkSize = 128 << 10
	// poolSize is the number of buffers of a run, for all files together: enough
	// for ten files in full flow.
	poolSize = 64
	// lag is how many blocks the output's digest is behind the input's, so that
	// one block can be edited while those before and behind it are hashed.
	lag = 2
)

// pool hands out buffers of chunkSize bytes. A file's pipeline that waits for one
// lets go of those it has, so any number of files can share a pool.
type pool struct {
	free chan struct{} // one for each buffer that is not in use
	mu   sync.Mutex
	made [][]byte // of these, those that exist; the last is the likeliest to be in a cache
}

func newPool(n int) *pool {
	p := &pool{free: make(chan struct{}, n)}
	for range n {
		p.free <- struct{}{}
	}
	return p
}

// get returns a buffer. If there is none it calls starved, and waits.
func (p *pool) get(ctx context.Context, starved func() error) ([]byte, error) {
	select {
	case <-p.free:
		return p.take(), nil
	default:
	}
	if err := starved(); err != nil {
		return nil, err
	}
	select {
	case <-p.free:
		return p.take(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pool) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.made)
	if n == 0 {
		return make([]byte, chunkSize)
	}
	b := p.made[n-1]
	p.made = p.made[:n-1]
	return b[:chunkSize]
}

func (p *pool) put(b []byte) {
	p.mu.Lock()
	p.made = append(p.made, b)
	p.mu.Unlock()
	p.free <- struct{}{}
}

// span is one tensor's place in its file.
type span struct {
	t              Tensor
	editor         Editor // nil: copied
	unit, elements int64  // smallest bytes that hold whole elements; their number
}

func (s *span) end() int64 { return s.t.Offset + s.t.Size }

// block is a piece of a file on its way. One without a buffer says that the
// reader waits for one.
type block struct {
	off int64
	buf []byte
}

// pipe moves one file through stages that run at once: read; hash; edit; hash
// again; write. One goroutine hashes both before and after, as two digests at
// once cost little more than one.
type pipe struct {
	in       io.ReaderAt
	size     int64
	spans    []span    // in order, without empty tensors
	out      io.Writer // nil: hash only
	pool     *pool
	progress func(int64)
	head     io.Reader // what the output has in place of the first skip bytes; nil: those
	skip     int64
	known    string // SHA-256 of the input; "": to be computed
	place    Place  // the input, to be written over in place of out; nil: it stays

	hashIn, hashOut *sha256x2.Hash // nil: not needed
	sumIn, sumOut   string
}

func (p *pipe) run(ctx context.Context) error {
	if p.known == "" {
		p.hashIn = sha256x2.New()
	}
	// Where there are no editors, the output is the input.
	if p.head != nil || slices.ContainsFunc(p.spans, func(s span) bool { return s.editor != nil }) {
		p.hashOut = sha256x2.New()
	}
	if p.head != nil {
		if _, err := io.Copy(io.MultiWriter(p.hashOut, p.out), p.head); err != nil {
			return err
		}
	}
	work := p.stages
	if p.place != nil {
		work = p.inPlace
	}
	if err := work(ctx); err != nil {
		return err
	}
	if p.sumIn = p.known; p.hashIn != nil {
		p.sumIn = sum(p.hashIn)
	}
	if p.sumOut = p.sumIn; p.hashOut != nil {
		p.sumOut = sum(p.hashOut)
	}
	return checkEnd(p.in, p.size)
}

func (p *pipe) stages(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	read, unedited, edited, hashed := make(chan block, 1), make(chan block, 1), make(chan block, 1), make(chan block, 1)
	g.Go(func() error {
		defer close(read)
		return p.read(ctx, read)
	})
	g.Go(func() error {
		defer close(unedited)
		defer close(hashed)
		return p.hash(ctx, read, unedited, edited, hashed)
	})
	g.Go(func() error { return p.edit(ctx, unedited, edited) })
	g.Go(func() error { return p.write(ctx, hashed) })
	return g.Wait()
}

func (p *pipe) read(ctx context.Context, next chan<- block) error {
	for off := int64(0); off < p.size; {
		buf, err := p.pool.get(ctx, func() error { return send(ctx, next, block{}) })
		if err != nil {
			return err
		}
		b := block{off, buf[:p.cut(off)-off]}
		if err := p.fill(b); err != nil {
			return err
		}
		off += int64(len(b.buf))
		if err := send(ctx, next, b); err != nil {
			return err
		}
	}
	return nil
}

// fill reads a block.
func (p *pipe) fill(b block) error {
	if err := readFull(p.in, b.buf, b.off); err != nil {
		return p.at(b.off, err)
	}
	if p.progress != nil {
		p.progress(int64(len(b.buf)))
	}
	return nil
}

// hash hashes each block before it is edited, together with the block that was
// edited meanwhile.
func (p *pipe) hash(ctx context.Context, read <-chan block, edit chan<- block, edited <-chan block, next chan<- block) error {
	away := 0 // blocks that are being edited
	back := func(before []byte) error {
		b, err := receive(ctx, edited)
		if err != nil {
			return err
		}
		away--
		p.digest(before, b.buf)
		return send(ctx, next, b)
	}
	for b := range read {
		for away > 0 && b.buf == nil {
			if err := back(nil); err != nil {
				return err
			}
		}
		if b.buf == nil {
			continue
		}
		var err error
		if away == lag {
			err = back(b.buf)
		} else {
			p.digest(b.buf, nil)
		}
		if err == nil {
			err = send(ctx, edit, b)
		}
		if err != nil {
			return err
		}
		away++
	}
	for away > 0 {
		if err := back(nil); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// digest adds to the digests of the input and of the output.
func (p *pipe) digest(before, after []byte) {
	switch {
	case p.hashIn != nil && p.hashOut != nil:
		sha256x2.Write2(p.hashIn, before, p.hashOut, after)
	case p.hashIn != nil:
		p.hashIn.Write(before)
	case p.hashOut != nil:
		p.hashOut.Write(after)
	}
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

// checkEnd refuses an input that has grown beyond size.
func checkEnd(in io.ReaderAt, size int64) error {
	var one [1]byte
	if n, _ := in.ReadAt(one[:], size); n > 0 {
		return fault.New(fault.Mismatch, "file is longer than the %d bytes it had when it was opened", size).
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

func receive(ctx context.Context, c <-chan block) (block, error) {
	select {
	case b := <-c:
		return b, nil
	case <-ctx.Done():
		return block{}, ctx.Err()
	}
}

func sum(h *sha256x2.Hash) string { return hex.EncodeToString(h.Sum(nil)) }
