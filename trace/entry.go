package trace

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
)

// Version is the version of the registry's entries that this package writes.
const Version = 1

// maxLabel bounds a label, in bytes.
const maxLabel = 128

// entryLimit bounds an entry that is read, in bytes.
const entryLimit = manifest.MaxSize

// Entry is one registered copy. Schema: spec/registry.schema.json.
//
// With Key anybody can unlock the copy; so a registry is as secret as the keys
// of all its copies. With Slots instead, only the publisher's identity opens it.
type Entry struct {
	Version    int      `json:"neuroseal_registry"`
	Label      string   `json:"label"`
	SealID     string   `json:"seal_id"`
	Registered string   `json:"registered"`           // RFC 3339, UTC
	Original   string   `json:"original_digest"`      // "sha256:…", as in the manifest
	Recipients []string `json:"recipients,omitempty"` // public keys for which the copy's own key was wrapped

	Key   string      `json:"key,omitempty"`      // the seal key, 64 hexadecimal digits
	Slots []keys.Slot `json:"keyslots,omitempty"` // or the key, wrapped for the publisher

	// Manifest is the copy's, without its keyslots.
	Manifest *manifest.Manifest `json:"manifest"`
}

// newEntry describes a copy that was sealed with a key. Where slots are given,
// the key stands in them only.
func newEntry(label string, key keys.SealKey, slots []keys.Slot, m *manifest.Manifest, at time.Time) (*Entry, error) {
	if err := traceable(m); err != nil {
		return nil, err
	}
	plain := *m
	plain.Keyslots = nil
	e := &Entry{
		Version: Version, Label: label, SealID: m.SealID, Registered: at.UTC().Format(time.RFC3339),
		Original: m.OriginalDigest, Slots: slots, Manifest: &plain,
	}
	for _, s := range m.Keyslots {
		e.Recipients = append(e.Recipients, s.Recipients...)
	}
	if len(slots) == 0 {
		e.Key = hex.EncodeToString(key[:])
	}
	return e, e.check()
}

// traceable refuses seals whose factors do not come from a key of their own.
func traceable(m *manifest.Manifest) error {
	if m.Method == "gauge" {
		return nil
	}
	return fault.New(fault.Usage, "method %s cannot be traced: %s", m.Method, map[string]string{
		"static": "it has no key, and all copies are alike", "dynamic": "it has one real factor per layer, which rounding blurs",
	}[m.Method]).WithHint("use method gauge")
}

// CheckLabel refuses labels that are not one line of plain text, at most 128
// bytes long: labels are shown in messages, and people copy them.
func CheckLabel(label string) error {
	bad := func(why string) error {
		return fault.New(fault.Usage, "label %q: %s", label, why).WithHint("use a name such as \"Acme GmbH\" or partner-17")
	}
	switch {
	case label == "":
		return bad("it is empty")
	case len(label) > maxLabel:
		return bad(fmt.Sprintf("it has %d bytes; at most %d are allowed", len(label), maxLabel))
	case !utf8.ValidString(label):
		return bad("it is not UTF-8")
	case strings.TrimSpace(label) != label:
		return bad("it begins or ends with blanks")
	case strings.ContainsAny(label, "/\\"):
		return bad("it holds a slash")
	case label[0] == '.' || label[0] == '-':
		return bad("it begins with a dot or a dash")
	case strings.ContainsFunc(label, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }):
		return bad("it holds control characters")
	}
	return nil
}

var (
	sealIDs = regexp.MustCompile(`^[0-9a-f]{16}$`)
	sealKey = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// check refuses what no honest writer produces.
func (e *Entry) check() error {
	if err := CheckLabel(e.Label); err != nil {
		return fault.Wrap(fault.Mismatch, err, "registry entry")
	}
	bad := func(format string, args ...any) error {
		return fault.New(fault.Mismatch, "registry entry of %q: %s", e.Label, fmt.Sprintf(format, args...))
	}
	switch {
	case e.Manifest == nil:
		return bad("it holds no manifest")
	case e.Manifest.SealID != e.SealID || !sealIDs.MatchString(e.SealID):
		return bad("seal id %q, and %q in its manifest", e.SealID, e.Manifest.SealID)
	case e.Manifest.OriginalDigest != e.Original:
		return bad("its original's digest differs from its manifest's")
	case (e.Key == "") == (len(e.Slots) == 0):
		return bad("it must hold a key or keyslots, and not both")
	case e.Key != "" && !sealKey.MatchString(e.Key):
		return bad("its key is not 64 hexadecimal digits")
	}
	if len(e.Slots) > 0 {
		return keys.CheckSlots(e.Slots)
	}
	return nil
}

// ParseEntry reads an entry and checks it; its key is not compared with its
// manifest yet. A newer version gives fault.Unsupported, damage fault.Mismatch.
func ParseEntry(data []byte) (*Entry, error) {
	if len(data) > entryLimit {
		return nil, fault.New(fault.Mismatch, "registry entry of %d bytes; at most %d are read", len(data), entryLimit)
	}
	var first struct {
		Version int `json:"neuroseal_registry"`
	}
	if err := json.Unmarshal(data, &first); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "not a registry entry")
	}
	if first.Version > Version {
		return nil, fault.New(fault.Unsupported, "registry entry of version %d; this version reads up to %d", first.Version, Version).
			WithHint("a newer neuroseal wrote it: use that one")
	}
	if first.Version != Version {
		return nil, fault.New(fault.Mismatch, "not a registry entry: it has version %d", first.Version)
	}
	e := &Entry{}
	raw := struct {
		*Entry
		Manifest json.RawMessage `json:"manifest"` // in place of Entry's
	}{Entry: e}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&raw); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "not a registry entry")
	}
	m, err := manifest.Parse(raw.Manifest)
	if err != nil {
		kind := fault.Mismatch
		if fault.KindOf(err) == fault.Unsupported {
			kind = fault.Unsupported
		}
		return nil, fault.Wrap(kind, err, "registry entry of %q", e.Label)
	}
	e.Manifest = m
	if err := traceable(m); err != nil {
		return nil, fault.Wrap(fault.Mismatch, err, "registry entry of %q", e.Label)
	}
	return e, e.check()
}

// Marshal writes an entry, the same bytes for the same content.
func (e *Entry) Marshal() []byte {
	c := *e
	c.Manifest = nil
	head, err := json.MarshalIndent(&c, "", "  ")
	if err != nil {
		panic(err) // plain data: cannot fail
	}
	// The manifest's own layout keeps a group, file or tensor to a line.
	head = bytes.TrimSuffix(head, []byte("null\n}"))
	return append(append(head, bytes.TrimSpace(e.Manifest.Marshal())...), "\n}\n"...)
}

// Opener opens the keyslots of an entry; nil where nobody can.
type Opener func(slots []keys.Slot) (keys.SealKey, error)

// open returns the entry's key, which is checked against its manifest.
func (e *Entry) open(by Opener) (keys.SealKey, error) {
	var k keys.SealKey
	if e.Key != "" {
		raw, err := hex.DecodeString(e.Key)
		if err != nil {
			return k, fault.Wrap(fault.Mismatch, err, "registry entry of %q", e.Label)
		}
		copy(k[:], raw)
	} else {
		if by == nil {
			return k, fault.New(fault.WrongKey, "the key of %q is wrapped for the registry's owner", e.Label).WithHint("give --identity")
		}
		var err error
		if k, err = by(e.Slots); err != nil {
			return k, fault.Wrap(fault.KindOf(err), err, "registry entry of %q", e.Label)
		}
	}
	if err := e.Manifest.Verify(k); err != nil {
		return k, fault.Wrap(fault.Mismatch, err, "registry entry of %q was changed, or holds another copy's key", e.Label)
	}
	return k, nil
}
