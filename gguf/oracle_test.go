package gguf_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	oracle "github.com/gpustack/gguf-parser-go"
	"pgregory.net/rapid"

	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// The other parser is gguf-parser-go. Both read the same bytes; where only one
// of them accepts a file, the reason must stand in one of these two lists.

// stricter are the complaints of ours about files that the other reads. It only
// estimates sizes, and looks at nothing that it does not need for them.
var stricter = []string{
	"a key that is not UTF-8", "a tensor name that is not UTF-8", "occurs twice",
	"not a power of two",        // alignment
	"is not aligned", "overlap", // it adds sizes and ignores where tensors lie
	"needs", "begins at", "ends before its tensor data", // so it does not see one outside of the file
	"are not whole blocks, or too large", // it rounds down
	"which this version does not know",   // types withdrawn, or only used in memory
	"nested more than",                   // it follows any depth
	"element type",                       // it does not look at the type of an array without elements
	"GGUF version", "big-endian",         // it reads version 1, and any byte order
	"of 16777", "at most 65536 are read", "at most 16777216 are read",
	"does not fit into a file", // it seeks beyond the end in places, reads short in others
	"do not fit into a file",   // without tensors or keys it does not look
	"dimension",                // a product that it does not form
}

// looser are the complaints of the other parser about files that ours reads, in
// all of which it is wrong about the format.
var looser = []string{
	"invalid n dimensions: 0",                 // a scalar: ggml allows it
	"count too large for remaining bytes",     // it takes 20 bytes for the smallest key, which has 13
	"general.file_type", "projector", "clip.", // what single models must say, beyond the format
	"EOF", // an empty string or name at the end of the file
}

// panics are its reasons for giving up without an error.
var panics = []string{
	"key not found", "integer divide by zero", "overflow", "invalid type", "mismatch", "type",
}

// verdict is what the other parser makes of a file.
type verdict struct {
	file *oracle.GGUFFile
	why  string // it was refused
}

// ask reads bytes with the other parser; ok is false for files that would make
// it take more memory than the test has.
func ask(t testing.TB, dir string, raw []byte) (v verdict, ok bool) {
	t.Helper()
	if bytes.Contains(raw, []byte("split.tensors.count")) || len(raw) > 1<<20 {
		return v, false // it allocates as many tensors as this key says
	}
	path := filepath.Join(dir, "f.gguf")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if p := recover(); p != nil { // it is not made for hostile files
			v, ok = verdict{why: fmt.Sprintf("panic: %v", p)}, true
		}
	}()
	f, err := oracle.ParseGGUFFile(path)
	if err != nil {
		return verdict{why: err.Error()}, true
	}
	return verdict{file: f}, true
}

func among(list []string, text string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.Contains(text, s) })
}

// differ reads bytes with both parsers and says what is wrong with ours: "" is
// nothing. both reports that both accepted the file.
func differ(t testing.TB, dir string, raw []byte) (both bool, wrong string) {
	t.Helper()
	g, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if k := fault.KindOf(err); err != nil && k != fault.Mismatch && k != fault.Unsupported {
		return false, fmt.Sprintf("exit %d: %v", k, err)
	}
	o, asked := ask(t, dir, raw)
	switch {
	case !asked || err != nil && o.file == nil:
		return false, ""
	case err != nil && among(stricter, err.Error()):
		return false, ""
	case err != nil:
		return false, fmt.Sprintf("refused (%v), and the other parser reads it", err)
	case o.file == nil && (among(looser, o.why) || strings.HasPrefix(o.why, "panic: ") && among(panics, o.why)):
		return false, ""
	case o.file == nil:
		return false, fmt.Sprintf("read, and the other parser refuses it: %s", o.why)
	}
	return true, same(g, o.file)
}

// same compares what both parsers read in one file.
func same(g *gguf.File, o *oracle.GGUFFile) string {
	if len(o.TensorInfos) != len(g.Tensors) || len(g.Tensors) > 0 && o.TensorDataStartOffset != g.DataStart {
		return fmt.Sprintf("%d tensors, data at %d; the other parser: %d, %d", len(g.Tensors), g.DataStart, len(o.TensorInfos), o.TensorDataStartOffset)
	}
	for i, x := range o.TensorInfos {
		y := g.Tensors[i]
		if x.Name != strings.TrimSpace(y.Name) || uint32(x.Type) != uint32(y.Type) || !slices.Equal(x.Dimensions, y.Dims) ||
			g.DataStart+int64(x.Offset) != y.Offset || x.Bytes() != uint64(y.Size) {
			return fmt.Sprintf("%+v; the other parser: %+v of %d bytes", y, x, x.Bytes())
		}
	}
	ours := slices.Clone(g.Metadata)
	ours = slices.DeleteFunc(ours, func(kv gguf.KV) bool { return strings.TrimSpace(kv.Key) == "split.no" }) // it leaves that out
	if len(ours) != len(o.Header.MetadataKV) {
		return fmt.Sprintf("%d keys; the other parser: %d", len(ours), len(o.Header.MetadataKV))
	}
	for i, x := range o.Header.MetadataKV {
		y := ours[i]
		if x.Key != strings.TrimSpace(y.Key) || uint32(x.ValueType) != uint32(y.Type) {
			return fmt.Sprintf("%+v; the other parser: %+v", y, x)
		}
		if a, ok := x.Value.(oracle.GGUFMetadataKVArrayValue); ok && (a.Len != y.Len || uint32(a.Type) != uint32(y.Elem)) {
			return fmt.Sprintf("%+v; the other parser: %d of %v", y, a.Len, a.Type)
		}
		if s, ok := y.Value.(string); ok && x.Value != strings.TrimSpace(s) || !ok && y.Type != gguf.Array && fmt.Sprint(x.Value) != fmt.Sprint(y.Value) {
			return fmt.Sprintf("%s is %v; the other parser: %v", y.Key, y.Value, x.Value)
		}
	}
	return ""
}

// FuzzParse: both parsers agree, or the reason is known, and the header of what
// is accepted can be written again.
func FuzzParse(f *testing.F) {
	for _, raw := range small() { // the fixtures are large: the engine would spend its time making them shorter
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, wrong := differ(t, t.TempDir(), raw); wrong != "" {
			t.Fatal(wrong)
		}
		g, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
		if err != nil || !g.Canonical() {
			return
		}
		r, n, err := g.Header(func(string) bool { return false }, nil)
		if err != nil {
			t.Fatal(err)
		}
		if head, err := io.ReadAll(r); err != nil || int64(len(head)) != n || !bytes.Equal(head, raw[:g.DataStart]) {
			t.Fatalf("the header does not survive: %v", err)
		}
	})
}

// TestOracle: both parsers accept the fixtures and what is drawn from the
// format's grammar.
func TestOracle(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"types.gguf", "metadata.gguf", "aligned.gguf"} {
		if both, wrong := differ(t, dir, load(t, name)); !both || wrong != "" {
			t.Errorf("%s: accepted %v, %s", name, both, wrong)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		raw := draw(r)
		if both, wrong := differ(t, dir, raw); !both || wrong != "" {
			r.Fatalf("accepted %v, %s: %q", both, wrong, raw)
		}
	})
}

// TestOracleHostile: files with a few bytes changed, or cut short.
func TestOracleHostile(t *testing.T) {
	dir := t.TempDir()
	accepted := 0
	rapid.Check(t, func(r *rapid.T) {
		raw := draw(r)
		for range rapid.IntRange(1, 3).Draw(r, "changes") {
			at := rapid.IntRange(0, len(raw)-1).Draw(r, "at")
			raw[at] = rapid.SampledFrom([]byte{0, 1, 2, 7, 8, 9, 13, 31, 32, 127, 128, 255, raw[at] ^ 1}).Draw(r, "byte")
		}
		if rapid.Bool().Draw(r, "cut") {
			raw = raw[:rapid.IntRange(0, len(raw)).Draw(r, "length")]
		}
		both, wrong := differ(t, dir, raw)
		if wrong != "" {
			r.Fatalf("%s: %q", wrong, raw)
		}
		if both {
			accepted++
		}
	})
	if accepted == 0 {
		t.Error("no changed file was accepted by both: the comparison saw nothing")
	}
}

// small are sound files of a few dozen bytes.
func small() [][]byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	head := func(tensors, keys uint64) []byte {
		b := le.AppendUint32(le.AppendUint32(nil, gguf.Magic), 3)
		return le.AppendUint64(le.AppendUint64(b, tensors), keys)
	}
	padded := func(b []byte, data int) []byte { return append(b, make([]byte, (32-len(b)%32)%32+data)...) }
	key := le.AppendUint32(le.AppendUint32(text(head(0, 1), "k"), uint32(gguf.Uint32)), 7)
	list := le.AppendUint64(le.AppendUint32(le.AppendUint32(text(head(0, 1), "k"), uint32(gguf.Array)), uint32(gguf.String)), 1)
	tensor := le.AppendUint64(le.AppendUint32(text(head(1, 0), "t"), 1), 32)
	tensor = le.AppendUint64(le.AppendUint32(tensor, uint32(gguf.Q8_0)), 0)
	return [][]byte{padded(key, 0), padded(text(list, "v"), 0), padded(tensor, 34)}
}

// draw writes a sound file: keys of every type, tensors of every kind.
func draw(r *rapid.T) []byte {
	le := binary.LittleEndian
	text := func(b []byte, s string) []byte { return append(le.AppendUint64(b, uint64(len(s))), s...) }
	bytesOf := func(n int) []byte { return rapid.SliceOfN(rapid.Byte(), n, n).Draw(r, "bytes") }
	name := rapid.StringMatching(`[a-z][a-z0-9._]{0,20}`)
	sizes := map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 10: 8, 11: 8, 12: 8}
	align := uint64(1) << rapid.IntRange(3, 8).Draw(r, "alignment")
	keys := rapid.IntRange(1, 6).Draw(r, "keys")
	var meta []byte
	meta = le.AppendUint32(text(meta, gguf.AlignmentKey), 4)
	meta = le.AppendUint32(meta, uint32(align))
	meta = text(le.AppendUint32(text(meta, "general.architecture"), 8), "llama")
	for i := range keys {
		typ := rapid.SampledFrom([]uint32{0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12}).Draw(r, "type")
		meta = le.AppendUint32(text(meta, fmt.Sprint(name.Draw(r, "key"), i)), typ)
		switch {
		case typ == 8:
			meta = text(meta, rapid.StringMatching(`[a-zA-Zäß]{0,30}`).Draw(r, "string"))
		case typ == 9:
			elem := rapid.SampledFrom([]uint32{0, 3, 4, 6, 8, 12}).Draw(r, "elem")
			n := rapid.IntRange(0, 5).Draw(r, "length")
			meta = le.AppendUint64(le.AppendUint32(meta, elem), uint64(n))
			for range n {
				if elem == 8 {
					meta = text(meta, name.Draw(r, "string"))
				} else {
					meta = append(meta, bytesOf(sizes[elem])...)
				}
			}
		default:
			meta = append(meta, bytesOf(sizes[typ])...)
		}
	}
	var table []byte
	var data uint64
	tensors := rapid.IntRange(0, 4).Draw(r, "tensors")
	for i := range tensors {
		typ := rapid.SampledFrom([]gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q4_0, gguf.Q8_0, gguf.Q4_K, gguf.Q6_K, gguf.IQ4XS, gguf.MXFP4, gguf.NVFP4, gguf.TQ2_0}).Draw(r, "tensor type")
		elems, _ := typ.Block()
		dims := []uint64{uint64(elems * rapid.IntRange(1, 3).Draw(r, "blocks"))}
		for range rapid.IntRange(0, 3).Draw(r, "more dimensions") {
			dims = append(dims, uint64(rapid.IntRange(1, 3).Draw(r, "dimension")))
		}
		table = le.AppendUint32(text(table, fmt.Sprint(name.Draw(r, "name"), i)), uint32(len(dims)))
		for _, d := range dims {
			table = le.AppendUint64(table, d)
		}
		table = le.AppendUint64(le.AppendUint32(table, uint32(typ)), data)
		size, _ := typ.Size(dims)
		data = (data + uint64(size) + align - 1) / align * align
	}
	b := le.AppendUint32(nil, gguf.Magic)
	b = le.AppendUint32(b, rapid.SampledFrom([]uint32{2, 3}).Draw(r, "version"))
	b = le.AppendUint64(b, uint64(tensors))
	b = le.AppendUint64(b, uint64(keys+2))
	b = append(append(b, meta...), table...)
	pad := (align - uint64(len(b))%align) % align
	return append(b, make([]byte, pad+data)...)
}
