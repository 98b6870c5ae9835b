package neuroseal

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/modelcard"
)

// cardSlack is how much a seal may add to a card of the largest size, in bytes.
const cardSlack = 4 << 20

// cardWriter puts the seal's section into the model card of an output.
type cardWriter struct {
	l   *locker
	old []byte // nil: there is none
}

// openCard reads the model card that is to be amended. It returns nil if the
// card stays as it is.
func (l *locker) openCard() (*cardWriter, error) {
	if l.o.NoCard || l.o.fileName != "" {
		return nil, nil
	}
	leave := func(why string) (*cardWriter, error) {
		if l.o.Notice != nil {
			l.o.Notice(modelcard.Name + " is left as it is: " + why)
		}
		return nil, nil
	}
	for _, f := range l.m.ck.OtherFiles() {
		first, _, folder := strings.Cut(f.Path, "/")
		switch {
		case !strings.EqualFold(first, modelcard.Name):
		case folder || first != modelcard.Name:
			return leave("the checkpoint has " + f.Path)
		case f.Size > modelcard.MaxSize:
			return leave("it is too long for a model card")
		}
	}
	old, err := readCard(l.m.ck)
	return &cardWriter{l: l, old: old}, err
}

// skip leaves the card out of what is copied, as nil does other files.
func (c *cardWriter) skip(rel string) bool {
	return rel == modelcard.Name || sensitive(c.l.m.ck, rel)
}

// file is the card's entry in the manifest, but for what is written later.
func (c *cardWriter) file() manifest.File {
	f := manifest.File{Path: modelcard.Name}
	if c.old != nil {
		f.Original, f.OriginalSize = digest(c.old), int64(len(c.old))
	}
	return f
}

// write writes the card once the manifest can be quoted, and records the
// edits, so that unlock takes them back.
func (c *cardWriter) write(dir *atomicdir.Dir) error {
	l := c.l
	conf := arch.PlainJSON(l.m.conf)
	base := cmp.Or(l.o.BaseModel, modelcard.BaseModel(conf))
	add := modelcard.Additions{
		Seal: modelcard.Section(l.man, base), Arena: l.o.CardSection, Tags: modelcard.Tags(),
		BaseModel: base, Relation: modelcard.Relation(conf), Title: "Sealed model",
	}
	// What config.json names may be what the weights were trained from.
	if l.o.BaseModel != "" {
		add.Title = l.o.BaseModel + ", sealed"
	}
	r := modelcard.Amend(c.old, add)
	for _, w := range r.Warnings {
		if l.o.Notice != nil {
			l.o.Notice(modelcard.Name + ": " + w)
		}
	}
	i := slices.IndexFunc(l.man.Files, func(f manifest.File) bool { return f.Path == modelcard.Name })
	f := &l.man.Files[i]
	f.Size, f.SHA256 = int64(len(r.Content)), digest(r.Content)
	if c.old == nil {
		f.OriginalSize = f.Size
	} else {
		for _, e := range r.Edits {
			l.man.Patches = append(l.man.Patches, manifest.Patch{Path: modelcard.Name, Offset: e.Offset, Before: e.Before, After: e.After})
		}
	}
	return writeFile(dir, modelcard.Name, r.Content)
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// readCard reads a checkpoint's model card; nil if it has none.
func readCard(ck *checkpoint.Checkpoint) ([]byte, error) {
	if !slices.ContainsFunc(ck.OtherFiles(), func(f checkpoint.File) bool { return f.Path == modelcard.Name }) {
		return nil, nil
	}
	data, err := ck.ReadFile(modelcard.Name, modelcard.MaxSize+cardSlack)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fault.Wrap(fault.KindOf(err), err, "reading the model card")
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// undoneCard takes a seal's additions out of the card of a checkpoint that is
// sealed no more. ok is false where there is nothing of them; content is nil
// where the seal wrote the whole card.
func undoneCard(ck *checkpoint.Checkpoint, man *manifest.Manifest) (content []byte, ok bool) {
	i := slices.IndexFunc(man.Files, func(f manifest.File) bool { return f.Path == modelcard.Name })
	if i < 0 || man.Files[i].Original == man.Files[i].SHA256 {
		return nil, false
	}
	now, err := readCard(ck)
	if err != nil || now == nil || digest(now) != man.Files[i].SHA256 {
		return nil, false
	}
	if man.Files[i].Original == "" {
		return nil, true
	}
	return man.Revert(modelcard.Name, now)
}

// EditedCard tells what to do where the model card is all that does not fit; it
// is empty otherwise.
func EditedCard(list []Mismatch) string {
	if len(list) == 0 || slices.ContainsFunc(list, func(m Mismatch) bool { return m.File != modelcard.Name }) {
		return ""
	}
	return modelcard.EditedHint
}
