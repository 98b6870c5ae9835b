package neuroseal

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// PartResult says what LockPart did.
type PartResult struct {
	Part      Part
	Folder    string       // where the parts stand
	ModelType string       // "llama"
	Plan      string       // digest of the plan, the same for every part; "" for a part without shards
	Shards    []PartShard  // this part's, by path
	Bytes     int64        // sealed by this run
	Done, All ShardsOnDisk // shards sealed so far, and all there are
}

// ShardsOnDisk counts shards and their bytes.
type ShardsOnDisk struct {
	Shards int
	Bytes  int64
}

// PartShard is one shard of a part.
type PartShard struct {
	Path    string
	Size    int64 // bytes
	Skipped bool  // it was sealed before
}

// LockPart seals one part's shards into PartsFolder(o.Output), where LockFinish
// finds them. Which part seals a shard depends on the shards' sizes alone; any
// set of parts, also of different counts, that covers all shards will do. Every
// part plans the whole seal, from statistics of all weights that the parts
// share through the folder. Shards that are complete and follow the same plan
// are not sealed again, so that an interrupted part goes on where it was.
//
// o must be alike for all parts, the key included, except for Output's name,
// Slots, Time and Force. A part that is under way in another process, and a
// folder that holds parts of another seal, are refused with fault.Usage; a
// folder of another checkpoint, or weights that change under way, with
// fault.Mismatch.
func LockPart(ctx context.Context, o LockOptions, part Part) (*PartResult, error) {
	if err := part.check(); err != nil {
		return nil, err
	}
	if o.DryRun {
		return nil, fault.New(fault.Usage, "a dry run shows the whole seal, not a part of it").WithHint("leave the part out")
	}
	if err := wholeOnly(o); err != nil {
		return nil, err
	}
	l, err := openForShards(o, PartsFolder(o.Output))
	if err != nil {
		return nil, err
	}
	defer l.m.ck.Close()
	p := &partLocker{locker: l, f: &partsFolder{dir: PartsFolder(o.Output)}, part: part}
	p.own, p.all = part.share(l.m.ck.Shards())
	if err := p.begin(ctx); err != nil {
		return nil, err
	}
	defer p.guard.Abort()
	res, err := p.run(ctx)
	if fault.KindOf(err) == fault.Interrupted {
		return nil, fault.Wrap(fault.Interrupted, err, "sealing part %v", part).
			WithHint("the shards that are complete stay in %s; the same command goes on", p.f.dir)
	}
	return res, err
}

// partLocker seals one part.
type partLocker struct {
	*locker
	f        *partsFolder
	part     Part
	own, all []int
	guard    *atomicdir.Pending // held while the part is under way
}

// begin makes every check that needs no weights.
func (p *partLocker) begin(ctx context.Context) error {
	if err := p.checkOutput(); err != nil {
		return err
	}
	if err := p.m.ck.CheckOutput(p.f.dir); err != nil {
		return err
	}
	if err := checkSpace(p.f.dir, p.missing()); err != nil {
		return err
	}
	if err := p.solve(); err != nil {
		return err
	}
	var err error
	p.guard, err = atomicdir.CreateFile(filepath.Join(p.f.dir, p.part.guardName()), 0o666, false)
	if fault.KindOf(err) == fault.Usage {
		return fault.Wrap(fault.Usage, err, "part %v", p.part).WithHint("wait for the other process to end; each part needs to run once only")
	}
	if err != nil {
		return err
	}
	if err := p.f.agree(ctx, p.locker, true); err != nil {
		p.guard.Abort()
		return err
	}
	return nil
}

// missing is how many bytes of this part's shards are not there.
func (p *partLocker) missing() (n int64) {
	for _, i := range p.own {
		if s := p.m.ck.Shards()[i]; !p.f.present(s) {
			n += s.Size
		}
	}
	return n
}

func (p *partLocker) run(ctx context.Context) (*PartResult, error) {
	res := &PartResult{Part: p.part, Folder: p.f.dir, ModelType: p.m.net.Type, Shards: make([]PartShard, len(p.own))}
	if len(p.own) > 0 {
		if err := p.sealOwn(ctx, res); err != nil {
			return nil, err
		}
	}
	for _, s := range p.m.ck.Shards() {
		res.All.add(s.Size)
		if p.f.present(s) {
			res.Done.add(s.Size)
		}
	}
	return res, nil
}

func (c *ShardsOnDisk) add(bytes int64) {
	c.Shards++
	c.Bytes += bytes
}

func (p *partLocker) sealOwn(ctx context.Context, res *PartResult) error {
	measure := &sharedMeasure{l: p.locker, f: p.f, order: p.all}
	p.measure = measure
	if err := p.plan(ctx); err != nil {
		return err
	}
	res.Plan = p.planDigest()
	s := &shardSealer{partLocker: p, measure: measure, plan: res.Plan, scaler: p.scalers()}
	if gguf.Is(p.m.path) {
		e, err := p.ggufHeader()
		if err != nil {
			return err
		}
		defer e.Close()
		if s.head, err = e.heads(); err != nil {
			return err
		}
	}
	var todo int64
	for k, i := range p.own {
		sh := p.m.ck.Shards()[i]
		done, err := s.complete(sh)
		if err != nil {
			return err
		}
		res.Shards[k] = PartShard{sh.Path, sh.Size, done}
		if !done {
			todo += sh.Size
		}
	}
	p.o.Progress.Stage("sealing part "+p.part.String(), todo)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for k, i := range p.own {
		if !res.Shards[k].Skipped {
			g.Go(func() error { return s.seal(gctx, i, "") })
		}
	}
	if err := g.Wait(); err != nil {
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return fault.Wrap(fault.Interrupted, err, "")
		}
		return err
	}
	res.Bytes = todo
	return nil
}

// shardSealer seals shards by one plan.
type shardSealer struct {
	*partLocker
	measure *sharedMeasure
	plan    string
	scaler  func(checkpoint.Tensor) checkpoint.Editor
	head    map[string]checkpoint.Head // headers that change, by shard
	known   func(shard string) string  // SHA-256 of a shard that this run has checked, "" of another; nil: of all others
}

// complete reports whether a shard was sealed by this plan, from the source as
// it is.
func (s *shardSealer) complete(sh checkpoint.Shard) (bool, error) {
	at, err := s.stamp(sh)
	if err != nil {
		return false, err
	}
	r, err := s.f.record(sh.Path)
	return err == nil && r.Setup == s.f.digest && r.Plan == s.plan && r.Source == at &&
		s.measure.same(sh.Path, r.originals()) == nil && s.f.present(sh), nil
}

// seal writes one shard and then its record, which says that it is whole. from is
// a copy of the shard that nobody needs any more, which becomes the output; "":
// there is none.
func (s *shardSealer) seal(ctx context.Context, i int, from string) error {
	sh := s.m.ck.Shards()[i]
	at, err := s.stamp(sh)
	if err != nil {
		return err
	}
	if err := atomicdir.RemoveFile(s.f.recordPath(sh.Path)); err != nil {
		return err
	}
	out, err := s.begin(sh, from)
	if err != nil {
		return err
	}
	defer out.Abort()
	sums := newChecksums()
	opt := checkpoint.RewriteOptions{
		Edit:     func(t checkpoint.Tensor) checkpoint.Editor { return sums.wrap(t, s.scaler(t)) },
		Head:     s.head,
		Progress: s.o.Progress.Add,
	}
	if s.known != nil {
		opt.Known = map[string]string{sh.Path: s.known(sh.Path)}
	}
	var file checkpoint.FileResult
	if from == "" {
		file, err = s.m.ck.RewriteShard(ctx, i, out, opt)
	} else { // to the end, even if ctx has ended: half of it is of use to nobody
		file, err = s.m.ck.EditShard(context.WithoutCancel(ctx), i, out, opt)
	}
	if err != nil {
		return err
	}
	r := shardRecord{
		Schema: partsSchema, Part: s.part.String(), Setup: s.f.digest, Plan: s.plan, Source: at,
		Size: file.Size, Original: file.SHA256In, Sealed: file.SHA256Out, Checksums: sums.list(s.m.ck),
	}
	err = s.measure.same(sh.Path, r.originals())
	if err == nil {
		err = s.asListed(sh.Path, r.Original)
	}
	if err != nil && from != "" {
		return fault.Wrap(fault.Mismatch, err, "").
			WithHint("it changed on this machine's disk, and is removed; the same command downloads it again")
	}
	if err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return err
	}
	return writeRecord(s.f.recordPath(sh.Path), r, true)
}

// begin begins a sealed shard.
func (s *shardSealer) begin(sh checkpoint.Shard, from string) (*atomicdir.Pending, error) {
	const replace = true
	to := s.f.path(sealedFolder, sh.Path)
	if from == "" {
		return atomicdir.CreateFile(to, 0o666, replace)
	}
	return atomicdir.AdoptFile(from, to, replace)
}
