package neuroseal

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/arch"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/fault"
	"github.com/neuroseal/neuroseal/keys"
	"github.com/neuroseal/neuroseal/manifest"
	"github.com/neuroseal/neuroseal/probe"
	"github.com/neuroseal/neuroseal/seal"
)

var (
	ggufKey     = keys.SealKey{4, 5, 6}
	findGGUFKey = func(*manifest.Manifest) (keys.SealKey, error) { return ggufKey, nil }
)

// ggufWriter writes small models.
type ggufWriter struct {
	keys    []byte
	n       int
	tensors []ggufTensor
}

type ggufTensor struct {
	name string
	ty   gguf.Type
	dims []uint64 // fastest first
	data []byte
}

func ggufText(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}

func (w *ggufWriter) key(key string, v any) {
	w.n++
	w.keys = ggufText(w.keys, key)
	typed := func(t gguf.ValueType) { w.keys = binary.LittleEndian.AppendUint32(w.keys, uint32(t)) }
	switch v := v.(type) {
	case string:
		typed(gguf.String)
		w.keys = ggufText(w.keys, v)
	case int:
		typed(gguf.Uint32)
		w.keys = binary.LittleEndian.AppendUint32(w.keys, uint32(v))
	case float32:
		typed(gguf.Float32)
		w.keys = binary.LittleEndian.AppendUint32(w.keys, math.Float32bits(v))
	}
}

// write writes tensors [from,to) to a file; pad fills what aligns the data.
func (w *ggufWriter) write(t testing.TB, path string, from, to int, pad byte) {
	t.Helper()
	b := binary.LittleEndian.AppendUint32([]byte("GGUF"), 3)
	b = binary.LittleEndian.AppendUint64(b, uint64(to-from))
	b = binary.LittleEndian.AppendUint64(b, uint64(w.n))
	b = append(b, w.keys...)
	at := 0
	var data []byte
	for _, x := range w.tensors[from:to] {
		b = binary.LittleEndian.AppendUint32(ggufText(b, x.name), uint32(len(x.dims)))
		for _, d := range x.dims {
			b = binary.LittleEndian.AppendUint64(b, d)
		}
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(b, uint32(x.ty)), uint64(at))
		data = append(data, x.data...)
		data = append(data, make([]byte, (32-len(data)%32)%32)...)
		at = len(data)
	}
	b = append(b, bytes.Repeat([]byte{pad}, (32-len(b)%32)%32)...)
	if err := os.WriteFile(path, append(b, data...), 0o666); err != nil {
		t.Fatal(err)
	}
}

// blockSource are blocks of every quantised type, as gguf/testdata has them.
func blockSource(t testing.TB) map[gguf.Type][]byte {
	t.Helper()
	raw, err := os.ReadFile("gguf/testdata/types.gguf")
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	out := map[gguf.Type][]byte{}
	for _, x := range f.Tensors {
		if x.Type.Quantised() {
			out[x.Type] = raw[x.Offset:][:x.Size]
		}
	}
	return out
}

// blocksOf makes n numbers of a type, at most 1/4 where its scales reach so low.
func blocksOf(ty gguf.Type, source []byte, n int, r *rand.Rand) []byte {
	elems, size := ty.Block()
	numbers := make([]float32, elems)
	var out []byte
	for range n / elems {
		b := slices.Clone(source[r.IntN(len(source)/size)*size:][:size])
		ty.Dequantise(numbers, b)
		top := 0.0
		for _, x := range numbers {
			top = max(top, math.Abs(float64(x)))
		}
		_, e := math.Frexp(top)
		lo, _ := ty.Room(b)
		if ty.Scale(b, max(lo, min(-1-e, 0))) >= 0 {
			panic("a block that does not scale within its room")
		}
		out = append(out, b...)
	}
	return out
}

// llamaGGUF is a small Llama whose matrices are of a type, and whose norms' gains
// are about so large.
func llamaGGUF(ty gguf.Type, source []byte, size float64) *ggufWriter {
	const width, inner, vocab, layers = 256, 512, 64, 2
	r := rand.New(rand.NewPCG(1, uint64(ty)))
	w := &ggufWriter{}
	w.key("general.architecture", "llama")
	for key, v := range map[string]int{
		"block_count": layers, "context_length": 64, "embedding_length": width, "feed_forward_length": inner,
		"attention.head_count": 4, "attention.head_count_kv": 2,
	} {
		w.key("llama."+key, v)
	}
	w.key("llama.attention.layer_norm_rms_epsilon", float32(1e-5))
	matrix := func(name string, rows, cols int) {
		w.tensors = append(w.tensors, ggufTensor{name, ty, []uint64{uint64(cols), uint64(rows)}, blocksOf(ty, source, rows*cols, r)})
	}
	gain := func(name string) {
		var b []byte
		for range width {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32((r.Float64()+0.5)*size)))
		}
		w.tensors = append(w.tensors, ggufTensor{name, gguf.F32, []uint64{width}, b})
	}
	matrix("token_embd.weight", vocab, width)
	for i := range layers {
		p := fmt.Sprintf("blk.%d.", i)
		gain(p + "attn_norm.weight")
		matrix(p+"attn_q.weight", width, width)
		matrix(p+"attn_k.weight", width/2, width)
		matrix(p+"attn_v.weight", width/2, width)
		matrix(p+"attn_output.weight", width, width)
		gain(p + "ffn_norm.weight")
		matrix(p+"ffn_gate.weight", inner, width)
		matrix(p+"ffn_up.weight", inner, width)
		matrix(p+"ffn_down.weight", width, inner)
	}
	gain("output_norm.weight")
	matrix("output.weight", vocab, width)
	return w
}

// sealsGGUF seals, verifies in both ways, and unlocks to the same bytes; it
// returns the manifest.
func sealsGGUF(t *testing.T, src string, o LockOptions) *manifest.Manifest {
	t.Helper()
	ctx, dir := context.Background(), t.TempDir()
	sealed, back := filepath.Join(dir, "sealed"), filepath.Join(dir, "back")
	if info, err := os.Stat(src); err == nil && !info.IsDir() {
		sealed, back = sealed+".gguf", back+".gguf"
	}
	o.Source, o.Output, o.Key = src, sealed, ggufKey
	res, err := Lock(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []VerifyOptions{{Sealed: sealed, Against: src, Run: true}, {Sealed: sealed, Key: findGGUFKey, Run: true}} {
		r, err := Verify(ctx, v)
		if err != nil || !r.OK || r.BitExactAlgebra == nil || !*r.BitExactAlgebra || !*r.BitExactForward {
			t.Fatalf("verify: %+v, %v", r, err)
		}
	}
	if _, err := Lock(ctx, LockOptions{Source: sealed, Output: filepath.Join(dir, "again"), Key: ggufKey}); fault.KindOf(err) != fault.AlreadySealed {
		t.Errorf("sealing twice: %v", err)
	}
	if _, err := Unlock(ctx, UnlockOptions{Source: sealed, Output: back, Key: findGGUFKey}); err != nil {
		t.Fatal(err)
	}
	want, got := contents(t, src), contents(t, back)
	if !maps.Equal(want, got) {
		t.Errorf("unlock gives %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
	return res.Manifest
}

// contents reads a file, under "", or the files of a folder.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(path, func(p string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(p)
		out[strings.TrimPrefix(p, path)] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestGGUFTypes: a model in every quantised type is sealed, runs to the same
// bits, and comes back.
func TestGGUFTypes(t *testing.T) {
	source := blockSource(t)
	for _, ty := range slices.Sorted(maps.Keys(source)) {
		t.Run(ty.String(), func(t *testing.T) {
			w := llamaGGUF(ty, source[ty], 1.0/64)
			src := filepath.Join(t.TempDir(), "model.gguf")
			w.write(t, src, 0, len(w.tensors), 0)
			m := sealsGGUF(t, src, LockOptions{})
			if m.Coverage < 0.9 {
				t.Errorf("%.0f%% of the parameters move", 100*m.Coverage)
			}
			t.Logf("coverage %.3f, %d holes", m.Coverage, len(m.Holes))
		})
	}
}

// TestGGUFFamilies: every architecture that has a builder.
func TestGGUFFamilies(t *testing.T) {
	files, err := filepath.Glob("arch/testdata/gguf/*.gguf")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d fixtures, %v", len(files), err)
	}
	// A trained model, as gguf-py quantised it (interop/gguf_models.py internal/demo).
	files = append(files, "testdata/gguf/demo-Q4_0.gguf")
	for _, src := range files {
		t.Run(strings.TrimSuffix(filepath.Base(src), ".gguf"), func(t *testing.T) {
			// OLMo 2, whose norms come after the halves, has little left beside
			// what the runtime's cache holds in place.
			if m := sealsGGUF(t, src, LockOptions{}); m.Coverage < 0.05 {
				t.Errorf("%.0f%% of the parameters move", 100*m.Coverage)
			}
		})
	}
}

// TestGGUFHeader: what a seal adds to the metadata, and when it does not.
func TestGGUFHeader(t *testing.T) {
	source := blockSource(t)[gguf.Q8_0]
	w := llamaGGUF(gguf.Q8_0, source, 1.0/64)
	dir := t.TempDir()
	src, odd := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "odd.gguf")
	w.write(t, src, 0, len(w.tensors), 0)
	w.write(t, odd, 0, len(w.tensors), 7) // padding that an edit cannot restore
	for _, c := range []struct {
		src   string
		o     LockOptions
		added int
		note  bool
	}{{src, LockOptions{}, 3, false}, {src, LockOptions{NoMetadata: true}, 0, false}, {odd, LockOptions{}, 0, true}} {
		m := sealsGGUF(t, c.src, c.o)
		noted := slices.ContainsFunc(m.Notes, func(n string) bool { return strings.Contains(n, "metadata") })
		if noted != c.note {
			t.Errorf("notes %q", m.Notes)
		}
		out := filepath.Join(t.TempDir(), "sealed.gguf")
		c.o.Source, c.o.Output, c.o.Key = c.src, out, ggufKey
		if _, err := Lock(context.Background(), c.o); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		f, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
		if err != nil {
			t.Fatal(err)
		}
		added := 0
		for _, kv := range f.Metadata {
			if strings.HasPrefix(kv.Key, ggufPrefix) {
				added++
			}
		}
		if eps, _ := f.Number("llama.attention.layer_norm_rms_epsilon"); added != c.added || eps != float64(float32(1e-5))*math.Exp2(12) {
			t.Errorf("%d keys added, epsilon %g", added, eps)
		}
	}
}

// splitGGUF writes a model in n files, with a licence beside them.
func splitGGUF(t *testing.T, w *ggufWriter, n int) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "model")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		x := *w
		if i > 0 {
			x.keys, x.n = nil, 0
		}
		x.key("split.no", i)
		x.key("split.count", n)
		x.key("split.tensors.count", len(w.tensors))
		x.write(t, filepath.Join(dir, fmt.Sprintf("m-%05d-of-%05d.gguf", i+1, n)), i*len(w.tensors)/n, (i+1)*len(w.tensors)/n, 0)
	}
	if err := os.WriteFile(filepath.Join(dir, "LICENSE"), []byte("free"), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestGGUFSplit: a model in two files is sealed folder to folder, with the files
// beside it.
func TestGGUFSplit(t *testing.T) {
	w := llamaGGUF(gguf.Q4_K, blockSource(t)[gguf.Q4_K], 1.0/64)
	dir := splitGGUF(t, w, 2)
	sealsGGUF(t, dir, LockOptions{})
	_, err := Lock(context.Background(), LockOptions{Source: dir, Output: filepath.Join(t.TempDir(), "x.gguf"), Key: ggufKey})
	if fault.KindOf(err) != fault.Usage {
		t.Errorf("a split model into one file: %v", err)
	}
}

// TestGGUFUndo: re-balancing needs no key and keeps the function.
func TestGGUFUndo(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	w := llamaGGUF(gguf.Q4_0, blockSource(t)[gguf.Q4_0], 1)
	at := func(name string) string { return filepath.Join(dir, name) }
	w.write(t, at("model.gguf"), 0, len(w.tensors), 0)
	if _, err := Lock(ctx, LockOptions{Source: at("model.gguf"), Output: at("sealed.gguf"), Key: ggufKey}); err != nil {
		t.Fatal(err)
	}
	if i, err := Inspect(ctx, InspectOptions{Path: at("sealed.gguf"), Detect: true}); err != nil || !i.Sealed || i.Detection == nil || !i.Detection.Sealed {
		t.Errorf("inspect: %+v, %v", i, err)
	}
	if _, err := Undo(ctx, UndoOptions{Source: at("sealed.gguf"), Output: at("undone.gguf")}); err != nil {
		t.Fatal(err)
	}
	i, err := Inspect(ctx, InspectOptions{Path: at("undone.gguf"), Detect: true})
	if err != nil || i.Sealed {
		t.Errorf("inspect after undo: %+v, %v", i, err)
	}
	a, err1 := openModel(at("model.gguf"), arch.Options{Tokens: 5})
	b, err2 := openModel(at("undone.gguf"), arch.Options{Tokens: 5})
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	defer a.ck.Close()
	defer b.ck.Close()
	r, err := probe.Compare(ctx, a.side(), b.side(), probe.Options{Tokens: a.tokens(), Precision: probe.FP32})
	if err != nil || !r.Equal {
		t.Errorf("undo changes the function: %+v, %v", r, err)
	}
	f, err := gguf.Open(at("undone.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if eps, _ := f.Header().Number("llama.attention.layer_norm_rms_epsilon"); eps != float64(float32(1e-5)) {
		t.Errorf("epsilon %g", eps)
	}
}

// TestGGUFDamaged: a scale that was changed after sealing is found and named,
// and nothing is written.
func TestGGUFDamaged(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	w := llamaGGUF(gguf.Q6_K, blockSource(t)[gguf.Q6_K], 1.0/64)
	src, sealed, out := filepath.Join(dir, "model.gguf"), filepath.Join(dir, "sealed.gguf"), filepath.Join(dir, "out.gguf")
	w.write(t, src, 0, len(w.tensors), 0)
	if _, err := Lock(ctx, LockOptions{Source: src, Output: sealed, Key: ggufKey}); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(sealed)
	if err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	x := f.Tensors[slices.IndexFunc(f.Tensors, func(x gguf.Tensor) bool { return x.Name == "blk.1.ffn_up.weight" })]
	raw[x.Offset+208] ^= 1 // a bit of the first block's scale
	if err := os.WriteFile(sealed, raw, 0o666); err != nil {
		t.Fatal(err)
	}
	r, err := Verify(ctx, VerifyOptions{Sealed: sealed, Against: src})
	if err != nil || r.OK || !strings.Contains(fmt.Sprint(r.Mismatches), x.Name) {
		t.Errorf("verify: %+v, %v", r, err)
	}
	if _, err := Unlock(ctx, UnlockOptions{Source: sealed, Output: out, Key: findGGUFKey}); fault.KindOf(err) != fault.Mismatch {
		t.Errorf("unlock: %v", err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("an output is there: %v", err)
	}
}

// TestGGUFRefuses: what cannot be sealed exactly is refused, by its exit code.
func TestGGUFRefuses(t *testing.T) {
	source := blockSource(t)[gguf.Q8_0]
	for _, c := range []struct {
		name string
		edit func(w *ggufWriter)
		o    LockOptions
		kind fault.Kind
		want string
	}{
		{"profile", nil, LockOptions{Profile: seal.Max}, fault.Unsupported, "profile max"},
		{"method", nil, LockOptions{Method: seal.Static}, fault.Unsupported, "static"},
		{"key", func(w *ggufWriter) { w.key("llama.logit_scale", float32(2)) }, LockOptions{}, fault.Unsupported, "llama.logit_scale"},
		{"namespace", func(w *ggufWriter) { w.key("wobble.x", 1) }, LockOptions{}, fault.Unsupported, "wobble.x"},
		{"adapter", func(w *ggufWriter) { w.key("general.type", "adapter") }, LockOptions{}, fault.Unsupported, "adapter"},
		{"sealed", func(w *ggufWriter) { w.key("neuroseal.tool", "x") }, LockOptions{}, fault.AlreadySealed, "neuroseal.tool"},
		{"tensor", func(w *ggufWriter) { w.tensors[1].name = "blk.0.wobble.weight" }, LockOptions{}, fault.Unsupported, "blk.0.wobble.weight"},
		{"bias", func(w *ggufWriter) { w.tensors[1].name = "blk.0.attn_k.bias" }, LockOptions{}, fault.Unsupported, "attn"},
		{"part", nil, LockOptions{Graph: "x.onnx"}, fault.Usage, "itself"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := llamaGGUF(gguf.Q8_0, source, 1.0/64)
			if c.edit != nil {
				c.edit(w)
			}
			dir := t.TempDir()
			c.o.Source, c.o.Output, c.o.Key = filepath.Join(dir, "model.gguf"), filepath.Join(dir, "out.gguf"), ggufKey
			w.write(t, c.o.Source, 0, len(w.tensors), 0)
			_, err := Lock(context.Background(), c.o)
			if fault.KindOf(err) != c.kind || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v (exit %d)", err, fault.KindOf(err))
			}
			if list, _ := os.ReadDir(dir); len(list) != 1 {
				t.Errorf("%d files are there", len(list))
			}
		})
	}
}

// TestReplaced: bytes of a reader are replaced whatever the sizes of reads.
func TestReplaced(t *testing.T) {
	e := &ggufEdit{at: []int64{3, 9}, value: [][]byte{[]byte("ABCD"), []byte("EFGH")}}
	got, err := io.ReadAll(oneByte{e.overlay(strings.NewReader("0123456789012345"))})
	if err != nil || string(got) != "012ABCD78EFGH345" {
		t.Errorf("%q, %v", got, err)
	}
}

type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:1]) }

// TestGGUFNoRoom: where scales stand at the end of fp16's range, the classes
// that would have to move them stay, and are counted; what can move still does.
func TestGGUFNoRoom(t *testing.T) {
	source := blockSource(t)[gguf.Q8_0]
	w := llamaGGUF(gguf.Q8_0, source, 1.0/64)
	for i := range w.tensors {
		x := &w.tensors[i]
		if x.name != "blk.0.attn_q.weight" && x.name != "blk.1.ffn_down.weight" {
			continue
		}
		binary.LittleEndian.PutUint16(x.data, 0x7bff) // fp16's largest number,
		clear(x.data[2:34])                           // of a block of zeros
	}
	src := filepath.Join(t.TempDir(), "model.gguf")
	w.write(t, src, 0, len(w.tensors), 0)
	m := sealsGGUF(t, src, LockOptions{})
	for _, x := range m.Tensors {
		if x.Name == "blk.1.ffn_down.weight" {
			lo, hi := 0, 0
			for _, term := range x.Terms {
				for _, s := range term.Segments {
					g := m.Groups[s[2]]
					a, b := s[5]*(g.Offsets[0]+g.Lo), s[5]*(g.Offsets[0]+g.Hi)
					lo, hi = lo+min(a, b), hi+max(a, b)
				}
			}
			if hi > 0 {
				t.Errorf("%s may grow: %d to %d", x.Name, lo, hi)
			}
		}
	}
	t.Logf("coverage %.3f, holes %v", m.Coverage, m.Holes)
}

// TestGGUFMixed: types mixed as llama.cpp mixes them.
func TestGGUFMixed(t *testing.T) {
	source := blockSource(t)
	w := llamaGGUF(gguf.Q4_K, source[gguf.Q4_K], 1.0/64)
	for ty, names := range map[gguf.Type][]string{gguf.Q6_K: {"output.weight", "blk.0.attn_v.weight"}, gguf.Q8_0: {"token_embd.weight"}, gguf.IQ4XS: {"blk.1.ffn_down.weight"}} {
		other := llamaGGUF(ty, source[ty], 1.0/64)
		for i := range w.tensors {
			if slices.Contains(names, w.tensors[i].name) {
				w.tensors[i] = other.tensors[i]
			}
		}
	}
	src := filepath.Join(t.TempDir(), "model.gguf")
	w.write(t, src, 0, len(w.tensors), 0)
	if m := sealsGGUF(t, src, LockOptions{}); m.Coverage < 0.9 {
		t.Errorf("%.0f%% of the parameters move", 100*m.Coverage)
	}
}
