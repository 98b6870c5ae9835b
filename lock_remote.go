package neuroseal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// A remote checkpoint is sealed in a folder beside the output, as a seal in one
// part is, whose source arrives there:
//
//	source/CHECKSUM            a file of the original, until it is sealed
//	source/CHECKSUM.incomplete one on its way
//	measured/, activations.json, sealed/, records/, seal.json as in parts_folder.go
//
// How far a factor may go depends on all weights, so every shard is downloaded
// and measured before the first is sealed. Then each is written over with its
// sealed form: the disk holds the output and one shard at most, and that one only
// where the file system writes elsewhere than over what was there. A process that
// is killed meanwhile loses the shards that it was sealing; they come again.
//
// Where weights change places, what a shard becomes is read from all over its
// original, or from other shards: then it is written beside them.
const sourceFolder = "source"

// DownloadFolder is where Lock works on a remote checkpoint. It stays when Lock
// is interrupted, for the next run, and is gone when the output is complete.
func DownloadFolder(output string) string { return besideOutput(output, ".download") }

// lockRemote seals a remote checkpoint.
func lockRemote(ctx context.Context, o LockOptions) (*LockResult, error) {
	switch {
	case o.DryRun:
		return nil, fault.New(fault.Usage, "a dry run reads all weights, and those of %s are not here", o.Remote.Name).
			WithHint("CheckRemote and Inspect tell what headers tell")
	case o.Graph != "" || modelFile(o.Output):
		return nil, fault.New(fault.Usage, "%s is sealed by its config, into a folder", o.Remote.Name).WithHint("download it first")
	}
	o.Source, o.Sum = o.Remote.Name, o.Remote.Sum
	f := &partsFolder{dir: DownloadFolder(o.Output)}
	over := &arrivals{r: o.Remote, dir: filepath.Join(f.dir, sourceFolder), open: map[string][]*arrival{}}
	o.files = over
	l, err := openForShards(o, f.dir)
	if err != nil {
		return nil, err
	}
	defer l.m.ck.Close()
	s := &streamer{partLocker: &partLocker{locker: l, f: f, part: Part{1, 1}}, over: over, known: map[string]string{}}
	s.own, s.all = s.part.share(l.m.ck.Shards())
	if res, err := s.finished(); res != nil || err != nil {
		return res, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	res, err := s.run(ctx)
	s.guard.Abort()
	if fault.KindOf(err) == fault.Interrupted {
		return nil, fault.Wrap(fault.Interrupted, err, "").
			WithHint("what is complete stays in %s; the same command goes on", f.dir)
	}
	if err != nil {
		s.o.notice("what was downloaded stays in " + f.dir + " for the next run")
		return nil, err
	}
	return res, (&finisher{locker: l, f: f}).discard()
}

// streamer seals a remote checkpoint shard by shard.
type streamer struct {
	*partLocker
	over  *arrivals
	stats *sharedMeasure

	knowing sync.Mutex
	known   map[string]string // SHA-256 of the shards that this run downloaded, where statistics cover all tensors
}

// finished completes a run that was killed when its output was complete, and
// returns nil if there is none.
func (s *streamer) finished() (*LockResult, error) {
	fin := &finisher{locker: s.locker, f: s.f, records: map[string]*shardRecord{}}
	for _, sh := range s.m.ck.Shards() {
		r, err := s.f.record(sh.Path)
		if err != nil {
			return nil, nil
		}
		fin.records[sh.Path] = r
	}
	if s.man = fin.finished(); s.man == nil {
		return nil, nil
	}
	if err := atomicdir.Recover(s.o.Output, s.o.Notice); err != nil {
		return nil, err
	}
	return s.result(), fin.discard()
}

// prepare makes every check that needs no weights, and makes the folder.
func (s *streamer) prepare(ctx context.Context) error {
	if err := s.checkOutput(); err != nil {
		return err
	}
	if err := checkSpace(s.o.Output, s.missing()); err != nil {
		return err
	}
	if err := s.solve(); err != nil {
		return err
	}
	if err := os.MkdirAll(s.over.dir, 0o777); err != nil {
		return fault.Wrap(fault.General, err, "making a folder for the download")
	}
	var err error
	if s.guard, err = atomicdir.CreateFile(filepath.Join(s.f.dir, s.part.guardName()), 0o666, false); err != nil {
		return err
	}
	if err = s.agree(ctx); err == nil {
		err = s.clear()
	}
	if err != nil {
		s.guard.Abort()
	}
	return err
}

// agree makes the folder this seal's. What was sealed by another key or with
// other options is given up: its originals come again.
func (s *streamer) agree(ctx context.Context) error {
	err := s.f.agree(ctx, s.locker, true)
	if k := fault.KindOf(err); k != fault.Usage && k != fault.Mismatch {
		return err
	}
	for _, name := range []string{setupName, recordsFolder, sealedFolder} {
		if err := atomicdir.Discard(filepath.Join(s.f.dir, name)); err != nil {
			return err
		}
	}
	return s.f.agree(ctx, s.locker, true)
}

// missing is how many bytes of disk the seal takes beyond those it has: all
// files once, those that are copied twice, and the shard that is being sealed.
func (s *streamer) missing() (n int64) {
	var largest int64
	for _, sh := range s.m.ck.Shards() {
		if !s.remote.Here(sh.Path) {
			largest = max(largest, sh.Size)
		}
		if !s.f.present(sh) && !s.over.has(sh.Path, sh.Size) {
			n += sh.Size - s.remote.Begun(sh.Path, s.over.path(sh.Path))
		}
		n -= s.litter(sh)
	}
	for _, f := range s.m.ck.OtherFiles() {
		n += f.Size
		if !s.remote.Here(f.Path) && !s.over.has(f.Path, f.Size) {
			n += f.Size
		}
	}
	return n + largest
}

func (s *streamer) run(ctx context.Context) (*LockResult, error) {
	s.stats = &sharedMeasure{l: s.locker, f: s.f, order: s.all}
	s.measure = &streamMeasure{s.stats, s}
	if err := s.download(ctx); err != nil {
		return nil, err
	}
	s.over.settled.Store(true)
	if err := s.plan(ctx); err != nil {
		return nil, err
	}
	sealer := &shardSealer{partLocker: s.partLocker, measure: s.stats, plan: s.planDigest(), scaler: s.scalers(), known: s.checked}
	var total int64
	for _, sh := range s.m.ck.Shards() {
		total += sh.Size
	}
	s.o.Progress.Stage("sealing", total)
	if err := s.sealAll(ctx, sealer); err != nil {
		return nil, err
	}
	fin := &finisher{locker: s.locker, f: s.f, records: map[string]*shardRecord{}}
	for _, sh := range s.m.ck.Shards() {
		var err error
		if fin.records[sh.Path], err = s.f.record(sh.Path); err != nil {
			return nil, err
		}
	}
	res := s.result()
	return res, fin.assemble(ctx, res)
}

// checked returns the SHA-256 of a shard that this run has downloaded, and so
// checked, if statistics tell should it change from here on; else "".
func (s *streamer) checked(shard string) string {
	s.knowing.Lock()
	defer s.knowing.Unlock()
	return s.known[shard]
}

// sound reports whether a shard that an earlier run sealed is what it wrote.
func (s *streamer) sound(ctx context.Context, sh checkpoint.Shard) (bool, error) {
	r, err := s.f.record(sh.Path)
	if err != nil {
		return false, err
	}
	got, err := checkpoint.Digest(ctx, filepath.Join(s.f.dir, sealedFolder), []string{sh.Path}, 1, s.o.Progress.Add)
	return err == nil && got[0].SHA256 == r.Sealed, err
}

// streamMeasure takes statistics from the records, which hold all of them by the
// time a plan is made.
type streamMeasure struct {
	*sharedMeasure
	s *streamer
}

func (m *streamMeasure) scan(ctx context.Context, _ Progress) (*measured, error) {
	return m.sharedMeasure.scan(ctx, silent{})
}

// observe needs weights, unless an earlier run measured the activations. Those
// that it has sealed already come again.
func (m *streamMeasure) observe(ctx context.Context, sol *gauge.Solution, p Progress) ([]float64, error) {
	out, err := m.sharedMeasure.observe(ctx, sol, p)
	if !errors.Is(err, errAway) {
		return out, err
	}
	for i := range m.s.m.ck.Shards() {
		if err := m.s.bringShard(ctx, i); err != nil {
			return nil, err
		}
	}
	return m.sharedMeasure.observe(ctx, sol, p)
}

func (o *LockOptions) notice(msg string) {
	if o.Notice != nil {
		o.Notice(msg)
	}
}
