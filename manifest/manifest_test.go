package manifest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
)

// sample is a small honest manifest.
func sample() *Manifest {
	return &Manifest{
		Sealed: true, Method: "gauge", Timestamp: "2026-01-02T03:04:05Z", Schema: Schema, Tool: "neuroseal 0.1.0",
		Profile: "max", ModelType: "llama", FreeDims: 3, Coverage: 0.5, OriginalDigest: "sha256:00",
		Groups:  []Group{{ID: "a", Kind: "ffn", Classes: 4, Block: 1, Offsets: []int{0}, Lo: -1, Hi: 1}},
		Holes:   []Hole{{"<odd & name>", "why"}},
		Patches: []Patch{{"config.json", 10, "1e-05", "0.04"}, {"config.json", 20, "x", "yz"}},
		Files:   []File{{Path: "config.json", Size: 30}, {Path: "a/model.safetensors"}},
		Tensors: []Tensor{{"w", []int{4, 2}, []Term{{[]int{0}, [][6]int{{0, 4, 0, 0, 1, 1}}}}}},
	}
}

func TestSignAndVerify(t *testing.T) {
	key, other := keys.SealKey{1}, keys.SealKey{2}
	m := sample()
	m.Sign(key)
	m.Keyslots = []keys.Slot{{ID: "rewrapped"}} // not authenticated, on purpose
	p, err := Parse(m.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(key); err != nil {
		t.Error(err)
	}
	if err := p.Verify(other); fault.KindOf(err) != fault.WrongKey {
		t.Errorf("another key: %v", err)
	}
	for _, change := range []func(*Manifest){
		func(m *Manifest) { m.Groups[0].Lo-- },
		func(m *Manifest) { m.Tensors[0].Terms[0].Segments[0][5] = -1 },
		func(m *Manifest) { m.Patches[0].Before = "1" },
		func(m *Manifest) { m.Files = m.Files[:1] },
		func(m *Manifest) { m.Profile = "strong" },
		func(m *Manifest) { m.MAC = "" },
	} {
		q, _ := Parse(m.Marshal())
		change(q)
		if err := q.Verify(key); fault.KindOf(err) != fault.Mismatch {
			t.Errorf("a changed manifest: %v", err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(sample().Marshal())
	for _, c := range []struct {
		name, old, new string
		kind           fault.Kind
	}{
		{"schema", `"schema": 1`, `"schema": 2`, fault.Unsupported},
		{"negative schema", `"schema": 1`, `"schema": -1`, fault.Unsupported},
		{"absolute path", `"path":"a/model`, `"path":"/a/model`, fault.Mismatch},
		{"parent path", `"path":"a/model`, `"path":"../model`, fault.Mismatch},
		{"drive", `"path":"a/model`, `"path":"C:model`, fault.Mismatch},
		{"backslash", `"path":"a/model`, `"path":"a\\model`, fault.Mismatch},
		{"same file twice", `"path":"a/model.safetensors"`, `"path":"config.json"`, fault.Mismatch},
		{"patch elsewhere", `{"path":"config.json","offset"`, `{"path":"x","offset"`, fault.Mismatch},
		{"negative offset", `"offset":10`, `"offset":-10`, fault.Mismatch},
		{"negative shape", `"shape":[4,2]`, `"shape":[4,-2]`, fault.Mismatch},
		{"text for number", `"free_dims": 3`, `"free_dims": "3"`, fault.Mismatch},
		{"cut short", "\n}\n", "", fault.Mismatch},
	} {
		bad := strings.Replace(good, c.old, c.new, 1)
		if bad == good {
			t.Fatalf("%s: %q not found in\n%s", c.name, c.old, good)
		}
		if _, err := Parse([]byte(bad)); fault.KindOf(err) != c.kind {
			t.Errorf("%s: exit %d: %v", c.name, fault.KindOf(err), err)
		}
	}
	var legacy Legacy
	if _, err := Parse([]byte(`{"sealed": true, "method": "static", "timestamp": "x"}`)); !errors.As(err, &legacy) || legacy.Method != "static" {
		t.Errorf("the original tool's manifest: %v", err)
	}
}

func TestRevert(t *testing.T) {
	m := sample()
	sealed := []byte("0123456789" + "0.04" + "456789" + "yz" + "end")
	got, ok := m.Revert("config.json", sealed)
	if !ok || string(got) != "0123456789"+"1e-05"+"456789"+"x"+"end" {
		t.Errorf("%q, %v", got, ok)
	}
	for _, bad := range []string{"", "0123456789", strings.Repeat("x", 40)} {
		if _, ok := m.Revert("config.json", []byte(bad)); ok {
			t.Errorf("reverts %q", bad)
		}
	}
}

// FuzzParse: no manifest makes the parser panic, and what it accepts is
// written and read back the same.
func FuzzParse(f *testing.F) {
	f.Add(sample().Marshal())
	f.Add([]byte(`{"schema":1}`))
	f.Add([]byte(`{"schema":1,"patches":[{"path":"a","offset":9223372036854775807,"after":"x"}],"files":[{"path":"a"}]}`))
	f.Add([]byte(`{"schema":1,"tensors":[{"name":"w","shape":[1],"terms":[{"segments":[[1],[],[0,0,0,0,0,0,0]]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(data)
		if err != nil {
			return
		}
		out := m.Marshal()
		again, err := Parse(out)
		if err != nil || !bytes.Equal(again.Marshal(), out) {
			t.Fatalf("%v: %s", err, out)
		}
		if !bytes.Equal(m.Authenticated(), again.Authenticated()) {
			t.Fatal("the MAC covers other bytes after reading back")
		}
		for _, x := range m.Files {
			_, _ = m.Revert(x.Path, data)
		}
	})
}
