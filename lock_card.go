package neuroseal

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/manifest"
)

// modelCard is the file that hubs show as a model's page.
const modelCard = "README.md"

// cardLimit bounds the size of a model card, in bytes.
const cardLimit = 16 << 20

// amendCard returns the model card as ModelCard makes it, and records how to
// get the original's back; ok is false if it stays as it is.
func (l *locker) amendCard() (content []byte, ok bool, err error) {
	if l.o.ModelCard == nil {
		return nil, false, nil
	}
	old, there, err := readCard(l.m.ck)
	if err != nil {
		return nil, false, err
	}
	content = l.o.ModelCard(old)
	if there && string(content) == string(old) {
		return nil, false, nil
	}
	if there {
		at := 0
		for at < min(len(old), len(content)) && old[at] == content[at] {
			at++
		}
		tail := 0
		for tail < min(len(old), len(content))-at && old[len(old)-1-tail] == content[len(content)-1-tail] {
			tail++
		}
		l.man.Patches = append(l.man.Patches, manifest.Patch{Path: modelCard, Offset: at,
			Before: string(old[at : len(old)-tail]), After: string(content[at : len(content)-tail])})
	}
	return content, true, nil
}

// readCard reads a checkpoint's model card, if it has one.
func readCard(ck *checkpoint.Checkpoint) (data []byte, there bool, err error) {
	for _, f := range ck.OtherFiles() {
		if f.Path != modelCard {
			continue
		}
		if f.Size > cardLimit {
			return nil, false, fault.New(fault.Unsupported, "%s has %d bytes: too long for a model card", modelCard, f.Size).
				WithHint("leave --card out")
		}
		data, err := os.ReadFile(filepath.Join(ck.Root(), modelCard))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fault.Wrap(fault.General, err, "reading the model card")
		}
		return data, true, nil
	}
	return nil, false, nil
}
