package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// source is where the bytes of one file come from. The hub redirects large files
// to a signed address elsewhere; it is used until it expires.
type source struct {
	c    *Client
	ref  Ref
	file File
	hub  *url.URL

	mu     sync.Mutex
	direct *url.URL // nil: ask the hub
}

func (r *Repo) source(f File) *source {
	return &source{c: r.client, ref: r.Ref, file: f, hub: r.client.revURL(nil, r.Ref.ID+"/resolve", r.Commit, f.Path)}
}

func (s *source) address() *url.URL {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.direct != nil {
		return s.direct
	}
	return s.hub
}

// learn remembers where a request ended, or, with nil, forgets an address that
// has expired.
func (s *source) learn(from, to *url.URL) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case to == nil && s.direct == from:
		s.direct = nil
	case to != nil && s.direct == nil && !s.c.ours(to):
		s.direct = to
	}
}

// get asks for n bytes from off on. whole reports that the server sends all of
// the file instead. The caller closes the answer.
func (s *source) get(ctx context.Context, off, n int64) (r *reply, whole bool, err error) {
	q := call{method: http.MethodGet, header: http.Header{}}
	if off != 0 || n != s.file.Size {
		q.header.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+n-1))
	}
	for try := 1; ; try++ {
		q.url = s.address()
		r, err = s.c.send(ctx, q)
		if a := answered(err); a != nil && a.away && a.status/100 == 4 && try < 4 {
			s.learn(q.url, nil) // it has expired: the hub gives another one
			continue
		}
		if err != nil {
			return nil, false, s.c.about(err, s.ref)
		}
		break
	}
	if whole, err = s.check(r, off, n); err != nil {
		r.Body.Close()
		return nil, false, err
	}
	s.learn(nil, r.Request.URL)
	return r, whole, nil
}

// check demands that the answer is about the file of the listing, and about the
// bytes that were asked for.
func (s *source) check(r *reply, off, n int64) (whole bool, err error) {
	linked := strings.Trim(strings.TrimPrefix(r.hub.Get("X-Linked-Etag"), "W/"), `"`)
	if linked != "" && linked != s.file.etag() {
		return false, fault.New(fault.Mismatch, "%s: the hub's listing says %s, its download %s", s.file.Path, s.file.etag(), linked)
	}
	if r.StatusCode == http.StatusOK {
		if r.ContentLength >= 0 && r.ContentLength != s.file.Size {
			return false, fault.New(fault.Mismatch, "%s: %d bytes are listed, but %d are sent", s.file.Path, s.file.Size, r.ContentLength)
		}
		return off != 0 || n != s.file.Size, nil
	}
	want := fmt.Sprintf("bytes %d-%d/%d", off, off+n-1, s.file.Size)
	if got := r.Header.Get("Content-Range"); r.StatusCode != http.StatusPartialContent || got != want {
		return false, fault.New(fault.Mismatch, "%s: asked for %q, got status %d with %q", s.file.Path, want, r.StatusCode, got)
	}
	return false, nil
}

// errWhole says that the server knows no ranges.
var errWhole = errors.New("the server sends whole files only")

// read copies n bytes from off on to w, which may have been given the first of
// them before: when a connection breaks, it asks for the rest.
func (s *source) read(ctx context.Context, off, n int64, w io.WriterAt) error {
	end := off + n
	for try := 1; off < end; try++ {
		r, whole, err := s.get(ctx, off, end-off)
		if err != nil {
			return err
		}
		if whole {
			r.Body.Close()
			return errWhole
		}
		to, err, werr := s.copy(w, off, end, r.Body)
		r.Body.Close()
		if werr != nil {
			return cacheError(werr)
		}
		if to > off {
			off, try = to, 1
		}
		if off == end {
			return nil
		}
		if ctx.Err() != nil {
			return interrupted(ctx)
		}
		if try >= attempts {
			return s.c.failed(call{method: http.MethodGet, url: s.hub}, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if s.c.pause(ctx, try, 0) != nil {
			return interrupted(ctx)
		}
	}
	return nil
}

// pieceSize is how many bytes are written at a time: what is written at once, the
// system keeps as one large page, and not as many that cost it time each. It is
// less than a processor's second cache holds.
const pieceSize = 256 << 10

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// copy writes what r gives to w, from off up to end, and returns how far it got,
// with the connection's error and the writer's. What a connection gave before it
// broke is written, too.
func (s *source) copy(w io.WriterAt, off, end int64, r io.Reader) (to int64, err, werr error) {
	buf := pieces.Get().(*[pieceSize]byte)
	defer pieces.Put(buf)
	for off < end && err == nil {
		piece, n := buf[:min(pieceSize-off%pieceSize, end-off)], 0
		for n < len(piece) && err == nil {
			var m int
			m, err = r.Read(piece[n:])
			n += m
			s.c.add(int64(m))
		}
		m, werr := w.WriteAt(piece[:n], off)
		off += int64(m)
		if werr != nil {
			return off, err, werr
		}
	}
	return off, err, nil
}

// fill downloads the missing chunks, several at once, and returns the checksum.
// also, if not nil, is given the content in order.
func (s *source) fill(ctx context.Context, p *partial, also io.Writer) (string, error) {
	chunks, have := p.missing()
	s.c.add(have)
	h, leave := s.openHash()
	to := io.Writer(h)
	if also != nil {
		to = io.MultiWriter(h, also)
	}
	type result struct {
		whole bool
		err   error
	}
	summed := make(chan result, 1)
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ok, err := p.sum(to)
		leave()
		if err != nil {
			cancel()
		}
		summed <- result{ok, err}
	}()
	g, gctx := errgroup.WithContext(work)
	g.SetLimit(s.c.cfg.Workers)
	for _, i := range chunks {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error {
			select {
			case s.c.lines <- struct{}{}:
				defer func() { <-s.c.lines }()
			case <-gctx.Done():
				return interrupted(gctx)
			}
			p.reserve(i)
			if err := s.read(gctx, p.start(i), p.end(i)-p.start(i), p); err != nil {
				return err
			}
			return p.mark(i)
		})
	}
	err := g.Wait()
	if errors.Is(err, errWhole) {
		err = s.fillWhole(work, p)
	}
	p.stop()
	sum := <-summed
	switch {
	case sum.err != nil:
		return "", sum.err
	case err != nil:
		return "", err
	case ctx.Err() != nil || !sum.whole:
		return "", interrupted(ctx)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// fillWhole downloads from the beginning to the end, from a server that knows
// no ranges. Chunks that are there already are read over.
func (s *source) fillWhole(ctx context.Context, p *partial) error {
	for try := 1; ; try++ {
		r, _, err := s.get(ctx, 0, s.file.Size)
		if err != nil {
			return err
		}
		body := io.Reader(r.Body)
		for i := 0; err == nil && i < len(p.done); i++ {
			err = s.copyChunk(p, i, body)
		}
		r.Body.Close()
		var f *fault.Error
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return interrupted(ctx)
		case errors.As(err, &f):
			return err
		case try == attempts:
			return s.c.failed(call{method: http.MethodGet, url: s.hub}, err)
		}
		if s.c.pause(ctx, try, 0) != nil {
			return interrupted(ctx)
		}
	}
}

// copyChunk takes one chunk from a stream.
func (s *source) copyChunk(p *partial, i int, body io.Reader) error {
	if p.has(i) {
		_, err := io.CopyN(io.Discard, body, p.end(i)-p.start(i))
		return err
	}
	off, err, werr := s.copy(p, p.start(i), p.end(i), body)
	switch {
	case werr != nil:
		return cacheError(werr)
	case off == p.end(i):
		return p.mark(i)
	case errors.Is(err, io.EOF):
		return io.ErrUnexpectedEOF
	}
	return err
}

func (p *partial) has(i int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done[i] == 1
}

// openHash is newHash for a large file: two that arrive at the same time are
// hashed together. leave is called behind the last byte.
func (s *source) openHash() (h hash.Hash, leave func()) {
	if s.file.SHA256 == "" {
		return s.file.newHash(), func() {}
	}
	stream := s.c.pairs.Open()
	return stream, stream.Close
}

// newHash returns the hash that etag is a sum of.
func (f File) newHash() hash.Hash {
	if f.SHA256 != "" {
		return sha256.New()
	}
	return gitHash(f.Size)
}

// gitHash begins the SHA-1 that git names a content of the size by.
func gitHash(size int64) hash.Hash {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", size)
	return h
}
