package keys

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"github.com/neuroseal/neuroseal/internal/fault"
)

const testWorkFactor = 4

// person is a recipient with the identity that belongs to it.
type person struct {
	to Recipient
	id age.Identity
}

func newX25519(t testing.TB) person {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return newPerson(t, id.Recipient().String(), id)
}

func newHybrid(t testing.TB) person {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return newPerson(t, id.Recipient().String(), id)
}

func newPerson(t testing.TB, public string, id age.Identity) person {
	t.Helper()
	rs, err := ParseRecipients(public)
	if err != nil {
		t.Fatal(err)
	}
	return person{rs[0], id}
}

func recipientSlot(t testing.TB, k SealKey, to ...Recipient) Slot {
	t.Helper()
	s, err := WrapRecipients(k, to...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func passphraseSlot(t testing.TB, k SealKey, pass string) Slot {
	t.Helper()
	s, err := WrapPassphrase(k, pass, testWorkFactor)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func say(pass string) func() (string, error) { return func() (string, error) { return pass, nil } }

// encrypted makes a slot with any payload and any recipients.
func encrypted(t testing.TB, typ string, payload []byte, to ...age.Recipient) Slot {
	t.Helper()
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	w, err := age.Encrypt(a, to...)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(payload)
	if err := errors.Join(w.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	return Slot{ID: slotID(b.String()), Type: typ, Data: b.String()}
}

func TestUnwrap(t *testing.T) {
	k := testKey(1)
	alice, bob, carol, eve := newX25519(t), newX25519(t), newHybrid(t), newX25519(t)
	slots := []Slot{
		recipientSlot(t, k, alice.to, bob.to),
		recipientSlot(t, k, carol.to),
		passphraseSlot(t, k, "first"),
		passphraseSlot(t, k, "second"),
	}
	never := func() (string, error) { t.Error("the passphrase was asked"); return "", nil }
	for _, c := range []struct {
		name string
		ids  []age.Identity
		pass func() (string, error)
		slot int // -1: none opens
	}{
		{"alice", []age.Identity{alice.id}, never, 0},
		{"bob", []age.Identity{bob.id}, never, 0},
		{"carol, post-quantum", []age.Identity{carol.id}, never, 1},
		{"eve has alice's too", []age.Identity{eve.id, alice.id}, never, 0},
		{"first passphrase", nil, say("first"), 2},
		{"second passphrase", nil, say("second"), 3},
		{"eve knows the passphrase", []age.Identity{eve.id}, say("second"), 3},
		{"eve", []age.Identity{eve.id}, nil, -1},
		{"wrong passphrase", nil, say("third"), -1},
		{"eve with a wrong passphrase", []age.Identity{eve.id}, say("third"), -1},
		{"nothing", nil, nil, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, id, err := Unwrap(slots, c.ids, c.pass)
			if c.slot >= 0 {
				if err != nil || got != k || id != slots[c.slot].ID {
					t.Errorf("slot %q, want %q: %v", id, slots[c.slot].ID, err)
				}
				return
			}
			if fault.KindOf(err) != fault.WrongKey || got != (SealKey{}) || id != "" || fault.HintOf(err) == "" {
				t.Fatalf("%q %v", id, err)
			}
			for _, s := range slots {
				if !strings.Contains(err.Error(), s.String()) {
					t.Errorf("%v does not list %s", err, s)
				}
			}
			if strings.Contains(err.Error(), "third") {
				t.Errorf("%v tells the passphrase", err)
			}
		})
	}
}

func TestUnwrapAsksOnlyIfUseful(t *testing.T) {
	eve := newX25519(t)
	slots := []Slot{recipientSlot(t, testKey(1), newX25519(t).to)}
	_, _, err := Unwrap(slots, []age.Identity{eve.id}, func() (string, error) { t.Error("asked"); return "", nil })
	if fault.KindOf(err) != fault.WrongKey {
		t.Error(err)
	}
	slots = append(slots, passphraseSlot(t, testKey(1), "p"), passphraseSlot(t, testKey(1), "q"))
	asked := 0
	_, _, _ = Unwrap(slots, nil, func() (string, error) { asked++; return "wrong", nil })
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	cancelled := errors.New("cancelled")
	if _, _, err = Unwrap(slots, nil, func() (string, error) { return "", cancelled }); !errors.Is(err, cancelled) {
		t.Errorf("the refusal to answer was lost: %v", err)
	}
	if _, _, err = Unwrap(slots, nil, say("")); fault.KindOf(err) != fault.Usage {
		t.Errorf("empty passphrase: %v", err)
	}
	if _, _, err = Unwrap(nil, nil, say("x")); fault.KindOf(err) != fault.WrongKey {
		t.Errorf("no slots: %v", err)
	}
}

// TestUnwrapHostile: whatever a manifest holds, the cost is bounded, and a good
// slot behind bad ones still opens.
func TestUnwrapHostile(t *testing.T) {
	k, alice := testKey(1), newX25519(t)
	x := alice.id.(*age.X25519Identity).Recipient()
	scrypt, _ := age.NewScryptRecipient("p")
	scrypt.SetWorkFactor(testWorkFactor)
	good := recipientSlot(t, k, alice.to)
	cut := good
	cut.ID, cut.Data = "cut", good.Data[:len(good.Data)/2]
	flipped := good
	flipped.ID = "flipped"
	middle := strings.LastIndex(good.Data, "\n-----END") - 10
	flipped.Data = good.Data[:middle] + map[bool]string{true: "B", false: "A"}[good.Data[middle] == 'A'] + good.Data[middle+1:]
	costly := passphraseSlot(t, k, "p")
	costly.Data = withWorkFactor(t, costly.Data, "30")
	for name, bad := range map[string]Slot{
		"short payload":      encrypted(t, TypeAge, k[:31], x),
		"long payload":       encrypted(t, TypeAge, append(k[:], 0), x),
		"empty payload":      encrypted(t, TypeAge, nil, x),
		"huge payload":       encrypted(t, TypeAge, make([]byte, 40<<10), x),
		"cut":                cut,
		"flipped":            flipped,
		"not age":            {ID: "n", Type: TypeAge, Data: "hello"},
		"empty armor":        {ID: "e", Type: TypeAge, Data: armor.Header + "\n" + armor.Footer + "\n"},
		"scrypt in age slot": encrypted(t, TypeAge, k[:], scrypt),
		"age in scrypt slot": encrypted(t, TypePassphrase, k[:], x),
		"costly":             costly,
		"absurdly costly":    {ID: "a", Type: TypePassphrase, Data: withWorkFactor(t, costly.Data, "99999999999999999999")},
		"negative cost":      {ID: "m", Type: TypePassphrase, Data: withWorkFactor(t, costly.Data, "-1")},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Unwrap([]Slot{bad}, []age.Identity{alice.id}, say("p")); fault.KindOf(err) != fault.WrongKey {
				t.Errorf("alone: %v", err)
			}
			got, id, err := Unwrap([]Slot{bad, good}, []age.Identity{alice.id}, nil)
			if err != nil || got != k || id != good.ID {
				t.Errorf("before a good slot: %q %v", id, err)
			}
			behind := passphraseSlot(t, k, "p")
			got, id, err = Unwrap([]Slot{bad, behind}, nil, say("p"))
			if err != nil || got != k || id != behind.ID {
				t.Errorf("before a good passphrase slot: %q %v", id, err)
			}
		})
	}
}

// withWorkFactor rewrites the scrypt cost in an armored age file.
func withWorkFactor(t *testing.T, data, logN string) string {
	t.Helper()
	file, err := dearmor(data)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitN(string(file), "\n", 3)
	lines[1] = lines[1][:strings.LastIndexByte(lines[1], ' ')+1] + logN
	var b bytes.Buffer
	a := armor.NewWriter(&b)
	a.Write([]byte(strings.Join(lines, "\n")))
	a.Close()
	return b.String()
}

func TestUnwrapTotalWork(t *testing.T) {
	var slots []Slot
	for range 4 {
		slots = append(slots, passphraseSlot(t, testKey(1), "other"))
	}
	slots = append(slots, passphraseSlot(t, testKey(1), "p"))
	o := opener{maxWorkFactor: testWorkFactor, workLeft: 5 << testWorkFactor}
	if _, _, err := o.unwrap(slots, nil, say("p")); err != nil {
		t.Error(err)
	}
	o.workLeft--
	_, _, err := o.unwrap(slots, nil, say("p"))
	if fault.KindOf(err) != fault.WrongKey || !strings.Contains(err.Error(), "too costly") {
		t.Errorf("over the budget: %v", err)
	}
}

func TestWrapRefuses(t *testing.T) {
	k := testKey(1)
	if _, err := WrapRecipients(k); fault.KindOf(err) != fault.Usage {
		t.Errorf("nobody: %v", err)
	}
	_, err := WrapRecipients(k, newX25519(t).to, newHybrid(t).to)
	if fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "post-quantum") {
		t.Errorf("mixed: %v", err)
	}
	many := make([]Recipient, 50)
	one := newHybrid(t).to
	for i := range many {
		many[i] = one
	}
	if _, err = WrapRecipients(k, many...); fault.KindOf(err) != fault.Usage || !strings.Contains(err.Error(), "too many") {
		t.Errorf("too many: %v", err)
	}
	for _, logN := range []int{-1, 23, 1 << 30} {
		if _, err = WrapPassphrase(k, "p", logN); fault.KindOf(err) != fault.Usage {
			t.Errorf("logN %d: %v", logN, err)
		}
	}
	if _, err = WrapPassphrase(k, "", 1); fault.KindOf(err) != fault.Usage {
		t.Errorf("empty passphrase: %v", err)
	}
}

func TestCheckSlots(t *testing.T) {
	good := Slot{ID: "a", Type: TypeAge, Label: "Größe", Data: "d"}
	for name, spoil := range map[string]func(*Slot){
		"type":           func(s *Slot) { s.Type = "rsa" },
		"no id":          func(s *Slot) { s.ID = "" },
		"blank id":       func(s *Slot) { s.ID = "a b" },
		"no data":        func(s *Slot) { s.Data = "" },
		"large data":     func(s *Slot) { s.Data = strings.Repeat("d", maxSlotData+1) },
		"escape":         func(s *Slot) { s.Label = "\x1b[2J" },
		"invalid UTF-8":  func(s *Slot) { s.Label = "\xff" },
		"bidi":           func(s *Slot) { s.Label = "\u202e" },
		"newline":        func(s *Slot) { s.Created = "a\nb" },
		"long label":     func(s *Slot) { s.Label = strings.Repeat("l", maxSlotText+1) },
		"long recipient": func(s *Slot) { s.Recipients = []string{strings.Repeat("r", maxRecipient+1)} },
	} {
		bad := good
		spoil(&bad)
		if err := CheckSlots([]Slot{bad}); fault.KindOf(err) != fault.Mismatch {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := CheckSlots([]Slot{good}); err != nil {
		t.Error(err)
	}
	if err := CheckSlots([]Slot{good, good}); err == nil {
		t.Error("an id used twice")
	}
	if err := CheckSlots(make([]Slot, maxSlots+1)); err == nil {
		t.Error("too many slots")
	}
}

func TestRemoveSlot(t *testing.T) {
	slots := []Slot{
		{ID: "s1", Label: "ci", Recipients: []string{"age1a"}},
		{ID: "s2", Label: "team", Recipients: []string{"age1b", "age1c"}},
		{ID: "s3", Label: "team"},
	}
	for ref, want := range map[string]string{"s1": "s1", "ci": "s1", "age1a": "s1", "s2": "s2", "s3": "s3",
		"team": "", "age1b": "", "none": "", "": ""} {
		rest, removed, err := RemoveSlot(slots, ref)
		if want == "" {
			if fault.KindOf(err) != fault.Usage || fault.HintOf(err) == "" {
				t.Errorf("%q: %v", ref, err)
			}
			continue
		}
		if err != nil || removed.ID != want || len(rest) != 2 {
			t.Errorf("%q: removed %q: %v", ref, removed.ID, err)
		}
	}
	if len(slots) != 3 || slots[0].ID != "s1" || slots[1].ID != "s2" {
		t.Error("the caller's slots were changed")
	}
	if _, _, err := RemoveSlot(slots[:1], "s1"); err == nil {
		t.Error("removed the last slot")
	}
}

func TestDescribeManySlots(t *testing.T) {
	slots := make([]Slot, 100)
	for i := range slots {
		slots[i] = Slot{ID: fmt.Sprint("slot", i), Type: TypeAge}
	}
	if s := describeSlots(slots); !strings.HasSuffix(s, " and 80 more") {
		t.Error(s)
	}
}

func TestDetachedRoundTrip(t *testing.T) {
	k, alice := testKey(1), newX25519(t)
	path := filepath.Join(t.TempDir(), "slots.json")
	d := Detached{SealID: "seal-1", Slots: []Slot{recipientSlot(t, k, alice.to)}}
	for range 2 { // the second time it replaces the file
		d.Slots[0].Label += "<x>"
		if err := WriteDetached(path, d); err != nil {
			t.Fatal(err)
		}
		got, err := ReadDetached(path)
		if err != nil || got.SealID != "seal-1" || got.Slots[0].Label != d.Slots[0].Label {
			t.Fatalf("%+v %v", got, err)
		}
		if key, _, err := Unwrap(got.Slots, []age.Identity{alice.id}, nil); err != nil || key != k {
			t.Error(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link.json")
	if os.Symlink(path, link) == nil {
		d.SealID = "seal-2"
		if err := WriteDetached(link, d); err != nil {
			t.Fatal(err)
		}
		if got, err := ReadDetached(path); err != nil || got.SealID != "seal-2" {
			t.Errorf("through a link: %v %v", got.SealID, err)
		}
	}
	if names, _ := os.ReadDir(filepath.Dir(path)); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func TestDetachedErrors(t *testing.T) {
	for text, kind := range map[string]fault.Kind{
		"":                           fault.Mismatch,
		"{}":                         fault.Mismatch,
		"[]":                         fault.Mismatch,
		`{"neuroseal_keyslots":2}`:   fault.Unsupported,
		`{"neuroseal_keyslots":"1"}`: fault.Mismatch,
		`{"neuroseal_keyslots":1,"seal_id":"\u001b"}`:    fault.Mismatch,
		`{"neuroseal_keyslots":1,"slots":[{"id":"a"}]}`:  fault.Mismatch,
		`{"neuroseal_keyslots":1,"seal_id":"a"} trailer`: fault.Mismatch,
	} {
		path := filepath.Join(t.TempDir(), "slots.json")
		os.WriteFile(path, []byte(text), 0o600)
		_, err := ReadDetached(path)
		if fault.KindOf(err) != kind || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: kind %v: %v", text, fault.KindOf(err), err)
		}
	}
	if _, err := ReadDetached(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := WriteDetached(filepath.Join(t.TempDir(), "x"), Detached{Slots: []Slot{{}}}); err == nil {
		t.Error("wrote a slot that cannot be read")
	}
}

// FuzzUnwrap feeds whole slot files to the parser and everything that parses to
// Unwrap, with a scrypt bound low enough for fuzzing.
func FuzzUnwrap(f *testing.F) {
	alice, err := age.GenerateX25519Identity()
	if err != nil {
		f.Fatal(err)
	}
	k := testKey(1)
	to := Recipient{Public: "age1alice", age: alice.Recipient()}
	for _, slots := range [][]Slot{nil, {recipientSlot(f, k, to)}, {passphraseSlot(f, k, "p")}, {recipientSlot(f, k, to), passphraseSlot(f, k, "p")}} {
		data, err := Detached{SealID: "s", Slots: slots}.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"neuroseal_keyslots":1,"slots":[{"id":"a","type":"age","data":"-----BEGIN AGE ENCRYPTED FILE-----"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := ParseDetached(data)
		if err != nil {
			return
		}
		written, err := d.Marshal()
		if err != nil {
			t.Fatalf("read, but not written: %v", err)
		}
		again, err := ParseDetached(written)
		if err != nil || len(again.Slots) != len(d.Slots) || again.SealID != d.SealID {
			t.Fatalf("written, but not read: %v", err)
		}
		o := opener{maxWorkFactor: testWorkFactor, workLeft: 64 << testWorkFactor}
		got, id, err := o.unwrap(d.Slots, []age.Identity{alice}, say("p"))
		if (err == nil) != (id != "") || err != nil && got != (SealKey{}) {
			t.Errorf("slot %q with error %v", id, err)
		}
	})
}
