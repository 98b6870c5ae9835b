package hub

import (
	"context"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// incomplete is what Fetch appends to the name of a file on its way.
const incomplete = ".incomplete"

// smallFile is up to how many bytes a file is fetched whole, in memory.
const smallFile = 1 << 20

// place is where a file goes and what stands there until it is whole.
type place struct {
	final   string
	partial string           // a partial
	prefix  string           // a prefix that huggingface_hub left behind; "": none
	also    func() io.Writer // makes what is given the content, too; nil: nothing
}

// atOnce is how many large files are fetched at the same time: the checksums of
// two cost little more than that of one, and while one file waits for its last
// bytes the others go on.
const atOnce = 3

// fetchAll brings files into the cache: small ones several at once, then large
// ones atOnce, over as many connections all together.
func (r *Repo) fetchAll(ctx context.Context, files []File) error {
	c := r.client
	if err := c.prepare(r.Ref.ID); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(c.cfg.Workers)
	for _, f := range files {
		if f.Size <= smallFile {
			g.Go(func() error { return r.fetchBlob(gctx, f) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	g, gctx = errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, f := range files {
		if f.Size > smallFile {
			g.Go(func() error {
				if gctx.Err() != nil {
					return interrupted(gctx)
				}
				return r.fetchBlob(gctx, f)
			})
		}
	}
	return g.Wait()
}

// fetchBlob brings one file into the cache and into the snapshot.
func (r *Repo) fetchBlob(ctx context.Context, f File) error {
	c, id := r.client, r.Ref.ID
	if c.hasPointer(id, r.Commit, f) {
		c.add(f.Size)
		return nil
	}
	blob := c.blobPath(id, f.etag())
	release, err := c.lockBlob(ctx, id, f.etag())
	if err != nil {
		return err
	}
	defer release()
	to := place{final: blob, partial: blob + ".neuroseal.incomplete", prefix: blob + ".incomplete"}
	if info, err := os.Stat(blob); err == nil && info.Size() == f.Size {
		_ = os.Remove(to.partial) // another program completed what was begun here
		c.add(f.Size)
		return c.point(id, r.Commit, f)
	}
	if err := r.fetch(ctx, f, to); err != nil {
		return err
	}
	return c.point(id, r.Commit, f)
}

// Fetch downloads one file of the repository to path, outside of the cache, and
// returns when its checksum is right. What an interrupted call leaves behind,
// path + ".incomplete", the next one completes. Nobody else may write there.
//
// also, if not nil, makes a writer that is given the content from the first byte
// to the last, while it arrives; a download that has to begin again makes a new
// one. Only when Fetch returns nil was the content right. An error of the writer
// ends the download.
//
// It is for work that takes one shard at a time and removes it again.
func (r *Repo) Fetch(ctx context.Context, f File, path string, also func() io.Writer) error {
	if info, err := os.Lstat(path); err == nil {
		return fault.New(fault.Usage, "%s exists (%d bytes)", path, info.Size())
	}
	return r.fetch(ctx, f, place{final: path, partial: path + incomplete, also: also})
}

// fetch downloads a file and checks it; a wrong checksum gets a second chance,
// from the beginning, as the first part may stem from an interrupted run.
func (r *Repo) fetch(ctx context.Context, f File, to place) error {
	for try := 1; ; try++ {
		var sum string
		var err error
		if f.Size <= smallFile {
			sum, err = r.fetchSmall(ctx, f, to)
		} else {
			sum, err = r.fetchLarge(ctx, f, to)
		}
		if err != nil || sum == f.etag() {
			return err
		}
		if try == 2 {
			return fault.New(fault.Mismatch, "%s of %s has checksum %s, not %s, which the hub lists", f.Path, r.Ref.ID, sum, f.etag()).
				WithHint("something between the hub and this machine changes files: a proxy, a mirror, or the memory of one of them")
		}
		r.client.add(-f.Size)
		r.client.notice("%s arrived with a wrong checksum and is downloaded again", f.Path)
	}
}

func (r *Repo) fetchSmall(ctx context.Context, f File, to place) (string, error) {
	data, err := r.readAll(ctx, f)
	if err != nil {
		return "", err
	}
	h := f.newHash()
	h.Write(data)
	sum := hex.EncodeToString(h.Sum(nil))
	if sum != f.etag() {
		return sum, nil
	}
	if to.also != nil {
		if _, err := to.also().Write(data); err != nil {
			return "", err
		}
	}
	return sum, cacheError(replaceFile(to.final, data))
}

// readAll reads a file into memory.
func (r *Repo) readAll(ctx context.Context, f File) ([]byte, error) {
	buf := make(memory, f.Size)
	err := r.source(f).read(ctx, 0, f.Size, buf)
	return buf, err
}

// memory is a fixed number of bytes that can be written anywhere.
type memory []byte

func (m memory) WriteAt(p []byte, off int64) (int, error) { return copy(m[off:], p), nil }

func (r *Repo) fetchLarge(ctx context.Context, f File, to place) (string, error) {
	p, err := openPartial(to.partial, to.prefix, f.Size)
	if err != nil {
		return "", err
	}
	var also io.Writer
	if to.also != nil {
		also = to.also()
	}
	sum, err := r.source(f).fill(ctx, p, also)
	switch {
	case err != nil:
		p.f.Close() // what is there stays for the next run
		return "", err
	case sum != f.etag():
		p.discard()
		return sum, nil
	}
	return sum, p.commit(to.final, filepath.Dir(to.final))
}
