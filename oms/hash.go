package oms

import (
	"cmp"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/internal/sha256x2"
)

// HashOptions say how a model is read.
type HashOptions struct {
	Ignore        []string // files and folders, relative to the model, to leave out
	AllowSymlinks bool     // follow symbolic links to files
	Workers       int      // processors that are busy, each with two files at once; 0: all
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
	sums, err := sha256x2.Sums(ctx, len(order), workers, func(i int) (io.ReadCloser, error) { return order[i].open(p) })
	switch {
	case ctx.Err() != nil:
		return fault.Wrap(fault.Interrupted, ctx.Err(), "hashing")
	case err != nil:
		return err
	}
	for i, it := range order {
		it.sum = sums[i]
	}
	return nil
}

// open demands that the file is the one that was listed.
func (p *piece) open(progress Progress) (io.ReadCloser, error) {
	f, err := os.Open(p.path)
	if err != nil {
		return nil, fault.Wrap(fault.General, err, "hashing")
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fault.Wrap(fault.General, err, "hashing")
	case !p.same(info):
		err = p.changed()
	default:
		return &pieceReader{f, p, p.start, progress}, nil
	}
	f.Close()
	return nil, err
}

func (p *piece) same(info os.FileInfo) bool {
	return os.SameFile(info, p.info) && info.Size() == p.info.Size()
}

// pieceReader reads a piece of a file that must not change meanwhile.
type pieceReader struct {
	*os.File
	p        *piece
	off      int64
	progress Progress
}

// Read reads on.
func (r *pieceReader) Read(b []byte) (int, error) {
	if r.off == r.p.end {
		// A file that grew behind what was read is another one, too.
		if info, err := r.Stat(); err != nil || !r.p.same(info) {
			return 0, r.p.changed()
		}
		return 0, io.EOF
	}
	n, err := r.ReadAt(b[:min(int64(len(b)), r.p.end-r.off)], r.off)
	r.off += int64(n)
	r.progress.Add(int64(n))
	switch {
	case errors.Is(err, io.EOF):
		return n, r.p.changed()
	case err != nil:
		return n, fault.Wrap(fault.General, err, "hashing %s", r.p.path)
	}
	return n, nil
}

func (p *piece) changed() error {
	return fault.New(fault.Mismatch, "%s changes while it is read", p.path).WithHint("let whatever writes it finish, then start again")
}
