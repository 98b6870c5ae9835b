package neuroseal

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// sealAll seals the shards. What is downloaded is written over, so that several at
// once take no more of the disk than one; not so where weights change places.
func (s *streamer) sealAll(ctx context.Context, sealer *shardSealer) error {
	all := make([]int, len(s.m.ck.Shards()))
	g, gctx := errgroup.WithContext(ctx)
	for i := range all {
		all[i] = i
	}
	read, err := s.sources()
	if err != nil {
		return err
	}
	g.SetLimit(s.atOnce(all))
	if read.any() { // what is sealed stands beside its original: one at a time
		g.SetLimit(1)
	} else {
		defer context.AfterFunc(ctx, func() {
			s.o.notice("interrupted; the shards that are being sealed come to their end first (a second interrupt does not wait, and they will be downloaded again)")
		})()
	}
	for _, i := range all {
		g.Go(func() error {
			if gctx.Err() != nil {
				return fault.Wrap(fault.Interrupted, context.Cause(gctx), "")
			}
			return s.sealShard(gctx, sealer, i, read)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return s.removeOriginals(all)
}

// sealShard seals a shard, which its original becomes, unless an earlier run did
// and the sealed bytes are what it wrote.
func (s *streamer) sealShard(ctx context.Context, sealer *shardSealer, i int, read sources) error {
	sh := s.m.ck.Shards()[i]
	ok, err := sealer.complete(sh)
	if err != nil {
		return err
	}
	if ok {
		ok, err = s.sound(ctx, sh)
	}
	if err != nil {
		return err
	}
	if !ok {
		for _, k := range append([]int{i}, read.of[i]...) {
			if err := s.bringBack(ctx, k); err != nil {
				return err
			}
		}
		s.over.drop(sh.Path)
		from := ""
		// What has another name is somebody else's, too, and stays as it is.
		if path := s.over.path(sh.Path); !read.any() && s.over.has(sh.Path, sh.Size) && atomicdir.OneName(path) {
			from = path
		}
		if err := sealer.seal(ctx, i, from); err != nil {
			return err
		}
	}
	if read.later(i) {
		return nil
	}
	return s.removeOriginals([]int{i})
}

// removeOriginals removes what was downloaded of shards.
func (s *streamer) removeOriginals(shards []int) error {
	for _, i := range shards {
		sh := s.m.ck.Shards()[i]
		s.over.drop(sh.Path)
		if err := atomicdir.RemoveFile(s.over.path(sh.Path)); err != nil {
			return err
		}
	}
	return nil
}

// sources tells, where weights change places, which originals are read while a
// shard is sealed. An original that is read must stand as it was.
type sources struct {
	of [][]int // by shard: those that are read for it
	by [][]int // by shard: those for which it is read
}

func (r sources) any() bool {
	return slices.ContainsFunc(r.of, func(l []int) bool { return len(l) > 0 })
}

// later reports whether a shard is read for other shards than itself.
func (r sources) later(i int) bool {
	return slices.ContainsFunc(r.by[i], func(k int) bool { return k != i })
}

// sources derives them from the plan, and demands the room that it takes where
// originals have to stay until all shards are sealed.
func (s *streamer) sources() (sources, error) {
	shards := s.m.ck.Shards()
	r := sources{make([][]int, len(shards)), make([][]int, len(shards))}
	moves := newReorder(s.m.ck, s.places, s.o.Key)
	if moves == nil {
		return r, nil
	}
	for _, t := range s.m.ck.Tensors() {
		from := moves.exchanged(t, moves.from)
		moved := from.Name != t.Name || len(moves.axes[t.Name]) > 0
		if moved && !slices.Contains(r.of[t.Shard], from.Shard) {
			r.of[t.Shard] = append(r.of[t.Shard], from.Shard)
			r.by[from.Shard] = append(r.by[from.Shard], t.Shard)
		}
	}
	var kept, largest int64
	for i, sh := range shards {
		largest = max(largest, sh.Size)
		if !r.later(i) {
			continue
		}
		if !s.f.present(sh) {
			kept += sh.Size
		}
		if !s.remote.Here(sh.Path) && !s.over.has(sh.Path, sh.Size) {
			kept += sh.Size
		}
	}
	if kept == 0 {
		return r, nil
	}
	return r, checkSpace(s.o.Output, kept+largest)
}

// litter is how many bytes a killed run left of a shard that are of no use: half
// of it, or one without a record.
func (s *streamer) litter(sh checkpoint.Shard) int64 {
	to := s.f.path(sealedFolder, sh.Path)
	n := atomicdir.Left(to)
	if info, err := os.Lstat(to); err == nil && !s.f.present(sh) {
		n += info.Size()
	}
	return n
}

// clear removes the litter, whose room is needed from the first download on.
func (s *streamer) clear() error {
	for _, sh := range s.m.ck.Shards() {
		to := s.f.path(sealedFolder, sh.Path)
		if err := atomicdir.Clear(to); err != nil {
			return err
		}
		if s.f.present(sh) {
			continue
		}
		if err := atomicdir.RemoveFile(to); err != nil {
			return err
		}
	}
	return nil
}
