package trace

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
)

// sealed is a small honest manifest of the copy under a key.
func sealed(key keys.SealKey) *manifest.Manifest {
	m := &manifest.Manifest{
		Sealed: true, Method: "gauge", Timestamp: "2026-01-02T03:04:05Z", Schema: manifest.Schema, Tool: "neuroseal 0.1.0",
		SealID: "0123456789abcdef", Profile: "max", ModelType: "llama", FreeDims: 3, Coverage: 0.5,
		OriginalDigest: "sha256:" + strings.Repeat("0", 64), Promise: manifest.Promise{BitExact: []string{}, Runs: []string{}, Quantisers: []string{}},
		Groups: []manifest.Group{{ID: "a", Kind: "ffn", Classes: 4, Block: 1, Offsets: []int{0}, Lo: -1, Hi: 1}},
		Files:  []manifest.File{}, Checksums: []manifest.Checksum{},
		Tensors: []manifest.Tensor{{Name: "w", Shape: []int{4, 2}, Terms: []manifest.Term{{Axes: []int{0}, Segments: [][6]int{{0, 4, 0, 0, 1, 1}}}}}},
	}
	m.Sign(key)
	return m
}

func TestLabels(t *testing.T) {
	for _, good := range []string{"Acme", "Acme GmbH & Co. KG", "partner-17", "東京", "a@b.example", strings.Repeat("x", 128)} {
		if err := CheckLabel(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", " ", " a", "a ", "a\nb", "a\tb", "a/b", `a\b`, "../x", ".hidden", "-rf", "a\x00b", "\x1b[31mred", "a\u202eb", "\xff", "\u00a0", strings.Repeat("x", 129), "a\u2028b",
	} {
		if err := CheckLabel(bad); fault.KindOf(err) != fault.Usage {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestRegistry(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "registry")
	if _, _, err := OpenRegistry(dir, false); fault.KindOf(err) != fault.Usage {
		t.Errorf("a registry that does not exist: %v", err)
	}
	r, warning, err := OpenRegistry(dir, true)
	if err != nil || warning != "" {
		t.Fatal(err, warning)
	}
	key := keys.SealKey{1}
	m := sealed(key)
	if _, err := r.Add("Acme", key, nil, m, time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, m.SealID+extension)
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The same copy again is replaced, and comes back when it is withdrawn.
	again, err := r.Add("Acme", key, nil, m, time.Unix(99, 0))
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Withdraw(); err != nil {
		t.Fatal(err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, first) {
		t.Error("withdrawing does not bring the old entry back")
	}
	if err := r.Check("Acme", key); err != nil {
		t.Errorf("the same label and key: %v", err)
	}
	if err := r.Check("Other", key); fault.KindOf(err) != fault.Usage {
		t.Errorf("another label for the key: %v", err)
	}
	if err := r.Check("Other", keys.SealKey{2}); err != nil {
		t.Errorf("another key: %v", err)
	}
	if _, err := r.Add("Other", key, nil, m, time.Now()); fault.KindOf(err) != fault.Usage {
		t.Errorf("the same seal for another label: %v", err)
	}
	other := sealed(keys.SealKey{2})
	other.SealID = "fedcba9876543210"
	other.Sign(keys.SealKey{2})
	g, err := r.Add("Acme", keys.SealKey{2}, nil, other, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	count := func() (n int) {
		if err := r.Each(func(*Entry) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count(); n != 2 {
		t.Errorf("%d entries", n)
	}
	if err := g.Withdraw(); err != nil || count() != 1 {
		t.Errorf("%d entries, %v", count(), err)
	}
	if err := os.WriteFile(path, first[:len(first)-9], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Each(func(*Entry) error { return nil }); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("a damaged entry: %v", err)
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, warning, err := OpenRegistry(dir, false); err != nil || warning == "" {
			t.Errorf("a registry that others can read: %q, %v", warning, err)
		}
	}
}

func TestEntryRefuses(t *testing.T) {
	key := keys.SealKey{1}
	e, err := newEntry("Acme", key, nil, sealed(key), time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	good := string(e.Marshal())
	for _, c := range []struct {
		name, old, new string
		kind           fault.Kind
	}{
		{"newer", `"neuroseal_registry": 1`, `"neuroseal_registry": 2`, fault.Unsupported},
		{"no version", `"neuroseal_registry": 1`, `"neuroseal_registry": 0`, fault.Mismatch},
		{"label", `"Acme"`, `"../Acme"`, fault.Mismatch},
		{"label with a newline", `"Acme"`, `"Ac\nme"`, fault.Mismatch},
		{"seal id", `"seal_id": "0123456789abcdef",` + "\n  \"reg", `"seal_id": "0123456789abcdee",` + "\n  \"reg", fault.Mismatch},
		{"no key", `"key": "01`, `"key": "x1`, fault.Mismatch},
		{"unknown field", `"label"`, `"lable": "", "label"`, fault.Mismatch},
		{"method", `"method": "gauge"`, `"method": "static"`, fault.Mismatch},
		{"manifest of a newer schema", `"schema": 1`, `"schema": 7`, fault.Unsupported},
		{"two entries", "\n}\n", "\n}\n{}", fault.Mismatch},
		{"cut short", "\n}\n", "", fault.Mismatch},
	} {
		i := strings.LastIndex(good, c.old)
		if c.name == "label" || strings.HasPrefix(c.name, "seal") || c.name == "unknown field" || strings.HasPrefix(c.name, "label") {
			i = strings.Index(good, c.old)
		}
		if i < 0 {
			t.Fatalf("%s: %q not found in\n%s", c.name, c.old, good)
		}
		bad := good[:i] + c.new + good[i+len(c.old):]
		if _, err := ParseEntry([]byte(bad)); fault.KindOf(err) != c.kind {
			t.Errorf("%s: exit %d: %v", c.name, fault.KindOf(err), err)
		}
	}
	// A key that is not the manifest's, and a manifest that was changed.
	e.Key = strings.Repeat("7", 64)
	if _, err := e.open(nil); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("another key: %v", err)
	}
	e, _ = newEntry("Acme", key, nil, sealed(key), time.Unix(0, 0))
	e.Manifest.Groups[0].Hi = 9
	if _, err := e.open(nil); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("a changed manifest: %v", err)
	}
	static := sealed(key)
	static.Method = "static"
	if _, err := newEntry("Acme", key, nil, static, time.Now()); fault.KindOf(err) != fault.Usage {
		t.Errorf("method static: %v", err)
	}
}

// TestSchema: what is written follows the published schema.
func TestSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	load := func(name string) any {
		f, err := os.Open(filepath.Join("..", "spec", name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		v, err := jsonschema.UnmarshalJSON(f)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const base = "https://github.com/neuroseal/neuroseal/spec/"
	for _, name := range []string{"manifest.schema.json", "registry.schema.json"} {
		if err := c.AddResource(base+name, load(name)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile(base + "registry.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	key := keys.SealKey{1}
	slot, err := keys.WrapPassphrase(key, "x", 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, slots := range [][]keys.Slot{nil, {slot}} {
		e, err := newEntry("Acme GmbH", key, slots, sealed(key), time.Unix(0, 0))
		if err != nil {
			t.Fatal(err)
		}
		if (e.Key == "") == (slots == nil) {
			t.Errorf("a wrapped key stands in the entry in plain, or neither does: %+v", e)
		}
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(e.Marshal()))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(v); err != nil {
			t.Error(err)
		}
		opener := func(slots []keys.Slot) (keys.SealKey, error) {
			k, _, err := keys.Unwrap(slots, nil, func() (string, error) { return "x", nil })
			return k, err
		}
		if k, err := e.open(opener); err != nil || k != key {
			t.Errorf("the key does not come back: %v", err)
		}
		if _, err := e.open(nil); slots != nil && fault.KindOf(err) != fault.WrongKey {
			t.Errorf("wrapped, and nobody opens: %v", err)
		}
	}
}

// FuzzParseEntry: no entry makes the parser or the decoder of its plan panic,
// and what is accepted is written and read back the same.
func FuzzParseEntry(f *testing.F) {
	key := keys.SealKey{1}
	e, err := newEntry("Acme", key, nil, sealed(key), time.Unix(0, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Marshal())
	f.Add([]byte(`{"neuroseal_registry":1}`))
	f.Add([]byte(`{"neuroseal_registry":1,"label":"a","manifest":null}`))
	f.Add(bytes.Replace(e.Marshal(), []byte(`"permute"`), []byte(`"x"`), 1))
	f.Add(bytes.Replace(e.Marshal(), []byte(`[0,4,0,0,1,1]`), []byte(`[0,4,0,-1,0,9]`), 1))
	f.Add(bytes.Replace(e.Marshal(), []byte(`"tensors"`), []byte(`"permute":{"permutations":[{"id":"p","layer":0,"count":4}],"axes":[{"tensor":"w","shape":[4,2],"axis":0,"stretches":[[[0,4]]]}]},"tensors"`), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEntry(data)
		if err != nil {
			return
		}
		out := e.Marshal()
		again, err := ParseEntry(out)
		if err != nil || !bytes.Equal(again.Marshal(), out) {
			t.Fatalf("%v: %s", err, out)
		}
		p, err := planOf(e.Manifest)
		if err != nil || len(p.Tensors) > 8 {
			return
		}
		total := 0
		for _, g := range p.Groups {
			total += g.Classes
		}
		for _, x := range p.places.List {
			total += x.Count
		}
		if total > 1<<12 {
			return
		}
		obs := observations{}
		for _, q := range p.pieces() {
			if rows, cols := q.places(); len(rows)*len(cols) < 1<<12 {
				plain := fit(make([]float32, len(rows)*len(cols)), len(cols), 0.5, false)
				obs[q.key()] = &observation{piece: q, rows: rows, cols: cols, plain: &plain}
			}
		}
		c := &candidate{p: p, e: p.Exponents(key), layouts: p.layouts(obs, p.orders(key))}
		if v := c.evidence(); v != v {
			t.Fatalf("the evidence is %v", v)
		}
	})
}
