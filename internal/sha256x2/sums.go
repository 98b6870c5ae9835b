package sha256x2

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Sums reads n streams to their ends and returns their SHA-256, in order. Each of
// at most workers goroutines hashes two streams at once, as long as there are so
// many. open is called once for each of 0 to n-1, from several goroutines at once;
// every stream is closed. An error of open or of a stream ends the work and comes
// back as it is; an ended ctx gives ctx.Err(), when the reads under way return.
func Sums(ctx context.Context, n, workers int, open func(i int) (io.ReadCloser, error)) ([][Size]byte, error) {
	s := &summer{sums: make([][Size]byte, n), open: open}
	g, ctx := errgroup.WithContext(ctx)
	for range min(max(workers, 1), (n+1)/2) {
		a := &line{hash: New(), i: s.take()} // here, so that no worker gets one and another three
		b := &line{hash: New(), i: s.take()}
		g.Go(func() error {
			defer a.close()
			defer b.close()
			return s.work(ctx, a, b)
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return s.sums, nil
}

// summer hands out streams and collects sums.
type summer struct {
	sums [][Size]byte
	open func(i int) (io.ReadCloser, error)
	next atomic.Int64
}

// take returns the number of the next stream; from len(sums) on there is none.
func (s *summer) take() int { return int(s.next.Add(1)) - 1 }

// work hashes two streams at a time until there are no more.
func (s *summer) work(ctx context.Context, a, b *line) error {
	for {
		for _, l := range []*line{a, b} {
			if err := s.fill(ctx, l); err != nil {
				return err
			}
		}
		if len(a.data) == 0 && len(b.data) == 0 {
			return nil
		}
		n := min(len(a.data), len(b.data))
		if n == 0 {
			n = ahead // the other one alone
		}
		p, q := a.data[:min(n, len(a.data))], b.data[:min(n, len(b.data))]
		Write2(a.hash, p, b.hash, q)
		a.data, b.data = a.data[len(p):], b.data[len(q):]
	}
}

// fill gives l data to hash, of the next stream where one has ended. Without
// data after that, there are no more streams.
func (s *summer) fill(ctx context.Context, l *line) (err error) {
	for len(l.data) == 0 && l.i < len(s.sums) {
		if l.from == nil {
			r, err := s.open(l.i)
			if err != nil {
				return err
			}
			l.from = follow(r)
		}
		l.data, err = l.from.read(ctx)
		if errors.Is(err, io.EOF) {
			l.close()
			l.hash.Sum(s.sums[l.i][:0])
			l.hash.Reset()
			l.i = s.take()
		} else if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// line is one of the two streams of a worker.
type line struct {
	hash *Hash
	i    int       // the stream's number
	from *follower // nil: not open
	data []byte    // read and not hashed
}

func (l *line) close() {
	if l.from != nil {
		l.from.close()
		l.from = nil
	}
}

// ahead is how many bytes of a stream are read while those before are hashed: few
// enough that all of two streams' stay in a processor's cache.
const ahead = 256 << 10

var buffers = sync.Pool{New: func() any { return new([ahead]byte) }}

// follower reads a stream one piece ahead.
type follower struct {
	pieces chan piece
	using  *[ahead]byte // what the last read gave
	err    error        // what comes after that
	quit   chan struct{}
	ended  chan struct{}
}

// piece is a part of a stream.
type piece struct {
	buf *[ahead]byte
	n   int
	err error // what comes after it
}

func follow(r io.ReadCloser) *follower {
	f := &follower{pieces: make(chan piece), quit: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		defer r.Close()
		for {
			p := piece{buf: buffers.Get().(*[ahead]byte)}
			for p.err == nil && p.n < ahead {
				var n int
				n, p.err = r.Read(p.buf[p.n:])
				p.n += n
			}
			select {
			case f.pieces <- p:
			case <-f.quit:
				return
			}
			if p.err != nil {
				return
			}
		}
	}()
	return f
}

// read returns the next piece, which is valid until the next call, or the error
// that ends the stream.
func (f *follower) read(ctx context.Context) ([]byte, error) {
	f.release()
	if f.err != nil {
		return nil, f.err
	}
	select {
	case p := <-f.pieces:
		f.using, f.err = p.buf, p.err
		if p.n == 0 {
			return nil, f.err
		}
		return p.buf[:p.n], nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *follower) release() {
	if f.using != nil {
		buffers.Put(f.using)
		f.using = nil
	}
}

// close returns when the stream is closed.
func (f *follower) close() {
	f.release()
	close(f.quit)
	<-f.ended
}
