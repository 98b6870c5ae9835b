package gguf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/neuroseal/neuroseal/checkpoint"
	"github.com/neuroseal/neuroseal/gguf"
	"github.com/neuroseal/neuroseal/internal/atomicdir"
	"github.com/neuroseal/neuroseal/internal/fault"
)

// doubling multiplies whole blocks by two.
type doubling struct{ ty gguf.Type }

func (d doubling) Edit(_ int64, buf []byte) error {
	if d.ty.Scale(buf, 1) >= 0 {
		return fault.New(fault.Mismatch, "lost a bit")
	}
	return nil
}

// TestCheckpoint: types.gguf as a checkpoint, and rewritten with every scale
// doubled.
func TestCheckpoint(t *testing.T) {
	m, err := gguf.Open("testdata/types.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ck, err := m.Checkpoint()
	if err != nil {
		t.Fatal(err)
	}
	defer ck.Close()
	q, ok := ck.Tensor("Q4_K")
	if !ok || !slices.Equal(q.Shape, []int{2, 512}) || q.Format != checkpoint.Format(gguf.Q4_K) || !q.Scalable() {
		t.Errorf("%+v", q)
	}
	if x, _ := ck.Tensor("I16"); x.Scalable() || x.Format != nil {
		t.Errorf("%+v", x)
	}
	out := filepath.Join(t.TempDir(), "out")
	dir, err := atomicdir.Create(out, atomicdir.Options{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ck.Rewrite(context.Background(), dir, checkpoint.RewriteOptions{Edit: func(x checkpoint.Tensor) checkpoint.Editor {
		if x.Format == nil {
			return nil
		}
		return doubling{x.Format.(gguf.Type)}
	}})
	if err == nil {
		err = dir.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(out, "types.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	old := load(t, "types.gguf")
	for _, x := range parse(t, raw).Tensors {
		a, b := old[x.Offset:][:x.Size], raw[x.Offset:][:x.Size]
		if !x.Type.Quantised() {
			if !bytes.Equal(a, b) {
				t.Errorf("%s was changed", x.Name)
			}
			continue
		}
		for i, v := range dequantise(x.Type, b) {
			if w := dequantise(x.Type, a)[i]; v != 2*w {
				t.Fatalf("%s: element %d is %v, was %v", x.Name, i, v, w)
			}
		}
	}
}

// file writes a GGUF of version 3 with uint16 keys and one-element F32 tensors.
func file(t *testing.T, path string, keys []string, values []uint16, tensors ...string) {
	t.Helper()
	u32 := func(b []byte, x int) []byte { return binary.LittleEndian.AppendUint32(b, uint32(x)) }
	u64 := func(b []byte, x int) []byte { return binary.LittleEndian.AppendUint64(b, uint64(x)) }
	text := func(b []byte, s string) []byte { return append(u64(b, len(s)), s...) }
	b := u64(u64(u32([]byte("GGUF"), 3), len(tensors)), len(keys))
	for i, k := range keys {
		b = binary.LittleEndian.AppendUint16(u32(text(b, k), int(gguf.Uint16)), values[i])
	}
	for i, name := range tensors {
		b = u64(u32(u64(u32(text(b, name), 1), 1), int(gguf.F32)), 32*i)
	}
	b = append(b, make([]byte, (32-len(b)%32)%32+32*len(tensors))...)
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
}

// TestSplit: a model in two files, and what is wrong with others.
func TestSplit(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	keys := []string{"split.no", "split.count", "split.tensors.count"}
	a, b := at("m-00001-of-00002.gguf"), at("m-00002-of-00002.gguf")
	file(t, a, keys, []uint16{0, 2, 3}, "x", "y")
	opens := func(path string, kind fault.Kind) *gguf.Model {
		t.Helper()
		m, err := gguf.Open(path)
		if err != nil && fault.KindOf(err) != kind || err == nil && kind != 0 {
			t.Errorf("%s: %v, want exit %d", filepath.Base(path), err, kind)
		}
		if m != nil {
			t.Cleanup(func() { m.Close() })
		}
		return m
	}
	opens(a, fault.Mismatch) // the second is missing
	file(t, b, keys, []uint16{1, 2, 3}, "z")
	for _, path := range []string{a, b, dir} {
		m := opens(path, 0)
		if m == nil {
			continue
		}
		ck, err := m.Checkpoint()
		if err != nil || len(ck.Tensors()) != 3 || len(ck.Shards()) != 2 || ck.Shards()[1].Path != "m-00002-of-00002.gguf" {
			t.Errorf("%s: %v", path, err)
			continue
		}
		ck.Close()
	}
	file(t, b, keys, []uint16{0, 2, 3}, "z")
	opens(a, fault.Mismatch) // the wrong number
	file(t, b, keys, []uint16{1, 3, 3}, "z")
	opens(a, fault.Mismatch) // another count
	file(t, b, keys, []uint16{1, 2, 4}, "z")
	opens(a, fault.Mismatch) // another number of tensors
	file(t, b, keys, []uint16{1, 2, 3}, "y")
	opens(a, fault.Mismatch) // a tensor twice
	file(t, at("other.gguf"), nil, nil, "x")
	opens(dir, fault.Usage)
	opens(at("other.gguf"), 0)
	opens(t.TempDir(), fault.Unsupported)
	file(t, at("m-00001-of-99999.gguf"), nil, nil)
	opens(at("m-00001-of-99999.gguf"), fault.Unsupported)
}
