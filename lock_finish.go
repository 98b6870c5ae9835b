package neuroseal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// LockFinish completes a seal whose shards LockPart has sealed: it demands all
// of them, of one plan, from the source as it is now, reads each once more to
// see that its bytes are those that were recorded, and makes the output visible,
// byte for byte what Lock makes of the same options. The sealed shards get a
// second name in the output and are copied only where the file system has no
// hard links; then PartsFolder(o.Output) is removed.
//
// A source shard whose size or time has changed since is read again, too.
// Shards that are missing, and options that differ from the parts', give
// fault.Usage; plans that differ, a source that has changed, and damaged shards
// give fault.Mismatch. The error names part, shard and what to do; repeating that
// part then seals the shard anew.
func LockFinish(ctx context.Context, o LockOptions) (*LockResult, error) {
	if o.DryRun {
		return nil, fault.New(fault.Usage, "a dry run writes nothing that could be finished").WithHint("leave one of the two out")
	}
	if err := wholeOnly(o); err != nil {
		return nil, err
	}
	l, err := openForShards(o, PartsFolder(o.Output))
	if err != nil {
		return nil, err
	}
	defer l.m.ck.Close()
	n := &finisher{locker: l, f: &partsFolder{dir: PartsFolder(o.Output)}, records: map[string]*shardRecord{}}
	res, err := n.run(ctx)
	if fault.KindOf(err) == fault.Interrupted {
		return nil, fault.Wrap(fault.Interrupted, err, "finishing").
			WithHint("all parts stay in %s; the same command starts again", n.f.dir)
	}
	return res, err
}

// finisher puts the parts of a seal together.
type finisher struct {
	*locker
	f       *partsFolder
	records map[string]*shardRecord // by the shard's path
}

func (n *finisher) run(ctx context.Context) (*LockResult, error) {
	if !n.f.exists() {
		// A run that was killed may have left half of a removed folder.
		if err := atomicdir.Discard(n.f.dir); err != nil {
			return nil, err
		}
		return nil, fault.New(fault.Usage, "no parts to finish: there is no folder %s", n.f.dir).
			WithHint("seal the parts first: neuroseal lock SRC DST --part 1/n, and so on; if DST is there, an earlier --finish was complete")
	}
	if err := n.f.agree(ctx, n.locker, false); err != nil {
		return nil, err
	}
	if err := n.collect(); err != nil {
		return nil, err
	}
	if man := n.finished(); man != nil {
		n.man = man
		if err := atomicdir.Recover(n.o.Output, n.o.Notice); err != nil {
			return nil, err
		}
		if o := n.o.signatureOf(); o != "" && !isFile(o) {
			return nil, fault.New(fault.Usage, "%s is complete, and not signed: an earlier --finish ran without --sign", n.o.Output).
				WithHint("sign it: neuroseal sign DST --key KEY.pem")
		}
		return n.result(), n.discard()
	}
	if err := n.checkOutput(); err != nil {
		return nil, err
	}
	guard, err := atomicdir.CreateFile(filepath.Join(n.f.dir, "finish"), 0o666, false)
	if err != nil {
		return nil, err
	}
	defer guard.Abort()
	if err := n.solve(); err != nil {
		return nil, err
	}
	if err := n.checkSource(ctx); err != nil {
		return nil, err
	}
	measure := &sharedMeasure{l: n.locker, f: n.f}
	for i := range n.m.ck.Shards() {
		measure.order = append(measure.order, i)
	}
	n.measure = measure
	if err := n.plan(ctx); err != nil {
		return nil, err
	}
	if err := n.checkPlan(measure); err != nil {
		return nil, err
	}
	if err := n.checkSealed(ctx); err != nil {
		return nil, err
	}
	res := n.result()
	if err := n.assemble(ctx, res); err != nil {
		return nil, err
	}
	return res, n.discard()
}

// discard removes the parts; if it cannot, the output is complete all the same.
func (n *finisher) discard() error {
	if err := atomicdir.Discard(n.f.dir); err != nil && n.o.Notice != nil {
		n.o.Notice("the parts are left in " + n.f.dir + ": " + err.Error())
	}
	return nil
}

// collect reads the records and names the parts that are to be run still.
func (n *finisher) collect() error {
	var missing []string
	count := 0 // of the parts; -1: they disagree
	for _, s := range n.m.ck.Shards() {
		r, err := n.f.record(s.Path)
		switch {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			if rerr := atomicdir.RemoveFile(n.f.recordPath(s.Path)); rerr != nil {
				return rerr
			}
			return fault.Wrap(fault.Mismatch, err, "the record of shard %s cannot be read, and is removed", s.Path).
				WithHint("run the part that seals it again, with the same options: neuroseal lock SRC DST --part i/n")
		case err != nil, !n.f.present(s):
			missing = append(missing, s.Path)
			continue
		}
		n.records[s.Path] = r
		if p, _ := ParsePart(r.Part); count == 0 {
			count = p.Count
		} else if p.Count != count {
			count = -1
		}
	}
	if len(missing) == 0 {
		return nil
	}
	err := fault.New(fault.Usage, "%d of %d shards are not sealed: %s", len(missing), len(n.m.ck.Shards()), n.nameParts(missing, count))
	return err.WithHint("run the missing parts, with the same options: neuroseal lock SRC DST --part i/n")
}

// nameParts lists shards with the parts that they fall to, as far as that is known.
func (n *finisher) nameParts(shards []string, count int) string {
	var of []int
	if count > 0 {
		of = assign(n.m.ck.Shards(), count)
	}
	var out []string
	for i, s := range n.m.ck.Shards() {
		switch {
		case !slices.Contains(shards, s.Path):
		case of == nil:
			out = append(out, s.Path)
		default:
			out = append(out, fmt.Sprintf("%s (part %d/%d)", s.Path, of[i], count))
		}
	}
	if len(out) > 4 {
		out = append(out[:4], fmt.Sprintf("and %d more", len(out)-4))
	}
	return strings.Join(out, ", ")
}

// finished returns the manifest of an output that an earlier run completed from
// these parts, and was killed before it could remove them.
func (n *finisher) finished() *manifest.Manifest {
	man, err := readManifest(n.o.Output)
	if err != nil || n.o.Force {
		return nil
	}
	if n.o.Method != seal.Static && man.Verify(n.o.Key) != nil {
		return nil
	}
	for path, r := range n.records {
		if !slices.ContainsFunc(man.Files, func(f manifest.File) bool {
			return f.Path == path && f.SHA256 == r.Sealed && f.Original == r.Original
		}) {
			return nil
		}
	}
	return man
}

// problem is a shard that cannot be used, and why.
type problem struct {
	shard string
	why   string
}

// report names the first problem, and all parts to be run again.
func (n *finisher) report(list []problem) error {
	if len(list) == 0 {
		return nil
	}
	more := ""
	if len(list) > 1 {
		more = fmt.Sprintf("; so it is with %d more", len(list)-1)
	}
	var parts []string
	for _, p := range list {
		if part := "--part " + n.records[p.shard].Part; !slices.Contains(parts, part) {
			parts = append(parts, part)
		}
	}
	again := "run this part again, which seals the shard anew"
	if len(parts) > 1 {
		again = "run these parts again, which seals the shards anew"
	}
	return fault.New(fault.Mismatch, "shard %s, sealed by part %s: %s%s", list[0].shard, n.records[list[0].shard].Part, list[0].why, more).
		WithHint("%s, with the same options: neuroseal lock SRC DST %s", again, strings.Join(parts, ", "))
}

// checkSource reads source shards that may have changed since they were sealed.
func (n *finisher) checkSource(ctx context.Context) error {
	var changed []string
	for _, s := range n.m.ck.Shards() {
		at, err := n.stamp(s)
		if err != nil {
			return err
		}
		if n.records[s.Path].Source != at {
			changed = append(changed, s.Path)
		}
	}
	list, err := n.hash(ctx, "checking the source", n.m.ck.Root(), changed, func(r *shardRecord) string { return r.Original })
	if err != nil {
		return err
	}
	for i := range list {
		list[i].why = "the source has changed since: " + list[i].why
	}
	return n.report(list)
}

// checkPlan demands that every shard was sealed by this plan.
func (n *finisher) checkPlan(measure *sharedMeasure) error {
	short := func(plan string) string { return fmt.Sprintf("%.16s", strings.TrimPrefix(plan, "sha256:")) }
	plan := n.planDigest()
	var list []problem
	for _, s := range n.m.ck.Shards() {
		r := n.records[s.Path]
		switch {
		case r.Setup != n.f.digest:
			list = append(list, problem{s.Path, "with other options, another key or another checkpoint"})
		case r.Plan != plan:
			list = append(list, problem{s.Path, fmt.Sprintf("by plan %s, and this is plan %s: other weights have changed since, or the machines compute differently", short(r.Plan), short(plan))})
		default:
			if err := measure.same(s.Path, r.originals()); err != nil {
				return err
			}
		}
	}
	return n.report(list)
}

// checkSealed demands that the sealed shards are what was written. The record
// of one that is not is removed, so that its part does not pass it over.
func (n *finisher) checkSealed(ctx context.Context) error {
	var all []string
	for _, s := range n.m.ck.Shards() {
		all = append(all, s.Path)
	}
	list, err := n.hash(ctx, "checking sealed shards", filepath.Join(n.f.dir, sealedFolder), all, func(r *shardRecord) string { return r.Sealed })
	if err != nil {
		return err
	}
	for i := range list {
		list[i].why = "the sealed file was damaged since: " + list[i].why
		if err := atomicdir.RemoveFile(n.f.recordPath(list[i].shard)); err != nil {
			return err
		}
	}
	return n.report(list)
}

// hash reads shards in a folder and lists those that do not have the recorded
// SHA-256.
func (n *finisher) hash(ctx context.Context, stage, dir string, shards []string, want func(*shardRecord) string) ([]problem, error) {
	if len(shards) == 0 {
		return nil, nil
	}
	var total int64
	for _, s := range n.m.ck.Shards() {
		if slices.Contains(shards, s.Path) {
			total += s.Size
		}
	}
	n.o.Progress.Stage(stage, total)
	got, err := checkpoint.Digest(ctx, dir, shards, 0, n.o.Progress.Add)
	if err != nil {
		return nil, err
	}
	var list []problem
	for _, d := range got {
		if w := want(n.records[d.Path]); d.SHA256 != w {
			list = append(list, problem{d.Path, fmt.Sprintf("SHA-256 %.16s…, recorded %.16s…", d.SHA256, w)})
		}
	}
	return list, nil
}

// assemble writes the output.
func (n *finisher) assemble(ctx context.Context, res *LockResult) error {
	sums := newChecksums()
	w := rewriting{opt: checkpoint.RewriteOptions{Placed: map[string]checkpoint.FileResult{}}}
	for _, s := range n.m.ck.Shards() {
		r := n.records[s.Path]
		w.opt.Placed[s.Path] = checkpoint.FileResult{Path: s.Path, Size: r.Size, SHA256In: r.Original, SHA256Out: r.Sealed}
		for _, c := range r.Checksums {
			sums.sum[c.Tensor] = &c
		}
	}
	w.need = max(n.m.ck.RewriteBytes(w.opt), 1)
	w.place = func(dir *atomicdir.Dir) error {
		for _, s := range n.m.ck.Shards() {
			if err := dir.Link(ctx, s.Path, n.f.path(sealedFolder, s.Path)); err != nil {
				return fault.Wrap(fault.KindOf(err), err, "%s", s.Path)
			}
		}
		return nil
	}
	return n.finish(ctx, res, sums, w)
}
