package gguf_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func load(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func parse(t testing.TB, raw []byte) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestTypes reads every tensor type as the gguf package does.
func TestTypes(t *testing.T) {
	f := parse(t, load(t, "types.gguf"))
	var want []struct {
		Name, Type   string
		Dims         []uint64
		Offset, Size int64
	}
	if err := json.Unmarshal(load(t, "types.json"), &want); err != nil {
		t.Fatal(err)
	}
	if len(want) < 30 || len(f.Tensors) != len(want) {
		t.Fatalf("%d tensors, want %d", len(f.Tensors), len(want))
	}
	for i, w := range want {
		x := f.Tensors[i]
		if x.Name != w.Name || x.Type.String() != w.Type || x.Offset != w.Offset || x.Size != w.Size || !slices.Equal(x.Dims, w.Dims) {
			t.Errorf("%+v, want %+v", x, w)
		}
	}
	if f.Version != 3 || f.Text("general.architecture") != "llama" {
		t.Errorf("version %d, architecture %q", f.Version, f.Text("general.architecture"))
	}
}

func TestMetadata(t *testing.T) {
	f := parse(t, load(t, "metadata.gguf"))
	for key, want := range map[string]any{
		"t.u8": uint8(200), "t.i8": int8(-3), "t.u16": uint16(60000), "t.i16": int16(-300), "t.u32": uint32(4000000000),
		"t.i32": int32(-70000), "t.f32": float32(1e-5), "t.bool": true, "t.str": "grüße\nzwei", "t.u64": uint64(1 << 40),
		"t.i64": int64(-(1 << 40)), "t.f64": 0.1,
	} {
		kv, ok := f.Get(key)
		if !ok || kv.Value != want {
			t.Errorf("%s: %v, want %v", key, kv.Value, want)
		}
		if key != "t.str" {
			if _, ok := f.Number(key); !ok {
				t.Errorf("%s is no number", key)
			}
		}
	}
	for key, want := range map[string][]any{"t.ints": {int32(1), int32(-2), int32(3)}, "t.strings": {"a", "", "ccc"}} {
		kv, _ := f.Get(key)
		var got []any
		if err := f.Elements(kv, func(_ uint64, v any) error { got = append(got, v); return nil }); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v", key, got, err)
		}
	}
	kv, _ := f.Get("t.nested")
	if err := f.Elements(kv, func(uint64, any) error { return nil }); fault.KindOf(err) != fault.Unsupported {
		t.Errorf("nested array: %v", err)
	}
	if a := parse(t, load(t, "aligned.gguf")); a.Alignment != 256 || a.DataStart%256 != 0 || a.Tensors[1].Offset%256 != 0 {
		t.Errorf("alignment %d, data at %d", a.Alignment, a.DataStart)
	}
}

// TestHeader: metadata can be added, and dropping it again gives the original
// bytes; the tensors are the same throughout.
func TestHeader(t *testing.T) {
	add := []gguf.KV{
		{Key: "neuroseal.profile", Value: "portable"}, {Key: "neuroseal.sealed", Value: true}, {Key: "neuroseal.n", Value: uint32(3)},
		{Key: "neuroseal.x", Value: float32(2)}, {Key: "neuroseal.i", Value: int32(-2)}, {Key: "neuroseal.u", Value: uint64(9)},
	}
	ours := func(key string) bool { return strings.HasPrefix(key, "neuroseal.") }
	for _, name := range []string{"types.gguf", "metadata.gguf", "aligned.gguf"} {
		raw := load(t, name)
		f := parse(t, raw)
		if !f.Canonical() {
			t.Errorf("%s is not canonical", name)
		}
		with := rewrite(t, f, raw, ours, add)
		g := parse(t, with)
		if g.Text("neuroseal.profile") != "portable" || len(g.Metadata) != len(f.Metadata)+len(add) {
			t.Errorf("%s: metadata %v", name, g.Metadata)
		}
		for i, x := range g.Tensors {
			y := f.Tensors[i]
			if x.Name != y.Name || !bytes.Equal(with[x.Offset:x.Offset+x.Size], raw[y.Offset:y.Offset+y.Size]) {
				t.Errorf("%s: tensor %s differs", name, x.Name)
			}
		}
		if back := rewrite(t, g, with, ours, nil); !bytes.Equal(back, raw) {
			t.Errorf("%s does not come back", name)
		}
	}
	f := parse(t, load(t, "aligned.gguf"))
	if _, _, err := f.Header(ours, []gguf.KV{{Key: "general.architecture", Value: "x"}}); err == nil {
		t.Error("a key may be written twice")
	}
	if _, _, err := f.Header(func(string) bool { return true }, nil); err == nil {
		t.Error("the alignment can be dropped")
	}
}

func rewrite(t *testing.T, f *gguf.File, raw []byte, drop func(string) bool, add []gguf.KV) []byte {
	t.Helper()
	r, n, err := f.Header(drop, add)
	if err != nil {
		t.Fatal(err)
	}
	head, err := io.ReadAll(r)
	if err != nil || int64(len(head)) != n {
		t.Fatalf("header of %d bytes, announced %d, %v", len(head), n, err)
	}
	return append(head, raw[f.DataStart:]...)
}

// TestHostile: what a file claims is checked before it is used.
func TestHostile(t *testing.T) {
	le := binary.LittleEndian
	head := func(version uint32, tensors, keys uint64) []byte {
		b := le.AppendUint32(nil, gguf.Magic)
		b = le.AppendUint32(b, version)
		b = le.AppendUint64(b, tensors)
		return le.AppendUint64(b, keys)
	}
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	kv := func(typ uint32, rest ...byte) []byte {
		return append(append(le.AppendUint32(text(head(3, 0, 1), "k"), typ), rest...), make([]byte, 64)...)
	}
	array := func(elem uint32, n uint64) []byte {
		return kv(9, le.AppendUint64(le.AppendUint32(nil, elem), n)...)
	}
	tensor := func(typ uint32, off uint64, dims ...uint64) []byte {
		b := text(head(3, 1, 0), "t")
		b = le.AppendUint32(b, uint32(len(dims)))
		for _, d := range dims {
			b = le.AppendUint64(b, d)
		}
		return append(le.AppendUint64(le.AppendUint32(b, typ), off), make([]byte, 256)...)
	}
	deep := le.AppendUint64(le.AppendUint32(nil, 9), 1)
	for range 6 {
		deep = append(deep, le.AppendUint64(le.AppendUint32(nil, 9), 1)...)
	}
	for _, c := range []struct {
		name string
		raw  []byte
		kind fault.Kind
		want string
	}{
		{"empty", nil, fault.Mismatch, "byte 0"},
		{"magic", make([]byte, 64), fault.Mismatch, "GGUF"},
		{"version 1", head(1, 0, 0), fault.Unsupported, "version 1"},
		{"big-endian", head(3<<24, 0, 0), fault.Unsupported, "big-endian"},
		{"many keys", head(3, 0, 1<<60), fault.Mismatch, "do not fit"},
		{"many tensors", head(3, 1<<60, 0), fault.Mismatch, "do not fit"},
		{"long key", append(le.AppendUint64(head(3, 0, 1), 1<<62), make([]byte, 64)...), fault.Mismatch, "key of"},
		{"value type", kv(13), fault.Mismatch, "13"},
		{"array length", array(4, 1<<62), fault.Mismatch, "array of"},
		{"array of strings", array(8, 1<<40), fault.Mismatch, "does not fit"},
		{"element type", array(77, 1), fault.Mismatch, "77"},
		{"deep array", kv(9, deep...), fault.Mismatch, "nested"},
		{"withdrawn type", tensor(4, 0, 32), fault.Unsupported, "type 4"},
		{"five dimensions", tensor(0, 0, 1, 1, 1, 1, 1), fault.Mismatch, "5 dimensions"},
		{"part of a block", tensor(2, 0, 33), fault.Mismatch, "whole blocks"},
		{"huge", tensor(0, 0, 1<<40, 1<<40), fault.Mismatch, "too large"},
		{"outside", tensor(0, 1<<40, 8), fault.Mismatch, "needs"},
		{"unaligned", tensor(0, 8, 8), fault.Mismatch, "aligned"},
		{"too long", tensor(0, 0, 4096), fault.Mismatch, "needs"},
	} {
		_, err := gguf.Parse(bytes.NewReader(c.raw), int64(len(c.raw)))
		if fault.KindOf(err) != c.kind || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v (exit %d), want exit %d and %q", c.name, err, fault.KindOf(err), c.kind, c.want)
		}
	}
	raw := load(t, "metadata.gguf")
	last := parse(t, raw).Tensors[0]
	for n := range int(last.Offset + last.Size) { // zeros follow, to the alignment
		if _, err := gguf.Parse(bytes.NewReader(raw[:n]), int64(n)); err == nil {
			t.Fatalf("the first %d of %d bytes are accepted", n, len(raw))
		}
	}
}
