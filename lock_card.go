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

// maxCardEdits bounds the edits of a card that are looked for; a seal makes fewer
// than ten.
const maxCardEdits = 64

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

// unsealedCard is the model card of a checkpoint from which a seal is taken.
type unsealedCard struct {
	content []byte // nil: there is none
	edited  bool   // it is not the original's: it was edited after sealing
	notices []string
}

// unsealCard takes a seal's additions out of the model card. The card is the one
// file of a sealed checkpoint that people go on writing: what they wrote stays,
// and is said not to be the original's.
func unsealCard(ck *checkpoint.Checkpoint, man *manifest.Manifest) (unsealedCard, error) {
	now, err := readCard(ck)
	if err != nil {
		return unsealedCard{}, err
	}
	i := slices.IndexFunc(man.Files, func(f manifest.File) bool { return f.Path == modelcard.Name })
	switch {
	case i < 0 && now == nil:
		return unsealedCard{}, nil
	case i < 0:
		return unsealedCard{content: now, edited: true, notices: []string{modelcard.Name + " was added after sealing: it is kept"}}, nil
	}
	f := man.Files[i]
	switch {
	case now == nil && f.Original == "":
		return unsealedCard{}, nil
	case now == nil:
		return unsealedCard{edited: true, notices: []string{modelcard.Name + " was removed after sealing: the original's does not come back"}}, nil
	case digest(now) == f.SHA256 && f.Original == "":
		return unsealedCard{}, nil
	case digest(now) == f.SHA256:
		back, ok := man.Revert(modelcard.Name, now)
		if !ok {
			return unsealedCard{}, fault.New(fault.Mismatch, "%s: the patches of %s do not fit it", manifest.Name, modelcard.Name).
				WithHint("the manifest is damaged: fetch the sealed checkpoint again")
		}
		return unsealedCard{content: append([]byte{}, back...)}, nil // an empty card is one
	}
	return retractCard(now, man, f), nil
}

// retractCard takes the seal's additions out of a card that was edited.
func retractCard(now []byte, man *manifest.Manifest, f manifest.File) unsealedCard {
	var edits []modelcard.Edit
	if f.Original != "" {
		edits = []modelcard.Edit{}
		for _, p := range man.Patches {
			if p.Path == modelcard.Name && len(edits) < maxCardEdits {
				edits = append(edits, modelcard.Edit{Offset: p.Offset, Before: p.Before, After: p.After})
			}
		}
	}
	content, warnings := modelcard.Retract(now, edits)
	if content == nil && f.Original == "" || content != nil && digest(content) == f.Original {
		return unsealedCard{content: content}
	}
	c := unsealedCard{content: content, edited: true, notices: []string{modelcard.Name + " was edited after sealing: what was edited is kept"}}
	for _, w := range warnings {
		c.notices = append(c.notices, modelcard.Name+": "+w)
	}
	return c
}

// put makes the card part of an output's overrides.
func (c *unsealedCard) put(override map[string][]byte) {
	if c.content != nil {
		override[modelcard.Name] = c.content
	}
}

// left lists the card if it is not the original's.
func (c *unsealedCard) left() []string {
	if c.edited {
		return []string{modelcard.Name}
	}
	return nil
}

// tell says what is to be said of the card.
func (c *unsealedCard) tell(notice func(string)) {
	for _, text := range c.notices {
		if notice != nil {
			notice(text)
		}
	}
}
