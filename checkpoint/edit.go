package checkpoint

import (
	"context"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// Place is where a shard's bytes are.
type Place interface {
	io.ReaderAt
	io.WriterAt
}

// EditShard is RewriteShard where the shard itself becomes the output: f holds its
// bytes, and in the end what RewriteShard writes. On error it holds neither. Of
// opt, Edit, Known and Progress count.
func (c *Checkpoint) EditShard(ctx context.Context, shard int, f Place, opt RewriteOptions) (FileResult, error) {
	s := &c.shards[shard]
	r := &rewriter{c: c, opt: opt}
	p := &pipe{in: f, place: f, size: s.Size, spans: r.spans(shard), pool: newPool(behind), progress: opt.Progress, known: opt.Known[s.Path]}
	err := finish(ctx, p.run(ctx))
	if err != nil {
		err = fault.Wrap(fault.KindOf(err), err, "%s", s.Path)
	}
	return FileResult{Path: s.Path, Size: s.Size, SHA256In: p.sumIn, SHA256Out: p.sumOut}, err
}

// behind is how many blocks the output's digest may be behind the editing: the two
// take about as long, and each goes on while the other is kept from it.
const behind = 32

// inPlace edits a file where it is, and hashes behind that.
func (p *pipe) inPlace(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	edited := make(chan block, behind)
	g.Go(func() error {
		defer close(edited)
		for off := int64(0); off < p.size; {
			buf, err := p.pool.get(ctx, func() error { return nil })
			if err != nil {
				return err
			}
			b := block{off, buf[:p.cut(off)-off]}
			if err := p.overwrite(b); err != nil {
				return err
			}
			off += int64(len(b.buf))
			if err := send(ctx, edited, b); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		for b := range edited {
			if p.hashOut != nil {
				p.hashOut.Write(b.buf)
			}
			p.pool.put(b.buf)
		}
		return ctx.Err()
	})
	return g.Wait()
}

// overwrite reads a block, edits it and writes it back.
func (p *pipe) overwrite(b block) error {
	if err := p.fill(b); err != nil {
		return err
	}
	if p.hashIn != nil {
		p.hashIn.Write(b.buf)
	}
	if err := p.editBlock(b); err != nil {
		return err
	}
	if _, err := p.place.WriteAt(b.buf, b.off); err != nil {
		return p.at(b.off, err)
	}
	return nil
}
