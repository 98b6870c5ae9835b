package checkpoint

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/neuroseal/neuroseal/internal/dtype"
	"github.com/neuroseal/neuroseal/internal/fault"
)

func TestOpenFolder(t *testing.T) {
	dir := makeFolder(t)
	c := open(t, dir)
	var names, others []string
	last := int64(0)
	for i, x := range c.Tensors() {
		names = append(names, x.Name)
		if i > 0 && c.Tensors()[i-1].Shard == x.Shard && x.Offset < last {
			t.Errorf("%s at %d, before %d", x.Name, x.Offset, last)
		}
		last = x.Offset + x.Size
		file, err := os.ReadFile(filepath.Join(dir, c.Shards()[x.Shard].Path))
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, x.Size)
		if err := c.ReadAt(x, p, 0); err != nil || !bytes.Equal(p, file[x.Offset:last]) {
			t.Errorf("%s: wrong bytes, %v", x.Name, err)
		}
	}
	if len(names) != 9 || c.Tensors()[8].Name != "b.v" {
		t.Errorf("tensors %v", names)
	}
	for _, f := range c.OtherFiles() {
		others = append(others, f.Path)
		if f.Sensitive() {
			t.Errorf("%+v", f)
		}
	}
	if want := []string{"config.json", indexName, "sub/empty.txt", "tokenizer.json"}; !slices.Equal(others, want) {
		t.Errorf("other files %v, want %v", others, want)
	}
	if string(c.ConfigJSON()) != `{"model_type":"llama"}` {
		t.Errorf("config %s", c.ConfigJSON())
	}
	x, ok := c.Tensor("a.six")
	if !ok || x.DType != dtype.F6E2M3 || x.Elements() != 1200004 {
		t.Errorf("%+v, %v", x, ok)
	}
	if _, ok := c.Tensor("nothing"); ok {
		t.Error("found a tensor that is not there")
	}
	var total int64
	for _, path := range c.paths() {
		info, err := os.Stat(c.path(path))
		if err != nil {
			t.Fatal(err)
		}
		total += info.Size()
	}
	if c.TotalBytes() != total {
		t.Errorf("%d bytes, want %d", c.TotalBytes(), total)
	}
	for _, r := range [][2]int64{{-1, 1}, {0, x.Size + 1}, {x.Size, 1}, {1 << 62, 1}} {
		if err := c.ReadAt(x, make([]byte, r[1]), r[0]); err == nil {
			t.Errorf("read of %d bytes at %d accepted", r[1], r[0])
		}
	}
}

func TestOpenSingle(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, "other.safetensors", shardFile(t, tensor("a", dtype.F32, 2)))
	if c := open(t, dir); len(c.Tensors()) != 1 || c.ConfigJSON() != nil {
		t.Error("folder with one other *.safetensors")
	}
	put(t, dir, "model.safetensors", shardFile(t, tensor("b", dtype.F32, 2)))
	put(t, dir, "config.json", []byte(`{}`))
	put(t, dir, "notes.txt", nil)
	c := open(t, dir)
	if c.Tensors()[0].Name != "b" || !c.OtherFiles()[2].Weights || c.OtherFiles()[2].Path != "other.safetensors" {
		t.Errorf("%+v, %+v", c.Tensors(), c.OtherFiles())
	}
	c = open(t, filepath.Join(dir, "other.safetensors"))
	if c.Tensors()[0].Name != "a" || string(c.ConfigJSON()) != "{}" || len(c.OtherFiles()) != 1 {
		t.Errorf("file: %+v, %+v", c.Tensors(), c.OtherFiles())
	}
}

func TestOpenRefuses(t *testing.T) {
	edit := func(f func(weightMap map[string]string)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			m := map[string]string{"a": shard1, "b": shard2}
			f(m)
			put(t, dir, indexName, indexFile(t, m))
		}
	}
	remove := func(rel string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, rel)) }
	}
	tests := []struct {
		name   string
		change func(*testing.T, string)
		want   []string
		kind   fault.Kind
	}{
		{"escape", edit(func(m map[string]string) { m["a"] = "../" + shard1 }), []string{"../", `"a"`}, fault.Unsupported},
		{"absolute", edit(func(m map[string]string) { m["a"] = "/etc/passwd" }), []string{"/etc/passwd"}, fault.Unsupported},
		{"backslash", edit(func(m map[string]string) { m["a"] = `..\x` }), []string{`..\\x`}, fault.Unsupported},
		{"not in shard", edit(func(m map[string]string) { m["c"] = shard1 }), []string{`"c"`, shard1, "not there"}, fault.Mismatch},
		{"not in index", edit(func(m map[string]string) { m["c"] = shard1; delete(m, "a") }), []string{"not"}, fault.Mismatch},
		{"extra in shard", func(t *testing.T, dir string) {
			put(t, dir, shard1, shardFile(t, tensor("a", dtype.F32, 2), tensor("x", dtype.F32, 2)))
		}, []string{`"x"`, shard1, "not in the index"}, fault.Mismatch},
		{"wrong shard", edit(func(m map[string]string) { m["a"], m["b"] = shard2, shard1 }), []string{"lies in", shard1, shard2}, fault.Mismatch},
		{"two shards", func(t *testing.T, dir string) {
			put(t, dir, shard2, shardFile(t, tensor("a", dtype.F32, 2), tensor("b", dtype.F32, 2)))
		}, []string{`"a"`, "two shards", shard1, shard2}, fault.Mismatch},
		{"missing shard", remove(shard2), []string{shard2, `"b"`, "missing"}, fault.Mismatch},
		{"no index", remove(indexName), []string{indexName, shard1}, fault.Mismatch},
		{"empty index", edit(func(m map[string]string) { clear(m) }), []string{"no tensors"}, fault.Mismatch},
		{"broken index", func(t *testing.T, dir string) { put(t, dir, indexName, []byte(`{"weight_map":`)) }, []string{indexName, "byte 14"}, fault.Mismatch},
		{"truncated shard", func(t *testing.T, dir string) {
			b := shardFile(t, tensor("b", dtype.F32, 2))
			put(t, dir, shard2, b[:len(b)-1])
		}, []string{shard2, `"b"`, "byte"}, fault.Mismatch},
		{"corrupt shard", func(t *testing.T, dir string) {
			put(t, dir, shard2, binary.LittleEndian.AppendUint64(nil, 1<<40))
		}, []string{shard2, "byte 0"}, fault.Mismatch},
		{"shards and a single file", func(t *testing.T, dir string) {
			put(t, dir, singleName, shardFile(t, tensor("a", dtype.F32, 2), tensor("b", dtype.F32, 2)))
		}, []string{singleName, indexName, "runtimes differ"}, fault.Unsupported},
		{"shard is a folder", func(t *testing.T, dir string) {
			remove(shard2)(t, dir)
			os.Mkdir(filepath.Join(dir, shard2), 0o755)
		}, []string{shard2, "missing"}, fault.Mismatch},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, shard1, shardFile(t, tensor("a", dtype.F32, 2)))
			put(t, dir, shard2, shardFile(t, tensor("b", dtype.F32, 2)))
			edit(func(map[string]string) {})(t, dir)
			open(t, dir)
			tt.change(t, dir)
			_, err := Open(dir)
			if fault.KindOf(err) != tt.kind {
				t.Errorf("kind %d: %v", fault.KindOf(err), err)
			}
			for _, w := range tt.want {
				if err != nil && !strings.Contains(err.Error(), w) {
					t.Errorf("%q does not say %q", err, w)
				}
			}
		})
	}
}

func TestOpenOtherFormats(t *testing.T) {
	for _, tt := range []struct{ file, want, hint string }{
		{"pytorch_model.bin", "pickle", "weights_only"},
		{"model.pth", "pickle", "safe_serialization"},
		{"model.gguf", "model.gguf", "safetensors"},
		{"readme.md", "no safetensors", indexName},
	} {
		dir := t.TempDir()
		put(t, dir, tt.file, []byte("x"))
		_, err := Open(dir)
		if fault.KindOf(err) != fault.Unsupported || !strings.Contains(err.Error(), tt.want) || !strings.Contains(fault.HintOf(err), tt.hint) {
			t.Errorf("%s: %v; hint %q", tt.file, err, fault.HintOf(err))
		}
		if _, err := Open(filepath.Join(dir, tt.file)); fault.KindOf(err) != fault.Unsupported {
			t.Errorf("file %s: %v", tt.file, err)
		}
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nothing")); err == nil {
		t.Error("opened nothing")
	}
}

// snapshot makes a folder as the hub's cache has it: links into blobs.
func snapshot(t *testing.T) (dir, blobs string) {
	t.Helper()
	repo := filepath.Join(t.TempDir(), "models--org--name")
	dir, blobs = filepath.Join(repo, "snapshots", "abc"), filepath.Join(repo, "blobs")
	put(t, blobs, "1", shardFile(t, tensor("a", dtype.BF16, 300, 1000)))
	put(t, blobs, "2", []byte(`{}`))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, blob := range map[string]string{"model.safetensors": "1", "config.json": "2"} {
		if err := os.Symlink("../../blobs/"+blob, filepath.Join(dir, name)); err != nil {
			t.Skip("no symbolic links:", err)
		}
	}
	return dir, blobs
}

func TestOpenSnapshot(t *testing.T) {
	dir, blobs := snapshot(t)
	os.Symlink(blobs, filepath.Join(dir, "linked"))
	os.Symlink("nothing", filepath.Join(dir, "dangling.txt"))
	c := open(t, dir)
	if len(c.Tensors()) != 1 || string(c.ConfigJSON()) != "{}" || len(c.OtherFiles()) != 1 {
		t.Errorf("%+v, %+v", c.Tensors(), c.OtherFiles())
	}
	want := []Skipped{{"dangling.txt", "symbolic link to nothing"}, {"linked", "symbolic link to a folder"}}
	if !slices.Equal(c.Skipped(), want) {
		t.Errorf("skipped %v", c.Skipped())
	}
	for _, out := range []string{dir, filepath.Join(dir, "out"), blobs, filepath.Dir(blobs), filepath.Dir(filepath.Dir(blobs))} {
		if err := c.CheckOutput(out); fault.KindOf(err) != fault.Usage {
			t.Errorf("output %s: %v", out, err)
		}
	}
	if err := c.CheckOutput(filepath.Join(filepath.Dir(blobs), "out")); err != nil {
		t.Error(err)
	}
	os.Remove(filepath.Join(blobs, "1"))
	if _, err := Open(dir); fault.KindOf(err) != fault.Mismatch || !strings.Contains(err.Error(), "symbolic link to nothing") {
		t.Errorf("missing blob: %v", err)
	}
}
