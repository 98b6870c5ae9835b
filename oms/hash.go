package oms

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// HashOptions say how a model is read.
type HashOptions struct {
	Ignore        []string // files and folders, relative to the model, to leave out
	AllowSymlinks bool     // follow symbolic links to files
	Workers       int      // files read at once; 0: as many as there are processors
	Progress      Progress
}

// Hash reads a model, a folder or one file, and makes its statement. Files are
// read in parallel, in memory that does not depend on their size. A symbolic
// link is refused unless it is allowed, and one to a folder always.
func Hash(ctx context.Context, model string, o HashOptions) (*Statement, error) {
	for _, p := range o.Ignore {
		if err := checkPath(p); err != nil {
			return nil, fault.Wrap(fault.Usage, err, "path to ignore")
		}
	}
	w := walker{root: model, ignore: ignoring(o.Ignore), links: o.AllowSymlinks}
	t, err := w.list()
	if err != nil {
		return nil, err
	}
	list := make([]piece, len(t.files))
	for i, f := range t.files {
		list[i] = piece{file: f, end: f.info.Size()}
	}
	if err := hashAll(ctx, list, o.Workers, o.Progress); err != nil {
		return nil, err
	}
	name, err := filepath.Abs(model)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "naming the model")
	}
	res := make([]Resource, len(list))
	for i, p := range list {
		res[i] = Resource{Path: p.rel, SHA256: p.sum}
	}
	s, err := NewStatement(filepath.Base(name), res, o.Ignore)
	if err == nil {
		s.AllowSymlinks = o.AllowSymlinks
	}
	return s, err
}

// piece is a range of a file to hash.
type piece struct {
	file
	start, end int64
	sum        Digest
}

// hashAll hashes pieces, the largest first so that the last ones end together.
func hashAll(ctx context.Context, list []piece, workers int, p Progress) error {
	p = orSilent(p)
	var total int64
	order := make([]*piece, len(list))
	for i := range list {
		order[i] = &list[i]
		total += list[i].end - list[i].start
	}
	slices.SortStableFunc(order, func(a, b *piece) int { return cmp.Compare(b.end-b.start, a.end-a.start) })
	p.Stage("hashing", total)
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers)
	for _, it := range order {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return it.hash(gctx, p) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Interrupted, err, "hashing")
	}
	return nil
}

// hash reads the piece and demands that the file is the one that was listed.
func (p *piece) hash(ctx context.Context, progress Progress) error {
	f, err := os.Open(p.path)
	if err != nil {
		return fault.Wrap(fault.General, err, "hashing")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fault.Wrap(fault.General, err, "hashing")
	}
	if !os.SameFile(info, p.info) || info.Size() != p.info.Size() {
		return p.changed()
	}
	h := sha256.New()
	n, err := stream(ctx, io.NewSectionReader(f, p.start, p.end-p.start), func(b []byte) {
		h.Write(b)
		progress.Add(int64(len(b)))
	})
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(fault.Interrupted, ctx.Err(), "hashing")
	case err != nil:
		return fault.Wrap(fault.General, err, "hashing %s", p.path)
	case n != p.end-p.start:
		return p.changed()
	}
	// A file that grew behind what was read is another one, too.
	if info, err = f.Stat(); err != nil || info.Size() != p.info.Size() {
		return p.changed()
	}
	p.sum = Digest(h.Sum(nil))
	return nil
}

func (p *piece) changed() error {
	return fault.New(fault.Mismatch, "%s changes while it is read", p.path).WithHint("let whatever writes it finish, then start again")
}

const chunk = 1 << 20

var chunks = sync.Pool{New: func() any { b := make([]byte, chunk); return &b }}

// stream reads r to its end, one chunk ahead of what use works on.
func stream(ctx context.Context, r io.Reader, use func([]byte)) (int64, error) {
	type part struct {
		buf *[]byte
		n   int
		err error
	}
	next := make(chan part, 1)
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer close(next)
		for {
			b := chunks.Get().(*[]byte)
			n, err := io.ReadFull(r, *b)
			select {
			case next <- part{b, n, err}:
			case <-done:
				chunks.Put(b)
				return
			}
			if err != nil {
				return
			}
		}
	}()
	var total int64
	for p := range next {
		use((*p.buf)[:p.n])
		chunks.Put(p.buf)
		total += int64(p.n)
		if p.err != nil && !errors.Is(p.err, io.EOF) && !errors.Is(p.err, io.ErrUnexpectedEOF) {
			return total, p.err
		}
		if ctx.Err() != nil {
			return total, ctx.Err()
		}
	}
	return total, nil
}
