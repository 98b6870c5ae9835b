package neuroseal

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gauge"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/seal"
)

// write makes the output.
func (l *locker) write(ctx context.Context, res *LockResult) error {
	sums := newChecksums()
	w := rewriting{opt: checkpoint.RewriteOptions{Edit: l.editors(sums)}}
	return l.finish(ctx, res, sums, w)
}

// finish runs a rewriting and completes the manifest.
func (l *locker) finish(ctx context.Context, res *LockResult, sums *checksums, w rewriting) error {
	w.ck, w.dst, w.force, w.notice, w.progress = l.m.ck, l.o.Output, l.o.Force, l.o.Notice, l.o.Progress
	w.stage = "sealing"
	w.opt.Override = map[string][]byte{}
	if l.conf != nil {
		w.opt.Override["config.json"] = l.conf
	}
	card, err := l.openCard()
	if err != nil {
		return err
	}
	if card != nil {
		w.opt.Skip = card.skip
	}
	if gguf.Is(l.m.path) {
		e, err := l.ggufHeader()
		if err != nil {
			return err
		}
		defer e.Close()
		if w.opt.Head, err = e.heads(); err != nil {
			return err
		}
	}
	return w.run(ctx, func(dir *atomicdir.Dir, out *checkpoint.RewriteResult) error {
		for _, f := range out.LeftOut {
			if !f.Sensitive() {
				continue // the model card, which is written below
			}
			res.LeftOut = append(res.LeftOut, f.Path)
			l.man.Notes = append(l.man.Notes, fmt.Sprintf("left out %s: it may hold the weights once more, unsealed", f.Path))
		}
		for _, f := range out.Files {
			if err := l.asListed(f.Path, f.SHA256In); err != nil {
				return err
			}
		}
		for _, s := range l.m.ck.Skipped() {
			res.LeftOut = append(res.LeftOut, s.Path)
		}
		l.files(out, card)
		if err := l.keepNested(ctx, dir); err != nil {
			return err
		}
		l.man.Checksums = sums.list(l.m.ck)
		if !slices.ContainsFunc(l.man.Checksums, func(c manifest.Checksum) bool { return c.Original != c.Sealed }) {
			return fault.New(fault.Unsupported, "the seal changes no weight: all that a factor would move is zero").
				WithHint("there is nothing here to seal; --profile max may reach other tensors")
		}
		l.man.Keyslots = l.o.Slots
		if l.o.Method != seal.Static {
			l.man.SealID = sealID(l.o.Key, l.man)
		}
		if card != nil {
			if err := card.write(dir); err != nil {
				return err
			}
		}
		if l.o.Method != seal.Static {
			l.man.Sign(l.o.Key)
		}
		if l.o.Register != nil {
			if err := l.o.Register(l.man); err != nil {
				return err
			}
		}
		man := l.man.Marshal()
		if err := writeFile(dir, manifest.Name, man); err != nil {
			return err
		}
		return l.sign(dir, man)
	})
}

// editors returns the factory of per-tensor editors that also keep checksums.
func (l *locker) editors(sums *checksums) func(checkpoint.Tensor) checkpoint.Editor {
	scaler := l.scalers()
	return func(t checkpoint.Tensor) checkpoint.Editor { return sums.wrap(t, scaler(t)) }
}

// scalers returns the factory of the editors that seal; of a tensor that stays
// as it is, nil.
func (l *locker) scalers() func(checkpoint.Tensor) checkpoint.Editor {
	moves := map[string]*gauge.Tensor{}
	for i := range l.seal.Tensors {
		moves[l.seal.Tensors[i].Name] = &l.seal.Tensors[i]
	}
	var e [][]int16
	var neg [][]bool
	if l.o.Method == seal.Gauge {
		e, neg = l.seal.Exponents(l.o.Key), l.seal.Signs(l.o.Key)
	}
	scale := func(t checkpoint.Tensor) checkpoint.Editor {
		if p := moves[t.Name]; p != nil {
			if l.o.Method == seal.Gauge {
				return factorsOf(p, t, e, neg, 1)
			}
			if s := seal.NewRealScaler(p, t.DType, l.real, false); s != nil {
				return s
			}
		}
		return nil
	}
	if r := newReorder(l.m.ck, l.places, l.o.Key); r != nil {
		return func(t checkpoint.Tensor) checkpoint.Editor { return r.sealed(t, scale) }
	}
	return scale
}

// asListed demands that a file of the source is what is known of it: what lies in
// a cache, or was downloaded, is as old as the disk.
func (l *locker) asListed(file, sum string) error {
	if l.o.Sum == nil || l.m.nested != nil || sum == "" {
		return nil
	}
	want := l.o.Sum(file)
	if len(want) != len(sum) || sum == want {
		return nil
	}
	if l.remote == nil {
		return fault.New(fault.Mismatch, "%s of %s has SHA-256 %s, not %s, which is listed for it: it is damaged", file, l.o.Source, sum, want).
			WithHint("remove that file and what it links to, and run the same command again: it is downloaded again")
	}
	err := fault.New(fault.Mismatch, "%s has SHA-256 %s, not %s, which %s lists", file, sum, want, l.remote.Name)
	if l.remote.Here(file) {
		return err.WithHint("the copy in the cache is damaged: remove it and what it links to, and run the same command again")
	}
	return err.WithHint("it changed on this machine's disk; remove %s and run the same command again", DownloadFolder(l.o.Output))
}

// files records the digests of all files, and of the original as a whole. The
// model card is written after that, as it quotes the latter.
func (l *locker) files(out *checkpoint.RewriteResult, card *cardWriter) {
	for _, f := range out.Files {
		e := manifest.File{Path: f.Path, Size: f.Size, SHA256: f.SHA256Out, Original: f.SHA256In, OriginalSize: f.Size}
		for _, s := range l.m.ck.Shards() {
			if s.Path == f.Path {
				e.OriginalSize = s.Size // a GGUF's header may grow
			}
		}
		for _, p := range l.man.Patches {
			if p.Path == f.Path {
				e.OriginalSize -= int64(len(p.After) - len(p.Before))
			}
		}
		if l.o.fileName != "" && f.Path == l.m.ck.Shards()[0].Path {
			e.Path = l.o.fileName
		}
		l.man.Files = append(l.man.Files, e)
	}
	if card != nil {
		l.man.Files = append(l.man.Files, card.file())
		slices.SortStableFunc(l.man.Files, func(a, b manifest.File) int { return strings.Compare(a.Path, b.Path) })
	}
	l.man.OriginalDigest = digestOf(l.man.Files)
}

// digestOf is the digest of an original as a whole: SHA-256 over its files'
// lines "sha256  path\n" in order of path, as sha256sum would print them.
func digestOf(files []manifest.File) string {
	var lines []string
	for _, f := range files {
		if f.Original != "" {
			lines = append(lines, f.Original+"  "+f.Path+"\n")
		}
	}
	sort.Slice(lines, func(i, j int) bool { return lines[i][64:] < lines[j][64:] })
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// sealID names a seal: it depends on the key and on what was sealed, so that
// the same input gives the same name.
func sealID(k keys.SealKey, m *manifest.Manifest) string {
	return k.MAC([]byte("seal id\x00" + m.OriginalDigest + "\x00" + m.Profile + "\x00" + m.Method))[:16]
}
