package keys

import (
	"bytes"
	"encoding/json"
	"io"
	"os"

	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// detachedVersion is the only format of detached keyslots so far.
const detachedVersion = 1

// maxDetached holds maxSlots slots of realistic size, and bounds what is read.
const maxDetached = 16 << 20

// Detached is the content of a file that keeps the keyslots apart from the
// model, for publishers who do not ship the wrapped key with it.
type Detached struct {
	Version int    `json:"neuroseal_keyslots"` // 1
	SealID  string `json:"seal_id"`            // of the manifest that the slots open
	Slots   []Slot `json:"slots"`
}

// ParseDetached reads detached keyslots and checks them with [CheckSlots].
func ParseDetached(data []byte) (Detached, error) {
	var d Detached
	if err := json.Unmarshal(data, &d); err != nil {
		return Detached{}, fault.Wrap(fault.Mismatch, err, "not a file of keyslots")
	}
	switch {
	case d.Version == 0:
		return Detached{}, fault.New(fault.Mismatch, "not a file of keyslots: neuroseal_keyslots is missing")
	case d.Version != detachedVersion:
		return Detached{}, fault.New(fault.Unsupported, "keyslots of version %d; this program knows version %d", d.Version, detachedVersion).
			WithHint("use a newer release")
	case !printable(d.SealID, maxSlotText):
		return Detached{}, fault.New(fault.Mismatch, "seal_id is not printable text of at most %d bytes", maxSlotText)
	}
	if err := CheckSlots(d.Slots); err != nil {
		return Detached{}, err
	}
	return d, nil
}

// Marshal returns the file's content: indented JSON, the same bytes for the same
// slots.
func (d Detached) Marshal() ([]byte, error) {
	d.Version = detachedVersion
	if d.Slots == nil {
		d.Slots = []Slot{}
	}
	if err := CheckSlots(d.Slots); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(d); err != nil {
		return nil, fault.Wrap(fault.General, err, "encoding keyslots")
	}
	return b.Bytes(), nil
}

// ReadDetached reads a file of detached keyslots.
func ReadDetached(path string) (Detached, error) {
	f, err := os.Open(path)
	if err != nil {
		return Detached{}, fault.Wrap(fault.General, err, "opening keyslots")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxDetached+1))
	if err != nil {
		return Detached{}, fault.Wrap(fault.General, err, "reading keyslots %s", path)
	}
	if len(data) > maxDetached {
		return Detached{}, fault.New(fault.Mismatch, "keyslots %s: longer than %d bytes", path, maxDetached)
	}
	d, err := ParseDetached(data)
	if err != nil {
		return Detached{}, fault.Wrap(fault.KindOf(err), err, "keyslots %s", path)
	}
	return d, nil
}

// WriteDetached replaces the file at path in one step: a reader, or a crash,
// finds the old slots or the new ones, never a part.
func WriteDetached(path string, d Detached) error {
	data, err := d.Marshal()
	if err != nil {
		return err
	}
	const replace = true
	if err := atomicdir.WriteFile(path, data, 0o600, replace); err != nil {
		return fault.Wrap(fault.KindOf(err), err, "writing keyslots")
	}
	return nil
}
