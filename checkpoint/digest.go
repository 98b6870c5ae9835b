package checkpoint

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// FileDigest is the SHA-256 of a file, in hexadecimal.
type FileDigest struct {
	Path   string // relative, slash-separated
	Size   int64  // in bytes
	SHA256 string
}

// Digest hashes files below dir, named by relative, slash-separated paths, and
// returns their digests in the same order. n files are hashed at once, as many
// as there are processors if n is 0. progress, if set, is told how many more
// bytes have been read, from several goroutines at once.
//
// A missing file gives fault.Mismatch, a path that leaves dir
// fault.Unsupported, an ended ctx fault.Interrupted.
func Digest(ctx context.Context, dir string, files []string, n int, progress func(n int64)) ([]FileDigest, error) {
	res := make([]FileDigest, len(files))
	pool := newPool()
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(workers(n))
	for i, rel := range files {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() (err error) {
			res[i], err = digest(gctx, dir, rel, pool, progress)
			return err
		})
	}
	if err := finish(ctx, g.Wait()); err != nil {
		return nil, err
	}
	return res, nil
}

func digest(ctx context.Context, dir, rel string, pool pool, progress func(int64)) (FileDigest, error) {
	res := FileDigest{Path: rel}
	if err := atomicdir.CheckName(rel); err != nil {
		return res, err
	}
	f, err := os.Open(filepath.Join(dir, filepath.FromSlash(rel)))
	if os.IsNotExist(err) {
		return res, fault.Wrap(fault.Mismatch, err, "file is missing")
	}
	if err != nil {
		return res, fault.Wrap(fault.General, err, "hashing")
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return res, fault.Wrap(fault.General, err, "hashing")
	}
	if !info.Mode().IsRegular() {
		return res, fault.New(fault.Mismatch, "%s is not a file", rel)
	}
	p := &pipe{in: f, size: info.Size(), pool: pool, progress: progress}
	if err := p.run(ctx); err != nil {
		return res, fault.Wrap(fault.KindOf(err), err, "%s", rel)
	}
	res.Size, res.SHA256 = p.size, p.sumIn
	return res, nil
}
