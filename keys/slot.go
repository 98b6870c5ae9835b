package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// The values of [Slot.Type].
const (
	TypeAge        = "age"        // opened by an age or SSH identity
	TypePassphrase = "passphrase" // opened by a passphrase, through scrypt
)

// DefaultWorkFactor is log2 of the scrypt cost of a new passphrase slot: about a
// second and 256 MiB.
const DefaultWorkFactor = 18

// Bounds on slots, which come from files that others wrote.
const (
	maxSlots      = 1024
	maxSlotData   = 64 << 10
	maxSlotText   = 1 << 10 // id, label, created
	maxRecipient  = 8 << 10
	maxWorkFactor = 22
	maxTotalWork  = 1 << 24 // sum of 2^logN over the passphrase slots of one Unwrap
)

// Slot is one way to open a seal: an age file that holds the seal key, wrapped
// for the people of one recipient list or for a passphrase. Everything in it is
// public. Adding or removing a slot touches no tensor.
type Slot struct {
	ID         string   `json:"id"`                   // names the slot, made from Data
	Type       string   `json:"type"`                 // TypeAge or TypePassphrase
	Label      string   `json:"label,omitempty"`      // the owner's note
	Recipients []string `json:"recipients,omitempty"` // public keys, as [Recipient.Public]
	Created    string   `json:"created,omitempty"`    // RFC 3339
	Data       string   `json:"data"`                 // ASCII-armored age file of exactly 32 bytes
}

// String describes the slot for a list: id, type, label.
func (s Slot) String() string {
	if s.Label == "" {
		return fmt.Sprintf("%s (%s)", s.ID, s.Type)
	}
	return fmt.Sprintf("%s (%s, %q)", s.ID, s.Type, s.Label)
}

// WrapRecipients makes one slot that any of the recipients can open. age does
// not mix post-quantum and other recipients in one file; give them a slot each,
// which is also what lets them be removed one by one. The caller fills in Label
// and Created.
func WrapRecipients(k SealKey, recipients ...Recipient) (Slot, error) {
	if len(recipients) == 0 {
		return Slot{}, fault.New(fault.Usage, "no recipient for the keyslot")
	}
	slot := Slot{Type: TypeAge}
	to := make([]age.Recipient, len(recipients))
	for i, r := range recipients {
		slot.Recipients = append(slot.Recipients, r.Public)
		to[i] = r.age
	}
	return slot.wrap(k, to)
}

// WrapPassphrase makes a slot that the passphrase opens. logN is the scrypt work
// factor, 1 to 22; 0 means [DefaultWorkFactor].
func WrapPassphrase(k SealKey, passphrase string, logN int) (Slot, error) {
	if logN == 0 {
		logN = DefaultWorkFactor
	}
	if logN < 1 || logN > maxWorkFactor {
		return Slot{}, fault.New(fault.Usage, "scrypt work factor %d: want 1 to %d", logN, maxWorkFactor)
	}
	if passphrase == "" {
		return Slot{}, errEmptyPassphrase("the passphrase")
	}
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Slot{}, fault.Wrap(fault.Usage, err, "making a passphrase slot")
	}
	r.SetWorkFactor(logN)
	return Slot{Type: TypePassphrase}.wrap(k, []age.Recipient{r})
}

// wrap encrypts the key and completes the slot with data and id.
func (s Slot) wrap(k SealKey, to []age.Recipient) (Slot, error) {
	var out bytes.Buffer
	armored := armor.NewWriter(&out)
	w, err := age.Encrypt(armored, to...)
	if err != nil {
		return Slot{}, fault.Wrap(fault.Usage, err, "wrapping the seal key").
			WithHint("put post-quantum (age1pq1…) and other recipients into separate keyslots")
	}
	if _, err = w.Write(k[:]); err == nil {
		err = w.Close()
	}
	if err == nil {
		err = armored.Close()
	}
	if err != nil {
		return Slot{}, fault.Wrap(fault.General, err, "wrapping the seal key")
	}
	s.Data = out.String()
	s.ID = slotID(s.Data)
	if len(s.Data) > maxSlotData {
		return Slot{}, fault.New(fault.Usage, "%d recipients are too many for one keyslot (%d bytes, at most %d)",
			len(to), len(s.Data), maxSlotData).WithHint("spread them over several keyslots")
	}
	return s, nil
}

// slotID names a slot after its contents, so that ids need no registry.
func slotID(data string) string {
	sum := sha256.Sum256([]byte(data))
	return hex.EncodeToString(sum[:4])
}

// CheckSlots refuses slots that are not well-formed: too many or too large,
// unknown types, missing or repeated ids, texts with control characters.
// Whoever reads slots from a file calls it before using or printing them.
func CheckSlots(slots []Slot) error {
	if len(slots) > maxSlots {
		return fault.New(fault.Mismatch, "%d keyslots, at most %d", len(slots), maxSlots)
	}
	seen := make(map[string]bool, len(slots))
	for i, s := range slots {
		if err := s.check(); err != nil {
			return fault.Wrap(fault.Mismatch, err, "keyslot %d of %d", i+1, len(slots))
		}
		if seen[s.ID] {
			return fault.New(fault.Mismatch, "keyslot %d of %d: id %s is used twice", i+1, len(slots), s.ID)
		}
		seen[s.ID] = true
	}
	return nil
}

func (s Slot) check() error {
	if s.Type != TypeAge && s.Type != TypePassphrase {
		return fmt.Errorf("unknown type %.40q (known: %s, %s)", s.Type, TypeAge, TypePassphrase)
	}
	if s.ID == "" || strings.ContainsFunc(s.ID, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("the id is empty or not plain ASCII")
	}
	for _, t := range []struct{ name, text string }{{"id", s.ID}, {"label", s.Label}, {"created", s.Created}} {
		if !printable(t.text, maxSlotText) {
			return fmt.Errorf("%s is not printable text of at most %d bytes", t.name, maxSlotText)
		}
	}
	for _, r := range s.Recipients {
		if !printable(r, maxRecipient) {
			return fmt.Errorf("a recipient is not printable text of at most %d bytes", maxRecipient)
		}
	}
	if s.Data == "" || len(s.Data) > maxSlotData {
		return fmt.Errorf("data has %d bytes, want 1 to %d", len(s.Data), maxSlotData)
	}
	return nil
}

// printable guards the terminal of whoever lists slots against escape sequences.
func printable(s string, limit int) bool {
	return len(s) <= limit && utf8.ValidString(s) &&
		!strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// RemoveSlot returns the slots without the one that ref names (its id, its
// label, or a recipient that has the slot to itself), and the removed slot. It
// refuses to remove the last slot. Whoever could open the slot before may have
// kept the seal key: removal closes the door only to newcomers.
func RemoveSlot(slots []Slot, ref string) (rest []Slot, removed Slot, err error) {
	at := -1
	for i, s := range slots {
		if s.ID != ref && s.Label != ref && !slices.Contains(s.Recipients, ref) {
			continue
		}
		if at >= 0 {
			return nil, Slot{}, fault.New(fault.Usage, "%q names more than one keyslot: %s and %s", ref, slots[at], s).
				WithHint("name the slot by its id")
		}
		at = i
	}
	switch {
	case ref == "" || at < 0:
		return nil, Slot{}, fault.New(fault.Usage, "no keyslot is named %q; there are: %s", ref, describeSlots(slots)).
			WithHint("name a slot by its id, its label or its recipient")
	case slots[at].ID != ref && slots[at].Label != ref && len(slots[at].Recipients) > 1:
		return nil, Slot{}, fault.New(fault.Usage, "keyslot %s also serves %d other recipients", slots[at], len(slots[at].Recipients)-1).
			WithHint("add a keyslot for those who stay, then remove this one by its id")
	case len(slots) == 1:
		return nil, Slot{}, fault.New(fault.Usage, "keyslot %s is the last one: without it nobody could open the seal", slots[at]).
			WithHint("add another keyslot first")
	}
	return slices.Delete(slices.Clone(slots), at, at+1), slots[at], nil
}

func describeSlots(slots []Slot) string {
	const most = 20 // a message, not a listing
	var b strings.Builder
	for i, s := range slots {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(slots)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s.String())
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}
