package neuroseal

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
	"github.com/neuroseal/neuroseal/quant"
)

// Scales that are quantised themselves, around an offset that all of a weight's
// scales share, let no factor through. --unnest seals such a checkpoint with the
// plain F32 scales that stand for them. What these do not tell of the original
// stands beside the sealed weights, encrypted by the seal key: in the clear, it
// would give the factors away.

// nestedName is that file.
const nestedName = "neuroseal_nested.dat"

// unnest shows a checkpoint with double quantisation as one with plain scales.
func (m *model) unnest() error {
	if m.nested != nil {
		return nil
	}
	n, err := quant.OpenNested(m.ck)
	if err != nil || n == nil {
		return err
	}
	ck, err := checkpoint.OpenFS(n.Files(), m.ck.Root())
	if err != nil {
		return err
	}
	m.ck, m.nested = ck, n
	return nil
}

// nestedNote tells what plain scales cost; "" where they are plain already.
func (m *model) nestedNote() string {
	if m.nested == nil {
		return ""
	}
	scales, kept := m.nested.Growth()
	return nestedText("about ", m.nested.Original().TotalBytes(), scales+kept)
}

// nestedText says by how much a seal is larger than the original.
func nestedText(about string, original, more int64) string {
	return fmt.Sprintf("the scales are quantised themselves (double quantisation); a seal has plain F32 scales, and what unlock needs beside them: %s%d bytes more than the original's %d (%.1f%%)",
		about, more, original, 100*float64(more)/float64(original))
}

// suitsNested refuses to expand scales without being asked to, and to be asked
// where nothing can be expanded.
func (o *LockOptions) suitsNested(m *model) error {
	switch {
	case m.nested == nil && o.Unnest:
		return fault.New(fault.Usage, "%s has no scales that are quantised themselves", o.Source).WithHint("leave --unnest out")
	case m.nested == nil:
		return nil
	case o.Remote != nil:
		return fault.New(fault.Usage, "%s has scales that are quantised themselves, and is not here", o.Source).WithHint("download it first, then repeat with --unnest")
	case !o.Unnest && !o.DryRun:
		return fault.New(fault.Unsupported, "%s: %s", o.Source, m.nestedNote()).WithHint("repeat with --unnest if that may be")
	}
	ck := m.nested.Original()
	if slices.ContainsFunc(ck.OtherFiles(), func(f checkpoint.File) bool { return f.Path == nestedName }) {
		return fault.New(fault.Unsupported, "%s holds a file %s, as what a seal adds is called", o.Source, nestedName).WithHint("remove or rename it")
	}
	if o.Notice != nil {
		o.Notice(m.nestedNote())
	}
	if o.DryRun {
		return nil
	}
	return ck.CheckOutput(o.Output)
}

// keepNested writes what plain scales do not tell of the original, and makes the
// manifest speak of the original's files in place of those with plain scales.
func (l *locker) keepNested(ctx context.Context, dir *atomicdir.Dir) error {
	if l.m.nested == nil {
		return nil
	}
	var names []string
	for _, f := range l.man.Files {
		if f.Original != "" {
			names = append(names, f.Path)
		}
	}
	ck := l.m.nested.Original()
	l.o.Progress.Stage("hashing the original", ck.TotalBytes())
	sums, err := checkpoint.Digest(ctx, ck.Root(), names, 0, l.o.Progress.Add)
	if err != nil {
		return err
	}
	for i := range l.man.Files {
		f := &l.man.Files[i]
		if k := slices.Index(names, f.Path); k >= 0 {
			f.Original, f.OriginalSize = sums[k].SHA256, sums[k].Size
		}
	}
	kept, err := l.m.nested.Kept()
	if err != nil {
		return err
	}
	if kept, err = encryptNested(l.o.Key, kept); err != nil {
		return err
	}
	sum := sha256.Sum256(kept)
	l.man.Files = append(l.man.Files, manifest.File{Path: nestedName, Size: int64(len(kept)), SHA256: hex.EncodeToString(sum[:])})
	slices.SortFunc(l.man.Files, func(a, b manifest.File) int { return cmp.Compare(a.Path, b.Path) })
	l.man.OriginalDigest = digestOf(l.man.Files)
	scales, _ := l.m.nested.Growth()
	if i := slices.Index(l.man.Notes, l.m.nestedNote()); i >= 0 {
		l.man.Notes[i] = nestedText("", ck.TotalBytes(), scales+int64(len(kept)))
	}
	return writeFile(dir, nestedName, kept)
}

// unnested reports whether a seal expanded scales.
func unnested(man *manifest.Manifest) bool {
	return slices.ContainsFunc(man.Files, func(f manifest.File) bool { return f.Path == nestedName && f.Original == "" })
}

// unlockNested restores an original whose scales were expanded. Its files are put
// together from the sealed ones while they are written, so these are hashed first.
func unlockNested(ctx context.Context, o UnlockOptions, man *manifest.Manifest, ck *checkpoint.Checkpoint) (*UnlockResult, error) {
	key := sync.OnceValues(func() (keys.SealKey, error) { return o.Key(man) })
	inv, err := inverse(ck, man, func(*manifest.Manifest) (keys.SealKey, error) { return key() })
	if err != nil {
		return nil, err
	}
	k, err := key()
	if err != nil {
		return nil, err
	}
	card, err := unsealCard(ck, man)
	if err != nil {
		return nil, err
	}
	if err := intact(ctx, o.Progress, man, ck); err != nil {
		return nil, err
	}
	kept, err := ck.ReadFile(nestedName, quant.MaxKept+1<<10)
	if err != nil {
		return nil, err
	}
	if kept, err = decryptNested(k, kept); err != nil {
		return nil, err
	}
	m := &model{path: o.Source, ck: ck, edit: inv}
	files, scales, err := quant.Renest(ck, kept, func(t checkpoint.Tensor, p []byte, off int64) error { return m.readStored(t.Name, p, off) })
	if err != nil {
		return nil, corrupt(err, man)
	}
	back, err := checkpoint.OpenFS(files, o.Source)
	if err != nil {
		return nil, corrupt(err, man)
	}
	defer back.Close()
	override, err := revertPatches(ck, man)
	if err != nil {
		return nil, err
	}
	card.put(override)
	w := rewriting{
		ck: back, dst: o.Output, force: o.Force, notice: o.Notice, stage: "unlocking", progress: o.Progress,
		opt: checkpoint.RewriteOptions{
			Edit: func(t checkpoint.Tensor) checkpoint.Editor {
				if scales[t.Name] {
					return nil
				}
				return inv(t)
			},
			Override: override,
			Skip:     func(rel string) bool { return notOriginal(man, rel) },
		},
	}
	res := o.result(man, card)
	err = w.run(ctx, func(_ *atomicdir.Dir, out *checkpoint.RewriteResult) error {
		res.Files = len(out.Files)
		got := map[string]string{}
		for _, f := range out.Files {
			res.Bytes += f.Size
			got[f.Path] = f.SHA256Out
		}
		for _, f := range man.Files {
			if f.Original != "" && got[f.Path] != f.Original && !slices.Contains(res.Edited, f.Path) {
				return fault.New(fault.Mismatch, "file %s could not be restored: SHA-256 %s, the original's is %s", f.Path, got[f.Path], f.Original)
			}
		}
		return nil
	})
	if err != nil {
		return nil, corrupt(err, man)
	}
	card.tell(o.Notice)
	return res, nil
}

// intact demands the recorded digests of all sealed files but the model card,
// which unsealCard has looked at.
func intact(ctx context.Context, p Progress, man *manifest.Manifest, ck *checkpoint.Checkpoint) error {
	var names []string
	files := slices.DeleteFunc(slices.Clone(man.Files), func(f manifest.File) bool { return f.Path == modelcard.Name })
	for _, f := range files {
		names = append(names, f.Path)
	}
	p.Stage("hashing", ck.TotalBytes())
	sums, err := checkpoint.Digest(ctx, ck.Root(), names, 0, p.Add)
	if err != nil {
		return err
	}
	for i, f := range files {
		if sums[i].SHA256 != f.SHA256 {
			return fault.New(fault.Mismatch, "file %s is not what was sealed: SHA-256 %s, recorded %s", f.Path, sums[i].SHA256, f.SHA256).
				WithHint("fetch the sealed checkpoint again")
		}
	}
	return nil
}

// nestedCipher is AES-256-GCM by a key that the seal key gives and that is used
// for nothing else.
func nestedCipher(k keys.SealKey) (cipher.AEAD, error) {
	sub, err := hex.DecodeString(k.MAC([]byte("nested scales: key")))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(sub)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// encryptNested encrypts to nonce, ciphertext and tag. The nonce depends on all
// of the text, so that the same input gives the same bytes and two texts never
// share one.
func encryptNested(k keys.SealKey, text []byte) ([]byte, error) {
	c, err := nestedCipher(k)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	nonce, err := hex.DecodeString(k.MAC(append([]byte("nested scales: nonce\x00"), sum[:]...)))
	if err != nil {
		return nil, err
	}
	nonce = nonce[:c.NonceSize()]
	return c.Seal(slices.Clip(nonce), nonce, text, []byte(nestedName)), nil
}

func decryptNested(k keys.SealKey, data []byte) ([]byte, error) {
	c, err := nestedCipher(k)
	if err != nil {
		return nil, err
	}
	n := min(c.NonceSize(), len(data))
	if n < c.NonceSize() {
		return nil, fault.New(fault.Mismatch, "%s has %d bytes", nestedName, len(data))
	}
	text, err := c.Open(nil, data[:n], data[n:], []byte(nestedName))
	if err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "%s is damaged, or belongs to another seal", nestedName)
	}
	return text, nil
}
