package neuroseal

import (
	"bytes"
	"context"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// atOnce is how many shards are downloaded, and later sealed, at the same time:
// more than there are processors in most machines would only share them, and one
// would leave them idle while it waits for its last bytes or for the disk. All are
// here before the first is sealed, so the disk holds no more for it.
const atOnce = 3

// download brings everything here that is needed. A shard is measured while it
// arrives; one that was here before, while the next one does.
func (s *streamer) download(ctx context.Context) error {
	var total int64
	var shards []int
	for i, sh := range s.m.ck.Shards() {
		if !s.done(i) {
			shards = append(shards, i)
			total += sh.Size
		}
	}
	for _, f := range s.m.ck.OtherFiles() {
		total += f.Size
	}
	s.o.Progress.Stage("downloading "+s.remote.Name, total)
	for _, f := range s.m.ck.OtherFiles() {
		if err := s.bring(ctx, f.Path, f.Size, nil); err != nil {
			return err
		}
	}
	arrived := make(chan int, len(shards))
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(arrived)
		in, ictx := errgroup.WithContext(gctx)
		in.SetLimit(s.atOnce(shards))
		for _, i := range shards {
			in.Go(func() error {
				if ictx.Err() != nil {
					return fault.Wrap(fault.Interrupted, context.Cause(ictx), "interrupted")
				}
				if err := s.bringShard(ictx, i); err != nil {
					return err
				}
				arrived <- i
				return nil
			})
		}
		return in.Wait()
	})
	g.Go(func() error {
		for i := range arrived {
			if _, err := s.stats.shard(gctx, i, silent{}); err != nil {
				return err
			}
		}
		return nil
	})
	err := g.Wait()
	if err != nil && ctx.Err() != nil && fault.KindOf(err) == fault.General {
		err = fault.Wrap(fault.Interrupted, err, "interrupted")
	}
	return err
}

// atOnce returns how many of these shards can be downloaded at the same time: one
// where two are the same file here.
func (s *streamer) atOnce(shards []int) int {
	seen := map[string]bool{}
	for _, i := range shards {
		path := s.over.path(s.m.ck.Shards()[i].Path)
		if seen[path] {
			return 1
		}
		seen[path] = true
	}
	return atOnce
}

// bring downloads a file that is not here, and shows its content to also.
func (s *streamer) bring(ctx context.Context, file string, size int64, also func() io.Writer) error {
	if s.remote.Here(file) || s.over.has(file, size) {
		s.o.Progress.Add(size)
		return nil
	}
	path := s.over.path(file)
	if err := atomicdir.RemoveFile(path); err != nil { // of another size: not whole
		return err
	}
	return s.remote.Fetch(ctx, file, path, also)
}

// bringShard downloads a shard, measures it on the way, and demands that it has
// the header that was read before it was here.
func (s *streamer) bringShard(ctx context.Context, i int) error {
	sh := s.m.ck.Shards()[i]
	if s.remote.Here(sh.Path) {
		s.o.Progress.Add(sh.Size)
		return nil
	}
	at, err := s.stamp(sh)
	if err != nil {
		return err
	}
	record := s.f.path(measuredFolder, sh.Path+".json")
	var m *meter
	var stream *checkpoint.Stream
	var also func() io.Writer
	if s.stats.read(record, i, at) == nil {
		also = func() io.Writer {
			m = s.stats.meter(i)
			stream = s.m.ck.Stream(i, measurable, m.add)
			return stream
		}
	}
	fresh := !s.over.has(sh.Path, sh.Size)
	if err := s.bring(ctx, sh.Path, sh.Size, also); err != nil {
		return err
	}
	if err := s.sameHeader(sh); err != nil {
		return err
	}
	if sum := s.remote.Sum(sh.Path); fresh && len(sum) == 64 && s.allMeasured(i) {
		s.knowing.Lock()
		s.known[sh.Path] = sum // the tensors' checksums tell if it changes from here on
		s.knowing.Unlock()
	}
	if m != nil && stream.Complete() {
		_, err = s.stats.keep(record, i, at, m.record(at))
	}
	return err
}

// bringBack is bringShard for a shard that was here before, and should be still.
func (s *streamer) bringBack(ctx context.Context, i int) error {
	sh := s.m.ck.Shards()[i]
	switch {
	case s.remote.Here(sh.Path):
		return nil
	case s.over.has(sh.Path, sh.Size):
		return s.sameHeader(sh)
	}
	return s.bringShard(ctx, i)
}

// sameHeader demands that a shard that has arrived has the header by which its
// tensors are found.
func (s *streamer) sameHeader(sh checkpoint.Shard) error {
	f, err := os.Open(s.over.path(sh.Path))
	if err != nil {
		return fault.Wrap(fault.General, err, "reading a downloaded shard")
	}
	defer f.Close()
	head := make([]byte, len(sh.Header.Raw))
	if _, err := io.ReadFull(f, head); err != nil || !bytes.Equal(head, sh.Header.Raw) {
		return fault.New(fault.Mismatch, "%s of %s begins with another header than the one that was read before its download", sh.Path, s.remote.Name).
			WithHint("something between the hub and this machine changes files: a proxy, a mirror, or the memory of one of them")
	}
	return nil
}

// allMeasured reports whether every tensor of a shard has statistics, and so a
// checksum that is compared when it is sealed.
func (s *streamer) allMeasured(shard int) bool {
	return !slices.ContainsFunc(s.m.ck.Tensors(), func(t checkpoint.Tensor) bool { return t.Shard == shard && t.Size > 0 && !measurable(t) })
}

// done reports whether an earlier run sealed a shard, of this very seal, so that
// its original is not needed: the plan will say whether that is certain.
func (s *streamer) done(i int) bool {
	sh := s.m.ck.Shards()[i]
	at, err := s.stamp(sh)
	if err != nil || !s.f.present(sh) || s.stats.read(s.f.path(measuredFolder, sh.Path+".json"), i, at) == nil {
		return false
	}
	r, err := s.f.record(sh.Path)
	return err == nil && r.Setup == s.f.digest && r.Source == at
}
