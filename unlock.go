package neuroseal

import (
	"context"
	"slices"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
	"github.com/neuroseal/neuroseal/seal"
)

// UnlockOptions say how to undo a seal.
type UnlockOptions struct {
	Source, Output string
	// Key finds the seal key, for example in the manifest's keyslots.
	Key      func(*manifest.Manifest) (keys.SealKey, error)
	Force    bool
	Progress Progress
	Notice   func(string) // told what the user should know; nil: nobody is
}

// UnlockResult says what was restored.
type UnlockResult struct {
	Output string
	Files  int
	Bytes  int64
	Exact  bool   // every byte is the original's; false after a real-valued method, and where Edited is not empty
	Digest string // of the original as a whole, as recorded
	// WeightsExact reports whether every byte is the original's but for Edited.
	WeightsExact bool
	// Edited names what is not the original's because it was edited after sealing,
	// and is kept: the model card, or nothing.
	Edited []string
}

// Unlock restores the original of a sealed checkpoint. Unless every file has
// the recorded SHA-256, before and after, nothing becomes visible. The model card
// alone may have been edited since: it is kept without what the seal added.
func Unlock(ctx context.Context, o UnlockOptions) (*UnlockResult, error) {
	if modelFile(o.Output) {
		return unlockFile(ctx, o)
	}
	o.Progress = orSilent(o.Progress)
	man, err := readManifest(o.Source)
	if err != nil {
		return nil, err
	}
	ck, err := openCheckpoint(o.Source)
	if err != nil {
		return nil, err
	}
	defer ck.Close()
	if err := ck.CheckOutput(o.Output); err != nil {
		return nil, err
	}
	if unnested(man) {
		return unlockNested(ctx, o, man, ck)
	}
	inv, err := inverse(ck, man, o.Key)
	if err != nil {
		return nil, err
	}
	override, err := revertPatches(ck, man)
	if err != nil {
		return nil, err
	}
	card, err := unsealCard(ck, man)
	if err != nil {
		return nil, err
	}
	card.put(override)
	sums := newChecksums()
	res := o.result(man, card)
	w := rewriting{
		ck: ck, dst: o.Output, force: o.Force, notice: o.Notice, stage: "unlocking", progress: o.Progress,
		opt: checkpoint.RewriteOptions{
			Edit:     func(t checkpoint.Tensor) checkpoint.Editor { return sums.wrap(t, inv(t)) },
			Override: override,
			Skip:     func(rel string) bool { return notOriginal(man, rel) },
		},
	}
	if gguf.Is(o.Source) {
		e, err := unsealGGUF(o.Source, man)
		if err != nil {
			return nil, err
		}
		defer e.Close()
		if w.opt.Head, err = e.heads(); err != nil {
			return nil, err
		}
	}
	err = w.run(ctx, func(_ *atomicdir.Dir, out *checkpoint.RewriteResult) error {
		res.Files = len(out.Files)
		for _, f := range out.Files {
			res.Bytes += f.Size
		}
		return compareFiles(man, out, ck, sums, card)
	})
	if err != nil {
		return nil, corrupt(err, man)
	}
	card.tell(o.Notice)
	return res, nil
}

func (o *UnlockOptions) result(man *manifest.Manifest, card unsealedCard) *UnlockResult {
	exact := man.Method == string(seal.Gauge)
	return &UnlockResult{Output: o.Output, Exact: exact && !card.edited, WeightsExact: exact, Edited: card.left(), Digest: man.OriginalDigest}
}

// notOriginal reports whether a file of the sealed folder is none of the
// original's: the manifest, or something added later.
func notOriginal(man *manifest.Manifest, rel string) bool {
	return !slices.ContainsFunc(man.Files, func(f manifest.File) bool { return f.Path == rel && f.Original != "" })
}

// inverse returns the editors that take a seal back.
func inverse(ck *checkpoint.Checkpoint, man *manifest.Manifest, key func(*manifest.Manifest) (keys.SealKey, error)) (func(checkpoint.Tensor) checkpoint.Editor, error) {
	plan, err := seal.Decode(man)
	if err != nil {
		return nil, err
	}
	moves := map[string]*gauge.Tensor{}
	for i := range plan.Tensors {
		t := &plan.Tensors[i]
		got, ok := ck.Tensor(t.Name)
		if !ok || !sameSize(got.Shape, t.Shape) || !got.Scalable() {
			return nil, fault.New(fault.Mismatch, "tensor %s is missing or has another shape or type than when it was sealed", t.Name)
		}
		moves[t.Name] = t
	}
	var k keys.SealKey
	if man.Method != string(seal.Static) {
		if k, err = key(man); err != nil {
			return nil, err
		}
		if err := man.Verify(k); err != nil {
			return nil, err
		}
	}
	if man.Method == string(seal.Gauge) {
		e, neg := plan.Exponents(k), plan.Signs(k)
		scale := func(t checkpoint.Tensor) checkpoint.Editor {
			if p := moves[t.Name]; p != nil {
				return factorsOf(p, t, e, neg, -1)
			}
			return nil
		}
		places, err := decodePermute(man, ck)
		if err != nil {
			return nil, err
		}
		if r := newReorder(ck, places, k); r != nil {
			return func(t checkpoint.Tensor) checkpoint.Editor { return r.original(t, scale) }, nil
		}
		return scale, nil
	}
	f := seal.RealFactors(planGroups(plan), seal.Method(man.Method), man.Scale, k)
	return func(t checkpoint.Tensor) checkpoint.Editor {
		if p := moves[t.Name]; p != nil {
			if s := seal.NewRealScaler(p, t.DType, f, true); s != nil {
				return s
			}
		}
		return nil
	}, nil
}

// planGroups gives the groups of a real-valued seal; those that no tensor
// names did not move, and lose their kind.
func planGroups(p *seal.Plan) []gauge.Group {
	out := make([]gauge.Group, len(p.Groups))
	for i := range p.Tensors {
		for g := range groupsOf(&p.Tensors[i]) {
			out[g] = gauge.Group{ID: p.Groups[g].ID, Kind: p.Groups[g].Kind, Layer: p.Groups[g].Layer}
		}
	}
	return out
}

// revertPatches restores the small files that a seal edits.
func revertPatches(ck *checkpoint.Checkpoint, man *manifest.Manifest) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, p := range man.Patches {
		if _, done := out[p.Path]; done || inShard(ck, p.Path) || p.Path == modelcard.Name {
			continue // a GGUF's header: unsealGGUF; the card: unsealCard
		}
		if p.Path != "config.json" {
			return nil, fault.New(fault.Mismatch, "%s: a patch of %s, which no seal edits", manifest.Name, p.Path)
		}
		b, ok := man.Revert(p.Path, ck.ConfigJSON())
		if !ok {
			return nil, fault.New(fault.Mismatch, "%s was changed after sealing: the sealed value of a patch is not where it was", p.Path).
				WithHint("restore the %s of the sealed folder", p.Path)
		}
		out[p.Path] = b
	}
	return out, nil
}

// inShard reports whether a file is one of the checkpoint's shards.
func inShard(ck *checkpoint.Checkpoint, path string) bool {
	return slices.ContainsFunc(ck.Shards(), func(s checkpoint.Shard) bool { return s.Path == path })
}

// compareFiles demands the recorded digests of every file, before and after; of
// the model card that of the original's, or none.
func compareFiles(man *manifest.Manifest, out *checkpoint.RewriteResult, ck *checkpoint.Checkpoint, sums *checksums, card unsealedCard) error {
	exact := man.Method == string(seal.Gauge)
	got := map[string]checkpoint.FileResult{}
	for _, f := range out.Files {
		got[f.Path] = f
	}
	shard := map[string]bool{}
	for _, s := range ck.Shards() {
		shard[s.Path] = true
	}
	for _, f := range man.Files {
		if f.Original == "" {
			continue
		}
		g, ok := got[f.Path]
		switch {
		case f.Path == modelcard.Name && (card.edited || ok && g.SHA256Out == f.Original):
		case !ok:
			return fault.New(fault.Mismatch, "file %s of the sealed checkpoint is missing", f.Path)
		case g.SHA256In != f.SHA256:
			return fault.New(fault.Mismatch, "file %s is not what was sealed: SHA-256 %s, recorded %s%s", f.Path, g.SHA256In, f.SHA256, sums.blame(man, ck, f.Path, false)).
				WithHint("fetch the sealed checkpoint again")
		case g.SHA256Out != f.Original && (exact || !shard[f.Path]):
			return fault.New(fault.Mismatch, "file %s could not be restored: SHA-256 %s, the original's is %s%s", f.Path, g.SHA256Out, f.Original, sums.blame(man, ck, f.Path, true))
		}
	}
	return nil
}

// corrupt explains a scaling error while unlocking: a sealed weight that does
// not scale back was damaged.
func corrupt(err error, man *manifest.Manifest) error {
	if fault.KindOf(err) == fault.Mismatch {
		return fault.Wrap(fault.Mismatch, err, "the sealed checkpoint %s is damaged", man.SealID)
	}
	return err
}
